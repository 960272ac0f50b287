"""HCSC's protocol for Places205, and the task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.tasks.finetune.presets import (
    BATCH,
    CHECKPOINTS,
    EPOCHS,
    HEAD_LR,
    HOLDOUT,
    FineTunePreset,
    Rates,
    change_training,
    training_columns,
)
from evaluation.tasks.presets import ImageChoices
from evaluation.tasks.task import Task

# The images are 256 x 256, of which training takes 224 x 224 anywhere: a random resized crop of this one share and shape.
_CROP_SHARE = (224 / 256) ** 2

PLACES205_PRESETS: Mapping[str, FineTunePreset] = {
    "hcsc": FineTunePreset(
        name="hcsc",
        images=ImageChoices(resize=256, crop=224, interpolation="bilinear"),
        rates={100: Rates(trunk=0.0, head=3.0)},
        epochs=100,
        schedule="restarts",
        period=10,
        how="frozen",
        head_std=0.01,
        scale=(_CROP_SHARE, _CROP_SHARE),
        ratio=(1.0, 1.0),
        strong=True,
        source="Guo et al., CVPR 2022 (arXiv 2202.00455), eval_lincls_places.py of gyfastas/HCSC, which reports the best epoch on the "
        "validation images, here top1_best_on_test",
    ),
}

TASK = Task(
    name="places205",
    summary="a linear layer on the frozen network, for the scenes of --data places205:ROOT",
    presets=PLACES205_PRESETS,
    default_preset="hcsc",
    options=(EPOCHS, BATCH, HEAD_LR, HOLDOUT, CHECKPOINTS),
    change=change_training,
    run="evaluation.tasks.places205.run:run_places205",
    columns=training_columns,
    in_all=False,
)
