"""A look as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath

from zoo.data.inspection.boxes import BoxFacts
from zoo.data.inspection.findings import Case, Finding
from zoo.data.inspection.look import SIDE_BINS, Look, SplitFacts, Spread
from zoo.errors import printable

# Classes that are listed each; of more, the smallest and the largest.
_CLASSES_LISTED = 12
_EXTREMES = 3
_BAR = 30
_CASES = 4


def look_text(look: Look) -> str:
    """The whole of it."""
    images = sum(split.images for split in look.splits)
    parts = [f"{look.data}: {plural(images, 'image')} in {plural(len(look.splits), 'split')}", _table(look.splits, boxes=bool(look.boxes))]
    parts += [_classes(split) for split in look.splits]
    parts += [_boxes(facts) for facts in look.boxes]
    sides = [split for split in look.splits if split.short_side is not None and split.short_side.least < split.short_side.largest]
    parts += [_sides(split) for split in sides]
    parts.append(_list("decided", look.decisions))
    parts.append(findings_text("found", look.problems))
    parts.append(findings_text("also seen", look.notes))
    if not look.problems:
        parts.append("found: nothing that is wrong")
    return printable_lines("\n\n".join(filter(None, parts)))


def printable_lines(text: str) -> str:
    """``text`` with what a terminal would obey spelled out, line by line."""
    return "\n".join(map(printable, text.split("\n")))


def findings_text(title: str, findings: Sequence[Finding]) -> str:
    """Findings, each with its first cases."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.kind}: {finding.text}")
        lines += [f"    {case_text(case)}" for case in finding.cases[:_CASES]]
        if finding.count > _CASES < len(finding.cases):
            lines.append("    ...")
    return _list(title, lines, mark=lambda line: "" if line.startswith(" ") else "- ")


def case_text(case: Case) -> str:
    """A case; of a second path only what differs from the first."""
    if len(case.names) == 2 and PurePath(case.names[0]).parent == PurePath(case.names[1]).parent:
        case = Case((case.names[0], PurePath(case.names[1]).name), case.detail)
    return str(case)


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith(("s", "x")) else "s")


def spread_text(spread: Spread | None) -> str:
    """``64`` or ``64 / 128 / 2,048``: least, median, largest."""
    if spread is None:
        return "-"
    values = dict.fromkeys((spread.least, spread.median, spread.largest)) if spread.least == spread.largest else None
    return " / ".join(f"{value:,}" for value in values or (spread.least, spread.median, spread.largest))


def counts_text(counts: Mapping[str, int]) -> str:
    """``JPEG``, or ``JPEG 990, PNG 10`` where there are several."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "-"


def _table(splits: Sequence[SplitFacts], *, boxes: bool) -> str:
    head = ("split", "used for", "images", "bad", "classes", "format", "mode", "width", "height", "grey", "EXIF-turned")
    rows = [head]
    for split in splits:
        good = max(split.images - split.bad, 1)
        turned = sum(count for number, count in split.orientations.items() if number != "1")
        rows.append(
            (
                split.name,
                ", ".join(split.roles) or "nothing",
                f"{split.images:,}",
                f"{split.bad:,}",
                f"{len(split.classes):,}" if split.classes else "by boxes" if boxes else "no labels",
                counts_text(split.formats),
                counts_text(split.modes),
                spread_text(split.width),
                spread_text(split.height),
                f"{100 * split.grey / good:.1f} %",
                f"{turned:,}",
            )
        )
    columns = list(zip(*rows, strict=True))
    names = max(len(cell) for cell in columns[0][1:]) + 2
    if sum(max(map(len, column)) for column in columns) + 2 * len(columns) <= 140 and len(splits) > 1:
        widths = [max(map(len, column)) for column in columns]
        return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    # Too wide for a table: each split as lines of its own.
    width = max(max(map(len, head)), names - 2)
    return "\n\n".join("\n".join(f"{name:<{width}}  {value}" for name, value in zip(head, row, strict=True)) for row in rows[1:])


def _classes(split: SplitFacts) -> str:
    if not split.classes:
        return ""
    counts = {printable(name): count for name, count in split.classes.items()}
    ranked = sorted(counts, key=lambda name: counts[name])
    title = f"images of each class, {split.name}"
    if counts[ranked[0]] == counts[ranked[-1]]:
        return f"{title}: {counts[ranked[0]]:,} of each"
    if len(counts) <= _CLASSES_LISTED:
        width = max(map(len, counts))
        most = max(counts.values())
        return _list(title, [f"{name:<{width}}  {_bar(count, most)}{count:,}" for name, count in counts.items()], mark=lambda _: "")
    median = sorted(counts.values())[len(counts) // 2]
    ends = [", ".join(f"{name} {counts[name]:,}" for name in names) for names in (ranked[:_EXTREMES], ranked[-_EXTREMES:][::-1])]
    return f"{title}: {counts[ranked[0]]:,} to {counts[ranked[-1]]:,}, median {median:,}; fewest {ends[0]}; most {ends[1]}"


def _boxes(facts: BoxFacts) -> str:
    count = sum(facts.objects.values())
    lines = [
        f"of each image at most {facts.most:,}; {plural(facts.without_objects, 'image')} without any; "
        f"{plural(facts.left_out, 'listed image')} left out",
        f"small (below 32 x 32) {facts.small:,}, medium (below 96 x 96) {facts.medium:,}, large {facts.large:,}",
        f"least, median and largest: width {_three(facts.width)}, height {_three(facts.height)}, "
        f"share of the image {_three(facts.share)} %",
        f"masks: {facts.polygons:,} by polygons, {facts.bitmaps:,} by run lengths; {plural(facts.crowds, 'crowd region')}",
    ]
    width = max(map(len, facts.objects), default=0)
    most = max(facts.objects.values(), default=0)
    bars = [f"{name:<{width}}  {_bar(number, most)}{number:,}" for name, number in facts.objects.items()]
    return _list(f"{plural(count, 'box')} in {facts.split}", [*lines, *bars], mark=lambda _: "")


def _three(values: tuple[float, float, float] | None) -> str:
    return "-" if values is None else " / ".join(f"{value:,g}" for value in values)


def _sides(split: SplitFacts) -> str:
    lines = side_bars(split)
    width = max(len(label) for label, _ in lines)
    most = max(count for _, count in lines)
    bars = [f"{label:>{width}}  {_bar(count, most)}{count:,}" for label, count in lines]
    return _list(f"shorter side in pixels, {split.name}", bars, mark=lambda _: "")


def side_bars(split: SplitFacts) -> list[tuple[str, int]]:
    """The histogram of shorter sides, from the first bar with an image to the last: what it covers, and how many."""
    filled = [place for place, count in enumerate(split.sides) if count]
    if not filled:
        return []
    ends = [f"{start:,}-{stop - 1:,}" for start, stop in pairwise(SIDE_BINS)] + [f"{SIDE_BINS[-1]:,} and more"]
    return [(ends[place], split.sides[place]) for place in range(filled[0], filled[-1] + 1)]


def _bar(count: int, most: int) -> str:
    """The bar of ``count``, and a blank behind one that is not empty."""
    return "█" * max(round(_BAR * count / max(most, 1)), 1) + " " if count else ""


def _list(title: str, lines: Sequence[str], mark: object = lambda _line: "- ") -> str:
    if not lines:
        return ""
    assert callable(mark)
    return "\n".join([f"{title}:", *(f"  {mark(line)}{printable(line)}" for line in lines)])
