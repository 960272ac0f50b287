"""Losses against plain NumPy loops; queue, moving average and batch-norm groups against hand-made values."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from pretrain.batchnorm import split_batchnorm, splits_of
from pretrain.methods import MoCo, RunFacts, SimCLR
from pretrain.methods.base import Place
from pretrain.methods.moco import MoCoSettings
from pretrain.methods.parts import Queue, info_nce, update_average
from pretrain.methods.simclr import SimCLRSettings, nt_xent
from zoo.errors import UserError


class Flat(nn.Module):
    """A backbone small enough to follow by hand: 2x2 images -> 6 features."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_info_nce_equals_a_double_loop() -> None:
    query, key, negatives, temperature = unit(5, 8, 0), unit(5, 8, 1), unit(11, 8, 2), 0.2
    expected = 0.0
    for i in range(5):
        positive = math.exp(float(query[i] @ key[i]) / temperature)
        expected -= math.log(positive / (positive + sum(math.exp(float(query[i] @ n) / temperature) for n in negatives))) / 5
    assert info_nce(query, key, negatives, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_equals_a_double_loop() -> None:
    first, second, temperature = unit(4, 8, 0), unit(4, 8, 1), 0.5
    both = torch.cat([first, second]).double().numpy()
    expected = 0.0
    for i in range(8):
        others = sum(math.exp(both[i] @ both[j] / temperature) for j in range(8) if j != i)
        expected -= math.log(math.exp(both[i] @ both[(i + 4) % 8] / temperature) / others) / 8
    assert nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_queue_is_first_in_first_out_and_keeps_its_place_through_a_state_dict() -> None:
    queue = Queue(6, 3)
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(6))
    for number in range(4):
        queue.push(torch.full((2, 3), float(number)))
    assert queue.keys[:, 0].tolist() == [3, 3, 1, 1, 2, 2]
    copy = Queue(6, 3)
    copy.load_state_dict(queue.state_dict())
    copy.push(torch.full((2, 3), 9.0))
    assert copy.keys[:, 0].tolist() == [3, 3, 9, 9, 2, 2]


def test_moving_average() -> None:
    average, current = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(average.weight, 2.0)
    nn.init.constant_(current.weight, 10.0)
    update_average(average.parameters(), current.parameters(), 0.75)
    assert average.weight.item() == pytest.approx(0.75 * 2 + 0.25 * 10)


def make_moco(**settings: float) -> MoCo:
    torch.manual_seed(0)
    return MoCo(Flat, MoCoSettings(dim=4, queue=8, **settings), RunFacts(images=32, batch=4, seed=0, steps=1))  # type: ignore[arg-type]


def test_moco_step_by_hand() -> None:
    method = make_moco(momentum=0.9, temperature=0.2)
    views = [torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)]
    assert all(torch.equal(q, k) for q, k in zip(method.encoder_q.parameters(), method.encoder_k.parameters(), strict=True))
    with torch.no_grad():
        method.encoder_q.backbone.linear.weight += 1.0  # as an optimizer would
    before, queue = method.encoder_k.backbone.linear.weight.clone(), method.queue.keys.clone()
    method.start_step(0)
    expected_weight = 0.9 * before + 0.1 * method.encoder_q.backbone.linear.weight
    assert torch.allclose(method.encoder_k.backbone.linear.weight, expected_weight)
    loss = method(views, torch.arange(4), Place(0))["contrastive"]

    def embed(encoder: nn.Module, images: torch.Tensor) -> np.ndarray:
        x = encoder.backbone(images).detach().double().numpy()
        (w1, b1), (w2, b2) = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (encoder.head[0], encoder.head[2]))
        z = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    query, key = embed(method.encoder_q, views[0]), embed(method.encoder_k, views[1])
    expected = 0.0
    for q, k in zip(query, key, strict=True):
        logits = [q @ k / 0.2, *(q @ n / 0.2 for n in queue.double().numpy())]
        expected += (math.log(sum(math.exp(v) for v in logits)) - logits[0]) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    # The keys enter the queue after the step.
    assert torch.equal(method.queue.keys, queue)
    method.finish_step()
    assert np.allclose(method.queue.keys[:4].numpy(), key, atol=1e-6)
    assert torch.equal(method.queue.keys[4:], queue[4:])


def test_moco_gradient_reaches_the_query_encoder_only() -> None:
    method = make_moco()
    method.start_step(0)
    method([torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)], torch.arange(4), Place(0))["contrastive"].backward()
    assert all(p.grad is not None for p in method.encoder_q.parameters())
    assert all(p.grad is None for p in method.encoder_k.parameters())
    trained = {id(p) for group in method.parameter_groups() for p in group.parameters if p.requires_grad}
    assert trained == {id(p) for p in method.encoder_q.parameters()}


