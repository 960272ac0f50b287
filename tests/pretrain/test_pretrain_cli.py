"""The `pretrain` command as it is typed: output, exit status, one sentence for a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.cli import main
from pretrain.recipe_files import RECIPES
from zoo.console import EXIT_STOPPED

TINY = """
data: shapes:train=16,test=8,size=16
backbone: test_resnet
method: {name: simclr, dim: 8}
views: {size: 16, blur: 0.0}
batch: 8
epochs: 1
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
"""


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Run the command with these words; gives (exit status, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pretrain", *words])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return call


def test_list_has_a_line_per_recipe(typed) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = typed("--list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == RECIPES.names()


def test_show_prints_the_resolved_recipe(typed) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = typed("--show", "moco_shapes", "epochs=7")
    assert status == 0
    assert "epochs: 7\n" in out
    assert "queue: 2048\n" in out


def test_train_stop_and_resume(tmp_path: Path, typed) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "tiny.yaml").write_text(TINY)
    run = tmp_path / "run"
    status, out, err = typed(str(tmp_path / "tiny.yaml"), "--out", str(run), "max_time=0s")
    assert status == EXIT_STOPPED
    assert f"pretrain --resume {run}" in out
    assert "device: cpu" in err
    status, out, err = typed("--resume", str(run), "max_time=null")
    assert status == 0
    assert out.startswith(f"done: {run} (2 steps)")
    assert "going on from step 1 of 2" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name a recipe"),
        (("epochs=3", "--out", "x"), "name a recipe"),
        (("moco_shapes",), "--out RUN"),
        (("moco_shap", "--out", "x"), "did you mean 'moco_shapes'"),
        (("moco_shapes", "--out", "x", "epoch=3"), "did you mean 'epochs'"),
        (("moco_shapes", "--out", "x", "data=folder:/no/such"), "/no/such"),
        (("--resume", "/no/such"), "is not a run folder"),
        (("--resume", "x", "--out", "y"), "leave out --out"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(words, sentence, tmp_path, typed, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    status, out, err = typed(*words)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_without_torch_for_a_quick_mistake() -> None:
    code = """
import sys
sys.argv = ["pretrain", "--list"]
try:
    from pretrain.cli import main
    main()
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    done = subprocess.run([sys.executable, "-m", "pretrain", "--resume", "/no/such"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: /no/such is not a run folder: it has no recipe.yaml and checkpoints/\n"
