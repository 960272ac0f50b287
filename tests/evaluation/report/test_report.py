"""Whole reports: of bare files, of results with their images and features at hand, and of what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_page import Page
from sklearn.neighbors import KNeighborsClassifier
from typed import typed

from evaluation.extraction.cache import FeatureCache, cache_folder
from evaluation.report import write_report
from evaluation.tasks.cluster.run import run_cluster
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.model_source import model_sources
from evaluation.tasks.runtime import Runtime
from zoo.data import open_data
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.results import Result, load_result, save_result

# What stands in a cell where nothing was measured.
NOTHING = "\N{EN DASH}"
SHAPES = "shapes:size=8,train=120,test=60"


def saved(folder: Path, *results: Result) -> Path:
    """A folder that holds these results."""
    for number, result in enumerate(results):
        save_result(result, folder / f"{number}.json")
    return folder


def with_counts(result: Result, correct: dict[str, int], total: int) -> Result:
    """The result with right answers of so many test images, and the metrics that follow."""
    splits = result.data.splits | {"test": replace(result.data.splits["test"], images=total)}
    metrics = {name: 100 * count / total for name, count in correct.items()}
    headline = replace(result.headline, value=metrics[result.headline.metric])
    return replace(result, metrics=metrics, headline=headline, counts={"correct": correct}, data=replace(result.data, splits=splits))


@pytest.fixture(scope="module")
def knn_of_shapes() -> Result:
    """kNN of raw pixels on small shapes; its features stay in the cache of the tests."""
    runtime = Runtime(cache=FeatureCache(cache_folder()))
    result = run_knn(open_model("pixels"), open_data(SHAPES), runtime=runtime)
    return replace(result, model=replace(result.model, spec="pixels"))


def test_bare_files_make_a_page_that_needs_nothing_else(tmp_path, make_result):
    results = [make_result("1" * 64, value=57.254321987), replace(make_result("2" * 64, seed=3, changed=("k",)), task="linear")]
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    # Nothing is fetched: every address is a place on the page, a copy beside it, or an image inside it.
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    for address in page.attributes("href") + page.attributes("src"):
        assert address.removeprefix("#") in ids if address.startswith("#") else (tmp_path / "report" / address).is_file()
    html = (tmp_path / "report" / "index.html").read_text()
    assert re.findall(r"https?:|url\(|@import|<link|<base|//[a-z]", html.replace("// ", "")) == []
    for result in results:
        for name, value in result.metrics.items():
            assert name in page.text
            assert json.dumps(value) in page.text
        for fact in (result.model.tensors_sha256, result.date, result.data.splits["test"].fingerprint, *map(str, result.versions.values())):
            assert fact in page.text
    assert "k = [10, 20]" in page.text
    # What it lacks, and how to get it.
    assert "/somebody/data is missing" in page.text
    assert "--data cifar10:ROOT" in page.text
    assert "/somebody/runs/run" in page.text
    # The copies are the results, whole.
    copies = sorted((tmp_path / "report" / "results").iterdir())
    assert [load_result(copy) for copy in copies] == results
    assert json.loads((tmp_path / "report" / "report.json").read_text())["results"] == [f"results/{copy.name}" for copy in copies]


def test_a_protocol_may_say_nothing_of_changes(tmp_path, make_result):
    """As those of written features do."""
    result = make_result("1" * 64)
    del result.protocol["changed"]
    write_report([saved(tmp_path / "results", result)], tmp_path / "report")
    assert "Measured again by" in Page.of(tmp_path / "report").text


def test_intervals_are_wilsons(tmp_path, make_result):
    # 8 of 10: (8 + z²/2) / (10 + z²) ± z / (10 + z²) * sqrt(8 * 2 / 10 + z²/4), by hand with z = 1.959964: 0.7167 ± 0.2266.
    result = with_counts(make_result("1" * 64), {"top1_k20": 8, "top1_k10": 0}, 10)
    write_report([saved(tmp_path / "results", result)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    table = page.table_with("model", "knn dino@32")
    assert table[1][1].startswith("80.00 49.02 to 94.33")
    rows = page.table_with("metric", "right answers")
    assert rows[1:] == [["top1_k20", "80.0", "8", "49.02 to 94.33"], ["top1_k10", "0.0", "0", "0.00 to 27.75"]]


def test_a_number_that_is_no_share_of_the_test_images_has_no_interval(tmp_path, make_result):
    write_report([saved(tmp_path / "results", make_result("1" * 64))], tmp_path / "report")
    assert Page.of(tmp_path / "report").table_with("model", "knn dino@32")[1] == ["run", "57.25"]


def test_every_text_is_escaped(tmp_path, make_result):
    evil = '<script>alert("1")</script>&amp;\'"><img src=x onerror=alert(2)>'
    result = make_result("1" * 64)
    details = {
        "per_class": {"classes": [evil, "b"], "total": [4, 6], "correct": {"top1_k20": [1, 2]}},
        "epochs": {evil: [1.0, 2.0]},
    }
    result = replace(
        result,
        task=f"knn{evil}",
        preset=evil,
        model=replace(result.model, name=evil, spec=evil, arch=evil),
        data=replace(result.data, name=evil, spec=evil),
        protocol={"changed": [evil], evil: evil, "layer": evil},
        versions={evil: evil},
        metrics={**result.metrics, evil: 1.0},
        details=details,
    )
    other = replace(result, model=replace(result.model, tensors_sha256="2" * 64))
    write_report([saved(tmp_path / "results", result, other)], tmp_path / "report", title=evil)
    page = Page.of(tmp_path / "report")
    names = [name for name, _ in page.tags]
    assert names.count("script") == 1
    assert "img" not in names
    assert not any(attribute.startswith("on") for _, attributes in page.tags for attribute in attributes)
    assert page.text.count(evil) > 10
    assert all("/" not in copy.name and "<" not in copy.name for copy in (tmp_path / "report" / "results").iterdir())


def test_results_of_other_images_or_labels_stand_in_tables_of_their_own(tmp_path, make_result):
    first = make_result("1" * 64, value=50.0)
    same = make_result("2" * 64, value=51.0)
    test = {"test": replace(first.data.splits["test"], fingerprint="c" * 64)}
    other_images = replace(make_result("3" * 64, value=52.0), data=replace(first.data, splits=first.data.splits | test))
    other_level = replace(make_result("4" * 64, value=53.0), data=replace(first.data, level="superclass"))
    # Clusters of the test images alone: the images of the first table.
    cluster = replace(first, task="cluster", data=replace(first.data, splits={"test": first.data.splits["test"]}))
    write_report([saved(tmp_path / "results", first, same, other_images, other_level, cluster)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    overviews = [
        [" ".join(cell.text.split()) for row in table[1:] for cell in row[1:]]
        for table, (_, attributes) in zip(page.tables, [tag for tag in page.tags if tag[0] == "table"], strict=True)
        if attributes.get("class") == "sortable" and any("dino@32" in cell.text for cell in table[0])
    ]
    assert overviews == [["50.00", "50.00", "51.00", NOTHING], ["52.00"], ["53.00"]]


def test_one_result_counts_once_and_a_second_measurement_is_shown(tmp_path, make_result, capsys):
    first = make_result("1" * 64, value=50.0)
    later = replace(make_result("1" * 64, value=51.5), date="2026-11-22T10:00:00+00:00")
    folder, copy = saved(tmp_path / "results", first, later), saved(tmp_path / "copy", first) / "0.json"
    assert typed("zoo", "report", folder, folder / "0.json", copy, "--out", tmp_path / "report") == 0
    said = capsys.readouterr().err
    assert f"{folder / '0.json'} is given twice; it counts once" in said
    assert f"{copy} is the same result as {folder / '0.json'}; it counts once" in said
    page = Page.of(tmp_path / "report")
    assert "2 results of 1 model;" in page.text
    table = page.table_with("model", "knn dino@32")
    assert table[1] == ["run", "51.50 all: 51.50, 50.00 newest of 2 with these seeds"]


def test_results_that_differ_in_their_seed_alone_are_one_number_with_its_spread(tmp_path, make_result):
    results = [make_result("1" * 64, value=value, seed=seed) for seed, value in enumerate((57.0, 58.0, 60.0))]
    # By hand: the mean is 175 / 3; deviations -4/3, -1/3, 5/3; their squares' sum 42 / 9, over 2: 2.3333; its root 1.5275.
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    cell = page.table_with("model", "knn dino@32")[1][1]
    assert cell.startswith("58.33 ± 1.53, 3 seeds")
    assert all(value in cell for value in ("57.00", "58.00", "60.00"))


def test_networks_that_differ_in_their_seed_alone_get_their_mean(tmp_path, make_result):
    results = []
    for seed, value in enumerate((10.0, 13.0)):
        result = make_result(str(seed) * 64, value=value)
        results.append(replace(result, model=replace(result.model, name=f"random:resnet18:{seed}", arch="resnet18", kind="random")))
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    table = Page.of(tmp_path / "report").table_with("model", "knn dino@32")
    assert table[3] == ["random:resnet18: mean of 2 seeds", "11.50 ± 2.12, 2 seeds"]


def test_runs_are_of_one_family_where_their_recipes_differ_in_the_seed_alone(tmp_path, make_run, make_result):
    results = []
    for number, (seed, rate) in enumerate(((0, 0.03), (1, 0.03), (2, 0.1))):
        run = make_run(f"run{number}")
        recipe = run / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("lr: 0.03", f"lr: {rate}") + f"seed: {seed}\n")
        result = make_result(str(number) * 64, value=50.0 + number)
        results.append(replace(result, model=replace(result.model, name=run.name, spec=str(run))))
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    table = Page.of(tmp_path / "report").table_with("model", "knn dino@32")
    assert [row[0] for row in table[1:]] == ["run0", "run1", "run2", "moco test_resnet: mean of 2 seeds"]
    assert table[4][1] == "50.50 ± 0.71, 2 seeds"


def test_other_protocols_stand_in_other_columns(tmp_path, make_result):
    plain, changed = make_result("1" * 64), make_result("1" * 64, value=40.0, changed=("k",))
    unlike = make_result("2" * 64)
    unlike = replace(unlike, protocol=unlike.protocol | {"temperature": 0.1})
    write_report([saved(tmp_path / "results", plain, changed, unlike)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    table = page.table_with("model", "knn dino@32 k [10, 20]")
    assert [row[1:] for row in table[1:]] == [["57.25", "40.00"], ["57.25", NOTHING]]
    # The same preset with another value that nobody says is changed: a newer version of the preset, say.
    assert "knn dino@32: these results do not agree in temperature" in page.text


def test_the_best_model_is_compared_image_by_image(tmp_path, make_result):
    from scipy.stats import binomtest

    from evaluation.statistics.per_image import DETAIL, pack

    rng = np.random.default_rng(0)
    answers = [rng.random(1000) < share for share in (0.5, 0.55)]
    results = []
    for number, right in enumerate(answers):
        result = with_counts(make_result(str(number) * 64), {"top1_k20": int(right.sum())}, 1000)
        counts = result.counts | {"test_images": 1000}
        model = replace(result.model, name=f"model{number}")
        results.append(replace(result, model=model, counts=counts, details={DETAIL: pack({"top1_k20": right})}))
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    table = Page.of(tmp_path / "report").table_with("ahead of", "points", "only the best right")
    only_best, only_other = int((answers[1] & ~answers[0]).sum()), int((answers[0] & ~answers[1]).sum())
    name, points, _, *rest = table[1]
    assert (name, points) == ("model0", f"{(only_best - only_other) / 10:.2f}")
    assert rest == [str(only_best), str(only_other), f"{binomtest(only_best, only_best + only_other).pvalue:.2g}"]


def test_warnings_and_intervals_that_a_result_holds_are_shown(tmp_path, make_result):
    details = {"warnings": ["its mean is not the data's"], "intervals": {"method": "bootstrap", "top1_k20": [55.125, 59.5]}}
    write_report([saved(tmp_path / "results", replace(make_result("1" * 64), details=details))], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    assert page.table_with("model", "knn dino@32")[1] == ["run", "57.25 55.12 to 59.50"]
    assert "run: its mean is not the data's" in page.text
    assert "bootstrap" in page.text


def test_a_folder_is_named_by_its_last_part(tmp_path, make_result):
    result = make_result("1" * 64)
    result = replace(result, data=replace(result.data, spec="folder:/somebody/birds", name="folder"))
    write_report([saved(tmp_path / "results", result)], tmp_path / "report")
    assert "folder birds" in Page.of(tmp_path / "report").text


def test_changed_rates_are_named_by_their_values(tmp_path, make_result):
    results = []
    for rate in (0.1, 0.01):
        result = replace(make_result("1" * 64, changed=("rates", "unknown")), task="semi")
        results.append(replace(result, protocol=result.protocol | {"trunk_lr": rate, "head_lr": 1.0, "percent": 10.0}))
    write_report([saved(tmp_path / "results", *results)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    for rate in ("0.1", "0.01"):
        page.table_with("model", f"semi dino@32 percent 10, trunk lr {rate}, head lr 1, unknown changed")
        assert f"trunk_lr = {rate}, head_lr = 1.0, unknown" in page.text


def test_models_of_one_name_are_told_apart(tmp_path, make_result):
    write_report([saved(tmp_path / "results", make_result("1" * 64), make_result("2" * 64))], tmp_path / "report")
    table = Page.of(tmp_path / "report").table_with("model", "knn dino@32")
    assert [row[0] for row in table[1:]] == ["run (11111111)", "run (22222222)"]


def test_pictures_and_confusions_come_from_the_images_and_the_kept_features(tmp_path, knn_of_shapes):
    write_report([saved(tmp_path / "results", knn_of_shapes)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    assert "Not shown" not in page.text
    images = [attributes for name, attributes in page.tags if name == "img"]
    known = knn_of_shapes.details["neighbours"]
    assert len(images) == len(known["test"]) + sum(map(len, known["train"]))
    assert all(attributes["src"].startswith("data:image/png;base64,") and attributes["alt"] for attributes in images)

    # The confusion of superclasses, by scikit-learn's predictions and a plain loop.
    data = open_data(SHAPES)
    train, test = data.role("train"), data.role("test")
    features = [((split.pixels.astype(np.float64) / 255 - data.mean) / data.std).reshape(len(split), -1) for split in (train, test)]
    peer = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07))
    predicted = peer.fit(features[0], train.labels).predict(features[1])
    assert int((predicted == test.labels).sum()) == knn_of_shapes.counts["correct"]["top1_k20"]
    groups = test.level("superclass").classes
    group_of = dict(zip(train.labels.tolist(), train.level("superclass").labels.tolist(), strict=True))
    counts = np.zeros((len(groups), len(groups)), dtype=int)
    for truth, guess in zip(test.level("superclass").labels, predicted, strict=True):
        counts[truth, group_of[int(guess)]] += 1
    matrix = next(table for table in page.tables if [cell.text for cell in table[0]] == ["", *groups])
    shown = [[cell.attributes["title"].split(" of ")[0] for cell in row[1:]] for row in matrix[1:]]
    assert [[int(count) for count in row] for row in shown] == counts.tolist()
    for row, line in zip(matrix[1:], counts, strict=True):
        assert [cell.text for cell in row[1:]] == [f"{100 * count / line.sum():.0f}" for count in line]

    # The map: every point of every level.
    levels = len(test.levels)
    maps = [attributes["aria-label"] for name, attributes in page.tags if name == "svg" and attributes.get("class") == "map"]
    assert len(maps) == levels
    assert all(label.startswith("t-SNE of pixels, 60 test images") for label in maps)


def test_of_too_many_images_an_even_part_is_counted(tmp_path, monkeypatch, knn_of_shapes):
    from evaluation.report import classes

    # 120 training images of 8 x 8 x 3 numbers: enough for 15 test images and a half.
    monkeypatch.setattr(classes, "_MOST_PRODUCTS", 120 * 192 * 15 + 1000)
    write_report([saved(tmp_path / "results", knn_of_shapes)], tmp_path / "report", map_method="none", device="cpu")
    page = Page.of(tmp_path / "report")
    assert "pixels: counted on 15 of the 60 test images, evenly spread; on a GPU (--device cuda) all are counted" in page.text
    matrix = next(table for table in page.tables if [cell.text for cell in table[0]][1:] == ["round", "polygon", "radial"])
    assert sum(int(cell.attributes["title"].split(" of ")[0]) for row in matrix[1:] for cell in row[1:]) == 15


def test_classes_are_counted_one_by_one(tmp_path, knn_of_shapes):
    write_report([saved(tmp_path / "results", knn_of_shapes)], tmp_path / "report", numbers_only=True)
    page = Page.of(tmp_path / "report")
    table = page.table_with("class", "images", "pixels")
    known = knn_of_shapes.details["per_class"]
    for row, name, total, right in zip(table[1:], known["classes"], known["total"], known["correct"]["top1_k20"], strict=True):
        assert row == [name, str(total), f"{100 * right / total:.1f}"]
    assert "data:" not in page.text
    assert "leave --numbers-only out" in page.text


def test_features_of_other_weights_are_never_taken(tmp_path, knn_of_shapes):
    other = replace(knn_of_shapes, model=replace(knn_of_shapes.model, tensors_sha256="9" * 64))
    write_report([saved(tmp_path / "results", other)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    assert "the features of pixels are not kept on this machine, and no model was given. To have it: give --model pixels" in page.text
    assert not [attributes for name, attributes in page.tags if name == "svg" and attributes.get("class") == "map"]
    # The images are the result's all the same.
    assert any(name == "img" for name, _ in page.tags)


def test_a_model_that_is_given_computes_what_is_not_kept(tmp_path, monkeypatch, knn_of_shapes):
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path / "empty"))
    folder = saved(tmp_path / "results", knn_of_shapes)
    write_report([folder], tmp_path / "report", models=model_sources(["pixels"], [], None, None, None, None), map_method="none")
    page = Page.of(tmp_path / "report")
    assert "Not shown" not in page.text
    assert any(row[0].text == "round" for table in page.tables for row in table)
    with pytest.raises(UserError, match=r"no result is of --model random:test_resnet: none has its weights"):
        write_report([folder], tmp_path / "other", models=model_sources(["random:test_resnet"], [], None, None, None, None))
    assert not (tmp_path / "other").exists()


def test_other_images_of_the_same_name_are_not_shown(tmp_path, knn_of_shapes):
    said = []
    folder = saved(tmp_path / "results", knn_of_shapes)
    write_report([folder], tmp_path / "with", data=["shapes:size=8,train=120,test=60,seed=5"], map_method="none", say=said.append)
    # The ones that the result names are at hand, and are taken.
    assert any("are not those of the result" in text for text in said)
    assert "Not shown" not in Page.of(tmp_path / "with").text
    moved = replace(knn_of_shapes, data=replace(knn_of_shapes.data, spec="shapes:size=8,train=120,test=60,seed=5"))
    write_report([saved(tmp_path / "moved", moved)], tmp_path / "without", map_method="none")
    page = Page.of(tmp_path / "without")
    assert "are not those of the result (120 images, another fingerprint)" in page.text
    assert not any(name == "img" for name, _ in page.tags)
    with pytest.raises(UserError, match=r"no result is of data 'digits' \(--data digits\); they are of shapes"):
        write_report([folder], tmp_path / "other", data=["digits"])


def test_clusters_show_their_images(tmp_path):
    result = run_cluster(open_model("pixels"), open_data(SHAPES), preset="hirl")
    write_report([saved(tmp_path / "results", result)], tmp_path / "report", map_method="none")
    page = Page.of(tmp_path / "report")
    shown = [position for cluster in result.details["montage"]["clusters"] for position in cluster["images"]]
    test = open_data(SHAPES).role("test")
    images = [attributes["alt"] for name, attributes in page.tags if name == "img"]
    assert images == [test.classes[test.labels[position]] for position in shown]
    for cluster in result.details["montage"]["clusters"]:
        assert f"cluster {cluster['cluster']}: {cluster['size']} images" in page.text


def test_what_tasks_put_into_results_is_described(knn_of_shapes):
    page = (Path(__file__).parents[3] / "docs" / "results-schema.md").read_text()
    described = {
        part: set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", text, re.MULTILINE))))
        for part, text in (match.groups() for match in re.finditer(r"^## `(\w+)`\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL))
    }
    assert described.keys() == {"protocol", "counts", "details"}
    data = open_data(SHAPES)
    results = [knn_of_shapes, run_cluster(open_model("pixels"), data, preset="hirl")]
    results.append(run_linear(open_model("pixels"), data, preset=LINEAR_PRESETS["logreg"].change(c=[0.1, 1])))
    for result in results:
        assert result.details.keys() <= described["details"]
        assert {re.sub(r"^(train|test)_", "ROLE_", name) for name in result.counts} <= described["counts"]
        # The command writes what it was asked for; the functions are called with it.
        assert described["protocol"] - {"layer", "options", "procedure"} <= result.protocol.keys()


def test_the_log_of_a_run_at_hand_is_drawn(tmp_path, make_run, make_result):
    run = make_run()
    (run / "log.jsonl").write_text("".join(json.dumps({"step": step, "loss": 4.0 - step / 10}) + "\n" for step in range(10)) + '{"st')
    result = make_result("1" * 64)
    result = replace(result, model=replace(result.model, spec=str(run)))
    write_report([saved(tmp_path / "results", result)], tmp_path / "report")
    page = Page.of(tmp_path / "report")
    labels = [attributes["aria-label"] for name, attributes in page.tags if name == "svg" and attributes.get("class") == "chart"]
    assert "Training loss. run: from 4 at 0 to 3.1 at 9" in labels
    assert "there is no run with a log" not in page.text


def test_what_is_refused(tmp_path, make_result, capsys):
    folder = saved(tmp_path / "results", make_result("1" * 64))
    (tmp_path / "text.json").write_text("no result")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("a page of somebody's own")
    out = tmp_path / "report"
    cases = [
        ([tmp_path / "text.json", "--out", out], "text.json is not valid JSON"),
        ([tmp_path / "none.json", "--out", out], "none.json cannot be read (No such file"),
        ([tmp_path / "empty", "--out", out], "there is no result in"),
        ([folder, "--out", tmp_path / "mine"], "exists already; choose another --out"),
        ([folder, "--out", tmp_path / "mine", "--overwrite"], "is not a folder with a report.json, so it is not overwritten"),
        ([folder, "--out", out, "--map", "pca"], "--map is tsne, umap or none, not 'pca'"),
        ([folder, "--out", tmp_path / "text.json" / "report"], "cannot be written"),
    ]
    for words, message in cases:
        assert typed("zoo", "report", *words) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error
    assert not out.exists()
    assert (tmp_path / "mine" / "index.html").read_text() == "a page of somebody's own"


def test_a_report_replaces_a_report(tmp_path, make_result):
    folder, out = saved(tmp_path / "results", make_result("1" * 64)), tmp_path / "report"
    assert typed("zoo", "report", folder, "--out", out, "--title", "The first") == 0
    assert typed("zoo", "report", folder, "--out", out) == 2
    assert "The first" in Page.of(out).text
    assert typed("zoo", "report", folder, "--out", out, "--title", "The second", "--overwrite") == 0
    assert "The second" in Page.of(out).text


def test_json_of_another_kind_in_a_folder_is_left_out_and_a_damaged_result_is_not(tmp_path, make_result):
    said = []
    folder = saved(tmp_path / "results", make_result("1" * 64))
    (folder / "comparison.json").write_text('{"schema": "something else"}')
    write_report([folder], tmp_path / "report", say=said.append)
    assert said[0] == f"{folder / 'comparison.json'} is no result and was left out"
    (folder / "cut.json").write_text((folder / "0.json").read_text()[:200])
    with pytest.raises(UserError, match=r"cut\.json is not valid JSON"):
        write_report([folder], tmp_path / "other")


def test_strange_details_are_left_alone(tmp_path, make_result):
    result = replace(
        make_result("1" * 64),
        details={
            "per_class": {"classes": ["a"], "total": [1, 2], "correct": "many"},
            "neighbours": {"test": ["first"], "train": None},
            "montage": {"clusters": [1, {"images": [-1]}], "k": "9"},
            "epochs": {"test_top1": [1.0, None]},
            "curves": {"lr": [1], "test_correct": [[1], []]},
            "chosen": {"last": {"lr": 1}},
            "sweep": [1, 2],
            "intervals": {"top1_k20": [60, 50]},
            "warnings": "none",
            "per_image": {"top1_k20": 3},
        },
    )
    write_report([saved(tmp_path / "results", result, replace(result, model=replace(result.model, name="b")))], tmp_path / "report")
    assert "57.25" in Page.of(tmp_path / "report").text
