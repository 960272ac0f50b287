"""A labelled data set, made ready for evaluation once, for any number of models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from evaluation.extraction.image_bar import image_bar
from evaluation.extraction.shared import shared_doubts
from evaluation.parallel import Processes
from zoo.data.base import CLASS_LEVEL, Data, Images
from zoo.data.scan import OnBad, check_images
from zoo.errors import UserError
from zoo.results import DataFacts, SplitFacts


@dataclass(frozen=True)
class LabelledData:
    """Images to learn from, images to be tested on, and the level of their labels.

    Attributes
    ----------
    data
        The data set they come from.
    train, test
        The splits, without images that were left out.
    facts
        What a result says about them.
    """

    data: Data
    train: Images
    test: Images
    facts: DataFacts

    @property
    def ready(self) -> list[Images]:
        """The splits."""
        return [self.train, self.test]

    @property
    def level(self) -> str:
        return self.facts.level

    @property
    def images(self) -> dict[str, Images]:
        """The splits by role, as in ``facts``."""
        return {"train": self.train, "test": self.test}

    @cached_property
    def doubts(self) -> list[str]:
        """What is doubtful about the splits: test images that are training images, a single class."""
        one = [f"all images are of one class, '{self.classes[0]}', so that any answer is right"] if len(self.classes) == 1 else []
        return [*one, *shared_doubts(self.images)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes at the level."""
        return self.train.level(self.level).classes


def labelled_data(
    data: Data,
    *,
    level: str = CLASS_LEVEL,
    on_bad: OnBad = "refuse",
    processes: Processes | None = None,
    progress: bool = False,
) -> LabelledData:
    """The train and test splits of ``data`` with labels at ``level``.

    Parameters
    ----------
    level
        Label level that accuracy refers to.
    on_bad
        ``"skip"``: decode every image first and leave out those that cannot be decoded. ``"refuse"``: the first that is met stops the
        evaluation.
    processes
        Who shares the work, as in :func:`evaluation.extraction.features.extract_features`; the main process takes the fingerprints.
    progress
        Show a progress bar while images are checked.

    Raises
    ------
    UserError
        No train or test split, no labels at this level, classes that differ between the splits, images that cannot be decoded.
    """
    processes = Processes.current() if processes is None else processes
    splits = {"train": data.role("train"), "test": data.role("test")}
    levels = {role: images.level(level) for role, images in splits.items()}
    if levels["train"].classes != levels["test"].classes:
        raise UserError(f"the train and test splits of '{data.spec}' do not have the same classes at level '{level}'; give them one list")
    if on_bad == "skip":
        splits = {role: without_bad(images, progress and processes.is_main) for role, images in splits.items()}
    facts = {role: split_facts(images, processes) for role, images in splits.items()}
    return LabelledData(data, splits["train"], splits["test"], DataFacts(data.spec, data.name, level, len(levels["train"].classes), facts))


def without_bad(images: Images, show: bool) -> Images:
    """``images`` without those that cannot be decoded, all of which is decoded for that; with a progress bar where ``show`` says so."""
    with image_bar(f"checking {images.name} {images.split}", len(images), show=show) as advance:
        seen = 0

        def progress(done: int, _total: int) -> None:
            nonlocal seen
            advance(done - seen)
            seen = done

        return check_images(images, "skip", progress)


def split_facts(images: Images, processes: Processes) -> SplitFacts:
    """What a result says of a split that was used. One process takes the fingerprint, for it decodes up to some thousand images."""
    return SplitFacts(images.split, len(images), len(images.skipped), processes.from_main(images.fingerprint))
