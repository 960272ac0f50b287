"""Write the tables of `docs/results.md` and `docs/scaling.md` that stand on a GPU's rows.

    python benchmarks/gpu/tables.py [--check]

A table lies between the comments `<!-- rows: NAME -->` and `<!-- end of rows -->`, and is written anew from `benchmarks/gpu/rows.jsonl`.
What has no row says "not measured".
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pieces import PAIRS, SEEDS
from rows import MERGED, Row, newest, read_rows

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = ("results.md", "scaling.md")
ABSENT = "not measured"
METHODS = ("bare", "moco", "hcsc", "csml", "simclr", "byol", "simsiam")
ARMS = {
    "moco": "MoCo v2",
    "hcsc": "HCSC",
    "hcsc_ccrop": "HCSC with ContrastiveCrop",
    "csml": "CsMl",
    "simclr": "SimCLR",
    "simclr_ccrop": "SimCLR with ContrastiveCrop",
}
_TABLE = re.compile(r"(<!-- rows: ([\w-]+) -->\n).*?(<!-- end of rows -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A line of the table of single figures: what it is, which row has it and where in it, and what it shall be."""

    label: str
    piece: str
    path: tuple[str, ...]
    form: str
    goal: str = ""


_R18, _R50 = "resnet18_small at 32 px", "resnet50 at 224 px"
FIGURES = (
    Figure("tests marked `cuda`: passed", "cuda tests", ("passed",), "{:.0f}", "all"),
    Figure("whole loop / bare step, MoCo v2 at 32 px", "loop", ("loop_over_bare",), "{:.3f}", "at least 0.95"),
    Figure("views on the device, 32 px, two of each image: images/s", "views", ("32 px", "on_device"), "{:,.0f}"),
    Figure("... by Pillow in loader processes", "views", ("32 px", "pillow"), "{:,.0f}"),
    Figure("... by kornia", "views", ("32 px", "kornia"), "{:,.0f}"),
    Figure("views on the device, 224 px: images/s", "views", ("224 px", "on_device"), "{:,.0f}"),
    Figure("... by Pillow in loader processes", "views", ("224 px", "pillow"), "{:,.0f}"),
    Figure("survey with boxes / forward pass, ResNet-18 at 32 px", "survey", (_R18, "survey_over_forward"), "{:.3f}", "at most 1.10"),
    Figure("survey with boxes / forward pass, ResNet-50 at 224 px", "survey", (_R50, "survey_over_forward"), "{:.3f}", "at most 1.10"),
    Figure("kNN, 10,000 x 50,000 x 512, k = 200: s", "search", ("knn", "s"), "{:.4f}"),
    Figure("... plain torch", "search", ("knn", "plain_torch_s"), "{:.4f}"),
    Figure("... faiss on the host", "search", ("faiss_host_s",), "{:.2f}"),
    Figure("5 neighbours of each of 50,000 x 512: s", "search", ("neighbours", "s"), "{:.4f}"),
    Figure("k-means, 200,000 x 128 into 3000, 20 iterations: s", "k-means", ("finest_s",), "{:.3f}"),
    Figure("... plain torch", "k-means", ("plain_torch_s",), "{:.3f}"),
    Figure("... faiss on the host / ours", "k-means", ("faiss_over_ours",), "{:.1f}", "at least 10"),
    Figure("... three levels, five restarts each: s", "k-means", ("hierarchy_s",), "{:.2f}"),
    Figure("linear heads, 50,000 x 512, 10 classes: s an epoch", "classifiers", ("heads", "s_per_epoch"), "{:.3f}"),
    Figure("logistic regression on the same: s to its minimum", "classifiers", ("logistic", "s"), "{:.2f}"),
    Figure("extraction / forward pass, ResNet-18 at 32 px", "extraction", (_R18, "extraction_over_forward"), "{:.3f}", "at least 0.98"),
    Figure("extraction / forward pass, ResNet-50 at 224 px", "extraction", (_R50, "extraction_over_forward"), "{:.3f}", "at least 0.98"),
    Figure("R50-C4 detector, batch 16: s an iteration", "detection", ("coco_r50_c4_1x", "s_per_iteration"), "{:.3f}"),
    Figure("R50-FPN detector, batch 16: s an iteration", "detection", ("coco_r50_fpn_1x", "s_per_iteration"), "{:.3f}"),
)


