"""Everything that a result says about how its numbers came about, as rows of text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from evaluation.report.details import table, texts
from evaluation.report.entries import Entry
from evaluation.report.groups import changed_values, interval_of
from evaluation.tasks.again import command_again, not_repeatable
from zoo.results import Result


@dataclass(frozen=True)
class MetricRow:
    """A metric with all its digits, the count behind it, and its interval."""

    metric: str
    value: str
    count: str
    interval: str


@dataclass(frozen=True)
class Provenance:
    """A result, spelled out: its numbers, and parts of (name, value) rows."""

    title: str
    metrics: tuple[MetricRow, ...]
    parts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    command: str
    not_repeatable: tuple[str, ...]


def provenance(entry: Entry) -> Provenance:
    """A result, spelled out."""
    result = entry.result
    model, data = result.model, result.data
    changed = ", ".join(name if value is None else f"{name} = {_text(value)}" for name, value in changed_values(result).items())
    splits = {
        f"{role} images": f"{split.images:,} of split '{split.split}'"
        + (f", {split.skipped:,} left out as undecodable" if split.skipped else "")
        + f", fingerprint {split.fingerprint}"
        for role, split in data.splits.items()
    }
    parts: dict[str, dict[str, Any]] = {
        "Protocol": {
            "task": result.task,
            "preset": result.preset,
            "changed values": changed or "none: all as the preset has them",
            **{name: value for name, value in result.protocol.items() if name != "changed"},
        },
        "Model": {
            "name": model.name,
            "given as": model.spec or "not stated",
            "architecture": model.arch,
            "kind": model.kind,
            "tensors sha256": model.tensors_sha256,
            "file sha256": model.file_sha256 or "none: not one file",
            "mean": list(model.mean),
            "std": list(model.std),
        },
        "Data": {"name": data.name, "given as": data.spec, "label level": f"{data.level}, {data.classes} classes", **splits},
        "Run": {
            "date": result.date,
            "device": result.device,
            "dtype": result.dtype,
            "processes": result.processes,
            "seeds": result.seeds,
            "seconds": result.seconds,
            "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
            "commit": result.commit or "not recorded",
        },
        "Intervals": {"method": table(result, "intervals").get("method")} if table(result, "intervals").get("method") else {},
        "Warnings": {str(number): text for number, text in enumerate(texts(result.details.get("warnings")) or [], start=1)},
        "Counts": {name: value for name, value in result.counts.items() if name != "correct"},
    }
    rows = tuple((name, tuple((key, _text(value)) for key, value in part.items())) for name, part in parts.items() if part)
    title = f"{model.name}: {result.task} {result.preset} on {data.name}"
    return Provenance(title, _metric_rows(result), rows, command_again(result), tuple(not_repeatable(result)))


def _metric_rows(result: Result) -> tuple[MetricRow, ...]:
    counts: Any = result.counts.get("correct")
    rows = []
    for metric, value in result.metrics.items():
        count = counts.get(metric) if isinstance(counts, dict) else None
        interval = interval_of(result, metric)
        shown = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
        rows.append(MetricRow(metric, json.dumps(value), "" if count is None else _text(count), shown))
    return tuple(rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
