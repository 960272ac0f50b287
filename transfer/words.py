"""Words of `transfer`, looked at before torch is imported."""

from __future__ import annotations

from zoo.errors import UserError, did_you_mean

# What a backbone is converted to; :mod:`transfer.conversion` has what writes each.
TARGET_NAMES = ("torchvision", "timm", "detectron2", "onnx", "transformers")
# What a model may begin with beyond what the zoo opens: a file of detectron2's.
DETECTRON2_SCHEME = "detectron2:"


def check_target_word(to: str) -> None:
    """Raise UserError for a format that there is none of."""
    if to not in TARGET_NAMES:
        raise UserError(f"there is no format '{to}' to convert to{did_you_mean(to, TARGET_NAMES)}; there is: {', '.join(TARGET_NAMES)}")
