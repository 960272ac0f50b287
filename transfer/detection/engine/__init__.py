"""detectron2's engine as it is used here: trainer, loader, checkpoints, settings, heads and the catalogue of data."""
