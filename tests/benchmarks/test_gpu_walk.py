"""`make gpu`: the list is walked, failures do not stop it, what is done is skipped; rows, tables, parts of images and of models."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "gpu"


@pytest.fixture(autouse=True)
def _pieces_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GPU))
    # Those of the folder have common names.
    for name in ("run", "rows", "pieces", "context", "measure", "pack", "models", "tables", "search", "views", "steps", "wheels"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def a_row(**values: Any) -> dict[str, Any]:
    row = {"piece": "one", "version": 1, "status": "done", "dry": False, "card": "H", "commit": "0123456789", "figures": {}, "error": None}
    return row | values


# ------------------------------------------------------------------ the walk

PIECE_FILE = """
import sys, time
from context import NotPossible

def works(context):
    context.report(first=1)
    context.report(second=2, dry=context.dry)

def fails(context):
    context.report(before=3)
    raise ValueError("on purpose")

def cannot(context):
    raise NotPossible("nothing is here")

def lasts(context):
    context.report(began=True)
    time.sleep(60)

def dies(context):
    import os
    os._exit(9)
"""


def test_the_list_is_walked_to_its_end_whatever_happens_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_pieces.py").write_text(PIECE_FILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run, pieces, rows = (importlib.import_module(name) for name in ("run", "pieces", "rows"))

    def walk(*versions: int) -> dict[str, Any]:
        names = ("works", "fails", "cannot", "lasts", "dies")
        made = [pieces.Piece(name, version, f"made_up_pieces:{name}", 2.0, 0) for name, version in zip(names, versions, strict=True)]
        written = run.walk(made, minutes=2, out=tmp_path / "out", dry=True, merged=tmp_path / "none.jsonl")
        return {row["piece"]: row for row in written}

    first = walk(1, 1, 1, 1, 1)
    assert {name: row["status"] for name, row in first.items()} == {
        "works": "done",
        "fails": "failed",
        "cannot": "not possible",
        "lasts": "failed",
        "dies": "failed",
    }
    assert first["works"]["figures"] == {"first": 1, "second": 2, "dry": True}
    assert (first["fails"]["figures"], first["fails"]["error"]) == ({"before": 3}, "ValueError: on purpose")
    assert first["cannot"]["error"] == "nothing is here"
    assert (first["lasts"]["figures"], first["lasts"]["error"]) == ({"began": True}, "stopped after its 10 s")
    assert first["dies"]["error"] == "ended with status 9"
    assert rows.read_rows(tmp_path / "out" / "rows.jsonl") == list(first.values())
    assert {"card", "driver", "versions", "commit", "seconds", "started"} <= first["works"].keys()
    # At the next occasion what was done is skipped, and the rest tried again; a raised version is done again.
    monkeypatch.setattr(run, "do", lambda piece, *rest: {"status": "done", "seconds": 0.0, "figures": {}, "error": None})
    assert list(walk(1, 1, 1, 1, 1)) == ["fails", "cannot", "lasts", "dies"]
    assert list(walk(2, 1, 1, 1, 1)) == ["works"]


def test_what_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run, pieces = importlib.import_module("run"), importlib.import_module("pieces")
    boxes: list[float] = []

    def do(piece: Any, box: float, *rest: Any) -> dict[str, Any]:
        boxes.append(box)
        time.sleep(0.3)
        return {"status": "done", "seconds": 0.3, "figures": {}, "error": None}

    monkeypatch.setattr(run, "do", do)
    facts = {"card": "a card", "driver": None, "versions": {}, "commit": None}
    monkeypatch.setattr(run, "machine", lambda: dict(facts))
    made = [pieces.Piece("long", 1, "", 90, 25), pieces.Piece("too long", 1, "", 90, 60), pieces.Piece("short", 1, "", 5, 1)]
    written = run.walk(made, minutes=40 / 60, out=tmp_path, merged=tmp_path / "none.jsonl")
    assert [row["piece"] for row in written] == ["long", "short"]
    # Forty seconds, of which ten are kept back.
    assert boxes[0] == pytest.approx(30, abs=0.5)
    assert boxes[1] == 5
    assert "too long: not begun, 30 s are left and it needs 60" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    run = importlib.import_module("run")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="make gpu needs a CUDA or ROCm GPU, and torch finds none here; DRY=1"):
        run.walk([], minutes=1, out=tmp_path)


def test_every_piece_has_work_and_a_box_that_it_may_begin() -> None:
    pieces = importlib.import_module("pieces").PIECES
    assert len({piece.name for piece in pieces}) == len(pieces)
    for piece in pieces:
        module, _, name = piece.work.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
        assert 0 < piece.least <= piece.box
    # What comes before the first training leaves something of two calls of eight minutes.
    before = [piece.box for piece in pieces[: next(n for n, piece in enumerate(pieces) if piece.images)]]
    assert sum(before) < 2 * 8 * 60


def test_a_walk_of_the_list_as_make_does_it(tmp_path: Path) -> None:
    """The command itself, on two of its pieces."""
    command = ["make", "-s", "gpu", f"PYTHON={sys.executable}", f"OUT={tmp_path}", "MINUTES=2", "DRY=1"]
    script = [sys.executable, str(GPU / "run.py"), "--dry", "--minutes", "2", "--out", str(tmp_path)]
    script += ["--only", "search", "--only", "k-means", "--merged", str(tmp_path / "none.jsonl")]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    found = {row["piece"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert {name: row["status"] for name, row in found.items()} == {"search": "done", "k-means": "done"}
    assert found["search"]["figures"]["knn"]["same_neighbours"] > 0.99
    assert found["k-means"]["figures"]["objective"] > 0
    if shutil.which("make"):
        shown = subprocess.run([*command, "-n"], cwd=ROOT, capture_output=True, text=True).stdout
        assert shown.split()[1:] == ["benchmarks/gpu/run.py", "--minutes", "2", "--out", str(tmp_path), "--dry"]


@pytest.mark.slow
def test_a_dry_walk_does_every_piece(tmp_path: Path) -> None:
    script = [sys.executable, str(GPU / "run.py"), "--dry", "--minutes", "60", "--out", str(tmp_path)]
    script += ["--merged", str(tmp_path / "none.jsonl")]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    pieces = importlib.import_module("pieces").PIECES
    assert [row["piece"] for row in found] == [piece.name for piece in pieces]
    # What cannot be had here (detectron2) is said to be so; nothing fails.
    assert {row["piece"] for row in found if row["status"] != "done"} <= {"detection"}, done.stdout
    assert {row["status"] for row in found} <= {"done", "not possible"}
    made = importlib.import_module("models").assemble(tmp_path, tmp_path / "models")
    assert sorted(path.name for path in made) == ["resnet10_small.hcsc_ccrop_cifar10_2ep", "resnet10_small.moco_cifar10_2ep"]
    card = (made[0] / "README.md").read_text()
    assert all(word in card for word in ("knn", "linear", "semi"))


# ------------------------------------------------------------------ rows and tables


def test_rows_are_merged_once_and_dry_ones_never(tmp_path: Path) -> None:
    rows = importlib.import_module("rows")
    for row in (a_row(), a_row(dry=True), a_row(piece="two", status="failed")):
        rows.append_row(tmp_path / "rows.jsonl", row)
    target = tmp_path / "merged.jsonl"
    assert rows.merge(tmp_path, target) == (2, 1)
    assert rows.merge(tmp_path / "rows.jsonl", target) == (0, 3)
    assert [row["piece"] for row in rows.read_rows(target)] == ["one", "two"]
    with pytest.raises(SystemExit, match="there are no rows at"):
        rows.merge(tmp_path / "nowhere.jsonl", target)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    rows = importlib.import_module("rows")
    rows.append_row(tmp_path / "rows.jsonl", a_row())
    with open(tmp_path / "rows.jsonl", "a") as file:
        file.write('{"piece": "tw')
    assert rows.read_rows(tmp_path / "rows.jsonl") == [a_row()]


def test_done_is_done_on_this_card_in_this_version() -> None:
    rows = importlib.import_module("rows")
    known = [a_row(), a_row(piece="two", status="failed")]
    assert rows.is_done(known, "one", 1, dry=False, card="H")
    for name, version, dry, card in (("two", 1, False, "H"), ("one", 2, False, "H"), ("one", 1, True, "H"), ("one", 1, False, "other")):
        assert not rows.is_done(known, name, version, dry=dry, card=card)


def test_tables_are_written_from_rows_and_say_what_was_not_measured() -> None:
    tables = importlib.import_module("tables")
    page = "Before\n<!-- rows: figures -->\nold\n<!-- end of rows -->\nAfter\n"
    empty = tables.written(page, [])
    assert empty.startswith("Before\n<!-- rows: figures -->\n| what |")
    assert empty.endswith("\n<!-- end of rows -->\nAfter\n")
    assert "| whole loop / bare step, MoCo v2 at 32 px | at least 0.95 | not measured |  |" in empty
    assert tables.written(empty, []) == empty
    known = [a_row(piece="loop", figures={"loop_over_bare": 0.9712}), a_row(piece="loop", dry=True, figures={"loop_over_bare": 1.5})]
    assert "| at least 0.95 | 0.971 | H, `0123456` |" in tables.written(page, known)
    with pytest.raises(SystemExit, match="there is no table 'nothing'"):
        tables.written(page.replace("figures", "nothing"), [])


def test_tables_of_steps_and_arms() -> None:
    tables = importlib.import_module("tables")
    step = {"ms": 20.0, "images_per_second": 12345.6, "memory_gib": 10.04, "waits": 0}
    rows = [
        a_row(piece="steps at 32 px", figures={"bare bf16": step | {"ms": 10.0}, "moco bf16": step}),
        a_row(
            piece="cifar10 hcsc_ccrop + moco seed 0",
            figures={"epochs": 40, "images": 50_000, "moco": {"images_per_second": 9000, "knn": {"preset": "dino@32", "top1_k20": 71.234}}},
        ),
    ]
    assert "| moco | 12,346 | 2.00 | 10.0 | 0 | not measured | not measured |" in tables.TABLES["steps-32"](rows)
    assert "| MoCo v2 | 0 | 40 | 50,000 | 9,000 | 71.23 | not measured | not measured | H, `0123456` |" in tables.TABLES["cifar"](rows)
    assert tables.TABLES["cifar"]([]).count("not measured") == 6 * 6


def test_the_tables_of_the_documents_are_those_of_the_rows() -> None:
    tables, rows = importlib.import_module("tables"), importlib.import_module("rows")
    used = set()
    for name in tables.FILES:
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        used |= {match[1] for match in tables._TABLE.findall(text)}
        assert tables.written(text, rows.read_rows(rows.MERGED)) == text, "make gpu-tables writes them"
    assert used == tables.TABLES.keys()


# ------------------------------------------------------------------ images and models in parts


def test_images_travel_in_parts_and_what_has_arrived_is_used(tmp_path: Path) -> None:
    pack = importlib.import_module("pack")
    arrays = {
        "xtr": np.arange(50 * 3072, dtype=np.uint32).astype(np.uint8).reshape(50, 32, 32, 3),
        "ytr": np.arange(50) % 10,
        "xte": np.zeros((10, 32, 32, 3), np.uint8),
        "yte": np.arange(10),
    }
    np.savez(tmp_path / "cifar10.npz", **arrays)
    parts = pack.pack(tmp_path / "cifar10.npz", tmp_path / "parts", 5)
    assert pack.arrived(tmp_path / "parts", tmp_path) == (50, 10)
    with np.load(tmp_path / "cifar10.npz") as joined:
        order = np.concatenate([np.arange(50)[number::5] for number in range(5)])
        assert np.array_equal(joined["xtr"], arrays["xtr"][order])
        assert np.array_equal(joined["ytr"], arrays["ytr"][order])
    parts[1].unlink()
    parts[4].unlink()
    assert pack.arrived(tmp_path / "parts", tmp_path) == (30, 6)
    assert pack.arrived(tmp_path / "nothing", tmp_path) == (0, 0)
    pack.LARGEST = 1000
    with pytest.raises(SystemExit, match="give a larger --parts"):
        pack.pack(tmp_path / "cifar10.npz", tmp_path / "small", 5)


def test_half_precision_keeps_matrices_in_half_and_what_overflows_as_it_is() -> None:
    models = importlib.import_module("models")
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0001, 2.0, 3.0], [-1.0, 0.5, 70.0]]))
        network[1].weight.fill_(1e6)
    kept = models.halved(network.state_dict())
    assert {name: tensor.dtype for name, tensor in kept.items()} == {
        "0.weight": torch.half,
        "0.bias": torch.float32,
        "1.weight": torch.float32,
        "1.bias": torch.float32,
    }
    rounded = models.round_to_half(network)[0].weight
    assert rounded.dtype is torch.float32
    assert rounded[0, 0] == 1.0


def test_a_model_comes_back_from_its_parts_with_its_results(tmp_path: Path, make_backbone: Any, make_result: Any) -> None:
    from zoo.model_folder.claims import add_results
    from zoo.model_folder.folder import write_zoo_model
    from zoo.model_folder.manifest import Manifest, read_manifest

    models = importlib.import_module("models")
    manifest = Manifest(
        name="tiny",
        arch="test_resnet",
        method="moco",
        image_size=32,
        normalisation={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        interpolation="bilinear",
        crop_pct=1.0,
        steps=2,
    )
    there = write_zoo_model(tmp_path / "there", models.round_to_half(make_backbone()), manifest)
    add_results(there, [make_result(read_manifest(there).tensors_sha256)])
    models.LARGEST_PART = 300_000
    log = [{"step": step, "epoch": 0, "lr": 0.1, "loss": 2.0 - step} for step in range(2)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    parts = models.keep(there, tmp_path, "tiny", log=tmp_path / "log.jsonl")
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) <= 300_000
    (made,) = models.assemble(tmp_path, tmp_path / "here")
    assert read_manifest(made).tensors_sha256 == read_manifest(there).tensors_sha256
    assert [result.task for result in read_manifest(made).results] == ["knn"]
    assert (made / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    parts[-1].unlink()
    assert models.assemble(tmp_path, tmp_path / "again") == []


def test_wheels_are_of_what_a_bare_machine_lacks() -> None:
    wheels = importlib.import_module("wheels")
    assert "omegaconf" in wheels.NEEDED
    assert not {"torch", "faiss-cpu", "faiss-gpu"} & {*wheels.NEEDED, *wheels.DETECTION, *wheels.BUILT}
