"""Detection reads images as every other room does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from transfer.presence import has_detectron2, install_line
from zoo.data.boxes.detection_data import open_detection_data
from zoo.data.images import AS_SEEN, AS_STORED, Reading, decode_rgb

needs_detectron2 = pytest.mark.skipif(not has_detectron2(), reason=f"detectron2 is not installed: {install_line()}")
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def coco(root, write, size, box, images=3):
    """A set of COCO's layout whose images ``write(path)`` writes, each with one object."""
    root.mkdir()
    names = [f"{index}.png" for index in range(images)]
    for split in ("train", "test"):
        (root / split).mkdir()
        for name in names:
            write(root / split / name)
    # A picture may not be in both splits; bytes behind its end make it another file.
    for name in names:
        with (root / "test" / name).open("ab") as file:
            file.write(b"\0")
    content = {
        "images": [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0} for i in range(images)],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for split in ("train", "test"):
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)


def config():
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (24,), 24
    return cfg


def mapped(record, reading, *, is_train=False, seed=0):
    from transfer.detection.engine.loader import global_randomness
    from transfer.detection.engine.mapper import LayerMapper

    with global_randomness(seed, "test", 0):
        return LayerMapper(config(), is_train=is_train, reading=reading)(record)


@needs_detectron2
def test_what_detectron2_reads_rightly_is_mapped_as_its_own_mapper_maps_it(coco_shapes, voc_shapes):
    from detectron2.data import DatasetMapper
    from detectron2.structures import BoxMode

    from transfer.detection.engine.loader import global_randomness

    for spec in (f"coco:{coco_shapes}", f"voc:{voc_shapes}"):
        data = open_detection_data(spec)
        for seed, image in enumerate(data.train.images):
            kept = [{**a, "bbox_mode": BoxMode.XYXY_ABS} for a in image["annotations"]]
            record = {**image, "annotations": kept}
            with global_randomness(seed, "test", 0):
                theirs = DatasetMapper(config(), is_train=True)(record)
            ours = mapped(record, data.train.reading, is_train=True, seed=seed)
            assert torch.equal(ours["image"], theirs["image"])
            assert torch.equal(ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
            assert torch.equal(ours["instances"].gt_classes, theirs["instances"].gt_classes)
            assert ours.keys() == theirs.keys()


@needs_detectron2
def test_a_grey_picture_of_16_bits_is_not_white(tmp_path):
    grey = PIXELS[..., 0]
    data = open_detection_data(f"coco:{coco(tmp_path / 'set', Image.fromarray(grey.astype(np.uint16) * 257).save, (32, 24), [1, 2, 3, 4])}")
    seen = mapped(data.train.images[0], data.train.reading)["image"].numpy()
    np.testing.assert_array_equal(seen, np.repeat(grey[None], 3, axis=0))


@needs_detectron2
def test_the_stated_range_is_applied(tmp_path):
    grey = PIXELS[..., 0]
    root = coco(tmp_path / "set", lambda path: Image.fromarray(grey.astype(np.int32) * 100).save(path, "TIFF"), (32, 24), [1, 2, 3, 4])
    data = open_detection_data(f"coco:{root},range=0+25500")
    np.testing.assert_array_equal(mapped(data.train.images[0], data.train.reading)["image"][1].numpy(), grey)
    with pytest.raises(Exception, match="images that cannot be opened") as refused:
        open_detection_data(f"coco:{root}")
    assert "nothing to train on" in str(refused.value)


@needs_detectron2
def test_boxes_belong_to_the_picture_as_seen_in_detection_and_classification(tmp_path):
    root = coco(tmp_path / "set", turned, (24, 32), [4, 6, 10, 20])
    data = open_detection_data(f"coco:{root}", strict=True)
    upright = np.rot90(PIXELS, -1)
    record = data.train.images[0]
    seen = mapped(record, data.train.reading)["image"].numpy()
    np.testing.assert_array_equal(seen, upright.transpose(2, 0, 1)[::-1])
    np.testing.assert_array_equal(np.asarray(decode_rgb((root / "train" / "0.png").read_bytes(), AS_SEEN)), upright)
    assert record["annotations"][0]["bbox"] == [4, 6, 14, 26]


def test_orientation_can_be_ignored_and_is_part_of_the_fingerprint_only_then(tmp_path):
    as_seen = open_detection_data(f"coco:{coco(tmp_path / 'seen', turned, (24, 32), [4, 2, 10, 20])}")
    stored = coco(tmp_path / "stored", turned, (32, 24), [4, 2, 10, 20])
    assert open_detection_data(f"coco:{stored},exif=ignore", strict=True).train.reading == AS_STORED
    with pytest.raises(Exception, match="images of another size than their annotation says"):
        open_detection_data(f"coco:{stored}")
    plain = coco(tmp_path / "plain", Image.fromarray(PIXELS).save, (32, 24), [4, 2, 10, 20])
    before = open_detection_data(f"coco:{plain}").train.fingerprint()
    assert before == open_detection_data(f"coco:{plain},exif=ignore").train.fingerprint()
    ignored = open_detection_data(f"coco:{stored},exif=ignore").train
    ignored_as_seen = open_detection_data(f"coco:{stored},exif=ignore").train
    ignored_as_seen.reading = AS_SEEN
    assert ignored.fingerprint() != ignored_as_seen.fingerprint()
    ignored.reading = Reading(range=(0, 1))
    assert ignored.fingerprint() not in (as_seen.train.fingerprint(), ignored_as_seen.fingerprint())
