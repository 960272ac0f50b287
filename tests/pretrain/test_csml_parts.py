"""CsMl's parts: the mixed view, several positives of one query, patches and their search, the second level's head."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.encoder import Encoder
from pretrain.methods.cross_sample import Contrast, mix, mix_box
from pretrain.methods.multi_level import LevelHead, MapFacts, Patches, map_facts, see_both
from pretrain.methods.parts import info_nce
from pretrain.methods.selection import LossLevels, Rejected
from pretrain.sizes import match_stride, match_window, neighbour_refresh, own_key_epochs
from zoo.backbones import create_backbone
from zoo.errors import UserError

T = 0.2


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def entropy(query: np.ndarray, key: np.ndarray, negatives: list[float]) -> float:
    """One InfoNCE, from the negatives' logits on."""
    positive = float(query @ key) / T
    return math.log(math.exp(positive) + sum(math.exp(value) for value in negatives)) - positive


# ---------------------------------------------------------------------- the mixed view


def test_the_pasted_pixels_are_those_of_the_share() -> None:
    """Counted: anchors are zero, neighbours one, in each group of the batch with a box of its own."""
    anchor, neighbour = torch.zeros(6, 3, 16, 16), torch.ones(6, 3, 16, 16)
    for step in range(50):
        boxes = [mix_box(16, seed=0, step=step, part=0, group=group) for group in range(3)]
        mixed, share = mix(anchor, neighbour, boxes)
        assert torch.equal(share, (mixed == 0).float().mean(dim=(1, 2, 3)))
        assert ((share >= 0) & (share <= 1)).all()
        for row in range(6):
            top, left, bottom, right = boxes[row // 2]
            assert (mixed[row, :, top:bottom, left:right] == 1).all()
    assert torch.equal(anchor, torch.zeros(6, 3, 16, 16))
    assert torch.equal(neighbour, torch.ones(6, 3, 16, 16))


def test_shares_have_the_released_codes_law() -> None:
    """At 224 pixels, of clipped boxes: mean .675, quantiles .459, .692, .868 (200,000 draws from another generator)."""
    boxes = np.array([mix_box(224, seed=0, step=step, part=0, group=0) for step in range(6000)])
    assert (boxes >= 0).all()
    assert (boxes <= 224).all()
    share = 1 - (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 224**2
    assert share.mean() == pytest.approx(0.675, abs=0.01)
    assert np.quantile(share, [0.1, 0.5, 0.9]) == pytest.approx([0.459, 0.692, 0.868], abs=0.015)


def test_a_box_belongs_to_its_step_part_and_group() -> None:
    addresses = [(3, 0, 0), (4, 0, 0), (3, 1, 0), (3, 0, 1)]
    boxes = [mix_box(224, seed=0, step=step, part=part, group=group) for step, part, group in addresses]
    assert len(set(boxes)) == 4
    assert mix_box(224, seed=0, step=3, part=0, group=0) == boxes[0]
    assert mix_box(224, seed=1, step=3, part=0, group=0) != boxes[0]


# ---------------------------------------------------------------------- several positives


@pytest.mark.parametrize("weights", ["numbers", "rows"])
def test_two_positives_equal_a_double_loop(weights: str) -> None:
    """Outside the logarithm, each with a denominator of its own: the other positive is not in it."""
    query, first, second, queue = unit(5, 8, 0), unit(5, 8, 1), unit(5, 8, 2), unit(11, 8, 3)
    share = torch.tensor([0.1, 0.4, 0.5, 0.9, 1.0]) if weights == "rows" else torch.full((5,), 0.3)
    own: float | torch.Tensor = share if weights == "rows" else 0.3
    found = Contrast(queue, T).loss([(query, first, own), (query, second, 1.0 - own)])
    expected = 0.0
    q, a, b, n = (tensor.double().numpy() for tensor in (query, first, second, queue))
    for i, weight in enumerate(share.tolist()):
        negatives = [float(q[i] @ other) / T for other in n]
        expected += (weight * entropy(q[i], a[i], negatives) + (1 - weight) * entropy(q[i], b[i], negatives)) / 5
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_half_and_half_is_the_mean_of_two_losses_in_value_and_gradient() -> None:
    first, second, queue = unit(5, 8, 1), unit(5, 8, 2), unit(11, 8, 3)
    queries = [unit(5, 8, 0).requires_grad_() for _ in range(2)]
    together = Contrast(queue, T).loss([(queries[0], first, 0.5), (queries[0], second, 0.5)])
    apart = (info_nce(queries[1], first, queue, T) + info_nce(queries[1], second, queue, T)) / 2
    assert together.item() == pytest.approx(apart.item(), rel=1e-6)
    together.backward()
    apart.backward()
    assert queries[0].grad is not None
    assert torch.allclose(queries[0].grad, queries[1].grad, atol=1e-6)  # type: ignore[arg-type]


def test_one_positive_is_mocos_loss_bit_for_bit() -> None:
    query, key, queue = unit(5, 8, 0), unit(5, 8, 1), unit(11, 8, 3)
    assert torch.equal(Contrast(queue, T).loss([(query, key, 1.0)]), info_nce(query, key, queue, T))


@pytest.mark.parametrize("rejected", list(Rejected))
@pytest.mark.parametrize("loss_levels", list(LossLevels))
def test_selected_negatives_equal_a_double_loop(rejected: Rejected, loss_levels: LossLevels) -> None:
    """HCSC's masks on two levels, under two positives."""
    query, first, second, queue = unit(5, 8, 0), unit(5, 8, 1), unit(5, 8, 2), unit(11, 8, 3)
    kept = [torch.rand(5, 11, generator=torch.Generator().manual_seed(level)) < 0.6 for level in range(2)]
    found = Contrast(queue, T, kept, rejected, loss_levels).loss([(query, first, 0.7), (query, second, 0.3)])
    expected = 0.0
    q, a, b, n = (tensor.double().numpy() for tensor in (query, first, second, queue))
    for mask in kept:
        for i in range(5):
            negatives = [float(q[i] @ n[j]) / T if mask[i, j] else 0.0 for j in range(11) if mask[i, j] or rejected is Rejected.zero]
            expected += (0.7 * entropy(q[i], a[i], negatives) + 0.3 * entropy(q[i], b[i], negatives)) / 5
    expected /= 2 if loss_levels is LossLevels.mean else 1
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_product_with_the_queue_is_made_once_for_each_query(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []
    sums = torch.logsumexp
    monkeypatch.setattr(torch, "logsumexp", lambda logits, dim: (products.append(logits.shape), sums(logits, dim=dim))[1])
    query, other, queue = unit(5, 8, 0), unit(5, 8, 4), unit(11, 8, 3)
    contrast = Contrast(queue, T)
    contrast.loss([(query, unit(5, 8, 1), 0.5), (query, unit(5, 8, 2), 0.5)])
    contrast.loss([(query, unit(5, 8, 5), 0.5), (other, unit(5, 8, 2), 0.5)])
    assert products == [(5, 11)] * 2


# ---------------------------------------------------------------------- the second level


def test_a_planted_patch_is_found_where_it_is() -> None:
    patches = Patches(window=8, stride=3)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 16, 14, 14, generator=generator)
    places = [(top, left) for top in (0, 3, 6) for left in (0, 3, 6)]
    # Another length in each cell: it is the cosine that counts.
    planted = torch.stack([patches.key_patch(one[None], *place)[0] for one, place in zip(maps, places, strict=True)])
    planted = planted * (0.1 + torch.rand(9, 1, 8, 8, generator=generator))
    tops, lefts = patches.search(maps, planted)
    assert list(zip(tops.tolist(), lefts.tolist(), strict=True)) == places
    assert torch.equal(patches.cut(maps, tops, lefts), torch.stack([maps[i, :, t : t + 8, x : x + 8] for i, (t, x) in enumerate(places)]))


@pytest.mark.parametrize(("shape", "window", "stride", "count"), [((14, 14), 8, 3, 9), ((8, 8), 5, 1, 16), ((5, 7), 3, 2, 6)])
def test_the_search_equals_a_loop_over_candidates(shape: tuple[int, int], window: int, stride: int, count: int) -> None:
    patches = Patches(window, stride)
    generator = torch.Generator().manual_seed(1)
    maps, theirs = torch.randn(12, 4, *shape, generator=generator), torch.randn(12, 4, window, window, generator=generator)
    tops, lefts = patches.search(maps, theirs)
    for i in range(12):
        scores = {}
        for top in range(0, shape[0] - window + 1, stride):
            for left in range(0, shape[1] - window + 1, stride):
                scores[top, left] = sum(
                    float(F.cosine_similarity(maps[i, :, top + row, left + column], theirs[i, :, row, column], dim=0))
                    for row in range(window)
                    for column in range(window)
                )
        assert len(scores) == count
        assert max(scores, key=scores.__getitem__) == (int(tops[i]), int(lefts[i]))


def test_gradient_flows_through_the_patch_and_not_through_the_choice() -> None:
    patches = Patches(window=2, stride=1)
    maps = torch.randn(3, 4, 4, 4, requires_grad=True)
    key = torch.randn(3, 4, 2, 2, requires_grad=True)
    tops, lefts = patches.search(maps, key)
    assert not tops.requires_grad
    patches.cut(maps, tops, lefts).sum().backward()
    assert key.grad is None
    assert maps.grad is not None
    for i in range(3):
        expected = torch.zeros(4, 4, 4)
        expected[:, tops[i] : tops[i] + 2, lefts[i] : lefts[i] + 2] = 1
        assert torch.equal(maps.grad[i], expected)


def test_key_patches_reach_the_last_place() -> None:
    """In the authors' branch they never do."""
    places = [Patches(8, 3).draw(14, seed=0, step=step, part=0, key=0) for step in range(400)]
    assert {top for top, _ in places} == {left for _, left in places} == set(range(7))
    assert Patches(8, 3).draw(14, seed=0, step=1, part=0, key=1) != places[1]


@pytest.mark.parametrize(
    ("side", "window", "stride"),
    [(14, 8, 3), (8, 5, 1), (16, 9, 3), (24, 14, 5), (4, 2, 1), (12, 7, 2)],  # 224; 32, 64, 96, 16 with the small stem; 192
)
def test_patches_by_the_rule(side: int, window: int, stride: int) -> None:
    assert (match_window(side), match_stride(side, window)) == (window, stride)
    assert Patches.on(side, None, None) == Patches(window, stride)
    assert Patches.on(side, 3, 2) == Patches(3, 2)


def test_warm_up_and_refresh_by_the_rule() -> None:
    assert [own_key_epochs(epochs) for epochs in (200, 800, 500, 100, 10, 1)] == [11, 44, 28, 6, 1, 1]
    assert [neighbour_refresh(epochs) for epochs in (200, 800, 500, 100, 10, 1)] == [5, 20, 12, 2, 1, 1]


@pytest.mark.parametrize(
    ("side", "window", "stride", "message"),
    [
        (2, None, None, r"the map has 2x2 cells, and patches need 4x4; .*resnet18_small.*method.level4=global"),
        (8, 9, None, r"method.window=9 does not fit into the map of 8x8 cells; use for example 5"),
    ],
)
def test_patches_that_cannot_be_are_refused(side: int, window: int | None, stride: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Patches.on(side, window, stride)


@pytest.mark.parametrize(
    ("arch", "facts", "millions"),
    [
        ("resnet50", MapFacts(1024, 2048, 16), 14.96),  # as the authors' head, by arithmetic
        ("resnet18", MapFacts(256, 512, 16), None),
        ("resnet18_small", MapFacts(256, 512, 4), None),
        ("resnet10_small", MapFacts(128, 256, 4), None),
        ("convnext_atto", MapFacts(160, 320, 16), None),
    ],
)
def test_the_map_and_head_of_a_network(arch: str, facts: MapFacts, millions: float | None) -> None:
    backbone = create_backbone(arch).eval()
    assert map_facts(backbone) == facts
    head = LevelHead.of(backbone, dim=128, mlp=True).eval()
    encoder = Encoder(backbone, nn.Linear(backbone.num_features, 8))  # type: ignore[arg-type]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding, maps = see_both(encoder, images)
        assert torch.equal(embedding, encoder(images))
        embedded = head(maps)
    side = -(-64 // facts.reduction)
    assert maps.shape == (2, facts.channels, side, side)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(2))
    assert embedded.shape == (2, 128)
    if millions is not None:
        assert sum(parameter.numel() for parameter in head.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    if "resnet" in arch:
        caught = []
        backbone.layer3.register_forward_hook(lambda module, inputs, output: caught.append(output))  # type: ignore[operator]
        with torch.no_grad():
            backbone(images)
        assert torch.equal(caught[0], maps)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "test_vit"])
def test_a_network_without_the_level_is_refused(arch: str) -> None:
    message = rf"method.level4 needs a backbone whose last but one stage .* and '{arch}' has none; take .*resnet50, or method.level4=off"
    with pytest.raises(UserError, match=message):
        map_facts(create_backbone(arch))
    with pytest.raises(UserError, match="'Linear' has none"):
        map_facts(nn.Linear(2, 2))
