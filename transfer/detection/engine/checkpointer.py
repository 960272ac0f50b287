"""A checkpointer that demands every tensor. detectron2's own prints lists, fails for nothing, and trains from random weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from transfer.formats.detectron2_names import COUNTER, without_prefix
from zoo.errors import UserError, listed, root_cause
from zoo.files import replace_file, replace_text
from zoo.reading.checkpoint_file import open_checkpoint
from zoo.reading.checksum import add_checksum, has_good_checksum
from zoo.reading.plain_pickle import load_plain_pickle

LAST = "last_checkpoint"  # detectron2's name of the file that names the newest checkpoint
# The names that detectron2's trainer saves under; that of the end comes after all numbers.
_NUMBERED = re.compile(r"model_(?:(\d+)|final)\.pth")
_FINAL = 1 << 62


class StrictCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, with four differences.

    - A file of a backbone (one with ``matching_heuristics``) must fill every tensor of the model's stem and res2 to res5, statistics
      included, each must afterwards equal the file's, and none of the file may be left over.
    - A checkpoint of a training must have exactly the model's tensors.
    - A file is read safely: nothing in it is run.
    - Files are written whole or not at all, and all but the newest ``keep`` are removed.

    Parameters
    ----------
    keep
        Number of checkpoints kept; None: all.
    """

    def __init__(self, model: Any, save_dir: str = "", *, keep: int | None = None, **checkpointables: Any) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.keep = keep
        # A line for the user where newer checkpoints than the one that was chosen are damaged.
        self.note: str | None = None

    def has_checkpoint(self) -> bool:
        return bool(self._saved())

    def get_checkpoint_file(self) -> str:
        """The newest checkpoint that can be read, by its iteration. Raises UserError, with the newest one's sentence, where none can."""
        first: UserError | None = None
        for path in reversed(self._saved()):
            try:
                has_good_checksum(path)
                open_checkpoint(path)
            except UserError as error:
                first = first or error
                continue
            if first is not None:
                self.note = f"warning: {str(first).split(';')[0]}; going on from the one before it, {path}"
            return str(path)
        if first is not None:
            raise first
        return ""

    def _saved(self) -> list[Path]:
        """Whole checkpoints, the newest last: by the iteration in their names, as clocks go back."""
        found = {path: _NUMBERED.fullmatch(path.name) for path in Path(self.save_dir).glob("model_*.pth")}
        numbered = {path: int(match[1]) if match[1] else _FINAL for path, match in found.items() if match}
        return sorted(numbered, key=numbered.__getitem__)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if not checkpoint.get("matching_heuristics", False):
            incompatible = super()._load_model(checkpoint)
            complaints = {
                "missing": list(incompatible.missing_keys),
                "unknown": list(incompatible.unexpected_keys),
                "of another shape": [str(item[0]) for item in incompatible.incorrect_shapes],
            }
            _refuse("the checkpoint is not of this model", complaints)
            return incompatible
        tensors = {name: torch.as_tensor(values) for name, values in checkpoint["model"].items()}
        places = {name: without_prefix(name) for name in self.model.state_dict()}
        wanted = {name: place for name, place in places.items() if place and not place.endswith(COUNTER)}
        if not wanted:
            raise UserError("the model has no ResNet (no stem, res2, ...), so no backbone can be loaded into it")
        what = "the weights are not those of the model's backbone"
        missing = sorted(name for name, place in wanted.items() if place not in tensors)
        _refuse(what, {"missing": missing, "without a place": sorted(tensors.keys() - set(wanted.values()))})
        incompatible = super()._load_model({**checkpoint, "model": dict(checkpoint["model"])})
        loaded = self.model.state_dict()
        lost = (name for name, place in wanted.items() if not _equal(loaded[name].cpu(), tensors[place]))
        _refuse(what, {"not loaded": sorted(lost)})
        return incompatible

    def _load_file(self, filename: str) -> Any:
        # detectron2's own runs what a .pkl says.
        path = Path(filename)
        if path.suffix == ".pkl":
            content = load_plain_pickle(path)
            tensors = content.get("model", content) if isinstance(content, dict) else None
            if isinstance(tensors, dict):
                # Arrays that torch may write to.
                tensors.update({name: np.array(values) for name, values in tensors.items() if isinstance(values, np.ndarray)})
        else:
            has_good_checksum(path)
            content = open_checkpoint(path, mapped=False).content
        if not isinstance(content, dict):
            raise UserError(f"{path} holds no named tensors, so it is no checkpoint of a detector")
        return content if "model" in content else {"model": content}

    def save(self, name: str, **kwargs: Any) -> None:
        """As detectron2's, but a file that is there is whole. Raises UserError, naming the last good one, where it cannot be written."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **states, **kwargs}
        path = Path(self.save_dir) / f"{name}.pth"

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                torch.save(data, file)
            add_checksum(temporary)

        try:
            replace_file(path, write)
        except (UserError, RuntimeError) as error:
            last = next((str(old) for old in reversed(self._saved()) if old != path), "none")
            raise UserError(f"checkpoint {path} could not be written ({root_cause(error)}); the last good one is {last}") from error
        replace_text(path.parent / LAST, path.name)
        if self.keep is not None:
            others = [old for old in self._saved() if old != path]
            for old in others[: max(0, len(others) - self.keep + 1)]:
                old.unlink()


def _equal(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours, theirs)


def _refuse(what: str, complaints: dict[str, list[str]]) -> None:
    if found := listed(complaints):
        raise UserError(f"{what}: {found}")
