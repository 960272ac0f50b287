"""CsMl's forward pass against plain loops, its queues and averages, and what it refuses. All switches off, it is MoCo v2."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evaluation.clustering import hierarchical_kmeans
from evaluation.views.tables import NEIGHBOURS
from pretrain.batchnorm import split_batchnorm
from pretrain.methods import CsMl, MoCo, RunFacts
from pretrain.methods.base import Place
from pretrain.methods.cross_sample import mix, mix_box
from pretrain.methods.csml import CsMlSettings
from pretrain.methods.moco import MoCoSettings
from pretrain.methods.multi_level import LevelMode, Patches
from pretrain.methods.selection import prototype_terms
from pretrain.survey.prototypes import PREFIX
from zoo.backbones import create_backbone
from zoo.errors import UserError

IMAGES, BATCH, QUEUE, DIM, T = 40, 8, 16, 5, 0.2
STEPS_PER_EPOCH = IMAGES // BATCH
SIDE = 16
FACTS = RunFacts(images=IMAGES, batch=BATCH, seed=0, steps=50)
OFF = {"neighbours": False, "mix": False, "level4": LevelMode.off}


class Flat(nn.Module):
    """16x16 images -> 6 features."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


def resnet() -> nn.Module:
    """Its map before the last stage has 4x4 cells at 16 pixels: patches of 2x2, 9 candidates."""
    return create_backbone("resnet10_small", image_size=SIDE)


def make(backbone: object = Flat, **settings: object) -> CsMl:
    torch.manual_seed(0)
    chosen = {"dim": DIM, "queue": QUEUE, "momentum": 0.9, "refresh_epochs": 2, "cross_epochs": 1, "warmup_epochs": 1, **settings}
    return CsMl(backbone, replace(CsMlSettings(), **chosen), FACTS)  # type: ignore[arg-type]


def images(views: int, side: int = SIDE) -> list[torch.Tensor]:
    return [torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(view)) for view in range(views)]


def drift(method: CsMl) -> None:
    """As an optimizer would: the trained networks are no longer their averages."""
    with torch.no_grad():
        for parameter in method.encoder_q.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))


class Loop:
    """The losses again, one logit at a time, in float64, from embeddings on."""

    def __init__(self, queue: torch.Tensor) -> None:
        self.queue = queue.double().numpy()

    def entropy(self, query: torch.Tensor, key: torch.Tensor, row: int) -> float:
        q, k = query[row].detach().double().numpy(), key[row].detach().double().numpy()
        positive = math.exp(q @ k / T)
        total = positive
        for other in self.queue:
            total += math.exp(q @ other / T)
        return -math.log(positive / total)

    def mean(self, targets: list[tuple[torch.Tensor, torch.Tensor, list[float]]]) -> float:
        """Queries, keys and weights of the rows."""
        total = 0.0
        for row in range(BATCH):
            for query, key, weights in targets:
                total += weights[row] * self.entropy(query, key, row) / BATCH
        return total


def shares(place: Place, groups: int = 1) -> tuple[torch.Tensor, list[float]]:
    """The mixed view of ``images``, and the anchor's share in it for each row."""
    boxes = [mix_box(SIDE, seed=0, step=place.step, part=place.part, group=group) for group in range(groups)]
    mixed, share = mix(images(3)[0], images(3)[2], boxes)
    return mixed, share.tolist()


