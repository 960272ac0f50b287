"""Which results stand in one table: those of the same images and labels, a row for each model, a column for each protocol."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from evaluation.report.details import numbers, table
from evaluation.report.entries import Entry
from evaluation.statistics.intervals import wilson
from zoo.data.base import CLASS_LEVEL
from zoo.data.spec import NAMED_BY_PLACE, without_place
from zoo.model_folder.manifest import is_zoo_model, read_manifest
from zoo.models.runs import is_run, read_recipe
from zoo.results import DataFacts, Result
from zoo.results.labels import model_labels

# What a result's protocol says of the model and not of the protocol: it may differ down a column.
MODEL_VALUES = ("mean", "std", "channels", "layer")
# What a protocol came to in one training: it may differ as well. Rates that were chosen beforehand count as changed where they are not
# the preset's.
_OUTCOMES = ("selected_epoch", "labelled_images", "trunk_lr", "head_lr", "batch_norm_training")
# Values that stand in a column's name also where they are the preset's.
_TELLING = ("percent", "split")
# Values that protocols have under other names than presets do.
_NAMES_IN_PROTOCOLS = {"rates": ("lr", "c", "trunk_lr", "head_lr")}
_SEED = "seed"
_OWN_DATA = NAMED_BY_PLACE


@dataclass(frozen=True)
class Model:
    """A row of tables: the same network with the same input.

    Attributes
    ----------
    label
        Its name, with as much more as tells it from the others.
    colour
        The number of its colour, the same everywhere in a report.
    """

    label: str
    colour: int


@dataclass(frozen=True)
class Column:
    """A protocol and its headline metric.

    Attributes
    ----------
    task, preset
        As results have them.
    changed
        The values that are not the preset's.
    metric
        The headline.
    """

    task: str
    preset: str
    changed: tuple[tuple[str, str], ...]
    metric: str

    @property
    def name(self) -> str:
        """Task and preset."""
        return f"{self.task} {self.preset}"

    @property
    def changes(self) -> str:
        """What was changed of the preset, and what must be known of it; empty for most."""
        return ", ".join(f"{name} {value}" for name, value in self.changed)

    @property
    def label(self) -> str:
        """Name and changes."""
        return ", ".join(filter(None, [self.name, self.changes]))


@dataclass(frozen=True)
class Cell:
    """What is known of a model by a protocol.

    Attributes
    ----------
    entries
        All results that answer the question, the newest of each choice of seeds first.
    value
        The newest result's headline; the mean where results differ in their seeds.
    interval
        In the metric's unit (:func:`interval_of`).
    spread
        The sample's standard deviation over seeds; None for one choice of seeds.
    seeds
        Their number.
    repeats
        Results that were measured again with the same seeds, and differ in something else.
    """

    entries: tuple[Entry, ...]
    value: float
    interval: tuple[float, float] | None
    spread: float | None
    seeds: int
    repeats: int


@dataclass
class Group:
    """Results of the same images and label level.

    Attributes
    ----------
    data
        What the first result says of the data.
    fingerprints
        By the data's own name of a split.
    rows, columns
        In the order of appearance.
    results
        The entries by row and column.
    """

    data: DataFacts
    fingerprints: dict[str, str]
    rows: list[Model] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    results: dict[tuple[Model, Column], list[Entry]] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """All entries, by number."""
        return sorted((entry for entries in self.results.values() for entry in entries), key=lambda entry: entry.number)

    @property
    def title(self) -> str:
        """The data set, and the label level where it is not the classes."""
        kind, _, place = without_place(self.data.spec).partition(":")
        # The name of a set of one's own says only how its files lie.
        name = f"{kind} {Path(place).name}" if kind in _OWN_DATA and Path(place).name else self.data.name
        return name + (f", {self.data.level} level" if self.data.level != CLASS_LEVEL else "")

    def takes(self, result: Result) -> bool:
        """Whether a result is of these images: it shares a split, and no split of the same name differs."""
        own = _fingerprints(result.data)
        return (
            (result.data.name, result.data.level) == (self.data.name, self.data.level)
            and any(self.fingerprints.get(name) == value for name, value in own.items())
            and all(self.fingerprints.get(name, value) == value for name, value in own.items())
        )

    def cell(self, row: Model, column: Column) -> Cell | None:
        """The cell of a row and a column; None where nothing was measured."""
        entries = self.results.get((row, column))
        return None if not entries else make_cell(entries, column.metric)

    def of_row(self, row: Model) -> list[Entry]:
        return [entry for (model, _), entries in self.results.items() if model == row for entry in entries]

    def unlike(self, column: Column) -> list[str]:
        """Names of protocol values that differ among the results of a column, though preset and changes are the same."""
        protocols = [entry.result.protocol for (_, own), entries in self.results.items() if own == column for entry in entries]
        names = sorted({name for protocol in protocols for name in protocol} - {*MODEL_VALUES, *_OUTCOMES, "changed"})
        return [name for name in names if len({_text(protocol.get(name)) for protocol in protocols}) > 1]


def make_groups(entries: Sequence[Entry]) -> list[Group]:
    """The tables of a report."""
    models = name_models(entries)
    groups: list[Group] = []
    for entry in entries:
        result = entry.result
        group = next((group for group in groups if group.takes(result)), None)
        if group is None:
            group = Group(result.data, {})
            groups.append(group)
        group.fingerprints |= _fingerprints(result.data)
        row, column = models[entry.number], column_of(result)
        if row not in group.rows:
            group.rows.append(row)
        if column not in group.columns:
            group.columns.append(column)
        group.results.setdefault((row, column), []).append(entry)
    return groups


def name_models(entries: Sequence[Entry]) -> dict[int, Model]:
    """The model of each entry, by its number. Other weights, another layer or another input are another model, whatever the name."""
    keys = {entry.number: _model_key(entry.result) for entry in entries}
    distinct = list(dict.fromkeys(keys.values()))
    by_weights = Counter({(name, weights) for name, weights, _ in distinct})
    same_name = Counter(name for name, _ in by_weights)
    first = {key: next(entry.result.model for entry in entries if keys[entry.number] == key) for key in distinct}
    by_path = dict(zip(distinct, model_labels([first[key] for key in distinct]), strict=True))
    same_path = Counter(by_path[key] for key in {key[:2]: key for key in distinct}.values())
    labels: dict[tuple[str, str, str], str] = {}
    for key in distinct:
        name, weights, inputs = key
        label = name
        if same_name[name] > 1:
            label = by_path[key] if same_path[by_path[key]] == 1 else f"{name} ({weights[:8]})"
        if sum(other[:2] == key[:2] for other in distinct) > 1:
            label += f" ({inputs})"
        labels[key] = label
    return {number: Model(labels[key], distinct.index(key)) for number, key in keys.items()}


def column_of(result: Result) -> Column:
    """The column that a result stands in."""
    changed = changed_values(result)
    telling = {name: result.protocol[name] for name in _TELLING if name in result.protocol and name not in changed}
    values = tuple((name.replace("_", " "), "changed" if value is None else _text(value)) for name, value in (telling | changed).items())
    return Column(result.task, result.preset, values, result.headline.metric)


def changed_values(result: Result) -> dict[str, Any]:
    """The values that are not the preset's, by the names that the protocol has for them; None for one that it does not hold."""
    names = result.protocol.get("changed")
    found: dict[str, Any] = {}
    for name in names if isinstance(names, list) else []:
        own = [known for known in _NAMES_IN_PROTOCOLS.get(str(name), ()) if known in result.protocol]
        found |= {known: result.protocol.get(known) for known in own or [str(name)]}
    return found


