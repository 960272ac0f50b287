"""Data to detect in, by one word: ``voc:ROOT`` or ``coco:ROOT``, with options of :mod:`zoo.data.spec`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.data.boxes.annotations import Problems, Split, note_images_in_both
from zoo.data.boxes.coco import HELD_OUT, read_coco
from zoo.data.boxes.voc import read_voc
from zoo.data.images import reading_of
from zoo.data.spec import parse_spec, unknown_option
from zoo.errors import UserError

KINDS = ("voc", "coco")


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
    """

    spec: str
    kind: str
    classes: list[str]
    train: Split
    test: Split
    problems: Problems
    metric_2007: bool = False
    notes: tuple[str, ...] = ()

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
    def has_bitmaps(self) -> bool:
        """Whether any training object that is not a crowd has its mask as a bitmap (run lengths), not as polygons."""
        annotations = (annotation for image in self.train.images for annotation in image["annotations"])
        return any(isinstance(annotation.get("segmentation"), dict) and not annotation["iscrowd"] for annotation in annotations)


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
    for split, purpose in ((train, "train"), (test, "test")):
        if not any(not annotation["iscrowd"] for image in split.images for annotation in image["annotations"]):
            counts = ", ".join(f"{count} {kind}" for kind, count in problems.counts.items()) or "no annotations"
            images = f"{len(split.images)} images without objects"
            raise UserError(f"'{spec}' has nothing to {purpose} on in '{split.name}': {images} ({counts})")
    note_images_in_both(train, test, problems)
    notes += problems.notes
    if strict:
        problems.refuse(spec)
    absent = [name for name, count in test.objects(classes).items() if not count]
    if absent:
        notes.append(f"no test image shows {', '.join(absent)}: AP is over the other classes")
    return DetectionData(spec, kind, classes, train, test, problems, metric_2007, tuple(notes))
