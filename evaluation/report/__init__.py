"""A report of results: one page that a browser shows without a server or a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from evaluation.report.write import write_report

__all__ = ["write_report"]

__getattr__ = lazy_names(__name__, {"write_report": "write"})
