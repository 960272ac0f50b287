"""Splits of a data set for tasks that do not use labelled train and test images: each made ready when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from evaluation.extraction.labelled import split_facts, without_bad
from evaluation.extraction.shared import shared_doubts
from evaluation.parallel import Processes
from zoo.data.base import CLASS_LEVEL, Data, Images, Role
from zoo.data.scan import OnBad
from zoo.results import DataFacts, SplitFacts

# What --split calls the splits, and the roles that they play in a data set.
ROLES: dict[str, Role] = {"train": "train", "val": "test"}


@dataclass(frozen=True)
class UsedSplits:
    """Splits that a task used, by the role that it used them in (:class:`evaluation.tasks.measurement.UsedData`)."""

    data: Data
    images: dict[str, Images]
    facts: DataFacts

    @property
    def level(self) -> str:
        return self.facts.level

    @cached_property
    def doubts(self) -> list[str]:
        """What is doubtful about the splits: test images that are training images."""
        return shared_doubts(self.images)


@dataclass
class LazySplits:
    """A data set whose splits are loaded, checked for bad images and fingerprinted when a task asks for them, each once.

    Attributes
    ----------
    data, level
        The data set, and the label level that results refer to.
    on_bad, processes, progress
        As in :func:`evaluation.extraction.labelled.labelled_data`.
    """

    data: Data
    level: str = CLASS_LEVEL
    on_bad: OnBad = "refuse"
    processes: Processes = field(default_factory=Processes.current)
    progress: bool = False
    _ready: dict[str, tuple[Images, SplitFacts]] = field(default_factory=dict, repr=False)

    @property
    def ready(self) -> list[Images]:
        """The splits that have been asked for."""
        return [images for images, _ in self._ready.values()]

    def role(self, role: Role) -> Images:
        """The split that plays ``role``; all images where the data has none without labels, and ``train`` is asked for."""
        return self.split(self.name(role))

    def name(self, role: Role) -> str:
        """The name of that split. Raises UserError where there is none."""
        if role == "train" and role not in self.data.roles:
            role = "pretrain"
        self.data.role(role)
        return self.data.roles[role]

    def split(self, name: str) -> Images:
        """A split by its own name, without images that were left out."""
        if name not in self._ready:
            images = self.data.split(name)
            if self.on_bad == "skip":
                images = without_bad(images, self.progress and self.processes.is_main)
            self._ready[name] = images, split_facts(images, self.processes)
        return self._ready[name][0]

    def used(self, splits: dict[str, str]) -> UsedSplits:
        """What a result says of the splits that were used, given their names by role.

        The label level is that of the first of them, where its images have labels.
        """
        images = {role: self.split(name) for role, name in splits.items()}
        first = next(iter(images.values()))
        if first.multilabel is not None:
            classes = len(first.multilabel.classes)
        else:
            classes = len(first.level(self.level).classes) if first.levels else 0
        facts = {role: self._ready[name][1] for role, name in splits.items()}
        return UsedSplits(self.data, images, DataFacts(self.data.spec, self.data.name, self.level, classes, facts))


def lazy_splits(
    data: Data, *, level: str = CLASS_LEVEL, on_bad: OnBad = "refuse", processes: Processes | None = None, progress: bool = False
) -> LazySplits:
    """:class:`LazySplits` of an opened data set, with :func:`evaluation.extraction.labelled.labelled_data`'s parameters."""
    return LazySplits(data, level, on_bad, Processes.current() if processes is None else processes, progress)