def value(row: Row | None, path: Sequence[str]) -> Any:
    """The figure at ``path``; None where there is none."""
    found: Any = None if row is None else row["figures"]
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def text(found: Any, form: str) -> str:
    return ABSENT if found is None else form.format(found)


def origin(row: Row | None) -> str:
    """The card and the commit."""
    return "" if row is None else f"{row['card']}, `{(row['commit'] or 'unknown')[:7]}`"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)])


def single(rows: Sequence[Row]) -> str:
    lines = []
    for figure in FIGURES:
        row = newest(rows, figure.piece)
        lines.append((figure.label, figure.goal, text(value(row, figure.path), figure.form), origin(row)))
    return table(("what", "goal", "measured", "card, commit"), lines)


def steps(piece: str, compiled: str) -> Callable[[Sequence[Row]], str]:
    def make(rows: Sequence[Row]) -> str:
        row, other = newest(rows, piece), newest(rows, compiled)
        bare = value(row, ("bare bf16", "ms"))
        lines = []
        for name in METHODS:
            found = value(row, (f"{name} bf16",)) or {}
            ratio = found["ms"] / bare if bare and found else None
            lines.append(
                (
                    {"bare": "bare step"}.get(name, name),
                    text(found.get("images_per_second"), "{:,.0f}"),
                    text(ratio, "{:.2f}"),
                    text(found.get("memory_gib"), "{:.1f}"),
                    text(found.get("waits"), "{:.0f}"),
                    text(value(row, (f"{name} fp32", "images_per_second")), "{:,.0f}"),
                    text(value(other, (f"{name} bf16 compiled", "images_per_second")), "{:,.0f}"),
                )
            )
        head = ("step", "images/s, bf16", "time / bare", "GiB", "waits", "images/s, fp32", "images/s, bf16 compiled")
        return table(head, lines) + (f"\n\n{origin(row)}" if row else "")

    return make


def cifar(rows: Sequence[Row]) -> str:
    lines = []
    for seed in range(SEEDS):
        for pair in PAIRS:
            row = newest(rows, f"cifar10 {' + '.join(pair)} seed {seed}")
            if row is None and seed:
                continue
            for arm in pair:
                found = value(row, (arm,)) or {}
                tops = [
                    next((figure for name, figure in found.get(task, {}).items() if name.startswith("top1")), None)
                    for task in ("knn", "linear", "semi")
                ]
                lines.append(
                    (
                        ARMS[arm],
                        str(seed),
                        text(value(row, ("epochs",)), "{:.0f}"),
                        text(value(row, ("images",)), "{:,.0f}"),
                        text(found.get("images_per_second"), "{:,.0f}"),
                        *(text(top, "{:.2f}") for top in tops),
                        origin(row),
                    )
                )
    return table(("method", "seed", "epochs", "images", "images/s", "kNN", "linear", "1 % of the labels", "card, commit"), lines)


def deterministic(rows: Sequence[Row]) -> str:
    row, lines = newest(rows, "deterministic"), []
    for name in ("moco", "hcsc"):
        for size in ("32 px", "224 px"):
            plain, exact = (value(row, (f"{name} {size}{word}", "ms")) for word in ("", " deterministic"))
            ratio = exact / plain if plain and exact else None
            lines.append((name, size, text(plain, "{:.1f}"), text(exact, "{:.1f}"), text(ratio, "{:.2f}")))
    return table(("step", "images", "ms", "ms, deterministic", "ratio"), lines) + (f"\n\n{origin(row)}" if row else "")


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "figures": single,
    "steps-32": steps("steps at 32 px", "compiled at 32 px"),
    "steps-224": steps("steps at 224 px", "compiled at 224 px"),
    "deterministic": deterministic,
    "cifar": cifar,
}


def written(document: str, rows: Sequence[Row]) -> str:
    """``document`` with its tables made anew."""

    def one(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise SystemExit(f"there is no table '{match[2]}'; there are {', '.join(TABLES)}")
        return f"{match[1]}{TABLES[match[2]](rows)}\n{match[3]}"

    return _TABLE.sub(one, document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the tables are those of the rows")
    given = parser.parse_args()
    rows = read_rows(MERGED)
    stale = []
    for name in FILES:
        path = DOCS / name
        before = path.read_text(encoding="utf-8")
        after = written(before, rows)
        if before != after:
            stale.append(name)
            if not given.check:
                path.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{len(rows)} rows; {'changed' if not given.check else 'out of date'}: {', '.join(stale) or 'none'}\n")
    if given.check and stale:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
