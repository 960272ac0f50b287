"""BYOL and SimSiam against NumPy with batch norm by hand; stop-gradients; the published heads' sizes; SimCLR's scale and its groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pretrain.batchnorm import split_batchnorm
from pretrain.loop import train
from pretrain.methods import BYOL, Method, MoCo, RunFacts, SimCLR, SimSiam
from pretrain.methods.base import Place
from pretrain.methods.byol import BYOLSettings
from pretrain.methods.moco import MoCoSettings
from pretrain.methods.simclr import SimCLRSettings, nt_xent
from pretrain.methods.simsiam import SimSiamSettings
from pretrain.recipes import load_recipe
from zoo.backbones import create_backbone
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.models.runs import latest_checkpoint, read_checkpoint

FACTS = RunFacts(images=32, batch=4, seed=0, steps=10)
Array = NDArray[np.float64]


class Flat(nn.Module):
    """A backbone small enough to follow by hand: 2x2 images -> 6 features, with a batch norm."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(12, 6), nn.BatchNorm1d(6)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.linear(images.flatten(1)))


def make(kind: type[Method], settings: object) -> Method:
    """In float64 (but for the similarities), with gains and shifts that are not those of the start."""
    torch.manual_seed(0)
    method = kind(Flat, settings, FACTS).double()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return method


def make_byol(**settings: object) -> BYOL:
    method = make(BYOL, BYOLSettings(dim=4, hidden=5, **settings))  # type: ignore[arg-type]
    assert isinstance(method, BYOL)
    if not settings.get("legacy_target"):
        method.target.load_state_dict(method.online.state_dict())
    return method


def make_simsiam(**settings: object) -> SimSiam:
    method = make(SimSiam, SimSiamSettings(dim=4, predictor_hidden=3, **settings))  # type: ignore[arg-type]
    assert isinstance(method, SimSiam)
    return method


def two_views(seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2)]


def by_hand(layers: nn.Module, rows: Array) -> Array:
    """Train-mode outputs of a chain of Linear, BatchNorm and ReLU, entry by entry."""
    flat = [layer for layer in layers.modules() if not list(layer.children())]
    for layer in flat:
        if isinstance(layer, nn.Linear):
            bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().numpy()
            weight = layer.weight.detach().numpy()
            rows = np.array(
                [[sum(w * x for w, x in zip(weight[j], row, strict=True)) + bias[j] for j in range(len(weight))] for row in rows]
            )
        elif isinstance(layer, nn.BatchNorm1d):
            columns = []
            for j, column in enumerate(rows.T):
                mean = sum(column) / len(column)
                variance = sum((x - mean) ** 2 for x in column) / len(column)
                gain, shift = (layer.weight[j].item(), layer.bias[j].item()) if layer.affine else (1.0, 0.0)
                columns.append([gain * (x - mean) / math.sqrt(variance + layer.eps) + shift for x in column])
            rows = np.array(columns).T
        else:
            assert isinstance(layer, nn.ReLU)
            rows = np.maximum(rows, 0.0)
    return rows


def cosine_by_hand(first: Array, second: Array) -> float:
    pairs = zip(first, second, strict=True)
    return float(sum(a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs)) / len(first)


def flat_rows(view: Tensor) -> Array:
    return view.flatten(1).numpy()


def test_byol_step_by_hand() -> None:
    method, views = make_byol(momentum=0.9), two_views()
    with torch.no_grad():  # as an optimizer would
        for parameter in method.online.parameters():
            parameter += torch.randn_like(parameter)
    before = copy.deepcopy(method.target)
    method.start_step(0)
    for old, online, new in zip(before.parameters(), method.online.parameters(), method.target.parameters(), strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * online)
    # Parameters only: the target's batch-norm statistics are its own.
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), method.target.buffers(), strict=True))
    loss = method(views, torch.arange(4), Place(0))["prediction"]
    # Each view by itself.
    p1, p2 = (by_hand(method.predictor, by_hand(method.online, flat_rows(view))) for view in views)
    z1, z2 = (by_hand(method.target, flat_rows(view)) for view in views)
    assert loss.item() == pytest.approx(-2 * (cosine_by_hand(p1, z2) + cosine_by_hand(p2, z1)), rel=1e-6)


def test_simsiam_loss_by_hand() -> None:
    method, views = make_simsiam(), two_views()
    loss = method(views, torch.arange(4), Place(0))["prediction"]
    z1, z2 = (by_hand(method.encoder, flat_rows(view)) for view in views)
    p1, p2 = (by_hand(method.predictor, z) for z in (z1, z2))
    assert loss.item() == pytest.approx(-0.5 * (cosine_by_hand(p1, z2) + cosine_by_hand(p2, z1)), rel=1e-6)


@pytest.mark.parametrize("kind", [make_byol, make_simsiam])
def test_loss_has_its_least_value_where_predictions_agree(kind: Callable[..., Method]) -> None:
    """The scale: -4 for BYOL and -1 for SimSiam, by the same views and a predictor that is the identity."""
    method, views = kind(), two_views()
    method.predictor = nn.Identity()
    loss = method([views[0], views[0]], torch.arange(4), Place(0))["prediction"].item()
    assert loss == pytest.approx(-4.0 if isinstance(method, BYOL) else -1.0, rel=1e-6)


