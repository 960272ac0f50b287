"""What ``import zoo`` offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import zoo
import zoo.hub.pull
import zoo.hub.push
import zoo.model_spec
import zoo.verbs
from zoo.catalogue import load_catalogue
from zoo.errors import UserError
from zoo.model_folder.manifest import Manifest


def test_every_exported_name_is_the_function_of_its_module() -> None:
    homes = {
        "list": zoo.verbs,
        "info": zoo.verbs,
        "load": zoo.model_spec,
        "open_model": zoo.model_spec,
        "pull": zoo.hub.pull,
        "push": zoo.hub.push,
    }
    assert {name: getattr(zoo, name) for name in zoo.__all__} == {name: getattr(home, name) for name, home in homes.items()}
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'pul'"):
        _ = zoo.pul


def test_models_are_listed_and_described(tmp_path: Path, model: Path) -> None:
    assert [entry.name for entry in zoo.list("*hcsc*")] == [name for name in load_catalogue() if "hcsc" in name]
    assert len(zoo.list()) == len(load_catalogue())
    assert zoo.info("resnet50.hcsc_200ep") == load_catalogue()["resnet50.hcsc_200ep"]
    described = zoo.info(model)
    assert isinstance(described, Manifest)
    assert described.to_json() == (model / "zoo.json").read_text()
    with pytest.raises(UserError, match="is no zoo model: it has no zoo"):
        zoo.info(tmp_path)
    with pytest.raises(UserError, match=r"did you mean.*resnet50.hcsc_200ep"):
        zoo.info("resnet50.hcsc_200")


def test_the_face_and_pulling_import_no_torch() -> None:
    uses = "zoo.pull, zoo.push, zoo.list(), zoo.info('resnet50.hcsc_200ep')"
    program = f"import sys, zoo; {uses}; import zoo.named_files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
