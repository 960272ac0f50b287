"""Reading the backbone out of a checkpoint of any known layout: recognise, take, account for every tensor, build."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.backbones import WeightsError, at_size, bare_backbone, load_backbone
from zoo.errors import UserError, some_of
from zoo.formats.architecture import Architecture, infer_architecture, side_of
from zoo.formats.beside import settings_beside, weights_file
from zoo.formats.dialects import TRANSFORMERS, Dialect, translate
from zoo.formats.function import Evidence, Function, decide_function
from zoo.formats.layout import Found, evidence, find_part, import_command, misfit, outline, parts_in, take
from zoo.formats.reader import Part, Reader
from zoo.formats.readers import GENERAL, OURS, READERS, get_reader
from zoo.models.runs import CHECKPOINT_FORMAT
from zoo.models.selection import CollisionError, Hints, Selection, StateDict, selected, spell, state_dicts
from zoo.reading.checkpoint_file import Checkpoint, open_checkpoint

AUTO = "auto"
_FIRST_NAMES = ("conv1.weight", "layer1.0.conv1.weight", "cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
# With what a backbone's names begin that some prefix stands before, for the general reader.
_START = re.compile(
    r"(.*?)(conv1\.weight|conv1\.0\.weight|cls_token|class_token|patch_embed\.proj\.weight|stem\.0\.weight|embeddings\.cls_token"
    r"|embeddings\.patch_embeddings\.(projection\.)?weight|embedder\.embedder\.convolution\.weight|features\.0\.0\.weight"
    r"|downsample_layers\.0\.0\.weight)"
)
# A prefix that says of its network that it is a copy that follows the trained one, or one that is not meant.
_FOLLOWERS = re.compile(r"momentum|teacher|target|(^|[._])(k|key|ema|slow|avg|mean|old)([._]|$)")
# The part of a backbone's names that makes another prefix one more network.
_ANOTHER = 0.25


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
    function
        What names and shapes leave open of what the network computes, and was decided.
    selection
        What the user said by hand of where the tensors are.
    resized
        What was done to the network for images of another side than its weights are for, in words.
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
    function: Function = field(default_factory=Function)
    selection: Selection = field(default_factory=Selection)
    resized: str | None = None

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
    hints: Hints = Hints(),
    selection: Selection | None = None,
    trust_pickle: bool = False,
) -> Reading:
    """The backbone in a checkpoint file, or in a folder of transformers.

    Parameters
    ----------
    format
        A reader's name, or ``"auto"``: recognise the layout. Where several fit and give the same tensors, the first is taken; where they
        do not, the file is refused with their names.
    arch
        timm's name of the architecture; None: by the shapes, or what the file itself says.
    encoder
        Which of the layout's networks; None: the one that the method's authors evaluate.
    image_size
        Side in pixels of the images; None: what the weights tell, else the architecture's own. A network whose weights are for another
        side is resized (:func:`zoo.backbones.at_size`).
    hints
        What the user says of the network's function, where the file does not tell (:mod:`zoo.formats.function`).
    selection
        Which tensors are the network's; the layout is not recognised then. None or empty: by the layout.
    trust_pickle
        As in :func:`zoo.reading.checkpoint_file.open_checkpoint`.

    Raises
    ------
    UserError
        The file cannot be opened safely, is of no known layout or of several, lacks a tensor of the backbone or has one too many, its
        values cannot be weights, or its network may compute something else than timm's of these names and shapes.
    """
    checkpoint = open_checkpoint(weights_file(path), trust_pickle=trust_pickle)
    return backbone_in(
        checkpoint, format=format, arch=arch, encoder=encoder, image_size=image_size, hints=hints, selection=selection or Selection()
    )


def backbone_in(
    checkpoint: Checkpoint,
    *,
    format: str = AUTO,
    arch: str | None = None,
    encoder: str | None = None,
    image_size: int | None = None,
    hints: Hints = Hints(),
    selection: Selection = Selection(),
) -> Reading:
    """:func:`read_backbone` of a file that is open."""
    content = checkpoint.content
    also: tuple[str, ...] = ()
    if selection:
        if format not in (AUTO, GENERAL):
            raise UserError(
                f"--key, --prefix, --rename and --drop say by hand where the network is, instead of --format {format}: leave one out"
            )
        reader, found = get_reader(GENERAL), _selected(checkpoint, selection)
    else:
        _refuse(checkpoint)
        reader, also = _recognise(checkpoint) if format == AUTO else (get_reader(format), ())
        if reader.name == GENERAL:
            found = _only_network(checkpoint, arch)
        else:
            found = _choose(checkpoint, reader, encoder)
            encoder = None
    if encoder not in (None, found.part.encoder):
        raise UserError(f"{checkpoint.path} has no '{encoder}' network that a known layout names; say where it is with --prefix")
    _check_aliases(checkpoint, reader, found)
    _check_values(checkpoint, found, found.names.values())
    found, dialect = in_timms_names(found)
    architecture = _architecture(checkpoint, found, arch, image_size)
    if reader.name == GENERAL:
        found = _without_strangers(found, architecture)
    tensors = {target: found.state.tensors[name] for target, name in found.names.items()}
    outer = content if isinstance(content, Mapping) else {}
    names = tuple(found.state.tensors)
    library = dialect.library if dialect else None
    settings = settings_beside(checkpoint.path) if library == TRANSFORMERS else None
    evidence_of_function = Evidence(str(checkpoint.path), reader.name, architecture.name, tensors, outer, names, library, settings)
    function = decide_function(evidence_of_function, hints)
    backbone, accounting = _build(checkpoint, found, architecture, function)
    backbone, resized = at_size(backbone, architecture.name, image_size)
    facts = {str(key): value for key, value in outer.items() if isinstance(value, (int, float, str, list, tuple))}
    return Reading(
        path=checkpoint.path,
        reader=reader,
        encoder=found.part.encoder,
        also=also,
        evidence=evidence(reader, found) + (f"; its names are {dialect.title}, and are timm's now" if dialect else ""),
        architecture=architecture,
        backbone=backbone,
        accounting=accounting,
        replaced=checkpoint.replaced,
        facts=facts,
        function=function,
        selection=selection,
        resized=resized,
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
    """The layout, and others that take the same tensors; the general one where none fits."""
    content = checkpoint.content
    if content.get("format") == CHECKPOINT_FORMAT:
        return get_reader(OURS), ()
    fitting = [reader for reader in READERS if reader.name not in (OURS, GENERAL) and misfit(reader, content) is None]
    marked = [reader for reader in fitting if reader.framework]
    if marked or _is_openmmlab(content):
        fitting = marked
    if not fitting:
        return get_reader(GENERAL), ()
    for reader in fitting:
        if reader.ask and sum(find_part(reader, part, content) is not None for part in reader.parts) > 1:
            return reader, ()
    mappings = {reader.name: _first(checkpoint, reader).mapping() for reader in fitting}
    if len(set(mappings.values())) > 1:
        readings = "; ".join(f"{reader.name}: {evidence(reader, _first(checkpoint, reader))}" for reader in fitting)
        commands = " or ".join(import_command(checkpoint.path, format=reader.name) for reader in fitting)
        raise UserError(
            f"{checkpoint.path} fits several formats, which would read different tensors; choose with --format ({readings}): {commands}"
        )
    return fitting[0], tuple(reader.name for reader in fitting[1:])


def _is_openmmlab(content: Mapping[str, Any]) -> bool:
    meta = content.get("meta")
    return isinstance(meta, Mapping) and "mmengine_version" in meta


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
        raise UserError(f"{path} is not {reader.title}: {misfit(reader, content)}; {outline(content)}{_backbone_like(checkpoint, None)}")
    if encoder is None and reader.ask and len(present) > 1:
        commands = " or ".join(import_command(path, encoder=name) for name in present)
        raise UserError(f"{path} holds several networks; choose with --encoder {' or --encoder '.join(present)}: {commands}")
    wanted = encoder or parts[0].encoder
    if wanted not in present:
        known = [part.encoder for part in parts]
        if wanted in known or encoder is None:
            command = import_command(path, encoder=next(iter(present)))
            raise UserError(f"{path} has no {wanted} network; it has {', '.join(present)}: choose with --encoder, such as {command}")
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


def _check_values(checkpoint: Checkpoint, found: Found, names: Iterable[str]) -> None:
    """Raise UserError for tensors that no network has. Before anything is built: a shape may claim more than the file holds."""
    for name in names:
        reason = _unfit(found.state.tensors[name])
        if reason:
            raise UserError(f"{checkpoint.path} holds no usable weights: '{name}' {reason}")


def in_timms_names(found: Found) -> tuple[Found, Dialect | None]:
    """A network of another dialect (:mod:`zoo.formats.dialects`) in timm's names, and the dialect; any other as it is."""
    tensors = {target: found.state.tensors[name] for target, name in found.names.items()}
    translated = translate(tensors)
    if translated is None:
        return found, None
    sources = {id(tensor): found.names[target] for target, tensor in tensors.items()}
    state, names = dict(found.state.tensors), {}
    for target, tensor in translated.tensors.items():
        # What was computed lies beside the file's own tensors, under a name that is not in use.
        name = sources.get(id(tensor), f"{found.prefix}{target} (computed)")
        state[name], names[target] = tensor, name
    dropped = tuple(found.names[name] for name in translated.dropped)
    return replace(found, state=replace(found.state, tensors=state), names=names, dropped=(*found.dropped, *dropped)), (translated.dialect)


