"""Feature extraction: what a frozen network gives, and that it stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_network import TRANSFORM, Network, Spoiled, in_files, in_memory, pictures
from torch import Tensor, nn

from evaluation.extraction.features import extract_features
from evaluation.tasks.runtime import Runtime
from zoo.errors import UserError
from zoo.models.model import Model
from zoo.models.transforms import EvalTransform


def one_by_one(network: Network, pixels: np.ndarray) -> Tensor:
    """Each image alone through the layers in float64, with the batch norm written out by its stored statistics."""
    norm = network.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert network.conv.bias is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (TRANSFORM.mean, TRANSFORM.std))
    rows = []
    for image in pixels:
        planes = (torch.from_numpy(image).permute(2, 0, 1).double() / 255 - mean) / std
        maps = nn.functional.conv2d(planes[None], network.conv.weight.double(), network.conv.bias.double(), stride=2)[0]
        maps = (maps - norm.running_mean.double()[:, None, None]) * scale[:, None, None] + norm.bias.double()[:, None, None]
        rows.append(maps.clamp_min(0).mean((1, 2)))
    return torch.stack(rows).detach()


@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_features_are_those_of_each_image_alone(batch_size: int) -> None:
    pixels = pictures(9)
    found = extract_features(Network(), in_memory(pixels), TRANSFORM, batch_size=batch_size)
    assert found.features.dtype == torch.float32
    torch.testing.assert_close(found.features.double(), one_by_one(Network(), pixels), rtol=1e-5, atol=1e-5)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, np.arange(9))
    assert (found.name, found.split) == ("toy", "test")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_files_give_the_same_features(workers: int, tmp_path: Path) -> None:
    pixels = pictures(9)
    from_memory = extract_features(Network(), in_memory(pixels), TRANSFORM, batch_size=2)
    from_files = extract_features(Network(), in_files(pixels, tmp_path), TRANSFORM, batch_size=2, workers=workers)
    assert torch.equal(from_files.features, from_memory.features)
    assert from_files.labels is None


def test_files_are_resized_and_cropped_as_pil_does(tmp_path: Path) -> None:
    pixels = pictures(3, side=40)
    transform = EvalTransform(20, 16, "bicubic", TRANSFORM.mean, TRANSFORM.std)
    found = extract_features(Network(), in_files(pixels, tmp_path), transform)
    inputs = torch.stack([transform.from_pil(Image.fromarray(image)) for image in pixels])
    with torch.no_grad():
        torch.testing.assert_close(found.features, Network().eval()(inputs), rtol=0, atol=0)


def test_weights_buffers_and_modes_stay_bit_for_bit() -> None:
    network = Network().train()
    network.norm.eval()  # a mixture, as in fine-tuning with frozen statistics
    network.conv.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    extract_features(network, in_memory(pictures(9)), TRANSFORM, batch_size=4)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {name: module.training for name, module in network.named_modules()} == {"": True, "conv": True, "norm": False, "drop": True}
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]


def test_modes_are_restored_after_a_failure() -> None:
    network = Network().train()
    network.norm.eval()

    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    failing = Failing().train()
    network.norm.eval()
    with pytest.raises(RuntimeError, match="out of memory"):
        extract_features(failing, in_memory(pictures(9)), TRANSFORM)
    assert failing.training
    assert network.drop.training
    assert not network.norm.training


def test_features_can_be_trained_upon() -> None:
    features = extract_features(Network(), in_memory(pictures(9)), TRANSFORM).features
    head = nn.Linear(6, 2)
    head(features).sum().backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad[0], features.sum(0))


def test_autocast_gives_float32_features_of_lower_precision() -> None:
    full = extract_features(Network(), in_memory(pictures(9)), TRANSFORM).features
    half = extract_features(Network(), in_memory(pictures(9)), TRANSFORM, autocast=torch.bfloat16).features
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


def test_features_that_are_not_finite_are_counted_and_named() -> None:
    pixels = pictures(9)
    pixels[:, 0, 0] = 255
    pixels[[3, 4, 7], 0, 0] = 0
    with pytest.raises(UserError, match=r"3 of 9 feature vectors of toy \(test\) are not finite, first that of image toy test #3"):
        extract_features(Spoiled(), in_memory(pixels), TRANSFORM, batch_size=2)


def test_a_model_that_gives_nan_is_named_with_its_damaged_weights() -> None:
    network = Network()
    with torch.no_grad():
        network.conv.weight[2, 0, 0, 0] = torch.inf
    model = Model(network.eval(), "my-model", "python", "network", None, "0" * 64)
    with pytest.raises(UserError, match=r"9 of 9 .* weights of my-model are damaged: 1 tensors hold NaN or infinity, first 'conv.weight'"):
        Runtime().outputs(network, in_memory(pictures(9)), TRANSFORM, name=model.name)
    with pytest.raises(UserError, match=r"the weights of my-model are damaged"):
        Runtime().features(model, in_memory(pictures(9)), TRANSFORM)
    with pytest.raises(UserError, match=r"the weights of this network are numbers, so the precision is too low"):
        extract_features(Spoiled(), in_memory(np.zeros((2, 16, 16, 3), np.uint8)), TRANSFORM)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_in_one_sentence(workers: int, tmp_path: Path) -> None:
    images = in_files(pictures(9), tmp_path)
    (tmp_path / "05.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"05\.png cannot be decoded") as caught:
        extract_features(Network(), images, TRANSFORM, batch_size=2, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [nn.Conv2d(3, 4, 3), nn.Identity(), nn.Flatten(0)])
def test_a_network_that_gives_no_vectors_is_refused(network: nn.Module) -> None:
    with pytest.raises(UserError, match=r"features of shape \(4, D\) for 4 images"):
        extract_features(network, in_memory(pictures(9)), TRANSFORM, batch_size=4)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no images in toy \(test\)"):
        extract_features(Network(), in_memory(pictures(0)), TRANSFORM)


@pytest.mark.cuda
def test_a_gpu_gives_the_same_features() -> None:
    images = in_memory(pictures(9))
    on_cpu = extract_features(Network(), images, TRANSFORM, batch_size=4).features
    on_gpu = extract_features(Network(), images, TRANSFORM, batch_size=4, device="cuda").features
    assert on_gpu.device.type == "cpu"
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)