@pytest.mark.parametrize("kind", [make_byol, make_simsiam])
def test_similarities_are_float32_under_autocast(kind: Callable[..., Method]) -> None:
    method, views = kind().float(), [view.float() for view in two_views()]
    exact = method(views, torch.arange(4), Place(0))["prediction"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(views, torch.arange(4), Place(0))["prediction"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), abs=0.1)
    assert loss.item() != exact.item()


def test_byol_target_gets_no_gradient_and_is_not_trained() -> None:
    method = make_byol()
    method(two_views(), torch.arange(4), Place(0))["prediction"].backward()
    assert all(p.grad is None and not p.requires_grad for p in method.target.parameters())
    trained = {id(p) for group in method.parameter_groups() for p in group.parameters if p.requires_grad}
    assert trained == {id(p) for part in (method.online, method.predictor) for p in part.parameters()}
    assert all(p.grad is not None for part in (method.online, method.predictor) for p in part.parameters())


def test_simsiam_gradient_stops_at_the_projections() -> None:
    """Central differences of the loss by hand with the projections held fixed are the gradient; with them moving they are not."""
    method, views = make_simsiam(), two_views()
    method(views, torch.arange(4), Place(0))["prediction"].backward()
    weight = method.encoder.head[0].weight
    fixed = [by_hand(method.encoder, flat_rows(view)) for view in views]

    def loss(held: list[Array] | None) -> float:
        z = [by_hand(method.encoder, flat_rows(view)) for view in views]
        p = [by_hand(method.predictor, each) for each in z]
        against = held or z
        return -0.5 * (cosine_by_hand(p[0], against[1]) + cosine_by_hand(p[1], against[0]))

    def difference(entry: tuple[int, int], held: list[Array] | None) -> float:
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                weight[entry] += sign * 1e-5
                values.append(loss(held))
                weight[entry] -= sign * 1e-5
        return (values[0] - values[1]) / 2e-5

    assert weight.grad is not None
    for entry in ((0, 0), (2, 3), (5, 1)):
        assert weight.grad[entry].item() == pytest.approx(difference(entry, fixed), abs=1e-6)
        assert abs(weight.grad[entry].item() - difference(entry, None)) > 1e-4


def test_simsiam_head_is_as_published() -> None:
    method = make_simsiam()
    linear = [layer for layer in method.encoder.head if isinstance(layer, nn.Linear)]
    assert [layer.bias is None for layer in linear] == [True, True, False]
    assert not linear[2].bias.requires_grad
    assert [type(layer).__name__ for layer in method.encoder.head][-2:] == ["Linear", "BatchNorm1d"]
    assert not method.encoder.head[-1].affine
    assert method.predictor[0].bias is None
    assert method.predictor[-1].bias is not None


@pytest.mark.parametrize("kind", [make_byol, make_simsiam])
def test_heads_can_do_without_batch_norm(kind: Callable[..., Method]) -> None:
    method, views = kind(head_norm=False), two_views()
    parts = [method.target, method.online] if isinstance(method, BYOL) else [method.encoder]
    heads = [*(part.head for part in parts), method.predictor]  # type: ignore[union-attr]
    assert not any(isinstance(module, nn.BatchNorm1d) for head in heads for module in head.modules())
    assert all(p.requires_grad for p in (heads[-2].parameters()))
    loss = method(views, torch.arange(4), Place(0))["prediction"].item()
    online = method.encoder if isinstance(method, SimSiam) else method.online
    z = [by_hand(online, flat_rows(view)) for view in views]  # at first the target is the online network
    p = [by_hand(method.predictor, each) for each in z]
    scale = -2 if isinstance(method, BYOL) else -0.5
    assert loss == pytest.approx(scale * (cosine_by_hand(p[0], z[1]) + cosine_by_hand(p[1], z[0])), rel=1e-6)


def test_byol_target_starts_as_a_copy_and_the_legacy_one_does_not() -> None:
    torch.manual_seed(0)
    plain = BYOL(Flat, BYOLSettings(dim=4, hidden=5), FACTS)
    assert all(torch.equal(a, b) for a, b in zip(plain.online.parameters(), plain.target.parameters(), strict=True))
    legacy = make_byol(legacy_target=True, momentum=0.5)
    pairs = list(zip(legacy.online.parameters(), legacy.target.parameters(), strict=True))
    assert not any(torch.equal(online, target) for online, target in pairs if online.ndim > 1)
    assert not any(target.requires_grad for _, target in pairs)
    # Its own start fades: after two updates a quarter is left.
    start = legacy.target.backbone.linear.weight.clone()
    legacy.start_step(0)
    legacy.start_step(1)
    assert torch.allclose(legacy.target.backbone.linear.weight, 0.25 * start + 0.75 * legacy.online.backbone.linear.weight)


