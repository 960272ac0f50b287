"""Lists that say of which class the images of ImageNet's flat validation folder are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from zoo.data.levels import name_some
from zoo.data.outside import read_lines, read_table, whole_number
from zoo.errors import UserError
from zoo.reading.outside import shown

IMAGENET_CLASSES = 1000
DEVKIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", "devkit/data")


def read_val_list(root: Path, val: Path, images: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The wnid of each validation image, from the first of these lists that lies in ``root``, in ``val``, beside it, or in the development
    kit's folder inside ``root``.

    - ``LOC_val_solution.csv`` (Kaggle): ``ImageId,PredictionString``, the latter beginning with the wnid;
    - ``val.txt`` (Caffe): file name and label on each line, the label a wnid or the position among the 1000 sorted wnids;
    - ``imagenet_2012_validation_synset_labels.txt`` (TensorFlow): one wnid a line, in the order of the file names;
    - ``ILSVRC2012_validation_ground_truth.txt`` (development kit): one ILSVRC-2012 id a line, in the order of the file names,
      with ``map_clsloc.txt`` (lines of wnid, id, name) or ``meta.mat`` beside it.

    Parameters
    ----------
    root, val
        The data set's folder, and that of the validation images.
    images
        Their file names, sorted.
    classes
        The wnids of the training split, sorted.

    Raises
    ------
    UserError
        There is no list, or it is damaged, or it does not fit the images.
    """
    folders = [root, val, val.parent, *(root / folder for folder in DEVKIT_FOLDERS)]
    for name, read in _READERS.items():
        for folder in folders:
            if (folder / name).is_file():
                return read(folder / name, images, classes)
    known = ", ".join(_READERS)
    raise UserError(f"the images of {val} lie flat, and no list says of which class they are; put one of these into {root}: {known}")


def _kaggle(path: Path, images: Sequence[str], _: Sequence[str]) -> list[str]:
    wnid_of = {}
    columns, lines = read_table(path, ",")
    if "ImageId" not in columns or "PredictionString" not in columns:
        raise UserError(f"{path} must have the columns ImageId and PredictionString, filled in each line")
    image_column, prediction_column = columns.index("ImageId"), columns.index("PredictionString")
    for line, cells in lines:
        prediction = cells[prediction_column].split()
        if not cells[image_column] or not prediction:
            raise UserError(f"{path}, line {line}: the columns ImageId and PredictionString must be filled in each line")
        wnid_of[cells[image_column]] = prediction[0]
    return _by_name(path, wnid_of, {Path(image).stem: image for image in images})


def _caffe(path: Path, images: Sequence[str], classes: Sequence[str]) -> list[str]:
    wnid_of = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise UserError(f"{path}, line {number}: expected a file name and a label, not '{shown(line)}'")
        name, label = Path(fields[0]).name, fields[1]
        if label.isdigit():
            if len(classes) != IMAGENET_CLASSES:
                raise UserError(f"{path} counts among all {IMAGENET_CLASSES} classes, but the training split has {len(classes)} of them")
            position = whole_number(label)
            if position is None or position >= IMAGENET_CLASSES:
                raise UserError(f"{path}, line {number}: the label {shown(label)} does not lie in 0 .. {IMAGENET_CLASSES - 1}")
            label = classes[position]
        wnid_of[name] = label
    return _by_name(path, wnid_of, {image: image for image in images})


def _by_name(path: Path, wnid_of: dict[str, str], image_of: dict[str, str]) -> list[str]:
    """The wnids of all images (key -> file name), once both sides have been compared."""
    absent = sorted(set(wnid_of) - set(image_of))
    if absent:
        raise UserError(f"{path} names the image {name_some(absent)}, which the validation folder lacks")
    unnamed = sorted(set(image_of) - set(wnid_of))
    if unnamed:
        raise UserError(f"{path} has no line for the image {name_some(unnamed)}")
    return [wnid_of[key] for key in image_of]


def _tensorflow(path: Path, images: Sequence[str], _: Sequence[str]) -> list[str]:
    return _one_per_image(path, images)


def _devkit(path: Path, images: Sequence[str], _: Sequence[str]) -> list[str]:
    wnid_of = _devkit_classes(path.parent)
    ids = _one_per_image(path, images)
    unknown = sorted(set(ids) - set(wnid_of))
    if unknown:
        raise UserError(f"{path} has the class id {name_some(unknown)}, which is none of ILSVRC-2012")
    return [wnid_of[one] for one in ids]


def _one_per_image(path: Path, images: Sequence[str]) -> list[str]:
    lines = _lines(path)
    if len(lines) != len(images):
        raise UserError(f"{path} has {len(lines)} lines for {len(images)} validation images; the two do not belong together")
    return lines


def _devkit_classes(folder: Path) -> dict[str, str]:
    """ILSVRC-2012 id (as text) -> wnid."""
    text = folder / "map_clsloc.txt"
    if text.is_file():
        fields = [line.split() for line in _lines(text)]
        if any(len(line) < 2 for line in fields):
            raise UserError(f"{text} must have lines of wnid, id and name")
        return {line[1]: line[0] for line in fields}
    table = folder / "meta.mat"
    if not table.is_file():
        raise UserError(f"{folder} has the development kit's ids but neither map_clsloc.txt nor meta.mat to tell which classes they are")
    from scipy.io import loadmat  # only this layout needs it

    try:
        synsets = loadmat(str(table), squeeze_me=True)["synsets"]
        return {str(int(one)): str(wnid) for one, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)}
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(f"file {table} is no meta.mat of the ILSVRC-2012 development kit ({error})") from error


def _lines(path: Path) -> list[str]:
    return [line for _, line in read_lines(path)]


_READERS: dict[str, Callable[[Path, Sequence[str], Sequence[str]], list[str]]] = {
    "LOC_val_solution.csv": _kaggle,
    "val.txt": _caffe,
    "imagenet_2012_validation_synset_labels.txt": _tensorflow,
    "ILSVRC2012_validation_ground_truth.txt": _devkit,
}