@pytest.mark.parametrize("settings", [{}, {"cross_weight": 0.4}, {"mix": False}, {"local_views": True}, {"cross_weight": 1.0}])
@pytest.mark.parametrize("step", [0, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH])
def test_the_release_equals_a_double_loop(settings: dict[str, object], step: int) -> None:
    """Anchor, neighbour and mixed term, a third each; the own key alone in the first epochs, but for the mixed term."""
    method, place, index = make(**settings), Place(step), torch.arange(BATCH)
    drift(method)
    views = images(4) + (images(8, 12)[4:] if method.settings.local_views else [])
    views = [F.pad(view, (2, 2, 2, 2)) if view.shape[-1] != SIDE else view for view in views]  # Flat takes one size
    losses = method(views, index, place)
    a, b = method.encoder_q(views[0]), method.encoder_q(views[2])
    va, vb = method.encoder_k(views[1]), method.encoder_k(views[3])
    loop = Loop(method.queue.keys)
    other = 0.0 if step < STEPS_PER_EPOCH else float(method.settings.cross_weight)
    own, cross = [1 - other] * BATCH, [other] * BATCH
    expected = {
        "contrastive": loop.mean([(a, va, own), (a, vb, cross)]),
        "neighbour": loop.mean([(b, vb, own), (b, va, cross)]),
    }
    if method.settings.mix:
        mixed, share = shares(place)
        c = method.encoder_q(mixed)
        expected["mixed"] = loop.mean([(c, va, share), (c, vb, [1 - s for s in share])])
    expected = {name: value / len(expected) for name, value in expected.items()}
    if method.settings.local_views:
        local = [method.encoder_q(view) for view in views[4:]]
        expected = {name: value / 2 for name, value in expected.items()}
        expected["local_contrastive"] = sum(loop.mean([(u, va, own), (u, vb, cross)]) for u in local) / 2
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name


def test_in_the_first_epochs_no_gradient_crosses_from_one_image_to_the_other() -> None:
    """But through the mixed view."""
    for step, crosses in ((0, False), (STEPS_PER_EPOCH, True)):
        gradients = []
        for other in (False, True):
            method = make(mix=False)
            drift(method)
            views = images(4)
            if other:
                views[3] = views[3].flip(0)  # other keys of the neighbours
            method(views, torch.arange(BATCH), Place(step))["contrastive"].backward()
            gradients.append(method.encoder_q.backbone.linear.weight.grad)
        assert torch.equal(*gradients) is not crosses


def test_late_mixing_is_the_anchors_own_term_until_the_second_search() -> None:
    method = make(early_mix=False)
    drift(method)
    for step in (0, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH - 1):
        losses = method(images(4), torch.arange(BATCH), Place(step))
        a, va = method.encoder_q(images(1)[0]), method.encoder_k(images(2)[1])
        expected = Loop(method.queue.keys).mean([(a, va, [1.0] * BATCH)]) / 3
        assert losses["mixed"].item() == pytest.approx(expected, rel=1e-5)
    place = Place(2 * STEPS_PER_EPOCH)
    late, early = (one(images(4), torch.arange(BATCH), place)["mixed"].item() for one in (method, make()))
    drift(early_method := make())
    assert late == early_method(images(4), torch.arange(BATCH), place)["mixed"].item()
    assert late != early


