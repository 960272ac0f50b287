"""Reading the backbone out of a checkpoint of any known layout: recognise, take, account for every tensor, build."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.backbones import WeightsError, load_backbone
from zoo.errors import UserError, some_of
from zoo.formats.architecture import Architecture, infer_architecture
from zoo.formats.layout import CollisionError, Found, StateDict, evidence, find_part, misfit, outline, parts_in, spell, state_dicts
from zoo.formats.reader import Reader
from zoo.formats.readers import READERS, get_reader
from zoo.models.runs import CHECKPOINT_FORMAT
from zoo.reading.checkpoint_file import Checkpoint, open_checkpoint

AUTO = "auto"
_FIRST_NAMES = ("conv1.weight", "layer1.0.conv1.weight", "cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")


@dataclass(frozen=True)
class Accounting:
    """Where every tensor of the file's state dict went.

    Attributes
    ----------
    matched
        Names in the backbone that the file has.
    filled
        Counters of batch norm that the file lacks, which are 0 now.
    cast
        Names whose tensors were of another floating-point type than float32.
    dropped
        Names inside the network that are not of the backbone, without the prefix.
    others, unknown
        Names outside the network that the layout is known to have, and that it is not.
    """

    matched: tuple[str, ...]
    filled: tuple[str, ...]
    cast: tuple[str, ...]
    dropped: tuple[str, ...]
    others: tuple[str, ...]
    unknown: tuple[str, ...]

    def lines(self) -> list[str]:
        """The account, one kind a line; missing and unexpected tensors are errors, so that there are none here."""
        texts = [f"matched {len(self.matched)}, missing 0, unexpected 0"]
        for text, names in (
            ("counters that the file lacks, set to 0", self.filled),
            ("cast to float32", self.cast),
            ("dropped, heads of this network", self.dropped),
            ("dropped, other parts", self.others),
            ("dropped, not known to this format", self.unknown),
        ):
            if names:
                texts.append(f"{text}: {len(names)} ({_grouped(names)})")
        return texts


@dataclass(frozen=True)
class Reading:
    """A backbone that was read.

    Attributes
    ----------
    path
        The file.
    reader, encoder
        The layout, and which of its networks.
    also
        Other layouts that fit the file and give the very same tensors.
    evidence
        What the layout was recognised by.
    architecture
        Its name, and the side of the images where the weights tell it.
    backbone
        On the CPU, in eval mode.
    accounting
        Where every tensor went.
    replaced
        The names that the file asked for and that inert stand-ins took the place of.
    facts
        Plain values beside the weights (``epoch``, ``arch``, ...), unchecked.
    """

    path: Path
    reader: Reader
    encoder: str
    also: tuple[str, ...]
    evidence: str
    architecture: Architecture
    backbone: nn.Module
    accounting: Accounting
    replaced: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str | None:
        """What made the weights, where the layout tells: None where several layouts fit that are of different methods."""
        methods = {reader.method for reader in (self.reader, *map(get_reader, self.also))}
        return methods.pop() if len(methods) == 1 else None

    @property
    def epochs(self) -> int | None:
        """Finished epochs, where the layout is known to count them and the file does."""
        count = self.facts.get(self.reader.epochs) if self.reader.epochs else None
        return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def read_backbone(
    path: str | Path,
    *,
    format: str = AUTO,
    arch: str | None = None,
    encoder: str | None = None,
    image_size: int | None = None,
    trust_pickle: bool = False,
) -> Reading:
    """The backbone in a checkpoint file.

    Parameters
    ----------
    format
        A reader's name, or ``"auto"``: recognise the layout. Where several fit and give the same tensors, the first is taken; where they
        do not, the file is refused with their names.
    arch
        timm's name of the architecture; None: by the shapes.
    encoder
        Which of the layout's networks; None: the one that the method's authors evaluate.
    image_size
        Side in pixels that a network of fixed input size is built for; None: what the weights tell, else the architecture's own.
    trust_pickle
        As in :func:`zoo.reading.checkpoint_file.open_checkpoint`.

    Raises
    ------
    UserError
        The file cannot be opened safely, is of no known layout or of several, lacks a tensor of the backbone or has one too many, or
        its values cannot be weights.
    """
    checkpoint = open_checkpoint(path, trust_pickle=trust_pickle)
    return backbone_in(checkpoint, format=format, arch=arch, encoder=encoder, image_size=image_size)


def backbone_in(
    checkpoint: Checkpoint, *, format: str = AUTO, arch: str | None = None, encoder: str | None = None, image_size: int | None = None
) -> Reading:
    """:func:`read_backbone` of a file that is open."""
    content = checkpoint.content
    _refuse(checkpoint)
    if format == AUTO:
        reader, also = _recognise(checkpoint)
    else:
        reader, also = get_reader(format), ()
    found = _choose(checkpoint, reader, encoder)
    _check_aliases(checkpoint, reader, found)
    _check_values(checkpoint, found)
    architecture = _architecture(checkpoint, found, arch, image_size)
    for pattern, reason in reader.refused.items():
        if fnmatchcase(architecture.name, pattern):
            raise UserError(f"{checkpoint.path} is a {architecture.name} of {reader.title}, which is not read: {reason}")
    backbone, accounting = _build(checkpoint, found, architecture)
    outer = content if isinstance(content, Mapping) else {}
    facts = {str(key): value for key, value in outer.items() if isinstance(value, (int, float, str, list, tuple))}
    return Reading(
        path=checkpoint.path,
        reader=reader,
        encoder=found.part.encoder,
        also=also,
        evidence=evidence(reader, found),
        architecture=architecture,
        backbone=backbone,
        accounting=accounting,
        replaced=checkpoint.replaced,
        facts=facts,
    )


def _refuse(checkpoint: Checkpoint) -> None:
    """Layouts that are known and hold nothing that could be read, each with the way out."""
    path, content = checkpoint.path, checkpoint.content
    if not isinstance(content, Mapping):
        raise UserError(f"{path} is no checkpoint of a known layout: {outline(content)}")
    if "lightly_train" in content:
        raise UserError(
            f"{path} holds whole modules of lightly-train; export it with its part='model', format='torch_state_dict' and import that"
        )
    if "__author__" in content or "matching_heuristics" in content:
        raise UserError(f"{path} is converted for detectron2; import the checkpoint that it was made of")
    kind = content.get("type")
    if "classy_state_dict" not in content and isinstance(kind, str) and kind in ("shard_list", "slice_list"):
        raise UserError(f"{path} is one shard of a VISSL checkpoint; consolidate it with VISSL's script and import the result")
    for state in state_dicts(content):
        names = state.tensors
        if all(name.startswith("linear.") for name in names):
            raise UserError(f"{path} holds a linear classifier alone ({', '.join(list(names)[:2])}); import the file of the backbone")
        if any(name.startswith(("model.backbone.0.", "model.features.0.")) for name in names) and any(
            ".shortcut." in name for name in names
        ):
            raise UserError(
                f"{path} is of lightly's command line, whose ResNet (batch norm on the input, a last 1x1 convolution) no library has"
            )


def _recognise(checkpoint: Checkpoint) -> tuple[Reader, tuple[str, ...]]:
    content = checkpoint.content
    if content.get("format") == CHECKPOINT_FORMAT:
        return get_reader("ours"), ()
    fitting = [reader for reader in READERS if reader.name != "ours" and misfit(reader, content) is None]
    if not fitting:
        raise UserError(f"{checkpoint.path} is of no known format: {outline(content)}{_backbone_like(checkpoint)}")
    for reader in fitting:
        if reader.ask and sum(find_part(reader, part, content) is not None for part in reader.parts) > 1:
            return reader, ()
    mappings = {reader.name: _first(checkpoint, reader).mapping() for reader in fitting}
    if len(set(mappings.values())) > 1:
        readings = "; ".join(f"{reader.name}: {evidence(reader, _first(checkpoint, reader))}" for reader in fitting)
        raise UserError(f"{checkpoint.path} fits several formats, which would read different tensors; choose with --format ({readings})")
    return fitting[0], tuple(reader.name for reader in fitting[1:])


def _first(checkpoint: Checkpoint, reader: Reader) -> Found:
    """The network of a fitting layout that is taken unless another is asked for, or the first that is there."""
    parts = parts_in(reader, checkpoint.content)
    return next(found for part in parts if (found := find_part(reader, part, checkpoint.content)) is not None)


def _choose(checkpoint: Checkpoint, reader: Reader, encoder: str | None) -> Found:
    """The network that is asked for. Raises UserError that says what the file has instead."""
    path, content = checkpoint.path, checkpoint.content
    if reader.name == "ours" and content.get("format") != CHECKPOINT_FORMAT:
        raise UserError(f"{path} is not {reader.title}: its 'format' is not '{CHECKPOINT_FORMAT}'")
    parts = parts_in(reader, content)
    try:
        present = {part.encoder: found for part in parts if (found := find_part(reader, part, content)) is not None}
    except CollisionError as error:
        raise UserError(f"{path} is not {reader.title}: {error}") from error
    if not present:
        raise UserError(f"{path} is not {reader.title}: {misfit(reader, content)}; {outline(content)}{_backbone_like(checkpoint)}")
    if encoder is None and reader.ask and len(present) > 1:
        raise UserError(f"{path} holds several networks; choose with --encoder {' or --encoder '.join(present)}")
    wanted = encoder or parts[0].encoder
    if wanted not in present:
        known = [part.encoder for part in parts]
        if wanted in known or encoder is None:
            raise UserError(f"{path} has no {wanted} network; it has {', '.join(present)}: choose with --encoder")
        raise UserError(f"{path} has no '{wanted}' network: {reader.title} has {', '.join(known)}")
    return present[wanted]


def _check_aliases(checkpoint: Checkpoint, reader: Reader, found: Found) -> None:
    tensors = found.state.tensors
    for alias in reader.aliases:
        if alias == found.prefix:
            continue
        for name in found.names.values():
            twin = alias + name.removeprefix(found.prefix)
            if twin in tensors and not torch.equal(tensors[twin], tensors[name]):
                raise UserError(
                    f"{checkpoint.path} contradicts itself: '{name}' and '{twin}' are two names of one tensor in {reader.title}, and differ"
                )


def _check_values(checkpoint: Checkpoint, found: Found) -> None:
    """Raise UserError for tensors that no network has. Before anything is built: a shape may claim more than the file holds."""
    for name in found.names.values():
        reason = _unfit(found.state.tensors[name])
        if reason:
            raise UserError(f"{checkpoint.path} holds no usable weights: '{name}' {reason}")


def _architecture(checkpoint: Checkpoint, found: Found, arch: str | None, image_size: int | None) -> Architecture:
    if arch is not None:
        known = None
        with contextlib.suppress(UserError):
            known = infer_architecture(_shapes(found)).image_size
        return Architecture(arch, image_size if image_size is not None else known)
    try:
        inferred = infer_architecture(_shapes(found))
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    return Architecture(inferred.name, image_size if image_size is not None else inferred.image_size)


def _shapes(found: Found) -> dict[str, tuple[int, ...]]:
    return {target: tuple(found.state.tensors[name].shape) for target, name in found.names.items()}


def _build(checkpoint: Checkpoint, found: Found, architecture: Architecture) -> tuple[nn.Module, Accounting]:
    given: dict[str, Tensor] = {target: found.state.tensors[name] for target, name in found.names.items()}
    front = found.state.wrapper + found.prefix
    where = spell(found.state.place) + (f" under '{front}'" if front else "")
    try:
        # Of the old container everything has been read into memory of its own; else the tensors are pages of the file.
        backbone = load_backbone(
            architecture.name,
            given,
            f"{checkpoint.path} ({where})",
            image_size=architecture.image_size,
            copy=checkpoint.container != "legacy",
        )
    except WeightsError as error:
        if not error.missing:
            raise
        raise UserError(
            f"{checkpoint.path} is not a whole {architecture.name}: {len(error.missing)} of its {len(error.wanted)} tensors are missing in "
            f"{where} ({some_of(error.missing)}){_elsewhere(checkpoint, error.wanted, len(error.wanted) - len(error.missing))}"
        ) from error
    _check_trained(checkpoint, backbone)
    accounting = Accounting(
        matched=tuple(sorted(given)),
        filled=tuple(sorted(backbone.state_dict().keys() - given.keys())),
        cast=tuple(name for name, tensor in given.items() if tensor.is_floating_point() and tensor.dtype != torch.float32),
        dropped=tuple(name.removeprefix(found.prefix) for name in found.dropped),
        others=found.others,
        unknown=found.unknown,
    )
    return backbone, accounting


def _unfit(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return f"is a {tensor.layout} tensor on {tensor.device}, not plain numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats few numbers many times"
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        return "has values that are not finite"
    if tensor.is_floating_point() and tensor.dtype == torch.float64 and bool((tensor.abs() > torch.finfo(torch.float32).max).any()):
        return "has values beyond float32"
    return None


def _check_trained(checkpoint: Checkpoint, backbone: nn.Module) -> None:
    """Refuse batch-norm statistics that no network has, or that only one has that has never seen an image."""
    state = backbone.state_dict()
    variances = {name: tensor for name, tensor in state.items() if name.endswith("running_var")}
    for name, tensor in variances.items():
        if bool((tensor < 0).any()):
            raise UserError(f"{checkpoint.path} holds no usable weights: '{name}' has negative variances")
    means = [tensor for name, tensor in state.items() if name.endswith("running_mean")]
    if variances and all(bool((mean == 0).all()) for mean in means) and all(bool((variance == 1).all()) for variance in variances.values()):
        raise UserError(f"{checkpoint.path} holds a network that has never seen an image: every running mean is 0 and every variance 1")


def _nearest(checkpoint: Checkpoint, wanted: Iterable[str]) -> tuple[int, str, StateDict] | None:
    """How many of the wanted names stand behind the prefix where most of them do, that prefix, and the state dict."""
    wanted = set(wanted)
    best: tuple[int, str, StateDict] | None = None
    for state in state_dicts(checkpoint.content):
        counts: Counter[str] = Counter()
        for name in state.tensors:
            parts = name.split(".")
            for start in range(len(parts)):
                if ".".join(parts[start:]) in wanted:
                    counts[".".join(parts[:start]) + ("." if start else "")] += 1
        for prefix, count in counts.most_common(1):
            if best is None or count > best[0]:
                best = (count, prefix, state)
    return best


def _elsewhere(checkpoint: Checkpoint, wanted: Iterable[str], matched: int) -> str:
    """Where more of the wanted names are than were matched: the mistake that people make is a prefix."""
    best = _nearest(checkpoint, wanted)
    if best is None or best[0] <= matched:
        return ""
    count, prefix, state = best
    return f"; the nearest prefix is '{state.wrapper}{prefix}' in {spell(state.place)}, with {count} of the names"


def _backbone_like(checkpoint: Checkpoint) -> str:
    """Where names that backbones begin with are, in a file that no layout fits."""
    best = _nearest(checkpoint, _FIRST_NAMES)
    if best is None:
        return "; no tensor in it is named like a backbone's first"
    _, prefix, state = best
    return f"; names of a backbone stand behind '{state.wrapper}{prefix}' in {spell(state.place)}"


def _grouped(names: Iterable[str]) -> str:
    """Names by their first component, with counts."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{group} {count}" for group, count in counts.items())
