"""Line charts, interval charts and maps of points as SVG that takes its colours from the page, for light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

# Colours of series that the style sheet knows (.c0 ...); later series repeat them with other dashes and markers.
COLOURS = 8
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_MARKERS = ("circle", "square", "triangle", "diamond")
# In the SVG's own units, which are about pixels.
_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 46
_ROW, _LONGEST_NAME, _NAMES = 28, 24, 196
_MAP, _EDGE = 420, 8
_MOST_TICKS = 8


@dataclass(frozen=True)
class Series:
    """A line: its name, the number of its colour, and its points (x, y)."""

    name: str
    colour: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Range:
    """A value with an interval (None: it has none), the number of its colour, and the text that is shown when it is pointed at."""

    name: str
    colour: int
    value: float
    interval: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class Cloud:
    """Points (x, y) of one colour: a hue in degrees and, to tell neighbouring hues apart, a shape."""

    name: str
    hue: float
    shape: int
    points: tuple[tuple[float, float], ...]


def style_of(colour: int) -> tuple[str, str, str]:
    """Class, dashes and marker of a series."""
    turn = colour // COLOURS
    return f"c{colour % COLOURS}", _DASHES[turn % len(_DASHES)], _MARKERS[(colour + turn) % len(_MARKERS)]


def swatch(colour: int) -> Markup:
    """The sample of a series in a legend."""
    name, dashes, marker = style_of(colour)
    line = Markup('<line x1="1" y1="6" x2="27" y2="6" stroke-dasharray="{}"/>').format(dashes)
    return Markup('<svg class="swatch {}" viewBox="0 0 28 12" width="28" height="12" aria-hidden="true">{}{}</svg>').format(
        name, line, _mark(marker, 14, 6)
    )


def line_chart(series: Sequence[Series], *, label: str, x_label: str, y_label: str, x_log: bool = False) -> Markup:
    """Lines with markers.

    Parameters
    ----------
    label
        What a screen reader says of the chart.
    x_log
        A logarithmic axis, where all x are positive.
    """
    xs = sorted({x for one in series for x, _ in one.points})
    ys = [y for one in series for _, y in one.points]
    x_log = x_log and xs[0] > 0
    x_ticks = xs if len(xs) <= _MOST_TICKS else _log_ticks(xs[0], xs[-1]) if x_log else _ticks(xs[0], xs[-1])
    y_ticks = _ticks(min(ys), max(ys))
    place_x = _scale(min(xs[0], x_ticks[0]), max(xs[-1], x_ticks[-1]), _LEFT, _WIDTH - _RIGHT, log=x_log)
    place_y = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_frame(x_ticks, y_ticks, place_x, place_y, x_label, y_label)]
    dots = len(xs) <= 40
    for one in series:
        name, dashes, marker = style_of(one.colour)
        placed = [(place_x(x), place_y(y)) for x, y in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        line = Markup('<polyline points="{}" stroke-dasharray="{}"/>').format(path, dashes)
        marks = (
            Markup("<g><title>{}: {} at {}</title>{}</g>").format(one.name, _number(y), _number(x), _mark(marker, *at))
            for (x, y), at in zip(one.points, placed, strict=True)
        )
        parts.append(Markup('<g class="series {}">{}{}</g>').format(name, line, _joined(marks) if dots else ""))
    return _svg(_joined(parts), _WIDTH, _HEIGHT, label)


def interval_chart(ranges: Sequence[Range], *, label: str, x_label: str) -> Markup:
    """A row for each value: a dot, and a bar over its interval."""
    limits = [limit for one in ranges for limit in (one.value, *(one.interval or ()))]
    ticks = _ticks(min(limits), max(limits))
    left, height = _NAMES, _TOP + _ROW * len(ranges) + _BOTTOM
    place = _scale(ticks[0], ticks[-1], left, _WIDTH - _RIGHT - 10)
    bottom = height - _BOTTOM + 6
    parts = [_vertical(tick, place(tick), _TOP - 6, bottom) for tick in ticks]
    parts.append(_text(x_label, (left + _WIDTH - _RIGHT) / 2, height - 6, "middle"))
    for row, one in enumerate(ranges):
        y = _TOP + _ROW * (row + 0.5)
        name, _, marker = style_of(one.colour)
        shown = one.name if len(one.name) <= _LONGEST_NAME else one.name[: _LONGEST_NAME - 1] + "…"
        bar = Markup("")
        if one.interval is not None:
            low, high = map(place, one.interval)
            ends = _joined(Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(f"{x:.1f}", y - 5, y + 5) for x in (low, high))
            bar = Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>{}').format(low, high, y, y, ends)
        mark = _mark(marker, place(one.value), y, 4.5)
        drawn = Markup("<title>{}</title>{}{}{}").format(one.text, _text(shown, left - 10, y + 4, "end"), bar, mark)
        parts.append(Markup('<g class="series {}">{}</g>').format(name, drawn))
    return _svg(_joined(parts), _WIDTH, height, label)


def point_map(clouds: Sequence[Cloud], *, label: str) -> Markup:
    """Points in the plane; axes mean nothing in such a map, so it has none."""
    xs = [x for cloud in clouds for x, _ in cloud.points]
    ys = [y for cloud in clouds for _, y in cloud.points]
    # One scale for both, so that distances look as they are.
    factor = (_MAP - 2 * _EDGE) / (max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0)
    width, height = (2 * _EDGE + factor * (max(values) - min(values)) for values in (xs, ys))
    left, top = min(xs), max(ys)
    parts = []
    for cloud in clouds:
        marker = _MARKERS[cloud.shape % len(_MARKERS)]
        marks = (_mark(marker, _EDGE + factor * (x - left), _EDGE + factor * (top - y), 2.8) for x, y in cloud.points)
        parts.append(Markup('<g class="cloud" style="--hue:{:.0f}"><title>{}</title>{}</g>').format(cloud.hue, cloud.name, _joined(marks)))
    return _svg(_joined(parts), round(width), round(height), label, "map")


def cloud_swatch(hue: float, shape: int) -> Markup:
    """The sample of a cloud in a legend."""
    mark = _mark(_MARKERS[shape % len(_MARKERS)], 6, 6, 4)
    return Markup(
        '<svg class="swatch cloud" style="--hue:{:.0f}" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">{}</svg>'
    ).format(hue, mark)


def _svg(content: Markup, width: float, height: float, label: str, kind: str = "chart") -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(kind, width, height, label, content)


def _frame(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    place_x: Callable[[float], float],
    place_y: Callable[[float], float],
    x_label: str,
    y_label: str,
) -> Markup:
    bottom = _HEIGHT - _BOTTOM
    parts = [_vertical(tick, place_x(tick), _TOP, bottom) for tick in x_ticks]
    for tick in y_ticks:
        y = place_y(tick)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(_LEFT, _WIDTH - _RIGHT, y, y))
        parts.append(_text(_number(tick), _LEFT - 7, y + 4, "end"))
    parts.append(_text(x_label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "middle"))
    turned = Markup('<text class="label" text-anchor="middle" transform="translate(12 {}) rotate(-90)">{}</text>')
    parts.append(turned.format((_TOP + bottom) / 2, y_label))
    return _joined(parts)


def _vertical(tick: float, x: float, top: float, bottom: float) -> Markup:
    line = Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(f"{x:.1f}", top, bottom)
    return line + _text(_number(tick), x, bottom + 17, "middle")


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return Markup('<text class="label" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _mark(marker: str, x: float, y: float, size: float = 3.5) -> Markup:
    if marker == "circle":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, size)
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    }[marker]
    path = "L".join(f"{x + size * dx:.1f} {y + size * dy:.1f}" for dx, dy in corners)
    return Markup('<path class="mark" d="M{}Z"/>').format(path)


def _scale(low: float, high: float, start: float, stop: float, *, log: bool = False) -> Callable[[float], float]:
    """The map of low .. high to start .. stop."""
    bend = math.log if log else float
    first, span = bend(low), bend(high) - bend(low)
    if span == 0:
        return lambda _value: (start + stop) / 2
    return lambda value: start + (bend(value) - first) / span * (stop - start)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from at most ``low`` to at least ``high``."""
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = low - 1, high + 1
    return [float(tick) for tick in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from at most ``low`` to at least ``high``, not too many of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil((last - first) / 6))
    return [10.0**power for power in range(first, last + step, step)]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _joined(parts: object) -> Markup:
    return Markup("").join(parts)  # type: ignore[arg-type]
