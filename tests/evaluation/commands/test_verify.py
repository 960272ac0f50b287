"""``zoo verify``: a true claim is reproduced to the last image; whatever else a claim may be, it does not pass for true."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import typed

from evaluation.commands.verify import Verification, preset_of, stated_tolerance, tolerance_of
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.registry import TASKS
from evaluation.tasks.runtime import Runtime
from zoo.data import open_data
from zoo.data.spec import without_place
from zoo.errors import UserError
from zoo.model_folder.claims import add_results
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest, read_manifest
from zoo.model_spec import open_model
from zoo.results import Headline, Result, load_result

DATA = "shapes:train=90,test=45,size=16"


@pytest.fixture
def printed(capsys):
    """Run ``zoo`` or ``evaluate``; gives the exit status and what was printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = typed(*words)
        output = capsys.readouterr()
        return status, output.out, output.err

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
            add_results(folder, [claim])
        return folder

    return make


def with_number(result: Result, value: float) -> Result:
    """A lie that agrees with itself: the count of right answers is the number's, too."""
    metric = result.headline.metric
    counts = {**result.counts, "correct": {**result.counts["correct"], metric: round(value * 45 / 100)}}
    return replace(result, headline=Headline(metric, value), metrics={**result.metrics, metric: value}, counts=counts)


def test_what_was_evaluated_and_put_on_the_card_is_reproduced(measured, printed, tmp_path, claiming):
    folder = claiming()
    for options in (["--k", "1,7", "--temperature", "0.2"], ["--preset", "moco"], ["--image-size", "24", "--k", "3"]):
        name = tmp_path / f"{options[-1]}.json"
        status, _, error = printed("evaluate", "--task", "knn", "--model", folder, "--data", DATA, "--out", name, *options)
        assert status == 0, error
        add_results(folder, [load_result(name)])
    assert load_result(tmp_path / "0.2.json").protocol["options"] == {"preset": "dino", "k": "1,7", "temperature": 0.2}
    claims = read_manifest(folder).results
    status, out, error = printed("zoo", "verify", folder)
    assert status == 0, error
    *lines, summary = out.splitlines()
    assert summary == "3 claims: 3 reproduced"
    for line, claim in zip(lines, claims, strict=True):
        value = f"{claim.headline.value:.2f}"
        assert line == f"knn {claim.preset} on {DATA} ({claim.date[:10]}): reproduced: {claim.headline.metric} {value} = {value}"


def test_a_number_that_was_improved_is_found_out_and_by_how_much(measured, printed, claiming):
    _, result = measured
    true = result.headline.value
    folder = claiming(with_number(result, true + 100 / 45))
    status, out, _ = printed("zoo", "verify", folder)
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


def test_other_data_is_its_own_sentence(measured, printed, claiming):
    folder = claiming(measured[1])
    status, out, _ = printed("zoo", "verify", folder, "--data", "shapes:train=91,test=45,size=16")
    assert status == 1
    assert ": OTHER DATA: shapes:train=91,test=45,size=16 is not the data that this was measured on: its train split has 91 images" in out
    assert "not 90 with " in out
    forged = replace(measured[1].data.splits["test"], fingerprint="0" * 64)
    claim = replace(measured[1], data=replace(measured[1].data, splits={**measured[1].data.splits, "test": forged}))
    (verdict,) = verdicts(folder, claim)
    assert verdict.status == "other data"
    assert "its test split has 45 images with fingerprint" in verdict.reason


def test_without_data_nothing_passes_for_verified(measured, printed, claiming):
    claim = replace(measured[1], data=replace(measured[1].data, name="cifar10", spec="cifar10"))
    folder = claiming(claim)
    status, out, error = printed("zoo", "verify", folder)
    assert status == 2
    assert "no data: give --data cifar10:ROOT" in out
    assert error.splitlines()[-1] == "error: nothing was verified, for the claims' data is not at hand: give --data cifar10:ROOT"
    status, out, _ = printed("zoo", "verify", claiming(claim, measured[1]))
    assert (status, out.splitlines()[-1]) == (0, "2 claims: 1 no data, 1 reproduced")
    status, out, _ = printed("zoo", "verify", folder, "--data", "cifar10:nowhere")
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


