"""Annotated sets: images with boxes and masks, in the layouts of VOC and COCO."""
