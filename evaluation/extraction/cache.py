"""Features that were computed before: in memory for the tasks of one call, and in a folder for later calls.

An entry belongs to a *description*: everything that its features depend on (:mod:`evaluation.extraction.descriptions`). The name of
its folder is the description's hash, and its ``entry.json`` holds the description itself, so that features of other weights or other
images can never be taken for these.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.parallel import ALONE, Processes
from zoo.errors import UserError
from zoo.files import new_folder
from zoo.home import features_home
from zoo.reading.arrays import map_array
from zoo.reading.outside import open_file

# How many gigabytes the folder may hold.
LIMIT_VARIABLE = "BACKBONE_LOOP_CACHE_GB"
DEFAULT_LIMIT_GB = 50.0
_ENTRY, _FEATURES = "entry.json", "features.npy"
# Bytes summed at a time, and bytes that stay free on the disk.
_BLOCK = 1 << 24
_LEAVE_FREE = 1 << 30


def cache_folder() -> Path:
    """Where ``evaluate`` keeps features (:func:`zoo.home.features_home`)."""
    return features_home()


def cache_limit() -> int:
    """Bytes that the folder may hold. Raises UserError where the variable is no number."""
    text = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise UserError(f"{LIMIT_VARIABLE} must be a number of gigabytes, not '{text}'")
    return int(gigabytes * 1e9)


class FeatureCache:
    """Features by what they depend on.

    Parameters
    ----------
    folder
        Where they are kept for later calls; None: only in memory, until :meth:`forget`.
    limit
        Bytes that the folder may hold; the entries that were used longest ago are removed for a new one.
    processes
        Who calls together: all of them take an entry, or none, and the main process alone writes.
    say
        Called with a sentence for the user.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limit: int = int(DEFAULT_LIMIT_GB * 1e9),
        processes: Processes = ALONE,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.folder, self.limit, self.processes, self.say = folder, limit, processes, say
        self._in_memory: dict[str, Tensor] = {}

    def get(
        self, description: Mapping[str, Any], compute: Callable[[], Tensor], still_true: Callable[[Tensor], bool] = lambda _features: True
    ) -> Tensor:
        """The features that ``description`` names: those in memory, else those in the folder, else computed and kept.

        Parameters
        ----------
        description
            Anything that is JSON.
        compute
            Gives float32 (N, D) on the CPU.
        still_true
            Whether kept features are what the network gives now; asked before they are used.

        Returns
        -------
        float32 (N, D), mapped from the file where it was kept.
        """
        wanted, key = _named(description)
        if key not in self._in_memory:
            self._in_memory[key] = self._kept_or_new(key, wanted, compute, still_true)
        return self._in_memory[key]

    def look_up(self, description: Mapping[str, Any]) -> Tensor | None:
        """The features that ``description`` names, if they are in memory or in the folder; nothing is computed."""
        wanted, key = _named(description)
        if key in self._in_memory:
            return self._in_memory[key]
        return None if self.folder is None else self._read(self._place(key), wanted)

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._in_memory.clear()

    def _kept_or_new(
        self, key: str, description: dict[str, Any], compute: Callable[[], Tensor], still_true: Callable[[Tensor], bool]
    ) -> Tensor:
        if self.folder is None:
            return compute()
        place = self._place(key)
        kept = self._read(place, description)
        if kept is not None and not still_true(kept):
            self.say(f"the features kept in {place} are not what this network gives now; they are computed anew")
            kept = None
        # All or none: computing is a collective call.
        if all(self.processes.gather_objects(kept is not None)):
            assert kept is not None
            return kept
        features = compute()
        if self.processes.is_main:
            self._write(place, description, features)
        return features

    def _place(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / key

    def _read(self, place: Path, description: dict[str, Any]) -> Tensor | None:
        try:
            entry = _entry(place / _ENTRY)
            # Copy on write: torch wants memory that it could write to.
            rows: NDArray[np.float32] = map_array(place / _FEATURES)
            whole = rows.dtype == np.float32 and list(rows.shape) == entry["shape"] and _checksum(rows) == entry["crc32"]
            if entry["description"] != description or not whole:
                raise ValueError
            os.utime(place / _ENTRY)  # used last: now
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, UserError):
            self.say(f"the features kept in {place} are damaged; they are computed anew")
            return None
        return torch.from_numpy(rows)

    def _write(self, place: Path, description: dict[str, Any], features: Tensor) -> None:
        """Keep features; where that cannot be done the evaluation goes on without."""
        size = features.nbytes
        assert self.folder is not None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > self.limit or size > shutil.disk_usage(self.folder).free - _LEAVE_FREE:
                self.say(
                    f"features of {size / 1e9:.1f} GB are not kept: {self.folder} may hold {self.limit / 1e9:.1f} GB, or its disk is full"
                )
                return
            self._make_room(size)
            rows = features.numpy()
            with new_folder(place, overwrite=place.exists(), marker=_ENTRY) as temporary:
                np.save(temporary / _FEATURES, rows)
                entry = {"description": description, "shape": list(rows.shape), "crc32": _checksum(rows)}
                (temporary / _ENTRY).write_text(json.dumps(entry, indent=2), encoding="utf-8")
        except (UserError, OSError) as error:
            # Another process may have kept the same features in the meantime, which is as good.
            if not (place / _ENTRY).is_file():
                self.say(f"features are not kept for later calls ({error})")

    def _make_room(self, size: int) -> None:
        assert self.folder is not None
        entries = []
        for path in self.folder.glob(f"??/*/{_FEATURES}"):
            try:
                entries.append((path.with_name(_ENTRY).stat().st_mtime, path.stat().st_size, path.parent))
            except OSError:  # another process removes it
                continue
        used = sum(bytes_ for _, bytes_, _ in entries)
        for _, bytes_, place in sorted(entries):
            if used + size <= self.limit:
                return
            shutil.rmtree(place, ignore_errors=True)
            used -= bytes_


def _named(description: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A description as JSON gives it back, and the name of its entry."""
    wanted = json.loads(json.dumps(description))
    return wanted, hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    # Of a description nothing but its equality is asked, so that its numbers may be anything that JSON has.
    with open_file(path) as file:
        try:
            content = json.load(file)
        except RecursionError as error:
            raise ValueError("brackets are nested too deep") from error
    if not isinstance(content, dict):
        raise ValueError("no object")
    return content


def _checksum(rows: NDArray[np.float32]) -> int:
    checksum = 0
    step = max(1, _BLOCK // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        checksum = zlib.crc32(np.ascontiguousarray(rows[start : start + step]).data, checksum)
    return checksum
