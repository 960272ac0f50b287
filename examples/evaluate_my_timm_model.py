"""What is a timm model worth on my images? kNN and a linear classifier, against raw pixels.

    python examples/evaluate_my_timm_model.py timm:resnet18.a1_in1k folder:photos,holdout=0.2
"""

from __future__ import annotations

import sys

import evaluation


def main(model: str, data: str) -> dict[str, float]:
    found = {}
    for name in ("pixels", model):
        found[name] = evaluation.knn(name, data, k=[20]).headline.value
        print(f"{name}: kNN top-1 {found[name]:.2f} %")
    linear = evaluation.linear(model, data, preset="logreg", c=[1.0])
    print(f"{model}: logistic regression {linear.headline.value:.2f} %")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:3])
