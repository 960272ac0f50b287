"""Whether all places of a zoo model folder that state a number state the same one. Imports neither torch nor the Hub's client.

A number stands in ``zoo.json`` (with the counts that it is the share of), in the card's table of results and in its front matter, which
the Hub shows, and in the Hub's result files. The card's other text is free, and so is a row that somebody took out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.model_folder.card import RESULT_COLUMNS, result_row
from zoo.model_folder.eval_results import eval_files, read_eval_file
from zoo.model_folder.manifest import CARD_FILE, MANIFEST_FILE, Manifest
from zoo.model_folder.markdown import unescaped
from zoo.plain_yaml import parse_yaml
from zoo.reading.outside import read_text
from zoo.results import Result

# What JSON and YAML round, and a table that shows two decimals.
_ROUNDED = 1e-6
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Columns of the card's table by which a row is known, and those whose numbers are compared.
_KNOWN_BY = tuple(RESULT_COLUMNS.index(name) for name in ("Task", "Data", "Protocol", "Metric"))
_COMPARED = tuple(RESULT_COLUMNS.index(name) for name in ("Test images", "Value", "Measured"))


def check_agreement(folder: str | Path, manifest: Manifest) -> None:
    """Raise UserError that names the first place of a zoo model folder whose numbers are not those of ``zoo.json``, and both numbers."""
    problems = disagreements(folder, manifest)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"the numbers of '{folder}' do not agree: {problems[0]}{more}; `zoo add-result` puts a result on the card again")


def disagreements(folder: str | Path, manifest: Manifest) -> list[str]:
    """Places whose numbers are not those of ``zoo.json``, in words, with both numbers. Raises UserError for a card that cannot be read."""
    problems = [problem for result in manifest.results for problem in _within(result)]
    card = Path(folder) / CARD_FILE
    if card.exists():
        text = read_text(card)
        problems += _of_table(text, manifest.results)
        problems += _of_front_matter(card, text, manifest.results)
    return problems + [*_of_eval_files(Path(folder), manifest)]


def _within(result: Result) -> Iterator[str]:
    """A result against itself: accuracies are shares of what was counted. (That its headline is one of its metrics is read so.)"""
    label = f"{MANIFEST_FILE}, {result.task} {result.preset} on {result.data.spec}"
    counts, test = result.counts.get("correct"), result.data.splits.get("test")
    if not isinstance(counts, Mapping) or test is None or test.images < 1:
        return
    for name, count in counts.items():
        value = result.metrics.get(name)
        if name.startswith("top") and isinstance(count, int) and value is not None and not _same(value, 100 * count / test.images):
            yield f"{label}: {name} is {value:.2f}, and {count} right answers of {test.images} are {100 * count / test.images:.2f}"


def _of_table(text: str, results: Sequence[Result]) -> Iterator[str]:
    expected = [_plain(result_row(result)) for result in results]
    for row in _rows(text):
        if row in expected:
            continue
        alike = [other for other in expected if all(other[place] == row[place] for place in _KNOWN_BY)]
        label = f"{CARD_FILE}, the table of results, {row[0]} {row[_KNOWN_BY[2]]} on {row[_KNOWN_BY[1]]}"
        if not alike:
            yield f"{label}: {MANIFEST_FILE} has no such result of {row[_KNOWN_BY[3]]} {row[RESULT_COLUMNS.index('Value')]}"
            continue
        if any(all(other[place] == row[place] for place in _COMPARED) for other in alike):
            continue
        for place in _COMPARED:
            if row[place] != alike[0][place]:
                yield f"{label}: {RESULT_COLUMNS[place].lower()} is {row[place]}, and {alike[0][place]} in {MANIFEST_FILE}"
                break


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    """Rows of the card's tables of results, cell by cell."""
    inside = False
    for line in text.splitlines():
        cells = _cells(line)
        if cells == RESULT_COLUMNS:
            inside = True
        elif inside and len(cells) == len(RESULT_COLUMNS):
            if set("".join(cells)) - set("-: "):
                yield _plain(cells)
        else:
            inside = False


def _cells(line: str) -> tuple[str, ...]:
    parts = re.split(r"(?<!\\)\|", line.strip())
    return tuple(part.strip() for part in parts[1:-1]) if len(parts) > 2 else ()


def _plain(cells: Sequence[str]) -> tuple[str, ...]:
    """Cells as they are shown, so that cards of all versions are read alike."""
    return tuple(map(unescaped, cells))


def _of_front_matter(card: Path, text: str, results: Sequence[Result]) -> Iterator[str]:
    found = _FRONT_MATTER.match(text)
    if found is None:
        return
    try:
        head = parse_yaml(found[1])
    except ValueError as error:
        raise UserError(f"the front matter of {card} cannot be read ({error})") from error
    for entry in _list(head, "model-index"):
        for block in _list(entry, "results"):
            data = block.get("dataset")
            data = data if isinstance(data, Mapping) else {}
            for metric in _list(block, "metrics"):
                yield from _of_metric(metric, str(data.get("name")), results)


def _of_metric(metric: Mapping[str, Any], data: str, results: Sequence[Result]) -> Iterator[str]:
    name, value, preset = metric.get("name"), metric.get("value"), metric.get("config")
    label = f"{CARD_FILE}, model-index, {name} on {data}"
    same = [one for one in results if f"{one.task} {one.headline.metric}" == name and one.data.spec == data]
    alike = [one for one in same if preset in (None, one.preset)] or same
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield f"{label}: its value {value!r} is no number"
    elif not alike:
        yield f"{label}: {MANIFEST_FILE} has no such result of {value:.2f}"
    elif not any(_same(value, one.headline.value) for one in alike):
        yield f"{label} is {value:.2f}, and {alike[0].headline.value:.2f} in {MANIFEST_FILE}"


def _of_eval_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Of the Hub's result files those that zoo.json makes; a file of somebody else's results claims nothing of ours."""
    for name, text in eval_files(manifest).items():
        if not (folder / name).exists():
            continue
        (entry,) = parse_yaml(text)
        for found in read_eval_file(folder / name):
            if not _same(found.value, entry["value"]):
                yield f"{name}, {found.dataset} is {found.value:.2f}, and {entry['value']:.2f} in {MANIFEST_FILE}"


def _list(mapping: object, key: str) -> list[Mapping[str, Any]]:
    found = mapping.get(key) if isinstance(mapping, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _ROUNDED * max(1.0, abs(other))
