"""The pieces of `make gpu`, in order of worth, each with its time box.

Raise a piece's version when its code changes so that its figures are others: then it is done again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A part of the measurements, done in a process of its own.

    Attributes
    ----------
    name, version
        A row with both, and no failure, means that it is done.
    work
        ``module:function`` of this folder; called with a :class:`context.Context`.
    box
        Seconds after which it is stopped; what it has reported by then is kept.
    least
        Seconds that must be left, or it is not begun.
    images
        Whether it needs CIFAR-10.
    """

    name: str
    version: int
    work: str
    box: float
    least: float
    images: bool = False


# Arms of CIFAR-10 that are trained for equally many epochs; the backbones of the first pair are kept.
PAIRS = (("hcsc_ccrop", "moco"), ("hcsc", "csml"), ("simclr_ccrop", "simclr"))
SEEDS = 3
# The whole of what is left: as many epochs as that allows, stated before.
_ALL = 3600.0

PIECES = (
    Piece("cuda tests", 2, "cuda_tests:run", 120, 30),
    Piece("steps at 32 px", 1, "steps:at_32", 75, 25),
    Piece("steps at 224 px", 1, "steps:at_224", 100, 40),
    Piece("loop", 2, "steps:whole_loop", 60, 20),
    Piece("views", 1, "views:views", 45, 20),
    Piece("survey", 1, "views:survey", 40, 20),
    Piece("search", 1, "search:search", 45, 20),
    Piece("k-means", 1, "search:k_means", 60, 25),
    Piece("classifiers", 1, "classifiers:classifiers", 60, 25),
    Piece("extraction", 1, "classifiers:extraction", 30, 15),
    *(Piece(f"cifar10 {' + '.join(pair)} seed 0", 2, "cifar:pair", _ALL, 150, images=True) for pair in PAIRS),
    Piece("compiled at 32 px", 1, "steps:compiled_32", 150, 60),
    Piece("compiled at 224 px", 1, "steps:compiled_224", 200, 90),
    Piece("deterministic", 1, "steps:deterministic", 60, 25),
    Piece("detection", 1, "detection:detection", 120, 40),
    *(
        Piece(f"cifar10 {' + '.join(pair)} seed {seed}", 2, "cifar:pair", _ALL, 150, images=True)
        for seed in range(1, SEEDS)
        for pair in PAIRS
    ),
)
