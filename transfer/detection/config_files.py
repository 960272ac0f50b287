"""The configs that come with the toolkit. Imports neither torch nor detectron2."""

from __future__ import annotations

from pathlib import Path

from zoo.named_files import NamedFiles

CONFIGS = NamedFiles("config", Path(__file__).parent.parent / "configs", "transfer detect --list")