def test_other_tasks_are_left_out_or_named(measured, printed, claiming):
    folder = claiming(measured[1])
    assert verdicts(folder, measured[1], tasks=["linear"]) == []
    status, _, error = printed("zoo", "verify", folder, "--task", "detection")
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
    stated = replace(result, task="detection", protocol={**result.protocol, "tolerance": 0.3})
    (verdict,) = verdicts(folder, stated, data=("shapes",))
    assert (verdict.status, {one.tolerance for one in verdict.differences}) == ("not reproduced", {0.3})
    (verdict,) = verdicts(folder, replace(result, task="broken"))
    assert "the verifier of task 'broken', no_such_module:verify, cannot be imported" in verdict.reason


def test_a_newer_procedure_that_reads_the_data_otherwise_is_no_other_data(measured, tmp_path, monkeypatch):
    """Boxes that were once shifted by a pixel have another fingerprint today; the same fingerprint by one procedure is demanded still."""
    folder, result = measured
    (tmp_path / "reading.py").write_text(
        "from dataclasses import replace\n"
        "def verify(claim, *, model, data, runtime):\n"
        "    splits = {name: replace(split, fingerprint='0' * 64) for name, split in claim.data.splits.items()}\n"
        "    return replace(claim, data=replace(claim.data, splits=splits), protocol={**claim.protocol, 'procedure': 2})\n"
    )
    metadata = tmp_path / "reading-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: reading\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zoo.verifiers]\nreading = reading:verify\n")
    monkeypatch.syspath_prepend(tmp_path)
    (verdict,) = verdicts(folder, replace(result, task="reading"), data=("shapes",))
    assert verdict.status == "older procedure"
    (verdict,) = verdicts(folder, replace(result, task="reading", protocol={**result.protocol, "procedure": 2}), data=("shapes",))
    assert verdict.status == "other data"


def test_tolerances(measured):
    _, claim = measured
    metric = claim.headline.metric
    assert metric in claim.metrics
    assert tolerance_of(claim, claim) == 0
    for other in (
        replace(claim, device="NVIDIA H100"),
        replace(claim, dtype="bfloat16"),
        replace(claim, versions={**claim.versions, "torch": "1.0"}),
    ):
        assert tolerance_of(claim, other) == pytest.approx(100 / 45)
    many = replace(claim, data=replace(claim.data, splits={"test": replace(claim.data.splits["test"], images=50_000)}))
    assert tolerance_of(many, replace(many, device="NVIDIA H100")) == 0.05
    assert tolerance_of(replace(claim, protocol={"tolerance": 0.3}), claim) == 0.3
    assert tolerance_of(replace(many, protocol={"tolerance": 100}), many) == 0.05
    assert all(task.tolerance > 0 for name, task in TASKS.items() if name != "knn")


def test_a_stated_tolerance_is_held_to_the_tasks_own(measured, printed, claiming):
    folder, result = measured
    lie = with_number(result, result.headline.value - 100 * 20 / 45)
    (verdict,) = verdicts(folder, replace(lie, protocol={**lie.protocol, "tolerance": 100}))
    assert verdict.status == "not reproduced"
    assert [round(one.tolerance, 2) for one in verdict.differences if not one.holds] == [2.22]
    # A number that holds, but with a tolerance that would have let nearly any pass.
    wide = replace(result, protocol={**result.protocol, "tolerance": 100})
    status, out, _ = printed("zoo", "verify", claiming(wide))
    assert status == 1
    assert "CLAIM TOO WIDE: it states a tolerance of 100, and its task allows 2.22" in out
    (verdict,) = verdicts(folder, replace(result, protocol={**result.protocol, "tolerance": 1}))
    assert verdict.status == "reproduced"


@pytest.mark.parametrize("tolerance", [float("inf"), float("nan"), -1, "0.5", True, None, [1]])
def test_what_is_no_tolerance_is_refused(measured, tolerance):
    folder, result = measured
    (verdict,) = verdicts(folder, replace(result, protocol={**result.protocol, "tolerance": tolerance}))
    assert verdict.status == "not measured"
    assert verdict.reason == f"its tolerance is a number from 0 on, not {tolerance!r}"