@pytest.mark.parametrize("mode", [LevelMode["global"], LevelMode.patch])
@pytest.mark.parametrize("step", [0, STEPS_PER_EPOCH])
def test_the_second_level_equals_a_double_loop(mode: LevelMode, step: int) -> None:
    """In eval mode, where each image is seen by itself: windows by a loop over candidates, losses by one over logits."""
    method, place = make(resnet, level4=mode, level4_weight=0.7), Place(step)
    drift(method)
    method.eval()
    views = images(4)
    mixed, share = shares(place)
    with torch.no_grad():
        losses = method(views, torch.arange(BATCH), place)

        def maps(encoder: nn.Module, view: torch.Tensor) -> torch.Tensor:
            x = encoder.backbone.act1(encoder.backbone.bn1(encoder.backbone.conv1(view)))  # type: ignore[operator, union-attr]
            return encoder.backbone.layer3(encoder.backbone.layer2(encoder.backbone.layer1(x)))  # type: ignore[operator, union-attr]

        queries = {"a": maps(method.encoder_q, views[0]), "b": maps(method.encoder_q, views[2]), "c": maps(method.encoder_q, mixed)}
        keys = {"a": maps(method.encoder_k, views[1]), "b": maps(method.encoder_k, views[3])}
        assert keys["a"].shape == (BATCH, 128, 4, 4)
        if mode is LevelMode.patch:
            for number, name in enumerate("ab"):
                top, left = Patches(2, 1).draw(4, seed=0, step=step, part=0, key=number)
                keys[name] = keys[name][:, :, top : top + 2, left : left + 2]
        embedded_keys = {name: method.level_k(patch) for name, patch in keys.items()}

        def embedded(query: str, key: str) -> torch.Tensor:
            if mode is not LevelMode.patch:
                return method.level_q(queries[query])
            chosen = []
            for one, patch in zip(queries[query], keys[key], strict=True):
                windows = [one[:, top : top + 2, left : left + 2] for top in range(3) for left in range(3)]
                scores = [F.cosine_similarity(window, patch, dim=0).sum().item() for window in windows]
                chosen.append(windows[int(np.argmax(scores))])
            return method.level_q(torch.stack(chosen))

        loop = Loop(method.level_queue.keys)
        other = 0.0 if step == 0 else 0.5
        own, cross = [1 - other] * BATCH, [other] * BATCH
        rest = [1 - value for value in share]
        weights = {"aa": own, "ab": cross, "bb": own, "ba": cross, "ca": share, "cb": rest}
        expected = sum(loop.mean([(embedded(*pair), embedded_keys[pair[1]], rows)]) for pair, rows in weights.items()) / 3
    assert losses["level4"].item() == pytest.approx(0.7 * expected, rel=1e-4)
    assert "level4" not in make()(images(4), torch.arange(BATCH), place)


def test_six_patches_are_embedded_and_four_in_the_first_epochs() -> None:
    for mode, step, expected in (
        (LevelMode.patch, 0, 4),
        (LevelMode.patch, STEPS_PER_EPOCH, 6),
        (LevelMode["global"], 0, 3),
        (LevelMode["global"], STEPS_PER_EPOCH, 3),
    ):
        method, calls = make(resnet, level4=mode), []
        method.level_q.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        method.level_k.register_forward_hook(lambda *_, calls=calls: calls.append(0))
        method(images(4), torch.arange(BATCH), Place(step))
        assert (sum(calls), len(calls) - sum(calls)) == (expected, 2)


