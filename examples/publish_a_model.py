"""From a run to a folder that can be published: export, measure, write the number on the card. `zoo push` would publish it.

    python examples/publish_a_model.py runs/mine folder:photos models/mine
"""

from __future__ import annotations

import sys
from pathlib import Path

import evaluation
from pretrain.runs.export import export_run
from zoo.model_folder.claims import add_results


def main(run: str, data: str, out: str) -> float:
    export_run(Path(run), Path(out))
    result = evaluation.knn(out, data, k=[20])
    add_results(Path(out), [result])
    print(f"{out}: kNN {result.headline.value:.2f} % stands on its card; publish it by: zoo push {out} ORG/NAME")
    return result.headline.value


if __name__ == "__main__":
    main(*sys.argv[1:4])
