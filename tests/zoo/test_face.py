"""What ``import zoo`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo
import zoo.hub.pull
import zoo.hub.push
import zoo.model_spec


def test_every_exported_name_is_the_function_of_its_module() -> None:
    homes = {"load": zoo.model_spec, "open_model": zoo.model_spec, "pull": zoo.hub.pull, "push": zoo.hub.push}
    assert {name: getattr(zoo, name) for name in zoo.__all__} == {name: getattr(home, name) for name, home in homes.items()}
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'pul'"):
        _ = zoo.pul


def test_the_face_and_pulling_import_no_torch() -> None:
    program = "import sys, zoo; zoo.pull, zoo.push; import zoo.named_files; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
