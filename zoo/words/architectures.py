"""timm's names of networks, read from its source files: without importing it, which imports torch and takes seconds."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_DECLARED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_QUOTED = re.compile(r"""['"](\w+)(?:\.\w+)?['"]""")


@cache
def timm_architectures() -> tuple[str, ...]:
    """The architectures that timm declares, such as ``resnet50``; none where timm is not installed."""
    return tuple(sorted({name for text in _sources() for name in _DECLARED.findall(text)}))


@cache
def _named_anywhere() -> frozenset[str]:
    """Every word that stands in quotes in timm's model files, among them the older names that it still understands."""
    return frozenset(name for text in _sources() for name in _QUOTED.findall(text))


def may_be_timm(name: str) -> bool:
    """Whether timm may know ``name``, an architecture with or without a tag: False only where its files do not so much as name it."""
    arch = name.partition(".")[0]
    return not timm_architectures() or arch in timm_architectures() or arch in _named_anywhere()


@cache
def _sources() -> tuple[str, ...]:
    spec = find_spec("timm")
    folders = [] if spec is None else [Path(place) / "models" for place in spec.submodule_search_locations or ()]
    return tuple(path.read_text(encoding="utf-8", errors="replace") for folder in folders for path in sorted(folder.glob("*.py")))
