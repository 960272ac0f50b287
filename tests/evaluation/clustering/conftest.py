"""How tests of clustering run."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Problems this small are slower with more, on a machine that has other work."""