def make_cell(entries: Sequence[Entry], metric: str) -> Cell:
    """One number of several results of the same model by the same protocol."""
    by_seeds: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.result.date, reverse=True):
        by_seeds.setdefault(json.dumps(entry.result.seeds, sort_keys=True), []).append(entry)
    newest = [same[0] for same in by_seeds.values()]
    values = [entry.result.metrics[metric] for entry in newest]
    repeats = len(entries) - len(newest)
    ordered = tuple(newest) + tuple(entry for same in by_seeds.values() for entry in same[1:])
    # A task that draws nothing gives the same number for all seeds: that is no spread.
    if len(set(values)) == 1:
        return Cell(ordered, values[0], interval_of(newest[0].result, metric), None, 1, repeats)
    return Cell(ordered, fmean(values), None, stdev(values), len(values), repeats)


def interval_of(result: Result, metric: str) -> tuple[float, float] | None:
    """The confidence interval of a metric, in its unit; None where there is none.

    It is Wilson's where the metric is a share of the test images by the result's counts; for other metrics the one that the result holds.
    """
    counts = result.counts.get("correct")
    count = counts.get(metric) if isinstance(counts, Mapping) else None
    test, value = result.data.splits.get("test"), result.metrics.get(metric, math.nan)
    if isinstance(count, int) and not isinstance(count, bool) and test is not None and test.images > 0 and 0 <= count <= test.images:
        # The metric must be this very share: a count of something else has no such interval.
        if math.isclose(value, 100 * count / test.images, rel_tol=1e-9, abs_tol=1e-9):
            return wilson(count, test.images)
        return None
    limits = numbers(table(result, "intervals").get(metric), 2)
    return (limits[0], limits[1]) if limits is not None and limits[0] <= value <= limits[1] else None