def test_a_solvers_tolerance_is_no_tolerance_of_the_number(measured):
    """Results of logistic regression once called it "tolerance": 1e-4 points would be far less than another machine changes."""
    _, result = measured
    old = replace(result, task="linear", protocol={"tolerance": 1e-4, "max_iterations": 1000})
    assert (stated_tolerance(old), tolerance_of(old, old)) == (None, 0.5)
    today = replace(result, task="linear", protocol={"solver_tolerance": 1e-5, "max_iterations": 200})
    assert (stated_tolerance(today), tolerance_of(today, today)) == (None, 0.5)


@pytest.mark.parametrize(
    ("options", "typed_options"),
    [({"preset": "logreg", "c": "0.1,1"}, "--c 0.1,1"), ({"preset": "moco", "lr": "0.1,1", "epochs": 2}, "--lr 0.1,1 --epochs 2")],
    ids=["logistic regression", "several rates"],
)
def test_a_claim_of_an_older_procedure_is_not_compared(options, typed_options, measured, printed, claiming):
    """Logistic regression, and the choice of a rate, are done otherwise than they were: the verdict says so before anything is computed."""
    folder, _ = measured
    preset = TASKS["linear"].preset(options["preset"], options)
    result = run_linear(open_model(folder), open_data(DATA), preset=preset, runtime=Runtime(seed=3))
    assert result.protocol["procedure"] == 2
    result = replace(result, protocol={**result.protocol, "options": options})
    (verdict,) = verdicts(folder, result)
    assert verdict.status == "reproduced", str(verdict)
    protocol = {name: value for name, value in result.protocol.items() if name != "procedure"}
    old = replace(with_number(result, 100 / 45), protocol=protocol)
    status, out, error = printed("zoo", "verify", claiming(old))
    line = out.splitlines()[0]
    why = "older procedure: this version measures this task by a newer procedure, so the numbers cannot be compared; measure anew by: "
    assert why in line
    words = f"evaluate --task linear --preset {options['preset']} {typed_options} --image-size 16"
    assert f"{words} --model {claiming()} --data {DATA} --seed 3" in line
    assert status == 2
    assert "nothing was verified, for all claims are of an older procedure" in error
    for wrong in (0, "2", True, 1.5):
        (verdict,) = verdicts(folder, replace(old, protocol={**protocol, "procedure": wrong}))
        assert verdict.reason == f"its procedure is a whole number from 1 on, not {wrong!r}"


def test_a_card_that_disagrees_with_its_results_fails(measured, printed, claiming):
    folder = claiming(measured[1])
    assert printed("zoo", "info", folder, "--check")[0] == 0
    shown = f"| {measured[1].headline.value:.2f} |"
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace(shown, "| 99.00 |"))
    status, out, _ = printed("zoo", "verify", folder)
    assert status == 1
    assert "CARD DISAGREES: README.md, the table of results, knn dino@16 (changed) on" in out.splitlines()[0]
    assert "value is 99.00, and" in out.splitlines()[0]
    assert out.splitlines()[-1] == "2 claims: 1 card disagrees, 1 reproduced"
    status, _, error = printed("zoo", "info", folder, "--check")
    assert status == 2
    assert "value is 99.00, and" in error


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


def test_json_has_every_number(measured, printed, claiming):
    status, out, error = printed("zoo", "verify", claiming(measured[1]), "--json")
    assert status == 0
    ((verdict,),) = json.loads(out).values()
    assert verdict["status"] == "reproduced"
    assert Result.from_dict(verdict["result"]).metrics == measured[1].metrics
    assert error.splitlines()[-1] == "1 claim: 1 reproduced"


def test_what_is_no_model(printed, tmp_path, claiming):
    assert printed("zoo", "verify")[2] == "error: say which model to verify, or --catalogue for those of the catalogue\n"
    assert "there is no zoo model 'nothing'" in printed("zoo", "verify", "nothing")[2]
    assert "has no zoo.json" in printed("zoo", "verify", tmp_path)[2]
    assert "claims nothing; `evaluate --out` and `zoo add-result` put a result on its card" in printed("zoo", "verify", claiming())[2]
    assert "the catalogue has no model like 'nothing'" in printed("zoo", "verify", "nothing", "--catalogue")[2]


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
