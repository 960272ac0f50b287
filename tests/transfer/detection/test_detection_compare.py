"""The table of several starts: collected, paired by seed, refused where they were not trained alike. Needs no detectron2."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from transfer.cli import app
from transfer.detection.compare import compare, print_table, run_path
from zoo.errors import UserError
from zoo.results import Headline, save_result

AP = {"models/moco": [30.0, 31.0, 33.5], "random": [20.0, 22.0, 21.0]}


@pytest.fixture
def finish(make_result):
    """Leave a finished run, as `transfer detect` does."""

    def leave(model, seed, folder, **changes):
        value = AP[model][seed]
        base = make_result("ab" * 32)
        usual = {
            "task": "detection",
            "preset": "small_r18_fpn",
            "protocol": {"lr": 0.01, "metric": "COCO"},
            "headline": Headline("box_AP", value),
            "metrics": {"box_AP": value, "box_AP50": 2 * value},
            "model": replace(base.model, name=model, spec=model),
            "seeds": {"training": seed},
        }
        result = replace(base, **(usual | changes))
        named = {"config": "small_r18_fpn", "overrides": [], "model": {"spec": model}, "data": "coco:x", "strict": False, "seed": seed}
        facts = named | {"classes": [], "fingerprints": {}, "processes": 1, "device": "cpu", "scaled": [], "notes": []}
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(facts))
        (folder / "config.yaml").write_text("")
        save_result(result, folder / "result.json")

    return leave


def test_what_is_there_is_collected_and_only_the_rest_is_run(tmp_path, finish, capsys, monkeypatch):
    ran = []

    def run(model, seed, folder):
        ran.append((model, seed))
        finish(model, seed, folder)

    compare(tmp_path, list(AP), range(2), run)
    # Seed by seed, so that a stopped comparison has equally many of each.
    assert ran == [("models/moco", 0), ("random", 0), ("models/moco", 1), ("random", 1)]
    ran.clear()
    rows = compare(tmp_path, list(AP), range(3), run)
    assert ran == [("models/moco", 2), ("random", 2)]
    spread = rows[0].spread("box_AP")
    assert spread.mean == pytest.approx(np.mean(AP["models/moco"]))
    assert spread.deviation == pytest.approx(np.std(AP["models/moco"], ddof=1))
    paired = np.subtract(AP["models/moco"], AP["random"])
    difference = rows[0].difference(rows[1], "box_AP")
    assert (difference.mean, difference.deviation) == (pytest.approx(paired.mean()), pytest.approx(paired.std(ddof=1)))
    assert rows[0].spread("mask_AP") is None
    print_table(rows)
    text = capsys.readouterr().out
    assert "31.50 ± 1.80" in text
    assert "21.00 ± 1.00" in text
    assert "+10.50 ± 1.80" in text
    print_table(rows, quiet=True)
    quiet = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in quiet] == [["models/moco", "3"], ["random", "3"]]
    # A terminal that is too narrow for the columns gets a block of lines for each model.
    monkeypatch.setenv("COLUMNS", "40")
    print_table(rows)
    narrow = capsys.readouterr().out
    assert "31.50 ± 1.80" in narrow
    assert "+10.50 ± 1.80" in narrow
    assert all(len(line) <= 50 for line in narrow.splitlines() if "31.50" in line or "10.50" in line)
    told = rows[0].to_dict()
    assert told["mean"]["box_AP"] == pytest.approx(np.mean(AP["models/moco"]))
    assert told["seeds"]["2"]["box_AP"] == AP["models/moco"][2]


def test_the_command_shows_what_is_finished(tmp_path, finish):
    finish("random", 0, run_path(tmp_path, "random", 0))
    arguments = ["compare", "small_r18_fpn", "--models", "models/moco,random", "--out", str(tmp_path), "--collect"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "random" in done.output
    assert "20.00" in done.output
    assert "models/moco" not in done.output


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"protocol": {"lr": 0.02, "metric": "COCO"}},
            "'random' and 'models/moco' were not trained alike: they differ in lr: 0.02 and 0.01",
        ),
        ({"preset": "coco_r50_fpn_1x"}, "they differ in preset: coco_r50_fpn_1x and small_r18_fpn"),
    ],
)
def test_results_of_different_trainings_are_not_put_side_by_side(tmp_path, finish, changes, sentence):
    finish("models/moco", 0, run_path(tmp_path, "models/moco", 0))
    finish("random", 0, run_path(tmp_path, "random", 0), **changes)
    with pytest.raises(UserError, match=sentence):
        compare(tmp_path, list(AP), [0], None)


def test_results_on_other_data_are_not_put_side_by_side(tmp_path, finish, make_result):
    finish("models/moco", 0, run_path(tmp_path, "models/moco", 0))
    data = make_result("ab" * 32).data
    other = replace(data, splits=data.splits | {"test": replace(data.splits["test"], fingerprint="c" * 64)})
    finish("random", 0, run_path(tmp_path, "random", 0), data=other)
    with pytest.raises(UserError, match="were trained or tested on different images or annotations"):
        compare(tmp_path, list(AP), [0], None)


def test_folders_of_others_and_of_nobody(tmp_path, finish):
    with pytest.raises(UserError, match="has no finished runs of random"):
        compare(tmp_path, ["random"], [0], None)
    with pytest.raises(UserError, match="two of the models would be trained in"):
        compare(tmp_path, ["a/b", "a-b"], [0], None)
    finish("models/moco", 0, run_path(tmp_path, "random", 0))
    with pytest.raises(UserError, match=r"run\.json is of 'models/moco' with seed 0, not of 'random' with seed 0"):
        compare(tmp_path, ["random"], [0], None)
    with pytest.raises(UserError, match="give --data voc:ROOT or coco:ROOT, or --collect"):
        CliRunner().invoke(
            app, ["compare", "x", "--models", "random", "--out", str(tmp_path)], standalone_mode=False, catch_exceptions=False
        )
