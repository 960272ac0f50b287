"""Disks for tests of faults. Being here, it puts this folder on the path: tests share its modules, such as ``commands``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import mounted
from sources import Sources, make_sources


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MB."""
    with mounted(tmp_path / "disk", "size=96m") as folder:
        yield folder


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written."""
    with mounted(tmp_path / "frozen", "size=1m,ro") as folder:
        yield folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """What commands read; no test changes it."""
    return make_sources(tmp_path_factory.mktemp("sources"))
