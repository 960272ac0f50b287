"""Write the tables of `docs/studies.md` from the rows beside this file.

    python benchmarks/studies/tables.py [--check]

A table lies between the comments `<!-- rows: NAME -->` and `<!-- end of rows -->`. What has no row says "not measured".
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rows import QUALITY, Row, paired_seeds, read_rows
from scipy import stats

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "studies.md"
ABSENT = "not measured"
CONFIDENCE = 0.95
# In the order of a table; the first is what the others are compared with.
HIERARCHY = (
    *("moco", "moco_x3", "prototypes_only", "selection_only", "loss_levels_mean", "hcsc", "true_prototypes"),
    *("csml", "true_neighbours"),
)
CROPS = ("random", "whole_box", "threshold_.1", "threshold_.5", "quantile_.75", "true_uniform", "true_beta")
WARMUP = ("moco", "hcsc", "hcsc_start_ami")
_TABLE = re.compile(r"(<!-- rows: ([\w-]+) -->\n).*?(<!-- end of rows -->)", re.DOTALL)


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN for a single difference."""
    count = len(differences)
    mean = float(np.mean(differences))
    if count < 2:
        return mean, float("nan")
    error = float(np.std(differences, ddof=1)) / count**0.5
    return mean, float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error


def rank_correlation(rows: Sequence[Row], measure: str, score: str = "knn") -> tuple[float, float, int]:
    """Spearman's correlation of a measure with a score over all rows, the mean of those over one seed's arms, and the number of rows."""
    known = [row for row in rows if measure in row["scores"]]
    by_seed: dict[int, list[Row]] = {}
    for row in known:
        by_seed.setdefault(row["seed"], []).append(row)
    inside = [_spearman(of_seed, measure, score) for of_seed in by_seed.values() if len(of_seed) > 2]
    return _spearman(known, measure, score), float(np.mean(inside)) if inside else float("nan"), len(known)


def _spearman(rows: Sequence[Row], measure: str, score: str) -> float:
    if len(rows) < 3:
        return float("nan")
    return float(stats.spearmanr([row["scores"][measure] for row in rows], [row["scores"][score] for row in rows]).statistic)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def comparison(rows: Sequence[Row], arms: Sequence[str]) -> str:
    """A line for each arm: its scores, and the differences from the first arm with the same seeds, with their intervals."""
    columns = [("knn", "kNN"), ("linear", "linear")]
    ami = [("ami_class", "AMI of clusters with the classes")]
    heads = ["arm", "seeds", *(text for _, text in columns), *(f"{text} - {arms[0]}'s" for _, text in columns), *(text for _, text in ami)]
    text = _line(heads) + _line(["---"] * len(heads))
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            text += _line([f"`{arm}`", "0", *[ABSENT] * (len(heads) - 2)])
            continue
        means = [f"{np.mean([row['scores'][name] for row in mine]):.2f}" for name, _ in (*columns, *ami)]
        pairs = paired_seeds(rows, arm, arms[0])
        differences = ([one["scores"][name] - other["scores"][name] for one, other in pairs] for name, _ in columns)
        gains = ["" if arm == arms[0] else _gain(one) for one in differences]
        text += _line([f"`{arm}`", str(len(mine)), *means[:2], *gains, means[2]])
    return text


def _gain(differences: Sequence[float]) -> str:
    if not differences:
        return ABSENT
    mean, half = paired_interval(differences)
    return f"{mean:+.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def trust(rows: Sequence[Row]) -> str:
    """A line for each measure that needs no labels: how its ranks agree with kNN's, in each study."""
    groups = {
        "HCSC": [row for row in rows if row["study"] == "hierarchy" and row["optimizer"] == "adamw" and row["data"].startswith("shapes")],
        "ContrastiveCrop": [row for row in rows if row["study"] == "crops"],
    }
    heads = ["measure", *(f"{name} ({len(found)} runs)" for name, found in groups.items())]
    text = _line(heads) + _line(["---"] * len(heads))
    for measure in QUALITY:
        cells = []
        for found in groups.values():
            over, inside, count = rank_correlation(found, measure)
            cells.append(ABSENT if not count or np.isnan(over) else f"{over:+.2f}" + ("" if np.isnan(inside) else f" ({inside:+.2f})"))
        text += _line([measure, *cells])
    return text


def _of(study: str, data: str, optimizer: str, arms: Sequence[str]) -> Callable[[Sequence[Row]], str]:
    def make(rows: Sequence[Row]) -> str:
        chosen = [row for row in rows if row["study"] == study and row["optimizer"] == optimizer and row["data"].startswith(data)]
        return comparison(chosen, arms)

    return make


FOUR = ("moco", "moco_x3", "hcsc", "true_prototypes")
TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "hierarchy": _of("hierarchy", "shapes", "adamw", HIERARCHY),
    "hierarchy-sgd": _of("hierarchy", "shapes", "sgd", FOUR),
    "hierarchy-tiny": _of("hierarchy", "tiny", "adamw", FOUR),
    "warmup": _of("warmup", "shapes", "adamw", WARMUP),
    "crops": _of("crops", "", "adamw", CROPS),
    "trust": trust,
}


def written(text: str, rows: Sequence[Row]) -> str:
    """``text`` with every table as the rows have it. Raises KeyError for a table of an unknown name."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]](rows) + found[3], text)


def all_rows() -> list[Row]:
    """The rows of all files beside this one."""
    return [row for path in sorted(HERE.glob("*.jsonl")) for row in read_rows(path)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the tables are those of the rows")
    given = parser.parse_args()
    rows = all_rows()
    before = PAGE.read_text(encoding="utf-8")
    after = written(before, rows)
    if before != after and not given.check:
        PAGE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{len(rows)} rows; the page is {'as it was' if before == after else 'out of date' if given.check else 'written'}\n")
    if given.check and before != after:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
