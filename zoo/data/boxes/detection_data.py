"""Data to detect in, by one word: ``voc:ROOT`` or ``coco:ROOT``, with options of :mod:`zoo.data.spec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.data.boxes.annotations import UNREADABLE_IMAGE, Problems, Split, note_images_in_both
from zoo.data.boxes.coco import HELD_OUT, read_coco
from zoo.data.boxes.voc import read_voc
from zoo.data.images import reading_of
from zoo.data.spec import parse_spec, unknown_option
from zoo.errors import UserError

KINDS = ("voc", "coco")
# What of a set is evaluated.
PARTS = ("test", "train", "all")


@dataclass(frozen=True)
class DetectionData:
    """A data set with boxes.

    Attributes
    ----------
    spec, kind
        The text it was opened by; ``"voc"`` or ``"coco"``.
    classes
        Their names; a class's number is its position.
    train, test
        The splits.
    problems
        What was left out, or cut.
    metric_2007
        Whether VOC's AP is that of 2007 (11 points).
    notes
        What a reader of results must know.
    evaluation
        Whether there are only images to evaluate on, in ``test``.
    """

    spec: str
    kind: str
    classes: list[str]
    train: Split
    test: Split
    problems: Problems
    metric_2007: bool = False
    notes: tuple[str, ...] = ()
    evaluation: bool = False

    @property
    def metric(self) -> str:
        """Whose AP detectron2's evaluator computes: ``"VOC2007"``, ``"VOC2012"`` or ``"COCO"``."""
        if self.kind == "coco":
            return "COCO"
        return "VOC2007" if self.metric_2007 else "VOC2012"

    @property
    def has_masks(self) -> bool:
        """Whether any training object has a mask."""
        return any("segmentation" in annotation for image in self.train.images for annotation in image["annotations"])

    @property
    def test_has_masks(self) -> bool:
        """Whether any test object has a mask."""
        return any("segmentation" in annotation for image in self.test.images for annotation in image["annotations"])

    @property
    def has_bitmaps(self) -> bool:
        """Whether any training object that is not a crowd has its mask as a bitmap (run lengths), not as polygons."""
        annotations = (annotation for image in self.train.images for annotation in image["annotations"])
        return any(isinstance(annotation.get("segmentation"), dict) and not annotation["iscrowd"] for annotation in annotations)

    def without(self, reasons: Mapping[str, str]) -> DetectionData:
        """The set without some of its image files, which are cases among the problems then.

        Parameters
        ----------
        reasons
            By the file's path, why it is left out.

        Raises UserError where nothing is left to train or to test on.
        """
        problems = replace(self.problems, cases={kind: list(cases) for kind, cases in self.problems.cases.items()})
        splits = []
        for split in (self.train, self.test):
            kept = [image for image in split.images if image["file_name"] not in reasons]
            for image in split.images:
                if image["file_name"] in reasons:
                    problems.add(UNREADABLE_IMAGE, image["file_name"], reasons[image["file_name"]])
            splits.append(replace(split, images=kept, skipped=split.skipped + len(split.images) - len(kept)))
        left = replace(self, train=splits[0], test=splits[1], problems=problems)
        _check_something_left(left)
        return left


def _check_something_left(data: DetectionData) -> None:
    for split, purpose in ((data.train, "train"), (data.test, "test")):
        if (purpose == "test" or not data.evaluation) and not any(
            not annotation["iscrowd"] for image in split.images for annotation in image["annotations"]
        ):
            counts = ", ".join(f"{count} {kind}" for kind, count in data.problems.counts.items()) or "no annotations"
            images = f"{len(split.images)} images without objects"
            raise UserError(f"'{data.spec}' has nothing to {purpose} on in '{split.name}': {images} ({counts})")


