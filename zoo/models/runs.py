"""Reading a run folder: what pre-training left behind.

A run folder holds ``recipe.yaml`` (the resolved recipe), ``log.jsonl``, ``environment.json`` and ``checkpoints/step_00000123.pt``. A
checkpoint is written under a name that ends in ``.partial`` and then renamed, so that a file named ``step_*.pt`` was once complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError, first_line, some_of
from zoo.plain_yaml import read_yaml
from zoo.ranges import SIDE, Range
from zoo.reading.checksum import has_checksum, has_good_checksum
from zoo.reading.outside import read_record, told

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_FORMAT = "backbone-loop checkpoint 1"
RECIPE_FILE = "recipe.yaml"
ENVIRONMENT_FILE = "environment.json"
CHECKPOINT_FOLDER = "checkpoints"
DEFAULT_ENCODER = "query"
_CHECKPOINT_NAME = re.compile(r"step_(\d+)\.pt")
# What a reader of a run needs; what only the training loop needs (optimizer, tables) is its own business.
_REQUIRED = ("step", "epoch", "arch", "image_size", "mean", "std", "data", "model", "encoders")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_colour(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(type(part) in (int, float) and part in _FINITE for part in value)


def _is_named(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


_FINITE = Range()
# What some of these must be, and in words; whether the tensors are the network's is settled where they are loaded.
_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": (_is_count, "a whole number"),
    "epoch": (_is_count, "a whole number"),
    "arch": (lambda value: isinstance(value, str), "the name of an architecture"),
    "image_size": (lambda value: type(value) is int and value in SIDE, f"a side in pixels that is {SIDE}"),
    "mean": (_is_colour, "three numbers"),
    "std": (lambda value: _is_colour(value) and min(value) > 0, "three numbers above 0"),
    "model": (_is_named, "tensors by name"),
    "encoders": (lambda value: _is_named(value) and all(isinstance(prefix, str) for prefix in value.values()), "prefixes by name"),
}


def checkpoint_name(step: int) -> str:
    """The file name of the checkpoint at global step ``step``."""
    return f"step_{step:08d}.pt"


def checkpoint_step(path: str | Path) -> int:
    """The global step in a checkpoint's file name. Raises UserError for another name."""
    match = _CHECKPOINT_NAME.fullmatch(Path(path).name)
    if match is None:
        raise UserError(f"'{path}' is not named like a checkpoint ({checkpoint_name(123)})")
    return int(match.group(1))


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is a run folder: it holds a resolved recipe and a folder of checkpoints."""
    return (Path(path) / RECIPE_FILE).is_file() and (Path(path) / CHECKPOINT_FOLDER).is_dir()


def checkpoints(run: str | Path) -> list[Path]:
    """The complete checkpoints of a run, by step, the newest last."""
    found = (path for path in (Path(run) / CHECKPOINT_FOLDER).glob("step_*.pt") if _CHECKPOINT_NAME.fullmatch(path.name))
    return sorted(found, key=checkpoint_step)


def latest_checkpoint(run: str | Path) -> Path:
    """The complete checkpoint with the highest step. Raises UserError where the run has none."""
    found = checkpoints(run)
    if not found:
        raise UserError(f"the run '{run}' has no checkpoint in {CHECKPOINT_FOLDER}/; it was stopped before the first was written")
    return found[-1]


def read_recipe(run: str | Path) -> dict[str, Any]:
    """The resolved recipe of a run. Raises UserError where the file is missing or is no recipe."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(run) / RECIPE_FILE
    content = read_yaml(path, "the recipe")
    try:
        recipe = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the recipe {path} cannot be read ({first_line(error)})") from error
    if not isinstance(recipe, dict) or "backbone" not in recipe:
        raise UserError(f"{path} is not a resolved recipe: it names no backbone")
    return {str(key): value for key, value in recipe.items()}


def read_environment(run: str | Path) -> dict[str, Any]:
    """Versions and commit that a run was made with; empty where the run did not record them.

    Raises UserError for a file that is not JSON.
    """
    path = Path(run) / ENVIRONMENT_FILE
    return read_record(path) if path.exists() else {}