def test_moco_accumulation_sees_the_same_negatives_as_one_batch() -> None:
    """Without batch norm, four forward passes of one image are one pass of four: loss, gradient and queue."""
    views = [torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)]
    whole, parts = make_moco(), make_moco()
    whole.start_step(0)
    loss = whole(views, torch.arange(4), Place(0))["contrastive"]
    loss.backward()
    whole.finish_step()
    parts.start_step(0)
    total = 0.0
    for part in range(4):
        loss_part = parts([v[part : part + 1] for v in views], torch.arange(1), Place(0, part, 4))["contrastive"] / 4
        loss_part.backward()
        total += loss_part.item()
    parts.finish_step()
    assert total == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(whole.queue.keys, parts.queue.keys, atol=1e-6)
    for a, b in zip(whole.encoder_q.parameters(), parts.encoder_q.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def test_moco_v1_head_is_one_linear_layer() -> None:
    method = make_moco(mlp=False)
    assert isinstance(method.encoder_q.head, nn.Linear)


def test_moco_refuses_a_queue_that_the_batch_does_not_divide() -> None:
    with pytest.raises(UserError, match=r"queue=10 is not a multiple of batch=4; use for example method.queue=8"):
        MoCo(Flat, MoCoSettings(queue=10), RunFacts(images=32, batch=4, seed=0, steps=1))


def test_simclr_forward_is_nt_xent_of_the_normalised_embeddings() -> None:
    torch.manual_seed(0)
    method = SimCLR(Flat, SimCLRSettings(dim=4, temperature=0.5), RunFacts(images=32, batch=4, seed=0, steps=1))
    views = [torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)]
    first, second = (F.normalize(method.encoder.head(method.encoder.backbone(v)), dim=1) for v in views)
    expected = nt_xent(first, second, 0.5).item()
    assert method(views, torch.arange(4), Place(0))["contrastive"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(3), lambda: BatchNormAct2d(3)])
def test_split_batchnorm_is_several_batchnorms(make: object) -> None:
    torch.manual_seed(0)
    whole = make()  # type: ignore[operator]
    nn.init.uniform_(whole.weight)
    pieces = [make(), make()]  # type: ignore[operator]
    for piece in pieces:
        piece.load_state_dict(whole.state_dict())
    split_batchnorm(whole, 2)
    assert splits_of(whole) == 2
    x = torch.randn(6, 3, 4, 4)
    expected = torch.cat([piece(part) for piece, part in zip(pieces, x.chunk(2), strict=True)])
    output = whole(x)
    assert torch.equal(output, expected)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b, c in zip(whole.parameters(), pieces[0].parameters(), pieces[1].parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad + c.grad, atol=1e-5)
    assert torch.allclose(whole.running_mean, (pieces[0].running_mean + pieces[1].running_mean) / 2)
    assert torch.allclose(whole.running_var, (pieces[0].running_var + pieces[1].running_var) / 2)
    assert whole.num_batches_tracked.item() == 1
    # Eval mode is the ordinary one.
    plain = make()  # type: ignore[operator]
    plain.load_state_dict(whole.state_dict())
    assert torch.equal(whole.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(
    ("make", "shape", "last"),
    [
        (lambda: nn.BatchNorm2d(3), (12, 3, 5, 4), False),
        (lambda: nn.BatchNorm2d(3), (12, 3, 5, 4), True),
        (lambda: BatchNormAct2d(3), (12, 3, 5, 4), True),
        (lambda: nn.BatchNorm2d(3, momentum=None), (12, 3, 1, 1), True),
        (lambda: nn.BatchNorm1d(7, affine=False), (12, 7), False),
        (lambda: nn.BatchNorm1d(7, track_running_stats=False), (12, 7, 4), False),
    ],
)
def test_one_pass_over_all_parts_is_part_by_part(make: Callable[[], Any], shape: tuple[int, ...], last: bool) -> None:
    """What GPUs do and what CPUs do: values, gradients, statistics after two steps, layout of the memory."""
    torch.manual_seed(0)
    one = make().double()
    for value in one.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    other = make().double()
    other.load_state_dict(one.state_dict())
    split_batchnorm(one, 4)
    split_batchnorm(other, 4)
    for _ in range(2):
        x = torch.randn(*shape, dtype=torch.float64)
        x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
        again = x.detach().clone().requires_grad_()
        found, expected = one._in_one_pass(x), other._part_by_part(again)
        torch.testing.assert_close(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        weights = torch.randn_like(found)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(x.grad, again.grad)
    assert [name for name, _ in one.named_parameters()] == [name for name, _ in other.named_parameters()]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


@pytest.mark.cuda
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_parts_on_a_gpu_are_those_of_the_cpu(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = split_batchnorm(nn.BatchNorm2d(8), 4)
    there = copy.deepcopy(layer).cuda()
    x = torch.randn(32, 8, 6, 6)
    for memory in (torch.contiguous_format, torch.channels_last):
        found = there(x.to("cuda", precision, memory_format=memory))
        torch.testing.assert_close(found.float().cpu(), layer(x), atol=1e-5 if precision is torch.float32 else 4e-2, rtol=0)
        torch.testing.assert_close(there.running_var.cpu(), layer.running_var, atol=1e-5 if precision is torch.float32 else 1e-2, rtol=0)


def test_moco_shuffles_keys_over_batchnorm_groups() -> None:
    """With groups, a key is encoded beside other images than its query is; the loss pairs them rightly all the same."""

    class Normed(Flat):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(super().forward(images))

    torch.manual_seed(0)
    method = MoCo(Normed, MoCoSettings(dim=4, queue=8), RunFacts(images=32, batch=8, seed=0, steps=1))
    split_batchnorm(method, 2)
    images = torch.randn(8, 3, 2, 2)
    keys = method.encode_keys(images, Place(step=3))
    in_place = method.encoder_k(images)
    assert not torch.allclose(keys, in_place, atol=1e-3)  # other groups, other statistics
    assert torch.equal(keys, method.encode_keys(images, Place(step=3)))
    # Undoing the groups by hand: with the drawn permutation each key is where its image was.
    from zoo.randomness import generator

    order = torch.from_numpy(generator(0, "shuffle keys", 3, 0).permutation(8))
    expected = torch.empty_like(keys)
    expected[order] = method.encoder_k(images[order])
    assert torch.equal(keys, expected)