def _architecture(checkpoint: Checkpoint, found: Found, arch: str | None, image_size: int | None) -> Architecture:
    """The architecture as the user names it, else as the file itself does where its tensors fit, else by the shapes."""
    shapes = _shapes(found)
    inferred: Architecture | None = None
    reason: UserError | None = None
    try:
        inferred = infer_architecture(shapes)
    except UserError as error:
        reason = error
    named = arch or _own_architecture(checkpoint, inferred, shapes)
    # The weights' own side, where they tell; the network is resized to another once it is whole.
    side = (inferred.image_size if inferred else side_of(shapes)) or image_size
    if named is not None:
        return Architecture(named, side)
    if inferred is None:
        raise UserError(f"{checkpoint.path}: {reason}") from reason
    return Architecture(inferred.name, side)


def _own_architecture(checkpoint: Checkpoint, inferred: Architecture | None, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What the file says that it is, by timm's names, where nothing else is known or where its tensors fit that one too.

    Training scripts of timm and those of MoCo's kind write ``arch``, by names of timm or torchvision; several of timm's networks have the
    same names and shapes and compute something else (resnet50 and resnetaa50).
    """
    content = checkpoint.content
    said = content.get("arch") if isinstance(content, Mapping) else None
    name = said.partition(".")[0] if isinstance(said, str) else ""
    if not name or (inferred is not None and name == inferred.name):
        return None
    try:
        wanted = bare_backbone(name, image_size=inferred.image_size if inferred else None).state_dict()
    except Exception:  # no name of timm's, or a constructor that does not work so: a word of the file's is no reason to fail
        return None
    if inferred is None:
        return name
    fits = all(shapes.get(key) == tuple(tensor.shape) for key, tensor in wanted.items() if not key.endswith("num_batches_tracked"))
    return name if fits and not shapes.keys() - wanted.keys() else None


def _shapes(found: Found) -> dict[str, tuple[int, ...]]:
    return {target: tuple(found.state.tensors[name].shape) for target, name in found.names.items()}


def _selected(checkpoint: Checkpoint, selection: Selection) -> Found:
    """The network that the user points at."""
    reader = get_reader(GENERAL)
    renames = () if selection.renames else reader.renames
    state, prefix = selected(str(checkpoint.path), checkpoint.content, selection)
    part = Part(reader.parts[0].encoder, (state.place,), (prefix,))
    names: dict[str, str] = {}
    dropped: list[str] = []
    found = take(replace(reader, renames=renames, drop=()), part, state, prefix)
    for inner, name in found.names.items():
        target = selection.name(inner)
        if selection.drops(target) or any(re.match(pattern, target) for pattern in reader.drop):
            dropped.append(name)
        elif target in names:
            raise UserError(f"{checkpoint.path}: '{names[target]}' and '{name}' would both be '{target}'; change --rename or --drop one")
        else:
            names[target] = name
    return Found(part, state, prefix, names, tuple(dropped), found.unknown, ())


def _only_network(checkpoint: Checkpoint, arch: str | None) -> Found:
    """The network of a file of no known layout, where one prefix alone covers a whole backbone.

    Raises UserError that says what the file has instead, and the command that would read it.
    """
    path, content = checkpoint.path, checkpoint.content
    unknown = f"{path} is of no known format: {outline(content)}"
    whole = list(_whole_networks(checkpoint, arch))
    if not whole:
        raise UserError(unknown + _backbone_like(checkpoint, arch))

    def command(one: Found) -> str:
        place, front = ".".join(one.state.place), one.state.wrapper + one.prefix
        return import_command(path, format=None if place or front else GENERAL, key=place, prefix=front, arch=arch)

    commands = " or ".join(command(one) for one in whole)
    if len(whole) > 1:
        raise UserError(f"{unknown}; it holds several networks: choose with {commands}")
    front = whole[0].state.wrapper + whole[0].prefix
    # A dictionary's own name says as much as a prefix ('model_ema').
    words = ".".join((*whole[0].state.place, front))
    if _FOLLOWERS.search(words):
        raise UserError(
            f"{unknown}; the network behind '{front}' in {spell(whole[0].state.place)} may follow the trained one, so it is not taken "
            f"unless you say so: {commands}"
        )
    if another := _another_network(checkpoint, whole[0]):
        raise UserError(
            f"{unknown}; beside the network behind '{front}' there are tensors of another one ({another}): if the first is the right one, "
            + commands
        )
    return whole[0]


def _whole_networks(checkpoint: Checkpoint, arch: str | None) -> Iterator[Found]:
    """Every prefix of a file behind which a whole backbone stands."""
    reader = get_reader(GENERAL)
    for state in state_dicts(checkpoint.content):
        starts = [match[1] for match in map(_START.fullmatch, state.tensors) if match]
        for prefix in dict.fromkeys(start for start in starts if not start or start.endswith(".")):
            part = Part(reader.parts[0].encoder, (state.place,), (prefix,))
            try:
                whole = take(reader, part, state, prefix)
                found, _ = in_timms_names(whole)
                architecture = _architecture(checkpoint, found, arch, None)
                wanted = bare_backbone(architecture.name, image_size=architecture.image_size).state_dict()
            except (CollisionError, UserError):
                continue
            except Exception:  # an architecture that cannot be built without numbers, or not for this size
                continue
            shapes = _shapes(found)
            if all(shapes.get(name) == tuple(tensor.shape) for name, tensor in wanted.items() if not name.endswith("num_batches_tracked")):
                yield whole


def _another_network(checkpoint: Checkpoint, found: Found) -> str | None:
    """Where else in the file many of a network's names stand; None where they do nowhere."""
    wanted = {name.removeprefix(found.prefix) for name in found.names.values()}
    for state in state_dicts(checkpoint.content):
        for prefix, count in _prefixes(state, wanted).items():
            same = state.place == found.state.place and prefix == found.prefix
            if not same and count >= _ANOTHER * len(found.names):
                return f"{count} of its names behind '{state.wrapper}{prefix}' in {spell(state.place)}"
    return None


def _without_strangers(found: Found, architecture: Architecture) -> Found:
    """The network without the tensors beside it that are of other parts: their first word is none of the architecture's."""
    try:
        wanted = bare_backbone(architecture.name, image_size=architecture.image_size).state_dict()
    except Exception:  # what is wrong is said where the network is built
        return found
    own = {name.partition(".")[0] for name in wanted}
    strangers = {target: name for target, name in found.names.items() if target.partition(".")[0] not in own}
    names = {target: name for target, name in found.names.items() if target not in strangers}
    return replace(found, names=names, unknown=(*found.unknown, *strangers.values()))


def _build(checkpoint: Checkpoint, found: Found, architecture: Architecture, function: Function) -> tuple[nn.Module, Accounting]:
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
            arguments=function.arguments,
            copy=checkpoint.container != "legacy",
        )
    except WeightsError as error:
        # Some networks have a part of theirs where others have their classifier (ConvNeXt's head.norm).
        inner = {name.removeprefix(found.prefix): name for name in found.dropped}
        kept = {target: name for target, name in inner.items() if target in error.missing}
        if kept:
            _check_values(checkpoint, found, kept.values())
            dropped = tuple(name for name in found.dropped if name not in kept.values())
            return _build(checkpoint, replace(found, names={**found.names, **kept}, dropped=dropped), architecture, function)
        if not error.missing:
            raise
        elsewhere = _elsewhere(checkpoint, error.wanted, len(error.wanted) - len(error.missing), architecture)
        raise UserError(
            f"{checkpoint.path} is not a whole {architecture.name}: {len(error.missing)} of its {len(error.wanted)} tensors are missing in "
            f"{where} ({some_of(error.missing)}){elsewhere}"
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


def _prefixes(state: StateDict, wanted: Iterable[str]) -> Counter[str]:
    """How many of the wanted names stand behind each prefix of a state dict."""
    wanted = set(wanted)
    counts: Counter[str] = Counter()
    for name in state.tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                counts[".".join(parts[:start]) + ("." if start else "")] += 1
    return counts


def _nearest(checkpoint: Checkpoint, wanted: Iterable[str]) -> tuple[int, str, StateDict] | None:
    """How many of the wanted names stand behind the prefix where most of them do, that prefix, and the state dict."""
    wanted = set(wanted)
    best: tuple[int, str, StateDict] | None = None
    for state in state_dicts(checkpoint.content):
        for prefix, count in _prefixes(state, wanted).most_common(1):
            if best is None or count > best[0]:
                best = (count, prefix, state)
    return best


def _elsewhere(checkpoint: Checkpoint, wanted: Iterable[str], matched: int, architecture: Architecture) -> str:
    """Where more of the wanted names are than were matched: the mistake that people make is a prefix."""
    wanted = set(wanted)
    best = _nearest(checkpoint, wanted)
    if best is None or best[0] <= matched:
        return ""
    count, prefix, state = best
    text = f"; the nearest prefix is '{state.wrapper}{prefix}' in {spell(state.place)}, with {count} of the names"
    counters = sum(name.endswith("num_batches_tracked") for name in wanted)
    if count not in (len(wanted), len(wanted) - counters):
        return text
    command = import_command(checkpoint.path, key=".".join(state.place), prefix=state.wrapper + prefix, arch=architecture.name)
    return f"{text}: {command} reads that one"


def _backbone_like(checkpoint: Checkpoint, arch: str | None) -> str:
    """Where names that backbones begin with are, in a file that no layout fits."""
    best = _nearest(checkpoint, _FIRST_NAMES)
    if best is None:
        return "; no tensor in it is named like a backbone's first"
    _, prefix, state = best
    command = import_command(checkpoint.path, key=".".join(state.place), prefix=state.wrapper + prefix, arch=arch or "NAME")
    return f"; names of a backbone stand behind '{state.wrapper}{prefix}' in {spell(state.place)}: {command} looks there"


def _grouped(names: Iterable[str]) -> str:
    """Names by their first component, with counts."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{group} {count}" for group, count in counts.items())