def test_byol_momentum_over_the_run() -> None:
    constant = make_byol()
    assert [constant.momentum_at(step) for step in (0, 5, 10)] == [0.996] * 3
    rising = make_byol(momentum=0.96, momentum_final=1.0)
    # The BYOL paper's 1 - (1 - base) (cos(pi k / K) + 1) / 2, K = 10.
    assert [rising.momentum_at(step) for step in (0, 5, 10)] == pytest.approx([0.96, 0.98, 1.0])
    assert rising.momentum_at(2) == pytest.approx(1 - 0.04 * (math.cos(math.pi * 0.2) + 1) / 2)
    with torch.no_grad():
        rising.online.backbone.linear.weight += 1.0
    before = rising.target.backbone.linear.weight.clone()
    rising.start_step(5)
    assert torch.allclose(rising.target.backbone.linear.weight - before, torch.full((), 0.02, dtype=torch.float64))


@pytest.mark.parametrize("setting", ["momentum", "momentum_final"])
def test_a_momentum_that_is_no_share_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match=rf"method\.{setting} must be at least 0 and at most 1, not 1.5"):
        BYOL(Flat, BYOLSettings(**{setting: 1.5}), FACTS)  # type: ignore[arg-type]


def count(module: nn.Module, *, trained: bool) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def test_parameter_counts_of_the_published_networks() -> None:
    """Of ContrastiveCrop's code, with ResNet-18 and the small stem. SimSiam's number counts the bias that is not trained."""
    with torch.device("meta"):  # nothing needs values
        backbone = partial(create_backbone, "resnet18_small", image_size=32)
        facts = RunFacts(images=50_000, batch=512, seed=0, steps=1)
        # A queue of one batch, since its length counts for nothing here.
        assert count(MoCo(backbone, MoCoSettings(queue=512), facts), trained=True) == 11_497_152
        byol = BYOL(backbone, BYOLSettings(), facts)
        assert count(byol, trained=False) == 23_129_088
        assert count(byol, trained=True) == 23_129_088 - count(byol.target, trained=False)
        simsiam = SimSiam(backbone, SimSiamSettings(), facts)
        assert count(simsiam, trained=False) == 12_089_664
        assert count(simsiam, trained=True) == 12_089_664 - 512
        assert count(SimCLR(backbone, SimCLRSettings(), facts), trained=True) == 11_497_152


def make_simclr(**settings: float) -> SimCLR:
    method = make(SimCLR, SimCLRSettings(dim=4, **settings))  # type: ignore[arg-type]
    assert isinstance(method, SimCLR)
    return method


def test_simclr_loss_times_temperature_over_base() -> None:
    views = two_views()
    plain, scaled = (make_simclr(temperature=0.5, **more) for more in ({}, {"base_temperature": 0.07}))
    losses = [method(views, torch.arange(4), Place(0))["contrastive"] for method in (plain, scaled)]
    assert losses[1].item() == pytest.approx(losses[0].item() * 7.142857142857, rel=1e-7)
    for loss in losses:
        loss.backward()
    for small, large in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(large.grad, small.grad * 0.5 / 0.07, rtol=1e-5, atol=1e-6)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"method\.base_temperature must be above 0, not 0"):
        make_simclr(base_temperature=0.0)


def test_simclr_groups_hold_both_views_of_a_part() -> None:
    """With two batch-norm groups: as on two devices, each with half of the batch and both views of it."""
    whole = make_simclr()
    split = copy.deepcopy(whole)
    split_batchnorm(split, 2)
    views = two_views()
    devices = [[view[rows] for view in views] for rows in (slice(0, 2), slice(2, 4))]
    embedded = [F.normalize(torch.tensor(by_hand(whole.encoder, flat_rows(torch.cat(device)))), dim=1).chunk(2) for device in devices]
    first, second = (torch.cat([device[view] for device in embedded]) for view in range(2))
    for got, expected in zip(split.embed(*views), (first, second), strict=True):
        assert np.allclose(got.detach().numpy(), expected.numpy(), atol=1e-6)  # embeddings are float32
    loss = split(views, torch.arange(4), Place(0))["contrastive"].item()
    assert loss == pytest.approx(nt_xent(first, second, 0.5).item(), rel=1e-5)
    assert loss != pytest.approx(whole(views, torch.arange(4), Place(0))["contrastive"].item(), rel=1e-3)


RECIPE = """
data: shapes:train=16,test=8,size=16
backbone: test_resnet
method: {name: byol, dim: 8, hidden: 16, momentum: 0.5}
views: {size: 16, blur: 0.0}
batch: 8
epochs: 1
optimizer: {lr: 0.1}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
"""


def test_both_encoders_of_a_byol_run_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    train(load_recipe(str(tmp_path / "recipe.yaml")), tmp_path / "run")
    state = read_checkpoint(latest_checkpoint(tmp_path / "run"))["model"]
    opened = {}
    for encoder, prefix in (("query", "online.backbone."), ("key", "target.backbone.")):
        opened[encoder] = open_model(str(tmp_path / "run"), weights_encoder=encoder).module.state_dict()
        assert all(torch.equal(tensor, state[prefix + key]) for key, tensor in opened[encoder].items())
    assert not torch.equal(opened["query"]["conv1.0.weight"], opened["key"]["conv1.0.weight"])