def test_each_level_has_its_own_keys_in_its_own_queue() -> None:
    """In the authors' branch the second queue was filled with the first level's keys."""
    method, views = make(resnet, level4=LevelMode["global"]).eval(), images(4)
    drift(method)
    with torch.no_grad():
        for parameter in method.level_q.parameters():
            parameter.add_(0.05)
    before = method.queue.keys.clone(), method.level_queue.keys.clone()
    expected = {}
    for step in range(3):
        query = [parameter.detach().clone() for parameter in method.level_q.parameters()]
        average = [parameter.clone() for parameter in method.level_k.parameters()]
        method.start_step(step)
        for now, old, target in zip(method.level_k.parameters(), average, query, strict=True):
            assert torch.allclose(now, 0.9 * old + 0.1 * target, atol=1e-6)
        for part in range(2):
            rows = slice(part * BATCH // 2, (part + 1) * BATCH // 2)
            method([view[rows] for view in views], torch.arange(BATCH)[rows], Place(step, part, 2))
        assert torch.equal(method.queue.keys[step * BATCH % QUEUE :], before[0][step * BATCH % QUEUE :]) or step == 2
        with torch.no_grad():
            maps = method.encoder_k.backbone.forward_intermediates(views[1], indices=2)[1][0]  # type: ignore[operator]
            expected[step * BATCH % QUEUE] = method.encoder_k(views[1]), method.level_k(maps)
        method.finish_step()
        assert int(method.queue.position) == int(method.level_queue.position) == (step + 1) * BATCH % QUEUE
    for start, (key, level) in expected.items():
        assert torch.allclose(method.queue.keys[start : start + BATCH], key, atol=1e-5)
        assert torch.allclose(method.level_queue.keys[start : start + BATCH], level, atol=1e-5)
    # Nothing of the neighbours is in either: other neighbours, the same queues.
    other = make(resnet, level4=LevelMode["global"]).eval()
    views[2], views[3] = views[3], views[2].flip(0)
    again = make(resnet, level4=LevelMode["global"]).eval()
    for one, given in ((other, views), (again, images(4))):
        one.start_step(0)
        one(given, torch.arange(BATCH), Place(0))
        one.finish_step()
    assert torch.equal(other.queue.keys, again.queue.keys)
    assert torch.equal(other.level_queue.keys, again.level_queue.keys)


def test_the_key_side_is_a_copy_that_no_gradient_reaches() -> None:
    method = make(resnet, level4=LevelMode.patch)
    for one, other in ((method.encoder_q, method.encoder_k), (method.level_q, method.level_k)):
        assert all(torch.equal(q, k) for q, k in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    method.start_step(0)
    torch.stack(list(method(images(4), torch.arange(BATCH), Place(STEPS_PER_EPOCH)).values())).sum().backward()
    trained = {id(p) for module in (method.encoder_q, method.level_q) for p in module.parameters()}
    assert {id(p) for group in method.parameter_groups() for p in group.parameters if p.requires_grad} == trained
    for parameter in method.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)


def test_all_switches_off_is_moco_bit_for_bit_over_whole_steps() -> None:
    """Losses, gradients, weights and queues of four steps with batch norm in two groups and accumulated halves."""
    states = []
    for kind, settings in ((MoCo, MoCoSettings(dim=DIM, queue=QUEUE, momentum=0.9)), (CsMl, None)):
        torch.manual_seed(0)
        method = kind(resnet, settings, FACTS) if settings is not None else make(resnet, **OFF)
        split_batchnorm(method.train(), 2)
        optimizer = torch.optim.SGD(method.parameter_groups()[0].parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)
        losses = []
        for step in range(4):
            method.start_step(step)
            for part in range(2):
                views = [
                    torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(100 * step + 10 * part + n)) for n in range(2)
                ]
                found = method(views, torch.arange(4), Place(step, part, 2))
                assert found.keys() == {"contrastive"}
                found["contrastive"].backward()
                losses.append(found["contrastive"].item())
            optimizer.step()
            optimizer.zero_grad()
            method.finish_step()
        states.append((losses, method.state_dict()))
    assert states[0][0] == states[1][0]
    assert states[0][1].keys() == states[1][1].keys()
    assert all(torch.equal(value, states[1][1][name]) for name, value in states[0][1].items())
    assert [spec.name for spec in CsMl.views(replace(CsMlSettings(), **OFF), 32)] == ["query", "key"]  # type: ignore[arg-type]
    assert make(**OFF).makers(None) == []  # type: ignore[arg-type]


def test_views_of_all_parts() -> None:
    specs = CsMl.views(CsMlSettings(local_views=True), 224)
    assert [(spec.name, spec.source, spec.size) for spec in specs] == [
        ("query", "self", None),
        ("key", "self", None),
        ("neighbour_query", "neighbour", None),
        ("neighbour_key", "neighbour", None),
        ("local0", "self", 192),
        ("local1", "self", 160),
        ("local2", "self", 128),
        ("local3", "self", 96),
    ]


def test_keys_are_seen_in_other_groups_of_batch_norm_at_both_levels() -> None:
    """Groups are mixed and put in order again: with statistics that do not depend on the group, nothing changes."""
    shuffled, whole = (make(resnet, level4=LevelMode.patch) for _ in range(2))
    split_batchnorm(shuffled, 2)
    for method in (shuffled, whole):
        method.eval()
        method(images(4), torch.arange(BATCH), Place(3))
    assert torch.allclose(shuffled._new_keys[0], whole._new_keys[0], atol=1e-5)
    assert torch.allclose(shuffled._new_level_keys[0], whole._new_level_keys[0], atol=1e-5)
    orders = []
    for method in (shuffled, whole):
        seen: list[torch.Tensor] = []
        method.encoder_k.backbone.conv1.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(inputs[0]))  # type: ignore[operator, union-attr]
        method(images(4), torch.arange(BATCH), Place(3))
        orders.append(seen)
    assert torch.equal(orders[1][0], images(4)[1])
    places = [
        [next(i for i in range(BATCH) if torch.equal(row, images(4)[view][i])) for row in seen]
        for view, seen in ((1, orders[0][0]), (3, orders[0][1]))
    ]
    assert all(sorted(order) == list(range(BATCH)) for order in places)
    assert places[0] != places[1] != list(range(BATCH))