def open_detection_data(spec: str, *, strict: bool = False, looking: bool = False) -> DetectionData:
    """Open a data set, and check every annotation.

    Parameters
    ----------
    spec
        ``voc:ROOT``: PASCAL VOC's layout, or a folder with ``VOC2007`` and ``VOC2012`` in it. ``coco:ROOT``: COCO's layout, or one
        annotation file. Either may have the options ``exif``, ``range`` and ``bands``.
    strict
        Refuse broken annotations, instead of leaving them out.
    looking
        Open a set that can be looked at and not trained on: one whose boxes are in shares of the image.

    Raises
    ------
    UserError
        The layout is another, an annotation file is not one, nothing is left to train or test on, or ``strict`` and something is broken.
    """
    parsed = parse_spec(spec)
    kind = parsed.name
    if kind not in KINDS or not parsed.place:
        raise UserError(f"'{spec}' is no data to detect in: write voc:ROOT or coco:ROOT")
    reading = reading_of(parsed)
    root = Path(parsed.place).expanduser()
    if not root.exists():
        hint = unknown_option(parsed)
        raise UserError(f"there is no folder {root}{f'; {hint}' if hint else ''}")
    problems = Problems()
    metric_2007 = False
    notes: list[str] = []
    if kind == "voc":
        classes, train, test, metric_2007 = read_voc(root, problems, reading)
    else:
        classes, train, test, held_out = read_coco(root, problems, reading)
        if held_out:
            notes.append(f"there is one annotation file: every {HELD_OUT}th image, by file name, is for testing")
    if problems.refusal is not None and not looking:
        raise UserError(problems.refusal)
    data = DetectionData(spec, kind, classes, train, test, problems, metric_2007)
    _check_something_left(data)
    note_images_in_both(train, test, problems)
    notes += problems.notes
    if strict:
        problems.refuse(spec)
    absent = [name for name, count in test.objects(classes).items() if not count]
    if absent:
        notes.append(f"no test image shows {', '.join(absent)}: AP is over the other classes")
    return replace(data, notes=tuple(notes))


def open_evaluation_data(spec: str, classes: Sequence[str], *, part: str = "test", strict: bool = False) -> DetectionData:
    """Data to evaluate a detector on: its classes are the detector's, whatever order or share of them the set has.

    Parameters
    ----------
    spec, strict
        As in :func:`open_detection_data`.
    classes
        What the detector was trained for. The set's are known among them by their names.
    part
        Which images: the set's own ``test`` or ``train`` images, or ``all``.

    Returns
    -------
    The set, with ``test`` as the images to evaluate on and no training images.

    Raises
    ------
    UserError
        As :func:`open_detection_data`; another ``part``; and the images show a class that the detector does not have.
    """
    if part not in PARTS:
        raise UserError(f"--part {part} is none of {', '.join(PARTS)}")
    data = open_detection_data(spec, strict=strict)
    chosen = {"test": data.test, "train": data.train}.get(part)
    if chosen is None:
        names = {image["file_name"] for image in data.train.images}
        images = [*data.train.images, *(image for image in data.test.images if image["file_name"] not in names)]
        chosen = replace(data.test, name="all", images=images, skipped=data.train.skipped + data.test.skipped)
    shown = [name for name, count in chosen.objects(data.classes).items() if count]
    foreign = [name for name in shown if name not in classes]
    if foreign:
        raise UserError(f"'{spec}' shows {', '.join(foreign[:5])}, which the detector was not trained for; it knows {', '.join(classes)}")
    number = {row: classes.index(name) for row, name in enumerate(data.classes) if name in classes}
    images = [
        {
            **image,
            "annotations": [
                {**annotation, "category_id": number[annotation["category_id"]]}
                for annotation in image["annotations"]
                if annotation["category_id"] in number
            ],
        }
        for image in chosen.images
    ]
    absent = [name for name in classes if name not in shown]
    notes = (f"no image shows {', '.join(absent)}: AP is over the other classes",) if absent else ()
    nothing = Split("none", [], 0, chosen.reading)
    return replace(data, classes=list(classes), train=nothing, test=replace(chosen, images=images), notes=notes, evaluation=True)