@dataclass(frozen=True)
class Family:
    """Models that differ in nothing but the seed they were trained (or drawn) from."""

    name: str
    models: tuple[Model, ...]


def seed_families(group: Group) -> list[Family]:
    """Families of at least two of a table's models: ``random:`` networks by their name; runs and zoo models at hand by their recipes."""
    members: dict[tuple[str, str], list[Model]] = {}
    for row in group.rows:
        found = _family(group.of_row(row)[0].result)
        if found is not None:
            members.setdefault(found, []).append(row)
    return [Family(name, tuple(models)) for (name, _), models in members.items() if len(models) > 1]


def family_cell(group: Group, family: Family, column: Column) -> tuple[float, float, int] | None:
    """Mean, sample's standard deviation and number of the models that were measured; None for fewer than two."""
    cells = [cell for model in family.models if (cell := group.cell(model, column)) is not None]
    values = [cell.value for cell in cells]
    return (fmean(values), stdev(values), len(values)) if len(values) > 1 else None


def _family(result: Result) -> tuple[str, str] | None:
    if result.model.kind == "random":
        return f"random:{result.model.arch}", result.protocol.get("layer") or ""
    spec = result.model.spec
    if spec is None:
        return None
    if result.model.kind == "run" and is_run(spec):
        recipe = read_recipe(spec)
    elif result.model.kind == "zoo" and is_zoo_model(spec):
        manifest = read_manifest(Path(spec))
        if manifest.tensors_sha256 != result.model.tensors_sha256:
            return None
        recipe = dict(manifest.recipe)
    else:
        return None
    if _SEED not in recipe:
        return None
    method = recipe.get("method")
    name = method.get("name") if isinstance(method, Mapping) else method
    return f"{name} {result.model.arch}", _text({key: value for key, value in recipe.items() if key != _SEED})


def metric_label(metric: str) -> str:
    """A metric's name for readers: ``top1_k20`` is "top-1, k = 20", ``superclass/ami_k3`` is "superclass: AMI, k = 3"."""
    text = re.sub(r"(?<![a-z])top(\d)", r"top-\1", metric)
    text = re.sub(r"_k(\d+)(?=_|$)", r", k = \1", text)
    text = re.sub(r"(?<![a-z])(?:nmi|ami|ari|fmi)(?![a-z])", lambda match: match[0].upper(), text)
    text = re.sub(r"(?<![a-z])(map|ap)(?=_)", lambda match: match[0][:-2] + "AP", text)
    return text.replace("/", ": ").replace("_", " ")


def ordered_metrics(results: Iterable[Result]) -> list[str]:
    """The metrics of results, in the order in which they have them."""
    return list(dict.fromkeys(metric for result in results for metric in result.metrics))


def _model_key(result: Result) -> tuple[str, str, str]:
    model, protocol = result.model, result.protocol
    layer = f"layer {protocol['layer']}, " if protocol.get("layer") else ""
    inputs = f"{layer}{protocol.get('channels', 'rgb')}, mean {list(model.mean)}, std {list(model.std)}"
    return model.name, model.tensors_sha256, inputs


def _fingerprints(data: DataFacts) -> dict[str, str]:
    return {split.split: split.fingerprint for split in data.splits.values()}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
