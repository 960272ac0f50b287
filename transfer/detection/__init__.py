"""Fine-tuning for detection and instance segmentation on detectron2's engine.

detectron2 is optional: this package and those of its modules that prepare data and settings import without it.
:func:`transfer.presence.require_detectron2` is what the others ask first.
"""
