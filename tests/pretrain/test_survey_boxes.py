"""Boxes from feature maps: against the written steps as a loop over images, and against hand-made maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.survey import boxes as module
from pretrain.survey import extract_boxes, heat_maps
from pretrain.survey.boxes import areas, box_statistics, check_map, covers_all, locate, overlap
from pretrain.survey.encoder_pass import maps_and_features
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.errors import UserError


def one_at_a_time(heat: torch.Tensor, side: int, threshold: float) -> torch.Tensor:
    """The published steps (arXiv 2202.03278, repository xyupeng/ContrastiveCrop), for one map after the other, with Python's indices."""
    found = []
    for one in heat:
        scaled = one - one.min()
        scaled = scaled / scaled.max()
        large = F.interpolate(scaled[None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0]
        rows = [i for i in range(side) if float(large[i].max()) > np.float32(threshold)]
        columns = [j for j in range(side) if float(large[:, j].max()) > np.float32(threshold)]
        found.append([rows[0] / side, columns[0] / side, rows[-1] / side, columns[-1] / side])
    return torch.tensor(found, dtype=torch.float32)


@pytest.mark.parametrize(("cells", "side", "threshold"), [(4, 32, 0.1), (8, 64, 0.1), (12, 96, 0.4), (7, 224, 0.1), (7, 224, 0.8)])
def test_a_batch_has_the_bits_of_a_loop_over_its_images(cells: int, side: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(cells)
    count = 256 if side < 224 else 64
    heat = torch.rand(count, cells, cells, generator=generator) ** 6 * 300
    expected = one_at_a_time(heat, side, threshold)
    boxes, located = extract_boxes(heat, side, threshold=threshold)
    assert torch.equal(boxes, expected)
    assert located.all()
    assert len(boxes.unique(dim=0)) > 10  # the maps are not all alike
    monkeypatch.setitem(module._PIXELS_AT_ONCE, "cpu", 5 * side**2)
    assert torch.equal(extract_boxes(heat, side, threshold=threshold)[0], expected)


@pytest.mark.parametrize(("cells", "side", "spans"), [(4, 32, [(0, 10), (5, 18), (13, 26), (21, 31)]), (7, 224, [(0, 44), (19, 76)])])
def test_a_single_active_cell(cells: int, side: int, spans: list[tuple[int, int]]) -> None:
    for cell, (first, last) in enumerate(spans):
        heat = torch.zeros(1, cells, cells)
        heat[0, cell, -1] = 3.0
        box = extract_boxes(heat, side)[0][0] * side
        assert (box[0], box[2]) == (first, last)
        assert box[3] == side - 1


def test_an_active_map_reaches_the_last_index_which_is_one_short_of_the_side() -> None:
    heat = torch.tensor([[[5.0, 5.0], [4.0, 0.0]]])
    boxes, located = extract_boxes(heat, 224, threshold=0.0)
    assert torch.equal(boxes, torch.tensor([[0, 0, 223 / 224, 223 / 224]]))
    assert located.all()


def test_maps_that_say_nothing_give_the_full_box_and_are_told() -> None:
    heat = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0))
    good = extract_boxes(heat, 32)[0]
    heat[1], heat[2], heat[3, 0, 0], heat[4, 2, 2] = 0.0, 7.25, float("nan"), float("inf")
    boxes, located = extract_boxes(heat, 32)
    assert located.tolist() == [True, False, False, False, False, True]
    assert torch.equal(boxes[[0, 5]], good[[0, 5]])
    assert (boxes[1:5] == torch.tensor([0.0, 0.0, 1.0, 1.0])).all()
    # Interior peaks shrink when a map is enlarged (to 0.879 at 8 times), so a high threshold may leave nothing.
    peak = torch.zeros(1, 4, 4)
    peak[0, 1, 1] = 1.0
    assert extract_boxes(peak, 32, threshold=0.85)[1].all()
    assert not extract_boxes(peak, 32, threshold=0.9)[1].any()
    assert [len(part) for part in extract_boxes(torch.empty(0, 4, 4), 32)] == [0, 0]


