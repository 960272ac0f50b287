"""``zoo verify``: a true claim is reproduced to the last image; whatever else a claim may be, it does not pass for true."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluation.commands.cli
import zoo.commands.cli
from evaluation.commands.verify import Verification, preset_of, tolerance_of
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.registry import TASKS
from zoo.data import open_data
from zoo.data.spec import without_place
from zoo.errors import UserError
from zoo.model_folder.claims import add_result
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest, read_manifest
from zoo.model_spec import open_model
from zoo.results import Headline, Result, load_result

DATA = "shapes:train=90,test=45,size=16"


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run ``zoo`` or ``evaluate``; gives the exit status and what was printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        command, *arguments = map(str, words)
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        with pytest.raises(SystemExit) as left:
            (zoo.commands.cli.main if command == "zoo" else evaluation.commands.cli.main)()
        output = capsys.readouterr()
        return left.value.code or 0, output.out, output.err

    return run


@pytest.fixture(scope="module")
def measured(make_backbone, tmp_path_factory) -> tuple[Path, Result]:
    """A zoo model without claims, and what kNN gives for it."""
    manifest = Manifest(
        name="test_resnet.random",
        arch="test_resnet",
        method="moco",
        image_size=16,
        normalisation={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        interpolation="bilinear",
        crop_pct=1.0,
    )
    folder = write_zoo_model(tmp_path_factory.mktemp("verify") / "model", make_backbone(image_size=16), manifest)
    return folder, run_knn(open_model(folder), open_data(DATA), preset=KNN_PRESETS["dino"].change(k=[1, 5]))


@pytest.fixture
def claiming(measured, tmp_path):
    """Make a copy of the model that claims what it is given."""

    def make(*claims: Result) -> Path:
        folder = Path(shutil.copytree(measured[0], tmp_path / "claiming", dirs_exist_ok=True))
        for claim in claims:
            add_result(folder, claim)
        return folder

    return make


def with_number(result: Result, value: float) -> Result:
    metric = result.headline.metric
    return replace(result, headline=Headline(metric, value), metrics={**result.metrics, metric: value})


def test_what_was_evaluated_and_put_on_the_card_is_reproduced(measured, typed, tmp_path, claiming):
    folder = claiming()
    for options in (["--k", "1,7", "--temperature", "0.2"], ["--preset", "moco"], ["--image-size", "24", "--k", "3"]):
        name = tmp_path / f"{options[-1]}.json"
        status, _, error = typed("evaluate", "--task", "knn", "--model", folder, "--data", DATA, "--out", name, *options)
        assert status == 0, error
        add_result(folder, load_result(name))
    assert load_result(tmp_path / "0.2.json").protocol["options"] == {"preset": "dino", "k": "1,7", "temperature": 0.2}
    claims = read_manifest(folder).results
    status, out, error = typed("zoo", "verify", folder)
    assert status == 0, error
    *lines, summary = out.splitlines()
    assert summary == "3 claims: 3 reproduced"
    for line, claim in zip(lines, claims, strict=True):
        value = f"{claim.headline.value:.2f}"
        assert line == f"knn {claim.preset} on {DATA} ({claim.date[:10]}): reproduced: {claim.headline.metric} {value} = {value}"


def test_a_number_that_was_improved_is_found_out_and_by_how_much(measured, typed, claiming):
    _, result = measured
    true = result.headline.value
    folder = claiming(with_number(result, true + 100 / 45))
    status, out, _ = typed("zoo", "verify", folder)
    assert status == 1
    line, summary = out.splitlines()
    assert f": NOT REPRODUCED: {result.headline.metric} {true + 100 / 45:.2f} / {true:.2f} ({-100 / 45:+.2f}, allowed 0)" in line
    assert summary == "1 claim: 1 not reproduced"


def test_a_metric_beside_the_headline_counts_too(measured, claiming):
    folder, result = measured
    other = next(name for name in result.metrics if name != result.headline.metric)
    claim = replace(result, metrics={**result.metrics, other: result.metrics[other] + 5})
    (verdict,) = verdicts(folder, claim)
    assert verdict.status == "not reproduced"
    assert [one.metric for one in verdict.differences if not one.holds] == [other]
    assert other in str(verdict)


def verdicts(folder: Path, *claims: Result, data: tuple[str, ...] = (), tasks: list[str] | None = None):
    from evaluation.tasks.runtime import Runtime

    return list(Verification(data, Runtime(), tasks).claims(str(folder), claims))


def test_other_data_is_its_own_sentence(measured, typed, claiming):
    folder = claiming(measured[1])
    status, out, _ = typed("zoo", "verify", folder, "--data", "shapes:train=91,test=45,size=16")
    assert status == 1
    assert ": OTHER DATA: shapes:train=91,test=45,size=16 is not the data that this was measured on: its train split has 91 images" in out
    assert "not 90 with " in out
    forged = replace(measured[1].data.splits["test"], fingerprint="0" * 64)
    claim = replace(measured[1], data=replace(measured[1].data, splits={**measured[1].data.splits, "test": forged}))
    (verdict,) = verdicts(folder, claim)
    assert verdict.status == "other data"
    assert "its test split has 45 images with fingerprint" in verdict.reason


def test_without_data_nothing_passes_for_verified(measured, typed, claiming):
    claim = replace(measured[1], data=replace(measured[1].data, name="cifar10", spec="cifar10"))
    folder = claiming(claim)
    status, out, error = typed("zoo", "verify", folder)
    assert status == 2
    assert "no data: give --data cifar10:ROOT" in out
    assert error.splitlines()[-1] == "error: nothing was verified, for the claims' data is not at hand: give --data cifar10:ROOT"
    status, out, _ = typed("zoo", "verify", claiming(claim, measured[1]))
    assert (status, out.splitlines()[-1]) == (0, "2 claims: 1 no data, 1 reproduced")
    status, out, _ = typed("zoo", "verify", folder, "--data", "cifar10:nowhere")
    assert status == 1
    assert "NOT MEASURED: data 'cifar10:nowhere': nowhere is missing" in out


def test_what_cannot_be_measured_as_it_was_is_not_measured_otherwise(measured):
    folder, result = measured
    cases = {
        "its weight was changed from the preset 'dino' by a program": {"changed": ["weight"]},
        'this version measures in another way: similarity is "cosine", and was "euclid"': {"similarity": "euclid"},
        "this version measures in another way: votes is null, and was 3": {"votes": 3},
    }
    for sentence, changes in cases.items():
        (verdict,) = verdicts(folder, replace(result, protocol={**result.protocol, **changes}))
        assert verdict.status == "not measured"
        assert sentence in verdict.reason
    (verdict,) = verdicts(folder, replace(result, preset="dinosaur"))
    assert verdict.reason == f"unknown knn preset 'dinosaur' (nearest: 'dino'); known: {', '.join(KNN_PRESETS)}"
    (verdict,) = verdicts(folder, replace(result, metrics={**result.metrics, "top1_k99": 1.0}))
    assert verdict.reason == "nothing is measured today that is called top1_k99"
    (verdict,) = verdicts(folder, replace(result, model=replace(result.model, tensors_sha256="0" * 64)))
    assert "are not those that this was measured with" in verdict.reason


def test_other_tasks_are_left_out_or_named(measured, typed, claiming):
    folder = claiming(measured[1])
    assert verdicts(folder, measured[1], tasks=["linear"]) == []
    status, _, error = typed("zoo", "verify", folder, "--task", "detection")
    assert status == 2
    assert "claims nothing of the task asked for, but of: knn" in error
    (verdict,) = verdicts(folder, replace(measured[1], task="telepathy"))
    assert verdict.reason == ("there is no task 'telepathy' here, and no installed package registers a verifier for it (zoo.verifiers)")


def test_a_task_of_another_package_registers_its_verifier(measured, tmp_path, monkeypatch):
    folder, result = measured
    (tmp_path / "detecting.py").write_text(
        "from dataclasses import replace\n"
        "def verify(claim, *, model, data, runtime):\n"
        "    assert (model.endswith('model'), data, runtime.device.type) == (True, 'shapes', 'cpu')\n"
        "    return replace(claim, metrics={name: value - 1 for name, value in claim.metrics.items()})\n"
    )
    metadata = tmp_path / "detecting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: detecting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zoo.verifiers]\ndetection = detecting:verify\nbroken = no_such_module:verify\n")
    monkeypatch.syspath_prepend(tmp_path)
    (verdict,) = verdicts(folder, replace(result, task="detection"), data=("shapes",))
    assert verdict.status == "not reproduced"  # the tolerance of a task that trains is half a point
    assert {one.tolerance for one in verdict.differences} == {0.5}
    stated = replace(result, task="detection", protocol={**result.protocol, "tolerance": 1.5})
    assert [one.status for one in verdicts(folder, stated, data=("shapes",))] == ["reproduced"]
    (verdict,) = verdicts(folder, replace(result, task="broken"))
    assert "the verifier of task 'broken', no_such_module:verify, cannot be imported" in verdict.reason


def test_tolerances(measured):
    _, claim = measured
    metric = claim.headline.metric
    assert tolerance_of(claim, claim, metric) == 0
    for other in (
        replace(claim, device="NVIDIA H100"),
        replace(claim, dtype="bfloat16"),
        replace(claim, versions={**claim.versions, "torch": "1.0"}),
    ):
        assert tolerance_of(claim, other, metric) == pytest.approx(100 / 45)
    many = replace(claim, data=replace(claim.data, splits={"test": replace(claim.data.splits["test"], images=50_000)}))
    assert tolerance_of(many, replace(many, device="NVIDIA H100"), metric) == 0.05
    assert tolerance_of(replace(claim, protocol={"tolerance": 0.3}), claim, metric) == 0.3
    assert all(task.tolerance > 0 for name, task in TASKS.items() if name != "knn")


def test_presets_of_claims(measured):
    _, claim = measured
    assert preset_of(claim, TASKS["knn"]) == KNN_PRESETS["dino"].change(k=[1, 5])
    typed_options = replace(claim, protocol={**claim.protocol, "options": {"preset": "moco", "k": "2,3"}})
    assert preset_of(typed_options, TASKS["knn"]) == KNN_PRESETS["moco"].change(k=[2, 3])
    in_some_way = replace(claim, preset="moco-quickly@16", protocol={"changed": []})
    assert preset_of(in_some_way, TASKS["knn"]) == KNN_PRESETS["moco"]
    for unreadable in (3, {}, {"preset": 3}):
        with pytest.raises(UserError, match="not readable"):
            preset_of(replace(claim, protocol={**claim.protocol, "options": unreadable}), TASKS["knn"])


def test_json_has_every_number(measured, typed, claiming):
    status, out, error = typed("zoo", "verify", claiming(measured[1]), "--json")
    assert status == 0
    ((verdict,),) = json.loads(out).values()
    assert verdict["status"] == "reproduced"
    assert Result.from_dict(verdict["result"]).metrics == measured[1].metrics
    assert error.splitlines()[-1] == "1 claim: 1 reproduced"


def test_what_is_no_model(typed, tmp_path, claiming):
    assert typed("zoo", "verify")[2] == "error: say which model to verify, or --catalogue for those of the catalogue\n"
    assert "there is no zoo model 'nothing'" in typed("zoo", "verify", "nothing")[2]
    assert "has no zoo.json" in typed("zoo", "verify", tmp_path)[2]
    assert "claims nothing; `evaluate --out` and `zoo add-result` put a result on its card" in typed("zoo", "verify", claiming())[2]
    assert "the catalogue has no model like 'nothing'" in typed("zoo", "verify", "nothing", "--catalogue")[2]


def test_a_claims_options_are_applied_to_the_place_that_is_given(tmp_path, measured):
    """Pictures whose values lie in 0 .. 4095: without the range, all of them are nearly black."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 6)):
        for label in range(3):
            folder = tmp_path / "scans" / split / f"kind{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                values = rng.integers(0, 1000, (16, 16)) + 1500 * label
                Image.fromarray(values.astype(np.uint16)).save(folder / f"{index}.png")
    spec = f"folder:{tmp_path / 'scans'}"
    claim = run_knn(open_model(measured[0]), open_data(f"{spec},range=0+4095"), preset=KNN_PRESETS["dino"].change(k=[1, 5]))
    claim = replace(claim, data=replace(claim.data, spec=without_place(claim.data.spec)))
    assert claim.data.spec == "folder:scans,range=0+4095"
    (verdict,) = verdicts(measured[0], claim, data=(spec,))
    assert verdict.status == "reproduced", str(verdict)
    (other,) = verdicts(measured[0], replace(claim, data=replace(claim.data, spec="folder:scans")), data=(f"{spec},range=0+4095",))
    assert other.status == "other data"
