"""Zoo model folders for the tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.manifest import Manifest
from zoo.model_folder import write_zoo_model

MakeManifest = Callable[..., Manifest]


@pytest.fixture(scope="session")
def make_manifest() -> MakeManifest:
    """Build what is known of a model before it is written."""

    def make(arch: str = "test_resnet", image_size: int = 32, **facts: object) -> Manifest:
        usual = {
            "name": f"{arch}.moco_2ep",
            "method": "moco",
            "normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
            "interpolation": "bilinear",
            "crop_pct": 1.0,
        }
        return Manifest(arch=arch, image_size=image_size, **(usual | facts))

    return make


@pytest.fixture(scope="session")
def _written(tmp_path_factory, make_backbone, make_manifest) -> Path:
    return write_zoo_model(tmp_path_factory.mktemp("zoo") / "model", make_backbone(), make_manifest())


@pytest.fixture
def zoo_folder(_written, tmp_path) -> Path:
    """A zoo model folder of a small ResNet, for one test."""
    return Path(shutil.copytree(_written, tmp_path / "model"))
