"""Which words name which split, for every layout that names its splits."""

from __future__ import annotations

import unicodedata

TRAIN, VAL, TEST = "train", "val", "test"
# Words in any case -> the split's name here.
SPLIT_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}
# Splits to be tested on, by precedence: beside a `val`, the labels of `test` are often withheld.
TEST_SPLITS = (VAL, TEST)
NAMES = "train|training, val|valid|validation|dev, test|testing, in any case"


def split_of(word: str) -> str | None:
    """``"train"``, ``"val"`` or ``"test"`` where a word names one, else None."""
    return SPLIT_WORDS.get(unicodedata.normalize("NFC", word).casefold())
