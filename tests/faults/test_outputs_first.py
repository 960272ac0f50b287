"""What a command is going to write is tried before anything else: the data and models of these commands do not even exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from commands import APPS, kind, refusal, subcommands, typed

from zoo.files import check_can_write

# Every option that names a place to write, in a command whose models and data are not there; OUT stands for the place.
FILES = [
    ("zoo", "data", "folder:/none", "--html", "OUT"),
    ("zoo", "data", "voc:/none", "--sheet", "OUT"),
    ("zoo", "pull", "nobody/nothing", "--lock", "OUT"),
    ("zoo", "predict", "/none", "/none", "--out", "OUT.csv"),
    ("zoo", "predict", "/none", "/none", "--html", "OUT.html"),
    ("evaluate", "--model", "/none", "--data", "folder:/none", "--out", "OUT.json"),
    ("transfer", "convert", "/none", "--to", "timm", "--out", "OUT.safetensors"),
    ("pretrain", "boxes", "/none", "--out", "OUT"),
    ("pretrain", "prototypes", "/none", "--out", "OUT"),
]
FOLDERS = [
    ("zoo", "import", "/none.pth", "--out", "OUT"),
    ("zoo", "pull", "nobody/nothing", "--out", "OUT"),
    ("zoo", "report", "/none.json", "--out", "OUT"),
    ("evaluate", "--model", "/none", "--model", "pixels", "--data", "folder:/none", "--out", "OUT"),
    ("evaluate", "--model", "/none", "--data", "folder:/none", "--pictures", "OUT"),
    ("evaluate", "--task", "linear", "--model", "/none", "--data", "folder:/none", "--save", "OUT"),
    ("evaluate", "--task", "features", "--model", "/none", "--data", "folder:/none", "--npz", "OUT"),
    ("evaluate", "--task", "finetune", "--model", "/none", "--data", "folder:/none", "--checkpoints", "OUT"),
    ("pretrain", "moco_shapes", "--out", "OUT", "data=folder:/none"),
    ("transfer", "detect", "small_r18_fpn", "--model", "random", "--data", "voc:/none", "--out", "OUT"),
    ("transfer", "compare", "small_r18_fpn", "--models", "random", "--data", "voc:/none", "--out", "OUT"),
]
# Those that look at what is there first, in no time.
AFTER_A_LOOK = [("zoo", "export", "RUN", "--out", "OUT")]


def named(command: tuple[str, ...]) -> str:
    return " ".join(word for word in command if word in APPS or word.isalpha() or word.startswith("--"))


def at(command: tuple[str, ...], place: Path) -> list[str]:
    return [word.replace("OUT", str(place)) for word in command]


@pytest.fixture
def full_path(tmp_path: Path) -> Path:
    """A place below a file."""
    (tmp_path / "file").write_text("content")
    return tmp_path / "file" / "inside"


@pytest.mark.parametrize("command", FILES + FOLDERS, ids=named)
def test_a_place_that_cannot_be_written_is_refused_first(
    command: tuple[str, ...], full_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal(capsys, at(command, full_path))
    assert f"cannot be written ({full_path.parent} is no folder); choose another place" in said
    long = "n" * 300
    said = refusal(capsys, at(command, tmp_path / "new" / long))
    assert re.fullmatch(r"n{40}\.\.\. is too long for a name: 3\d\d bytes, and at most 255 can be had here", said)
    said = refusal(capsys, at(command, Path("/proc/nothing/inside")))
    assert "/proc/nothing/inside" in said
    assert "cannot be written (" in said
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("command", FILES, ids=named)
def test_a_folder_or_a_pipe_is_no_file_to_write(command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = at(command, tmp_path / "there")[-1]
    os.mkdir(target)
    assert "folder" in refusal(capsys, at(command, tmp_path / "there"))
    os.rmdir(target)
    os.mkfifo(target)
    assert "there" in refusal(capsys, [*at(command, tmp_path / "there"), *(["--overwrite"] if command[0] == "transfer" else [])])


def test_export_tries_its_folder_too(make_run, full_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    for command in AFTER_A_LOOK:
        words = [word.replace("RUN", str(run)) for word in at(command, full_path)]
        assert "is no folder); choose another place" in refusal(capsys, words)


def test_every_option_that_names_a_place_is_in_these_lists() -> None:
    """Whoever adds an option of a path says here whether it is read or written."""
    read = {"--weights", "--resume", "--continue", "--checkpoint", "--result", "--labels", "--lock-file"}
    known = {(command[0], word) for command in FILES + FOLDERS + AFTER_A_LOOK for word in command if word.startswith("--")}
    found = {
        (name, parameter.opts[0])
        for name in APPS
        for command in subcommands(name)
        for parameter in command.params
        if parameter.opts[0].startswith("--") and "Path" in kind(parameter)
    }
    assert {pair for pair in found if pair[1] not in read} <= known
    assert ("evaluate", "--npz") in found


def test_trying_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    check_can_write(tmp_path / "a" / "b" / "c.json")
    (tmp_path / "there").write_text("before")
    check_can_write(tmp_path / "there")
    check_can_write(tmp_path, folder=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "before"


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "日" * 85])
def test_the_longest_names_are_written(name: str, tmp_path: Path) -> None:
    """A name that the file system takes must not fail by its temporary one."""
    from zoo.files import new_folder, replace_text

    check_can_write(tmp_path / name)
    replace_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"
    (tmp_path / name).unlink()
    with new_folder(tmp_path / name, overwrite=False, marker="m") as folder:
        (folder / "m").touch()
    assert [path.name for path in (tmp_path / name).iterdir()] == ["m"]


def test_one_failing_task_or_model_does_not_lose_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Bad(torch.nn.Module):\n    def forward(self, x):\n        return x.flatten(1)[:, :8] * float('nan')\n"
        "def bad():\n    return Bad()\n"
    )
    words = ["evaluate", "--model", "pixels", "--model", f"python:{tmp_path / 'nets.py'}:bad", "--model", "random:test_resnet"]
    status = typed([*words, "--data", "digits", "--task", "knn", "--out", tmp_path / "results", "--no-cache"])
    captured = capsys.readouterr()
    assert status == 2
    rows = [line.split()[1] for line in captured.out.splitlines() if line.startswith("│")]
    assert rows == ["pixels", "random:test_resnet:0"]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["pixels.json", "random-test_resnet.json"]
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"error: knn of python:{tmp_path / 'nets.py'}:bad: ")
    assert "Traceback" not in captured.err


def test_a_result_that_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place vanishes while the task computes: its folder has become a file."""
    import json

    from evaluation.tasks.knn import run as knn

    measure = knn.run_knn

    def vanish(*values, **options):  # type: ignore[no-untyped-def]
        result = measure(*values, **options)
        (tmp_path / "gone").write_text("now a file")
        return result

    monkeypatch.setattr(knn, "run_knn", vanish)
    words = ["evaluate", "--model", "pixels", "--data", "digits", "--out", tmp_path / "gone" / "knn.json"]
    assert typed(words) == 2
    captured = capsys.readouterr()
    printed, _, table = captured.out.partition("\n}\n")
    assert json.loads(printed + "\n}")["headline"]["metric"] == "top1_k20"
    assert "│ pixels" in table
    assert captured.err.splitlines()[-1].endswith("; the result was printed")


def test_pictures_that_cannot_be_drawn_lose_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation.tasks.knn import run as knn

    measure = knn.run_knn

    def vanish(*values, **options):  # type: ignore[no-untyped-def]
        result = measure(*values, **options)
        (tmp_path / "gone").write_text("now a file")
        return result

    monkeypatch.setattr(knn, "run_knn", vanish)
    words = ["evaluate", "--model", "pixels", "--data", "digits", "--pictures", tmp_path / "gone", "--out", tmp_path / "knn.json"]
    assert typed(words) == 2
    captured = capsys.readouterr()
    assert "│ pixels" in captured.out
    assert (tmp_path / "knn.json").is_file()
    assert captured.err.splitlines()[-1].startswith(f"error: {tmp_path / 'gone' / 'pixels.png'} cannot be written (")
