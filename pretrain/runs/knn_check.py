"""The online kNN check: what the backbone is worth while it trains."""

from __future__ import annotations

import torch
from torch import nn

from evaluation.extraction.features import extract_features
from evaluation.parallel import Processes
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.presets import find
from pretrain.settings import Recipe
from zoo.data import Data, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform


class KnnCheck:
    """kNN top-1 of a backbone, by a preset of `evaluate`, at the side the network trains on.

    Attributes
    ----------
    text
        What is compared with what, for the log.
    """

    def __init__(self, train: Images, test: Images, recipe: Recipe, data: Data) -> None:
        self.preset = find("kNN preset", recipe.knn.preset, KNN_PRESETS)
        choices = self.preset.images.fitting(data.image_size, recipe.views.size)
        self.transform = EvalTransform(choices.resize, choices.crop, choices.interpolation, mean=data.mean, std=data.std)
        self.train, self.test = train.thinned(recipe.knn.train_images), test.thinned(recipe.knn.test_images)
        self.text = f"k={self.preset.headline_k}, {len(self.test)} test images against {len(self.train)}"

    @classmethod
    def make(cls, recipe: Recipe, data: Data) -> KnnCheck | None:
        """The check, or None where the data has no labelled train and test images.

        Raises UserError for an unknown preset.
        """
        try:
            train, test = data.role("train"), data.role("test")
        except UserError:
            return None
        return None if train.labels is None or test.labels is None else cls(train, test, recipe, data)

    def __call__(self, backbone: nn.Module, device: torch.device) -> float:
        """Top-1 in 0 .. 1 at the preset's headline k. All processes share the work, and must call together."""
        bank, queries = (extract_features(backbone, images, self.transform, device=device) for images in (self.train, self.test))
        assert bank.labels is not None
        assert queries.labels is not None
        evaluation = evaluate_knn(
            bank.features,
            bank.labels,
            queries.features,
            queries.labels,
            k=[self.preset.headline_k],
            temperature=self.preset.temperature,
            weight=self.preset.weight,
            num_classes=len(self.train.classes),
            device=device,
            processes=Processes.current(),
        )
        return evaluation.scores[self.preset.headline_k].correct / len(self.test)