def test_every_group_has_a_box_of_its_own() -> None:
    method = make(resnet)
    split_batchnorm(method, 2)
    seen: list[torch.Tensor] = []
    method.encoder_q.backbone.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))  # type: ignore[operator, union-attr]
    method(images(4), torch.arange(BATCH), Place(5))
    assert torch.equal(seen[2], shares(Place(5), groups=2)[0])
    assert torch.equal(seen[0], images(1)[0])


def prototype_tables() -> dict[str, np.ndarray]:
    points = F.normalize(torch.randn(IMAGES, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    return {f"{PREFIX}{name}": tensor.numpy() for name, tensor in hierarchical_kmeans(points, (9, 6, 4), T, seed=0).state_dict().items()}


def test_with_prototypes_the_anchors_views_have_hcscs_losses_besides() -> None:
    settings = {"prototypes": True, "levels": [9, 6, 4], "local_views": True}
    method, index, place = make(**settings), torch.arange(BATCH) * 2, Place(STEPS_PER_EPOCH)
    views = images(8)
    before = method(views, index, place)
    assert "prototype" not in before
    method.receive(prototype_tables())
    losses = method(views, index, place)
    assert {name: losses[name].item() for name in before} == {name: loss.item() for name, loss in before.items()}
    queries = [method.encoder_q(view) for view in (views[0], *views[4:])]
    assert method.selection.prototypes is not None
    masks = method.selection.masks(method.queue.keys, index, place, 5)
    expected = prototype_terms(queries, index, method.selection.prototypes, masks, method.settings.rejected, 1)
    assert {name: loss.item() for name, loss in expected.items()} == {
        name: losses[name].item() for name in ("prototype", "local_prototype")
    }


def test_with_instance_selection_all_negatives_are_the_anchors_selection() -> None:
    settings = {"instance_selection": True, "levels": [9, 6, 4]}
    method, index, place = make(**settings), torch.arange(BATCH) * 2, Place(STEPS_PER_EPOCH)
    drift(method)
    method.receive(prototype_tables())
    losses = method(images(4), index, place)
    masks = method.selection.masks(method.queue.keys, index, place, 1)
    assert len(masks.negatives) == 3
    queue, expected = method.queue.keys.double().numpy(), 0.0
    q, keys = (
        method.encoder_q(images(3)[2]).detach().double().numpy(),
        [method.encoder_k(images(4)[view]).double().numpy() for view in (3, 1)],
    )
    for kept in masks.negatives:
        for row in range(BATCH):
            negatives = sum(math.exp(q[row] @ other / T) if kept[row, j] else 1.0 for j, other in enumerate(queue))
            expected += sum(0.5 * (math.log(math.exp(q[row] @ key[row] / T) + negatives) - q[row] @ key[row] / T) / BATCH for key in keys)
    assert losses["neighbour"].item() == pytest.approx(expected / 3, rel=1e-5)
    assert "prototype" not in losses


class Operations(TorchDispatchMode):
    """Lists the names of torch's operations while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", list(LevelMode))
def test_a_step_neither_waits_for_the_device_nor_loops_over_images(mode: LevelMode) -> None:
    """No operation whose result the host must read, and as many operations for few images as for more."""
    counts = []
    for batch in (BATCH, 2 * BATCH):
        method = make(resnet, level4=mode, queue=64)
        method.start_step(0)
        views, index = [torch.randn(batch, 3, SIDE, SIDE) for _ in range(4)], torch.arange(batch)
        with Operations() as operations:
            torch.stack(list(method(views, index, Place(STEPS_PER_EPOCH)).values())).sum().backward()
            method.finish_step()
        assert not {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"} & set(operations.names)
        counts.append(len(operations.names))
    assert counts[0] == counts[1]


@pytest.mark.cuda
@pytest.mark.parametrize("mode", list(LevelMode))
def test_a_step_on_a_gpu_never_makes_the_host_wait(mode: LevelMode) -> None:
    """By torch's own detector, with keys shuffled over two groups."""
    method = make(resnet, level4=mode).cuda()
    split_batchnorm(method, 2)
    views, index = [view.cuda() for view in images(4)], torch.arange(BATCH, device="cuda")
    try:
        # In the first step libraries are loaded.
        for detector in ("default", "error"):
            torch.cuda.set_sync_debug_mode(detector)
            method.start_step(0)
            torch.stack(list(method(views, index, Place(STEPS_PER_EPOCH)).values())).sum().backward()
            method.finish_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mode", list(LevelMode))
def test_channels_last_and_autocast_change_little(mode: LevelMode) -> None:
    method, views = make(resnet, level4=mode), images(4)
    plain = method(views, torch.arange(BATCH), Place(STEPS_PER_EPOCH))
    method = make(resnet, level4=mode).to(memory_format=torch.channels_last)
    laid_out = method(views, torch.arange(BATCH), Place(STEPS_PER_EPOCH))
    assert {name: loss.item() for name, loss in laid_out.items()} == pytest.approx(
        {name: loss.item() for name, loss in plain.items()}, rel=1e-4
    )
    method = make(resnet, level4=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method(views, torch.arange(BATCH), Place(STEPS_PER_EPOCH))
    assert all(loss.dtype == torch.float32 for loss in rounded.values())
    assert {name: loss.item() for name, loss in rounded.items()} == pytest.approx(
        {name: loss.item() for name, loss in plain.items()}, rel=0.1
    )
    torch.stack(list(rounded.values())).sum().backward()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 40}, r"method.k=40 neighbours of each of 40 images: .* use for example method.k=5"),
        ({"k": 0}, r"method.k must be at least 1, not 0"),
        ({"cross_weight": 1.5}, r"method.cross_weight must be at least 0 and at most 1, not 1.5"),
        ({"refresh_epochs": 0}, r"method.refresh_epochs must be at least 1, not 0"),
        ({"cross_epochs": -1}, r"method.cross_epochs must be at least 0, not -1"),
        ({"level4_weight": -1.0}, r"method.level4_weight must be at least 0, not -1.0"),
        ({"queue": 12}, r"method.queue=12 is not a multiple of batch=8"),
        ({"prototypes": True, "levels": [80, 40]}, r"method.levels: there are 40 images for 80 clusters"),
        ({"level4": LevelMode.patch}, r"method.level4 needs a backbone .* and 'Flat' has none"),
    ],
)
def test_what_cannot_be_is_refused_with_numbers_that_would_work(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_patches_of_a_map_that_is_too_small_are_refused_when_views_are_known() -> None:
    make(resnet, level4=LevelMode.patch).check_views(16)
    make(resnet, level4=LevelMode["global"]).check_views(8)
    make().check_views(8)
    with pytest.raises(UserError, match=r"the map has 2x2 cells, and patches need 4x4"):
        make(resnet, level4=LevelMode.patch).check_views(8)


def test_neighbours_of_other_images_are_refused() -> None:
    method, table = make(k=2), np.zeros((IMAGES, 2), dtype=np.int64)
    method.receive({NEIGHBOURS: table})
    for wrong in (table[:, :1], table[1:], table + IMAGES):
        with pytest.raises(UserError, match=r"the neighbours are of shape .* 40 training images with method.k=2"):
            method.receive({NEIGHBOURS: wrong})
