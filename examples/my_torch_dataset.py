"""My data as a torch Dataset: what is a model worth on it? kNN and a linear classifier.

    python examples/my_torch_dataset.py timm:resnet18.a1_in1k
"""

from __future__ import annotations

import sys

import torch
from torch.utils.data import Dataset

import evaluation
from zoo.data import torch_data


class Stripes(Dataset):
    """Horizontal and vertical stripes: (image, label), as any Dataset gives them; yours reads files, a database, ..."""

    classes = ("horizontal", "vertical")

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        draw = torch.Generator().manual_seed(self.seed * 100_000 + index)
        image = torch.rand(3, 32, 1, generator=draw).expand(3, 32, 32) * 0.7 + torch.rand(3, 32, 32, generator=draw) * 0.3
        return (image if index % 2 == 0 else image.transpose(1, 2)), index % 2


def main(model: str) -> dict[str, float]:
    data = torch_data(Stripes(200, seed=0), Stripes(100, seed=1), name="stripes")
    found = {"knn": evaluation.knn(model, data, k=[5]).headline.value}
    found["linear"] = evaluation.linear(model, data, preset="logreg", c=[1.0]).headline.value
    print(f"{model}: kNN {found['knn']:.1f} %, logistic regression {found['linear']:.1f} %")
    return found


if __name__ == "__main__":
    main(sys.argv[1])
