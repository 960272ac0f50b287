"""``hf:NAME_OR_FOLDER[:CONFIG]``: what the library ``datasets`` (an extra) reads: sets of the Hub, image folders, Parquet shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import Data, FileImages
from zoo.data.entries import EntryTable, FileEntry
from zoo.data.images import Reading, reading_of
from zoo.data.own.assemble import ALL, Parts, assemble
from zoo.data.own.split_names import TEST_SPLITS, TRAIN, split_of
from zoo.data.own.table import labelled_entries
from zoo.data.scan import OnBad
from zoo.data.spec import DataSpec, is_hub_folder
from zoo.errors import UserError, first_line
from zoo.reading.outside import shown

NAME = "hf"
# Columns that hold the label where no column says so by its type.
_LABEL_COLUMNS = ("label", "labels", "class", "category", "fine_label")
_TABLES = {".parquet": "parquet", ".arrow": "arrow"}


def open_hugging_face(spec: DataSpec, on_bad: OnBad = "refuse") -> Data:
    """A data set of the library ``datasets``.

    The place is a name on the Hub, a folder (with class folders or a ``metadata.csv``, or of Parquet shards) or a Parquet file; a
    configuration follows after a colon. Without network the library takes what its cache has. The image column is the first one of images
    (``image=``), the label column the first one of classes, or one that is called label (``label=``); lists of labels make images that
    may show several classes. A split whose name is no split's (:mod:`zoo.data.own.split_names`) is not used.

    Raises
    ------
    UserError
        The extra is missing, the library cannot find or read the data, it has no images, no such column; and what
        :func:`zoo.data.own.assemble.assemble` raises.
    """
    if not spec.place:
        raise UserError(f"data '{spec}' needs a name on the Hub or a folder: hf:NAME_OR_FOLDER")
    splits = _load(spec)
    sets: dict[str, Any] = {}
    decisions = []
    for name, rows in splits.items():
        split = split_of(str(name))
        if split is None and len(splits) == 1:
            split = ALL
        if split is None or split in sets:
            decisions.append(f"the split '{name}' is not used")
            continue
        sets[split] = rows
        if split != name:
            decisions.append(f"the split '{name}' is the {split} split")
    first = next((split for split in (TRAIN, ALL) if split in sets), None)
    if first is None:
        raise UserError(f"data '{spec}' has no split to learn from; it has {', '.join(map(str, splits)) or 'none'}")
    image, label = _columns(spec, sets[first])
    reading = reading_of(spec)
    classes, several = _classes(spec, sets[first], label)

    def listing(split: str) -> FileImages:
        return _listed(spec, split, sets[split], image, label, classes, several=several, reading=reading)

    used: dict[str, Callable[[], FileImages]] = {}
    for split in (first, *TEST_SPLITS):
        if split in sets:
            used[split] = lambda split=split: listing(split)  # type: ignore[misc]
    advice = "add holdout=0.2" if label is not None else "name the labels (label=COLUMN)"
    root = Path(spec.place).expanduser()
    parts = Parts(used, tuple(decisions), advice)
    return assemble(spec, NAME, parts, root=root if root.is_dir() else None, on_bad=on_bad)


def _load(spec: DataSpec) -> dict[str, Any]:
    """Split name -> rows."""
    if find_spec("datasets") is None:
        raise UserError(f"data '{spec}' is read by the library datasets: pip install 'backbone-loop[hf]'")
    import datasets  # takes seconds, and only this data needs it

    name, config = _name_and_config(spec.place)
    path = Path(name).expanduser()
    if is_hub_folder(name) and not path.exists():
        raise UserError(f"data '{spec}': {path} is missing")
    shown_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bar()
    try:
        if path.is_file():
            if path.suffix not in _TABLES:
                raise UserError(f"data '{spec}': {path} is no table of {' or '.join(_TABLES)}; name its folder, or open it as csv:{path}")
            loaded = datasets.load_dataset(_TABLES[path.suffix], data_files=str(path))
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name, config)
    except UserError:
        raise
    except Exception as error:  # the library's, the Hub's and the network's, of any kind
        raise UserError(f"data '{spec}' cannot be loaded by the library datasets ({first_line(error)})") from error
    finally:
        if shown_bars:
            datasets.enable_progress_bar()
    return dict(loaded)


def _name_and_config(place: str) -> tuple[str, str | None]:
    name, colon, config = place.rpartition(":")
    # A colon within a path that exists, or after a drive's letter, parts nothing.
    if not colon or len(name) == 1 or Path(place).expanduser().exists():
        return place, None
    return name, config


def _columns(spec: DataSpec, rows: Any) -> tuple[str, str | None]:
    """The names of the image column and of the label column."""
    import datasets

    features = rows.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    image = _asked(spec, "image", features) or (images[0] if images else None)
    if image is None or image not in images:
        wrong = f"its column '{image}' holds no images" if image else "it has no column of images"
        raise UserError(f"data '{spec}': {wrong}; its columns are {', '.join(map(shown, features))}")
    classes = [name for name, feature in features.items() if isinstance(_inner(feature), datasets.ClassLabel)]
    named = [name for name in _LABEL_COLUMNS if name in features]
    return image, _asked(spec, "label", features) or next(iter([*classes, *named]), None)


def _asked(spec: DataSpec, role: str, features: Any) -> str | None:
    wanted = spec.options.get(role)
    if wanted is not None and wanted not in features:
        raise UserError(f"data '{spec}' has no column '{wanted}'; it has {', '.join(map(shown, features))}")
    return wanted


def _inner(feature: Any) -> Any:
    """The feature of a list's items, or the feature itself."""
    inner = getattr(feature, "feature", None)
    return feature[0] if isinstance(feature, list) else feature if inner is None else inner


