"""Making a report and writing it: everything is computed first, and the folder is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report.at_hand import AtHand, Missing
from evaluation.report.charts import Range, interval_chart, swatch
from evaluation.report.classes import ClassTable, Confusion, Confusions, class_tables, confusions
from evaluation.report.curves import Chart, checkpoint_charts, curve_charts, log_charts
from evaluation.report.details import texts
from evaluation.report.differences import Differences, differences, rankings
from evaluation.report.entries import Entry, read_entries
from evaluation.report.feature_map import NAMES, FeatureMap, check_method, feature_maps
from evaluation.report.groups import (
    Column,
    Family,
    Group,
    Model,
    family_cell,
    interval_of,
    make_groups,
    metric_label,
    name_models,
    ordered_metrics,
    seed_families,
)
from evaluation.report.pictures import Montage, Query, montages, neighbour_queries
from evaluation.report.provenance import Provenance, provenance
from evaluation.report.settings import DEFAULT_TITLE, PAGE, MapMethod
from evaluation.statistics.intervals import CONFIDENCE
from evaluation.tasks.model_source import ModelSource
from zoo.files import check_new_folder, new_folder, safe_name
from zoo.lazy import DISTRIBUTION

# Says that a folder is a report, and of what; only such a folder is ever replaced.
MARKER = "report.json"
SCHEMA = "backbone-loop report 1"
RESULTS_FOLDER = "results"
# More models than this have a field that filters them by name.
MANY_MODELS = 8

Absent = list[tuple[str, Missing]]


@dataclass(frozen=True)
class Section:
    """What the page shows of the results of one set of images and labels."""

    anchor: str
    group: Group
    families: list[Family]
    warnings: list[tuple[Model, str]]
    intervals: list[Chart]
    differences: list[Differences]
    curves: list[Chart]
    classes: list[ClassTable]
    confusions: list[Confusions]
    queries: list[Query]
    maps: list[FeatureMap]
    montages: list[Montage]
    absent: dict[str, Absent]

    @property
    def confusion_levels(self) -> list[tuple[str, list[tuple[Model, Confusion]]]]:
        """The matrices of all models by label level, coarse to fine."""
        levels: dict[str, list[tuple[Model, Confusion]]] = {}
        for one in self.confusions:
            for matrix in one.matrices:
                levels.setdefault(matrix.level, []).append((one.model, matrix))
        return list(levels.items())


@dataclass(frozen=True)
class Page:
    """Everything that the template needs."""

    title: str
    made: str
    version: str
    entries: tuple[Entry, ...]
    models: tuple[Model, ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    logs: list[Chart]
    absent_logs: Absent
    provenances: dict[int, Provenance]
    copies: dict[int, str]
    map_name: str
    confidence: str


def write_report(
    results: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = DEFAULT_TITLE,
    data: Sequence[str] = (),
    models: Sequence[ModelSource] = (),
    map_method: str = "tsne",
    numbers_only: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> None:
    """Write a report of results: ``index.html``, which needs nothing else, and copies of the results beside it.

    Parameters
    ----------
    results
        Result files, folders of such, zoo models.
    out
        The folder to make.
    title
        Of the page.
    data
        Where the results' images lie, as ``NAME:ROOT``; by default where each result says.
    models
        Models to compute features with that are not kept on this machine (:func:`evaluation.tasks.model_source.model_sources`).
    map_method
        ``"tsne"``, ``"umap"`` (needs umap-learn) or ``"none"``.
    numbers_only
        Open no data and no model: tables, charts and provenance alone.
    device
        Where features are computed: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    overwrite
        Replace an earlier report.
    say
        Called with sentences for the user.

    Raises
    ------
    UserError
        ``out`` may not be replaced; a file is no result; data or a model were given that no result is of; the system refuses to write.
    """
    check_new_folder(out, overwrite=overwrite, marker=MARKER)
    method = check_method("none" if numbers_only else map_method)
    read = read_entries(results)
    for note in read.notes:
        say(note)
    at_hand = AtHand(data, models, numbers_only, device, say)
    at_hand.check([entry.result for entry in read.entries])
    page = _make_page(read.entries, read.notes, title, at_hand, method, say)
    html = render(page)
    with new_folder(out, overwrite=overwrite, marker=MARKER) as folder:
        (folder / PAGE).write_text(html, encoding="utf-8", errors="backslashreplace")
        (folder / RESULTS_FOLDER).mkdir()
        for entry in read.entries:
            (folder / page.copies[entry.number]).write_text(entry.result.to_json(), encoding="utf-8", errors="backslashreplace")
        marker = {"schema": SCHEMA, "title": title, "date": page.made, "results": list(page.copies.values())}
        (folder / MARKER).write_text(json.dumps(marker, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace")


def render(page: Page) -> str:
    """The HTML of a page. Every text is escaped; a name that the template lacks is an error, not an empty place."""
    environment = Environment(
        loader=PackageLoader("evaluation.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        family_cell=family_cell,
        many_models=MANY_MODELS,
        rankings=rankings,
        interval_of=interval_of,
        metric_label=metric_label,
        ordered_metrics=ordered_metrics,
        picture=_picture_attributes,
        swatch=swatch,
    )
    source = environment.loader
    assert isinstance(source, PackageLoader)
    # Style and script are this package's own files; they are part of the page, so that it is one file.
    style, script = (Markup(source.get_source(environment, name)[0]) for name in ("style.css", "script.js"))
    return environment.get_template("index.html").render(page=page, style=style, script=script)


def _picture_attributes(address: str) -> Markup:
    return Markup('src="{}"').format(address) if address else Markup("")


def _make_page(
    entries: Sequence[Entry], notes: Sequence[str], title: str, at_hand: AtHand, method: MapMethod, say: Callable[[str], None]
) -> Page:
    models = name_models(entries)
    logs, absent_logs = log_charts(entries, models)
    sections: list[Section] = []
    mapped: set[tuple[Model, str]] = set()
    for number, group in enumerate(make_groups(entries), start=1):
        say(f"{group.title}: {len(group.entries)} results of {len(group.rows)} models")
        found, no_confusions = confusions(group, at_hand)
        queries, no_neighbours = neighbour_queries(group, at_hand)
        clusters, no_clusters = montages(group, at_hand)
        maps, no_maps = feature_maps(group, at_hand, method, mapped)
        absent = {"confusions": no_confusions, "neighbours": no_neighbours, "clusters": no_clusters, "maps": no_maps}
        sections.append(
            Section(
                anchor=f"data-{number}",
                group=group,
                families=seed_families(group),
                intervals=[chart for column in group.columns if (chart := _interval_chart(group, column)) is not None],
                warnings=_warnings(group),
                differences=differences(group),
                curves=[*curve_charts(group), *checkpoint_charts(group.entries, models)],
                classes=class_tables(group),
                confusions=found,
                queries=queries,
                maps=maps,
                montages=clusters,
                absent=absent,
            )
        )
    return Page(
        title=title,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=f"{DISTRIBUTION} {version(DISTRIBUTION)}",
        entries=tuple(entries),
        models=tuple(dict.fromkeys(models.values())),
        notes=tuple(notes),
        sections=tuple(sections),
        logs=logs,
        absent_logs=absent_logs,
        provenances={entry.number: provenance(entry) for entry in entries},
        copies={entry.number: _copy_name(entry) for entry in entries},
        map_name=NAMES.get(method, ""),
        confidence=f"{100 * CONFIDENCE:.0f} %",
    )


def _warnings(group: Group) -> list[tuple[Model, str]]:
    """What the evaluations found doubtful about the models' inputs, each once."""
    found = ((row, text) for row in group.rows for entry in group.of_row(row) for text in texts(entry.result.details.get("warnings")) or [])
    return list(dict.fromkeys(found))


