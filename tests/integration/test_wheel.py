"""The wheel: built, looked into, installed in an environment of its own, and used from another folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DATA = (
    *("zoo/catalogue/catalogue.toml", "zoo/py.typed", "evaluation/py.typed", "pretrain/py.typed", "transfer/py.typed"),
    *("pretrain/recipes/shapes_demo.yaml", "transfer/configs/small_r18_fpn.yaml"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of a copy: a build leaves folders beside its sources.
    source = tmp_path_factory.mktemp("source")
    for name in ("zoo", "evaluation", "pretrain", "transfer"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("dist")
    # Without isolation no index is asked; the environment of the tests has setuptools.
    pytest.importorskip("setuptools", reason="needs setuptools: pip install setuptools")
    command = [sys.executable, "-c", "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return built


def test_what_it_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in DATA if name not in names] == []
    recipes = {path.name for path in (ROOT / "pretrain" / "recipes").glob("*.yaml")}
    assert {Path(name).name for name in names if name.startswith("pretrain/recipes/")} == recipes
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zoo", "evaluation", "pretrain", "transfer"}
    for package in ("zoo", "evaluation", "pretrain", "transfer"):
        ours = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts}
        assert {name for name in names if name.startswith(f"{package}/") and name.endswith(".py")} == ours


def test_installed_it_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    # Its dependencies are those of the environment of the tests, which is editable: what points to the sources stays out.
    for folder in {sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))}:
        for entry in Path(folder).iterdir():
            if not entry.name.startswith(("__editable__", "backbone_loop", "_distutils")) and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    done = subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=False)
    assert done.returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(code: str, *words: str) -> str:
        command = [python, "-c", f"import sys; sys.argv[0] = 'x'; {code}", *words]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert run("import zoo; print(zoo.__file__)").strip() == str(site / "zoo" / "__init__.py")
    assert "resnet50.hcsc_200ep" in run("from zoo.commands.cli import main; main()", "list", "--quiet")
    assert "shapes_demo" in run("from pretrain.cli import main; main()", "--list")
    (result,) = json.loads(
        run("from evaluation.commands.cli import main; main()", "knn", "--model", "pixels", "--data", "digits", "--json", "--no-cache")
    )
    assert result["metrics"]["top1_k20"] == pytest.approx(97.75, abs=0.01)
