"""Where, and in what numbers, networks compute. Imports no torch."""

from __future__ import annotations

from zoo.errors import UserError

DEVICES = ("auto", "cpu", "cuda")
# Lower precision than float32 is for GPUs.
DTYPES = ("float32", "bfloat16", "float16")


def check_device_word(name: str) -> None:
    """Raise UserError for a device that there is none of anywhere; whether this machine has it is for torch to say."""
    if name not in DEVICES:
        raise UserError(f"there is no device '{name}'; --device is {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")


def check_dtype_word(name: str) -> None:
    """Raise UserError for what networks cannot compute in."""
    if name not in DTYPES:
        raise UserError(f"unknown dtype '{name}'; known: {', '.join(DTYPES)}")