def test_a_quantile_bites_where_a_fixed_threshold_does_not() -> None:
    """A map that is high nearly everywhere, as a transformer's: every pixel exceeds 0.1; the cells' upper quarter is the last row."""
    heat = torch.full((1, 4, 4), 8.0)
    heat[0, 0, 0] = 0.0
    heat[0, 3] = 10.0
    full = 31 / 32
    assert torch.equal(extract_boxes(heat, 32)[0], torch.tensor([[0, 0, full, full]]))
    box = extract_boxes(heat, 32, quantile=0.75)[0][0]
    # The upper quartile of the cells (linear between the 12th and 13th of 16: 0.85) is crossed between the centres of rows 2 and 3.
    line = F.interpolate(torch.tensor([[[[0.8], [1.0]]]]), size=(16, 1), mode="bilinear", align_corners=False).flatten()
    first = 16 + int((line > 0.85).nonzero()[0])
    assert torch.equal(box * 32, torch.tensor([float(first), 0.0, 31.0, 31.0]))


def test_heat_is_the_sum_over_channels() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]]])
    assert heat_maps(maps).tolist() == [[[11.0, 22.0]]]


def test_overlap_and_statistics_by_hand() -> None:
    first = np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.96875, 0.96875]], dtype=np.float32)
    second = np.array([[0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.96875, 0.96875]], dtype=np.float32)
    assert overlap(first, second).tolist() == pytest.approx([0.0625 / 0.4375, 0.0, 1.0])
    assert areas(first)[0] == 0.25
    full = covers_all(torch.from_numpy(first), 32).numpy()
    assert full.tolist() == [False, False, True]
    numbers = box_statistics(first, np.array([True, False, True]), full, second)
    assert numbers["boxes/area"] == pytest.approx((0.25 + 0.25 + 0.96875**2) / 3)
    assert numbers["boxes/full"] == pytest.approx(1 / 3)
    assert numbers["boxes/unlocated"] == pytest.approx(1 / 3)
    assert numbers["boxes/iou_truth"] == pytest.approx((0.0625 / 0.4375 + 1) / 3)


def test_maps_of_a_resnet_are_its_last_stage_and_of_a_transformer_the_patch_tokens_of_its_last_block() -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    caught = []
    resnet = create_backbone("resnet10_small", image_size=64).eval()
    resnet.layer4.register_forward_hook(lambda module, inputs, output: caught.append(output))
    maps, features = maps_and_features(resnet, images)
    assert torch.equal(maps, caught[0])
    assert maps.shape == (2, 256, 8, 8)
    assert torch.equal(features, resnet(images))
    assert torch.allclose(features, maps.mean(dim=(2, 3)), atol=1e-6)
    vit = create_backbone("test_vit", image_size=64).eval()
    caught.clear()
    vit.blocks[-1].register_forward_hook(lambda module, inputs, output: caught.append(output))
    maps, features = maps_and_features(vit, images)
    side = maps.shape[-1]
    tokens = caught[0][:, vit.num_prefix_tokens :]
    assert torch.equal(maps, tokens.transpose(1, 2).reshape(2, -1, side, side))
    assert torch.equal(features, vit(images))


def test_locate_equals_the_steps_by_hand_and_leaves_the_network_as_it_was() -> None:
    images = open_data("shapes:train=20,test=2").role("pretrain")
    network = create_backbone("resnet10_small", image_size=32).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    boxes, located = locate(network, images, side=32, mean=mean, std=std, threshold=0.3)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network.eval()
    inputs = (torch.from_numpy(images.pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )
    with torch.no_grad():
        heat = network.forward_features(inputs).sum(1)
    expected = one_at_a_time(heat, 32, 0.3)
    assert np.allclose(boxes, expected.numpy(), atol=1 / 32 + 1e-6)
    assert (boxes == expected.numpy()).mean() > 0.95  # the last bit of a map may move an edge by a pixel
    assert located.all()


def test_a_map_too_coarse_to_locate_anything_is_refused() -> None:
    with pytest.raises(UserError, match=r"last feature map at 32 px is 1x1, which cannot locate an object; .*resnet18_small"):
        check_map(create_backbone("resnet10t", image_size=32), 32)
    check_map(create_backbone("resnet10t", image_size=64), 64)


def test_a_backbone_without_feature_maps_is_refused() -> None:
    with pytest.raises(UserError, match=r"the backbone \(Flatten\) shows no feature maps"):
        maps_and_features(torch.nn.Flatten(), torch.zeros(1, 3, 4, 4))