def _classes(spec: DataSpec, rows: Any, label: str | None) -> tuple[tuple[str, ...], bool]:
    """The class names in their order, and whether an image may have several."""
    if label is None:
        return (), False
    feature = rows.features[label]
    several = _inner(feature) is not feature
    names = getattr(_inner(feature), "names", None)
    if names:
        return tuple(map(str, names)), several
    values = rows[label]
    flat = {item for value in values for item in (value if several else [value]) if item is not None}
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in flat):
        raise UserError(f"data '{spec}': the labels in its column '{label}' are neither text nor whole numbers")
    # Numbers by their size, text by its letters.
    return tuple(map(str, sorted(flat) if all(isinstance(item, int) for item in flat) else sorted(map(str, flat)))), several


def _listed(
    spec: DataSpec, split: str, rows: Any, image: str, label: str | None, classes: tuple[str, ...], *, several: bool, reading: Reading
) -> FileImages:
    entries = _entries(rows, image, f"{spec} {split}")
    labels = None if label is None else [_label(spec, rows, label, row, value, several) for row, value in enumerate(rows[label])]
    known = set(classes)
    unknown = next((one for given in labels or () for one in given if one not in known), None)
    if unknown is not None:
        raise UserError(f"data '{spec}': its {split} split has the class '{shown(unknown)}', which the training split lacks")
    return labelled_entries(split, entries, labels, classes, several=several, reading=reading, name=NAME)


def _label(spec: DataSpec, rows: Any, label: str, row: int, value: Any, several: bool) -> list[str]:
    """A row's labels by name."""
    names = getattr(_inner(rows.features[label]), "names", None)
    given = [one for one in (value if several and value is not None else [value]) if one is not None]
    if names and any(not 0 <= one < len(names) for one in given):
        given = [] if not several else [one for one in given if 0 <= one < len(names)]  # -1 stands for a label that is withheld
    if not given and not several:
        raise UserError(f"data '{spec}': row {row} has no label in the column '{label}'; such a split can only be pre-trained on")
    return [str(names[one]) if names else str(one) for one in given]


class RowEntry(FileEntry):
    """One row's encoded image."""

    __slots__ = ("_column", "_row", "_rows")
    _rows: Any
    _column: str
    _row: int

    def __init__(self, path: str, rows: Any, column: str, row: int) -> None:
        super().__init__(path, member=f"row {row}")
        for name, value in (("_rows", rows), ("_column", column), ("_row", row)):
            object.__setattr__(self, name, value)

    @contextmanager
    def opened(self) -> Iterator[bytes | BinaryIO]:
        value = self._rows[self._row][self._column]
        if value is None or value.get("bytes") is not None:
            yield b"" if value is None else value["bytes"]
        else:
            with FileEntry(value["path"]).opened() as source:
                yield source

    def open_bytes(self) -> bytes:
        with self.opened() as source:
            return source if isinstance(source, bytes) else source.read()


class RowTable(EntryTable):
    """Images within the rows of a data set of the library, as entries: named by the library's file and the row."""

    def __init__(self, rows: Any, column: str, path: str, indices: NDArray[np.int64] | None = None) -> None:
        super().__init__(())
        self._rows, self._column, self._path = rows, column, path
        self._indices = np.arange(len(rows), dtype=np.int64) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return RowEntry(self._path, self._rows, self._column, int(self._indices[index]))

    def names(self) -> list[tuple[str, str]]:
        return [(self._path, f"row {row}") for row in self._indices.tolist()]

    def take(self, indices: NDArray[np.int64]) -> RowTable:
        return RowTable(self._rows, self._column, self._path, self._indices[indices])


def _entries(rows: Any, column: str, name: str) -> EntryTable:
    """Where the images lie: in files of their own, or within the library's."""
    import datasets
    from pyarrow import compute

    encoded = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    stored = encoded.data.column(column)
    paths = compute.struct_field(stored, "path").to_pylist() if stored.null_count == 0 else [None]
    if compute.struct_field(stored, "bytes").null_count == len(stored) and all(paths):
        return EntryTable(map(FileEntry, paths))
    files = encoded.cache_files
    return RowTable(encoded, column, files[0]["filename"] if files else name)
