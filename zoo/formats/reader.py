"""What a reader of one checkpoint layout is: a few facts, which :mod:`zoo.formats.engine` works by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoo.models.selection import Place


@dataclass(frozen=True)
class Part:
    """One network of a layout.

    Attributes
    ----------
    encoder
        ``"query"`` (the trained one), ``"key"`` (its moving average), ``"online"``, ``"target"``, ``"teacher"``, ``"student"``, ``"raw"``,
        ``"ema"``.
    places
        Where its state dict may lie; the first that is there is taken.
    prefixes
        What its tensors' names may begin with, after the wrappers ``module.`` and ``_orig_mod.``; the first that occurs is taken.
    """

    encoder: str
    places: tuple[Place, ...]
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """One checkpoint layout. All patterns are regular expressions that match at the beginning of a name.

    Attributes
    ----------
    name
        What ``--format`` calls it.
    title
        What it is, in a few words.
    parts
        Its networks; the first is the one that the method's authors evaluate, and is taken unless another is asked for.
    needs
        Patterns of tensor names, each of which something in the state dict must match for the layout to be recognised.
    lacks
        Patterns of tensor names that the layout never has.
    beside
        Keys that lie beside the state dict in the file's dictionary; all must be there for the layout to be recognised.
    framework
        Whether one of these is a framework's mark: a file that has it is of the layouts of that framework, whatever else would fit.
    without
        Keys that the layout never has there.
    shapes
        Pattern of a name, and the shape that such a tensor must have (None: any number) for the layout to be recognised.
    drop
        Patterns of names inside the network that are not of the backbone: heads.
    others
        Patterns of names outside the network that the layout is known to have.
    renames
        Pattern and replacement, by which names become those of timm; the first pattern that matches a name is used.
    aliases
        Prefixes under which the same tensors occur again; they must be equal.
    method
        What the file's weights were made by, where the layout tells.
    epochs
        The key beside the state dict that counts the finished epochs, where it is known to.
    mean, std
        Per-channel statistics that the layout's networks expect, where they are not ImageNet's.
    ask
        Whether a file that holds several parts is refused until one is chosen.
    confirmed
        Whether a file has been read that the layout's own code wrote, or that its authors published.
    note
        What a user should know.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    framework: bool = False
    without: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    method: str | None = None
    epochs: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    ask: bool = False
    confirmed: bool = False
    note: str | None = None
