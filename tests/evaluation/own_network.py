"""A network of somebody's own, for ``python:`` models in tests."""

import torch
from torch import Tensor, nn


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.conv(images)))
        scores: Tensor = self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1))
        return scores


class Declared(Own):
    mean, std, channels = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "rgb"


class Stuck(Declared):
    def train(self, mode: bool = True) -> "Stuck":
        super().train(True)
        return self


def own() -> nn.Module:
    return Own()


def declared() -> nn.Module:
    return Declared()


def stuck() -> nn.Module:
    return Stuck()


def no_network() -> int:
    return 3


def failing() -> nn.Module:
    raise RuntimeError("no such luck")
