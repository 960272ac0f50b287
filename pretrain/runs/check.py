"""The online check: what the backbone is worth while it trains, by kNN where there are labels, and by numbers that need none."""

from __future__ import annotations

import math

import torch
from torch import nn

from evaluation.extraction.features import Features, extract_features
from evaluation.parallel import Processes
from evaluation.statistics.quality import spectrum
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.presets import find
from pretrain.settings import Recipe
from zoo.data import Data, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform

# Below this spread (1 where features fill the sphere) nearly all images have one feature.
COLLAPSED = 0.05
# Names of the numbers in the log.
KNN, RANKME, ALPHA, SPREAD, UNIFORMITY = "knn_top1", "rankme", "alpha_req", "spread", "uniformity"


class Check:
    """What a backbone's features of a thinned set are worth, by a kNN preset of `evaluate`, at the side the network trains on.

    Attributes
    ----------
    text
        What is compared with what, for the log.
    labelled
        Whether there is a kNN top-1; else only the numbers that need no labels (:mod:`evaluation.statistics.quality`).
    """

    def __init__(self, images: Images, test: Images | None, recipe: Recipe, data: Data) -> None:
        self.preset = find("kNN preset", recipe.knn.preset, KNN_PRESETS)
        choices = self.preset.images.fitting(data.image_size, recipe.views.size)
        self.transform = EvalTransform(choices.resize, choices.crop, choices.interpolation, mean=data.mean, std=data.std)
        self.labelled = test is not None
        self.train = images.thinned(recipe.knn.train_images) if self.labelled else images
        self.test = (images if test is None else test).thinned(recipe.knn.test_images)
        self.text = f"k={self.preset.headline_k}, {len(self.test)} test images against {len(self.train)}"

    @classmethod
    def make(cls, recipe: Recipe, data: Data, images: Images) -> Check:
        """The check on the data's labelled train and test images, or where it has none on the training ``images`` alone.

        Raises UserError for an unknown preset.
        """
        try:
            train, test = data.role("train"), data.role("test")
        except UserError:
            return cls(images, None, recipe, data)
        labelled = train.labels is not None and test.labels is not None
        return cls(train, test, recipe, data) if labelled else cls(images, None, recipe, data)

    def __call__(self, backbone: nn.Module, device: torch.device) -> dict[str, float]:
        """Numbers for the log: kNN top-1 in 0 .. 1 at the preset's headline k, and those of the test images' features that need no labels.

        All processes share the work, and must call together.
        """
        queries = extract_features(backbone, self.test, self.transform, device=device)
        found = spectrum(queries.features)
        numbers = {RANKME: found.rankme, ALPHA: found.alpha, SPREAD: found.spread, UNIFORMITY: found.uniformity}
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return ({KNN: self._knn(backbone, queries, device)} if self.labelled else {}) | numbers

    def lines(self, numbers: dict[str, float]) -> list[str]:
        """The check in words, and a warning where the features have collapsed."""
        quality = f"RankMe {numbers[RANKME]:.1f}, spread {numbers[SPREAD]:.2f}"
        knn = f"kNN check: top-1 {100 * numbers[KNN]:.2f} % ({self.text}); " if KNN in numbers else f"check of {len(self.test)} images: "
        if numbers[SPREAD] >= COLLAPSED:
            return [knn + quality]
        return [
            knn + quality,
            f"warning: the features have collapsed: all images have nearly the same one (spread {numbers[SPREAD]:.3f}, where 1 fills the "
            "sphere); lower the learning rate, and look at the method's temperature, batch norm and batch",
        ]

    def _knn(self, backbone: nn.Module, queries: Features, device: torch.device) -> float:
        bank = extract_features(backbone, self.train, self.transform, device=device)
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