def read_checkpoint(path: str | Path, *, kind: str = CHECKPOINT_FORMAT, required: Sequence[str] = _REQUIRED) -> dict[str, Any]:
    """Load a checkpoint to the CPU; nothing in the file is executed (:mod:`zoo.reading.checkpoint_file`).

    Parameters
    ----------
    kind, required
        The ``format`` that it must have, and the keys; by default those of a pre-training run.

    Returns
    -------
    The checkpoint: ``format``, ``step``, ``epoch``, ``arch``, ``image_size``, ``mean``, ``std``, ``data``, ``model`` (the method's
    state dict), ``encoders`` (encoder name -> prefix of its backbone in ``model``), and what the training loop adds.

    Raises
    ------
    UserError
        The file is missing, damaged (the newest older one that can be read is named), or no checkpoint of this toolkit.
    """
    path = Path(path)
    try:
        content = _load(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except Exception as error:
        reason = first_line(error).removesuffix("; get it again")
        if reason.startswith(f"{path} "):
            reason = f"it {reason.removeprefix(f'{path} ')}"
        raise UserError(f"the checkpoint {path} is damaged or not one ({reason}){_advice(path)}") from error
    if not isinstance(content, dict) or content.get("format") != kind:
        raise UserError(f"{path} is not a checkpoint of this toolkit (its 'format' is not '{kind}')")
    missing = [key for key in required if key not in content]
    if missing:
        raise UserError(f"the checkpoint {path} lacks {', '.join(missing)}")
    for name, (right, wanted) in _FACTS.items():
        if name in required and not right(content[name]):
            raise UserError(f"the checkpoint {path} has as its {name} {told(content[name])}, and {wanted} is expected")
    return content


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint of a run that is not damaged.

    Attributes
    ----------
    path, content
        The file, and what :func:`read_checkpoint` reads in it.
    note
        A line for the user where newer ones are damaged, else None.
    has_checksum
        Whether damage to it would have been noticed: older versions wrote none.
    """

    path: Path
    content: dict[str, Any]
    note: str | None
    has_checksum: bool


def read_newest_checkpoint(run: str | Path, *, kind: str = CHECKPOINT_FORMAT, required: Sequence[str] = _REQUIRED) -> Newest:
    """The newest checkpoint of a run that is not damaged.

    Raises UserError where there is none, and, with the newest one's sentence, where all are damaged.
    """
    first: UserError | None = None
    latest_checkpoint(run)  # raises where there is none
    for path in reversed(checkpoints(run)):
        try:
            content = read_checkpoint(path, kind=kind, required=required)
        except UserError as error:
            first = first or error
            continue
        note = None if first is None else f"warning: {str(first).split(';')[0]}; going on from the one before it, {path}"
        return Newest(path, content, note, has_checksum(path))
    assert first is not None
    raise first


def backbone_state(checkpoint: Mapping[str, Any], encoder: str = DEFAULT_ENCODER) -> dict[str, Tensor]:
    """The backbone's tensors of one encoder, by the backbone's own key names.

    Whether they are all there is settled where they are loaded: :func:`zoo.backbones.load_state` accounts for every key.

    Parameters
    ----------
    checkpoint
        As :func:`read_checkpoint` gives it.
    encoder
        ``"query"`` (the trained one), ``"key"`` (its moving average), or what else the method has.

    Raises
    ------
    UserError
        The method has no such encoder, or the checkpoint holds no tensor of it.
    """
    encoders: Mapping[str, str] = checkpoint["encoders"]
    if encoder not in encoders:
        raise UserError(f"the checkpoint has no encoder '{encoder}'; it has: {', '.join(encoders)}")
    prefix = encoders[encoder]
    state = {key.removeprefix(prefix): tensor for key, tensor in checkpoint["model"].items() if key.startswith(prefix)}
    if strange := [name for name, tensor in state.items() if not hasattr(tensor, "untyped_storage")]:
        raise UserError(f"the checkpoint holds under '{prefix}' what is no tensor: {some_of(strange)}")
    if not state:
        some = ", ".join(list(checkpoint["model"])[:3]) or "none at all"
        raise UserError(f"the checkpoint holds no tensor under '{prefix}', the prefix of its encoder '{encoder}'; its first keys: {some}")
    return state


def _load(path: Path) -> Any:
    from zoo.reading.checkpoint_file import open_checkpoint

    # A checkpoint from before there were checksums has none, and is read as it is.
    has_good_checksum(path)
    # Copied, since a run goes on to write where its checkpoints lie.
    return open_checkpoint(path, mapped=False).content


def _advice(path: Path) -> str:
    """What to use in place of the damaged checkpoint ``path``: the newest older one that loads."""
    if _CHECKPOINT_NAME.fullmatch(path.name) is None:
        return ""
    older = [other for other in checkpoints(path.parent.parent) if checkpoint_step(other) < checkpoint_step(path)]
    for other in reversed(older):
        try:
            _load(other)
        except Exception:  # damaged as well, in whatever way: look further back
            continue
        return f"; the newest good one before it is {other}: remove the damaged file, or name the good one"
    return "; the run has no good one before it"