def _interval_chart(group: Group, column: Column) -> Chart | None:
    """The headlines of a column beside each other; None for a single one, which the table shows as well."""
    ranges = []
    for row in group.rows:
        cell = group.cell(row, column)
        if cell is None:
            continue
        interval, text = cell.interval, f"{row.label}: {cell.value:.2f}"
        if cell.spread is not None:
            interval = cell.value - cell.spread, cell.value + cell.spread
            text += f", standard deviation {cell.spread:.2f} over {cell.seeds} seeds"
        elif interval is not None:
            text += f", {100 * CONFIDENCE:.0f} % interval {interval[0]:.2f} to {interval[1]:.2f}"
        ranges.append((row, Range(row.label, row.colour, cell.value, interval, text)))
    if len(ranges) < 2:
        return None
    title = f"{column.label}: {metric_label(column.metric)}"
    label = f"{title}. {'; '.join(one.text for _, one in ranges)}"
    svg = interval_chart([one for _, one in ranges], label=label, x_label=metric_label(column.metric))
    return Chart(title, svg, tuple(row for row, _ in ranges))


def _copy_name(entry: Entry) -> str:
    name = safe_name(f"{entry.result.model.name}.{entry.result.task}")[:80]
    return f"{RESULTS_FOLDER}/{entry.number}-{name}.json"
