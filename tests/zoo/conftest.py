"""Zoo model folders for the tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.hashing import tensors_sha256
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest

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


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, make_backbone, make_manifest, make_result) -> Callable[..., Path]:
    """Write a zoo model folder with a result, of weights that depend on the seed."""

    def make(seed: int = 0, *, arch: str = "test_resnet", results: int = 1, **facts: object) -> Path:
        backbone = make_backbone(arch, seed=seed)
        sha256 = tensors_sha256(backbone.state_dict())
        claims = tuple(make_result(sha256, value=50.0 + number, seed=number) for number in range(results))
        folder = tmp_path_factory.mktemp("models") / f"seed{seed}"
        return write_zoo_model(folder, backbone, make_manifest(arch, results=claims, **facts))

    return make


@pytest.fixture(scope="session")
def model(make_model) -> Path:
    """A zoo model folder that no test changes."""
    return make_model()


@pytest.fixture(scope="session")
def other_model(make_model) -> Path:
    """Another revision of it, with other weights."""
    return make_model(seed=1)
