"""Forward passes in pieces: chosen by a trial, and never with other bits; outputs that are no vectors."""

from __future__ import annotations

import time
from collections import namedtuple
from typing import Any

import pytest
import torch
from small_network import TRANSFORM, Network, in_memory, pictures
from torch import Tensor, nn

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.features import extract_features
from evaluation.extraction.forward import PIECES
from zoo.errors import UserError

# Eight whole batches and an incomplete one.
IMAGES = 8 * BATCH_SIZE + 77


class Timed(nn.Module):
    """Gives each image's mean colours; batches of more than ``fast`` images take longer, an image. It remembers their sizes."""

    def __init__(self, fast: int, shift: bool = False) -> None:
        super().__init__()
        self.fast, self.shift = fast, shift
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        time.sleep(len(images) * (1e-5 if len(images) <= self.fast else 2e-4))
        colours = images.mean((2, 3))
        return colours - colours.mean(0) if self.shift else colours


def test_pieces_are_taken_where_they_are_faster() -> None:
    images, network = in_memory(pictures(IMAGES, side=4)), Timed(fast=40)
    found = extract_features(network, images, TRANSFORM).features
    assert torch.equal(found, extract_features(Timed(fast=40), images, TRANSFORM, batch_size=BATCH_SIZE).features)
    tried = [128 // size * [size] for size in PIECES]
    assert network.sizes == [BATCH_SIZE, BATCH_SIZE, *tried[0], *tried[1], *6 * (BATCH_SIZE // 32) * [32], 77]


@pytest.mark.parametrize(
    ("network", "images", "batch_size"),
    [(Timed(fast=1000), IMAGES, None), (Timed(fast=40), 7 * BATCH_SIZE, None), (Timed(fast=40), IMAGES, BATCH_SIZE)],
    ids=["no faster", "few images", "asked for"],
)
def test_batches_stay_whole(network: Timed, images: int, batch_size: int | None) -> None:
    extract_features(network, in_memory(pictures(images, side=4)), TRANSFORM, batch_size=batch_size)
    assert network.sizes[-2:] == ([BATCH_SIZE, 77] if images == IMAGES else [BATCH_SIZE, BATCH_SIZE])


def test_pieces_with_other_bits_are_never_taken() -> None:
    """A network whose features depend on their batch, as of batch norm in training mode, is given whole batches, however long they take."""
    images, network = in_memory(pictures(IMAGES, side=4)), Timed(fast=40, shift=True)
    found = extract_features(network, images, TRANSFORM).features
    assert network.sizes[-2:] == [BATCH_SIZE, 77]
    assert torch.equal(found, extract_features(Timed(fast=40, shift=True), images, TRANSFORM, batch_size=BATCH_SIZE).features)


def test_a_trial_changes_no_bit_of_a_convolutional_network() -> None:
    images = in_memory(pictures(IMAGES, side=8))
    assert torch.equal(
        extract_features(Network(), images, TRANSFORM).features,
        extract_features(Network(), images, TRANSFORM, batch_size=BATCH_SIZE).features,
    )


Both = namedtuple("Both", "features scores")


class Giving(nn.Module):
    """Gives maps, tokens and vectors in any kind of holder."""

    def __init__(self, holder: str) -> None:
        super().__init__()
        self.holder, self.stem = holder, nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images: Tensor) -> Any:
        maps = self.stem(images)
        vectors = maps.amax((2, 3))
        return {
            "tuple": (vectors, maps),
            "list": [maps, vectors],
            "dict": {"maps": maps, "vectors": vectors},
            "named tuple": Both(vectors, maps),
            "map": maps,
            "tokens": maps.flatten(2).transpose(1, 2),
            "nothing": None,
        }[self.holder]


@pytest.mark.parametrize(
    ("holder", "layer", "kind"),
    [
        ("tuple", "output:0", "vectors"),
        ("tuple", "output:1", "means"),
        ("list", "output:1", "vectors"),
        ("dict", "output:vectors", "vectors"),
        ("dict", "output:maps", "means"),
        ("named tuple", "output:features", "vectors"),
        ("map", "output", "means"),
        ("tokens", "output", "means"),
        ("nothing", "stem", "means"),
    ],
)
def test_a_part_of_any_output_is_chosen_by_name(holder: str, layer: str, kind: str) -> None:
    network, images = Giving(holder).eval(), in_memory(pictures(9))
    found = extract_features(network, images, TRANSFORM, layer=layer).features
    with torch.no_grad():
        maps = network.stem(TRANSFORM.normalise(torch.from_numpy(pictures(9))))
    expected = maps.amax((2, 3)) if kind == "vectors" else maps.mean((2, 3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("holder", "layer", "message"),
    [
        ("tuple", None, r"gives a tuple of 0 \(9, 5\), 1 \(9, 5, 16, 16\); choose one, such as --features output:0"),
        ("dict", None, r"gives a dict of maps \(9, 5, 16, 16\), vectors \(9, 5\); choose one, such as --features output:maps"),
        ("named tuple", None, r"gives a Both of features \(9, 5\), .* --features output:features"),
        ("map", None, r"not \(9, 5, 16, 16\); --features output takes their mean over positions"),
        ("nothing", None, r"not NoneType"),
        ("dict", "output:scores", r"what layer 'output' gives has no part 'scores'; it has: maps, vectors"),
        ("dict", "output", r"gives dict and not vectors, .*; choose one of its parts: output:maps, output:vectors"),
        ("map", "output:0", r"has no part '0'; it has: none, for it is a Tensor"),
    ],
)
def test_what_is_no_vector_says_what_to_choose(holder: str, layer: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        extract_features(Giving(holder), in_memory(pictures(9)), TRANSFORM, layer=layer)


def test_a_layer_that_is_called_output_stays_that_layer() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.last(self.output(images))
            return scores

    assert extract_features(Named(), in_memory(pictures(9)), TRANSFORM, layer="output").features.shape == (9, 4)
