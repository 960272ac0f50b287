"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.files import new_folder, replace_file, replace_text


def everything(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(target: Path, text: str, error: BaseException | None = None, *, overwrite: bool = True) -> None:
    with new_folder(target, overwrite=overwrite, marker="m") as temporary:
        (temporary / "m").write_text(text)
        if error is not None:
            raise error


class Interruption(BaseException):
    """What Ctrl-C raises is no Exception either."""


def test_a_file_is_replaced_as_a_whole_with_the_usual_permissions(tmp_path):
    replace_text(tmp_path / "new" / "file.txt", "old")
    replace_text(tmp_path / "new" / "file.txt", "größer")
    assert everything(tmp_path) == {"new/file.txt": "größer"}
    (tmp_path / "plain").touch()
    assert (tmp_path / "new" / "file.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("bad"), Interruption()])
def test_an_interrupted_write_keeps_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "file.txt").write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        replace_file(tmp_path / "file.txt", write)
    assert everything(tmp_path) == {"file.txt": "old"}


def test_what_the_system_refuses_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot be written \(.*\); it is as it was before"):
        replace_text(tmp_path / "file" / "inside", "text")
    with pytest.raises(UserError, match=r"cannot be written \(.*file is no folder\); choose another place"):
        fill(tmp_path / "file" / "inside", "text")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [ValueError("bad"), Interruption()])
def test_an_interrupted_folder_leaves_the_old_one_or_nothing(tmp_path, existing, error):
    target = tmp_path / "folder"
    if existing:
        target.mkdir()
        (target / "m").write_text("old")
    before = everything(tmp_path)
    with pytest.raises(type(error)):
        fill(target, "half", error)
    assert everything(tmp_path) == before
    assert len(os.listdir(tmp_path)) == existing


def test_a_folder_is_replaced_only_when_it_holds_the_marker_or_nothing(tmp_path):
    target = tmp_path / "folder"
    for text in ("first", "second"):
        fill(target, text)
    assert everything(tmp_path) == {"folder/m": "second"}
    (target / "m").rename(target / "other")
    for overwrite, sentence in ((False, "exists already"), (True, "is not a folder with a m, so it is not overwritten")):
        with pytest.raises(UserError, match=sentence):
            fill(target, "third", overwrite=overwrite)
    assert everything(tmp_path) == {"folder/other": "second"}
