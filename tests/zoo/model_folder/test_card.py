"""The model card: read back by the Hub's own client, and its code run as it stands."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import zoo
from zoo.data.spec import without_place
from zoo.model_folder.card import RESULT_COLUMNS, make_card, result_row
from zoo.model_folder.claims import add_results
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import read_manifest


def test_the_front_matter_is_what_the_hub_reads(make_manifest):
    card = ModelCard(make_card(make_manifest(data="cifar10", licence="MIT")))
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.license == "mit"
    assert card.data.datasets == ["cifar10"]
    assert card.data.tags == ["image-feature-extraction", "self-supervised-learning", "timm", "moco"]


@pytest.mark.parametrize(
    ("licence", "identifier", "name"), [(None, None, None), ("Apache-2.0", "apache-2.0", None), ("Our-Own-1.0", "other", "Our-Own-1.0")]
)
def test_licences_are_named_as_the_hub_names_them(make_manifest, licence, identifier, name):
    data = ModelCard(make_card(make_manifest(licence=licence))).data
    assert (data.license, getattr(data, "license_name", None)) == (identifier, name)


def test_data_that_the_hub_does_not_have_gets_no_link(make_manifest):
    text = make_card(make_manifest(data="shapes"))
    assert ModelCard(text).data.datasets is None
    assert "on `shapes`" in text


def test_what_is_not_known_is_not_claimed(make_manifest):
    text = make_card(make_manifest(method=None))
    assert "| Licence | not stated |" in text
    assert "None has been measured yet" in text
    assert "## Citation" not in text
    assert "Epochs" not in text
    assert "None |" not in text


def test_recipe_source_and_citation_are_on_the_card(make_manifest):
    source = {"run": "moco", "commit": "abc1234", "versions": {"torch": "2.9", "timm": None}}
    text = make_card(make_manifest(recipe={"lr": 0.03}, source=source, epochs=200, steps=39000))
    for part in ('"lr": 0.03', "| Epochs | 200 |", "| Optimizer steps | 39000 |", "abc1234", "| Versions | torch 2.9 |", "he2020momentum"):
        assert part in text


def test_a_result_stands_in_the_table_with_its_protocol(zoo_folder, make_result):
    add_results(zoo_folder, [make_result(read_manifest(zoo_folder).tensors_sha256, changed=("temperature",))])
    text = (zoo_folder / "README.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| knn"))
    assert row == "| knn | cifar10 (10 class labels) | 1,000 (2 left out) | dino@32 (changed) | top1_k20 | 57.25 | 2026-11-21 |"
    assert '- knn, cifar10: `dino@32`: k [10, 20], temperature 0.07, changed ["temperature"]' in text


def test_the_model_index_holds_each_result_with_its_data_preset_and_date(make_manifest, make_result):
    first, second = make_result("c" * 64, value=57.25), make_result("c" * 64, value=58.5, preset="moco@32", changed=("temperature",))
    fine = replace(second, data=replace(second.data, level="superclass"))
    manifest = make_manifest(results=tuple(replace(one, data=replace(one.data, spec="cifar10")) for one in (first, second, fine)))
    read = ModelCard(make_card(manifest)).data.eval_results
    assert [(one.metric_name, one.metric_type, one.metric_value, one.metric_config) for one in read] == [
        ("knn top1_k20", "accuracy", 57.25, "dino@32"),
        ("knn top1_k20", "accuracy", 58.5, "moco@32"),
        ("knn top1_k20", "accuracy", 58.5, "moco@32"),
    ]
    assert {(one.task_type, one.dataset_type, one.dataset_name, one.dataset_split) for one in read} == {
        ("image-classification", "cifar10", "cifar10", "test")
    }
    assert [one.dataset_config for one in read] == ["class", "class", "superclass"]
    assert read[0].metric_args == {"date": "2026-11-21", "images": 1000, "fingerprint": "b" * 64}
    assert read[1].metric_args["changed"] == ["temperature"]


def test_results_on_sets_that_differ_by_a_setting_are_kept_apart(make_manifest, make_result):
    result = make_result("c" * 64)
    sets = [replace(result, data=replace(result.data, name="shapes", spec=spec)) for spec in ("shapes", "shapes:clutter=2")]
    read = ModelCard(make_card(make_manifest(results=tuple(sets)))).data.eval_results
    assert [one.dataset_name for one in read] == ["shapes", "shapes:clutter=2"]


def test_where_an_import_is_from_and_what_was_assumed_is_said(make_manifest):
    source = {"checkpoint": "x.pth", "sha256": "d" * 64, "format": "moco", "format_confirmed": False, "url": "https://a/x.pth"}
    text = make_card(make_manifest(source={**source, "assumed": ["images of 224 px", "ImageNet's mean"]}))
    assert "| Imported from | https://a/x.pth |" in text
    assert f"| sha256 of the imported file | {'d' * 64} |" in text
    assert "| Layout of the imported file | moco (not confirmed by a file of its authors) |" in text
    assert "| Assumed, since nobody says otherwise | images of 224 px; ImageNet's mean |" in text
    assert "Imported" not in make_card(make_manifest(source={"run": "moco", "checkpoint": "step_00000010.pt"}))


def test_a_classifiers_backbone_is_not_said_to_have_learned_without_labels(make_manifest):
    text = make_card(make_manifest(method="supervised", data="imagenet"))
    assert "pre-trained with labels on `imagenet`" in text
    assert "self-supervised" not in text


def test_methods_and_crops_are_cited(make_manifest):
    text = make_card(make_manifest(method="hcsc", recipe={"views": {"crop": "contrastive_crop"}}))
    assert re.findall(r"@\w+{(\w+),", text) == ["guo2022hcsc", "peng2022crafting"]


def test_a_row_has_a_cell_for_every_column(make_result):
    assert len(result_row(make_result("c" * 64))) == len(RESULT_COLUMNS)


@pytest.mark.parametrize(("arch", "image_size"), [("test_resnet", 32), ("resnet18_small", 32), ("test_vit", 48)])
def test_the_three_ways_to_load_work_as_they_are_printed(tmp_path, make_backbone, make_manifest, arch, image_size):
    backbone = make_backbone(arch, image_size=image_size)
    folder = write_zoo_model(tmp_path / "model", backbone, make_manifest(arch, image_size))
    text = (folder / "README.md").read_text()
    assert ("import zoo.backbones" in text) == (arch == "resnet18_small")
    ways = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(ways) == 3
    image = Image.radial_gradient("L").convert("RGB")
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for way in ways:
            names = {"image": image, "zoo": zoo}
            exec(way.replace("FOLDER", str(folder)), names)
            assert torch.equal(names["model"].eval()(images), backbone(images))


@pytest.mark.parametrize(
    ("data", "published"),
    [
        ("shapes", "shapes"),
        ("shapes:clutter=2", "shapes:clutter=2"),
        ("cifar10:/home/somebody/cifar", "cifar10"),
        ("cifar10:~/cifar", "cifar10"),
        ("cifar10:../cifar", "cifar10"),
        ("cifar10:C:\\Users\\somebody", "cifar10"),
        ("folder:/home/somebody/birds", "folder:birds"),
        ("folder:birds/", "folder:birds"),
        ("wds:/data/birds-{0000..0009}.tar", "wds:birds-{0000..0009}.tar"),
    ],
)
def test_where_data_lay_is_left_out(data, published):
    assert without_place(data) == published


@pytest.mark.parametrize("value", [3, "text", None, [1, None], {"a": [2]}])
def test_sources_of_any_kind_make_a_card(make_manifest, value):
    """A stranger's zoo.json may hold anything in an object that no type is stated for."""
    source = dict.fromkeys(("run", "url", "checkpoint", "sha256", "format", "assumed", "commit", "versions", "classifier"), value)
    text = make_card(make_manifest(source=source, classes=("a", "b"), backbone_sha256="a" * 64))
    assert "| Classes | a, b |" in text
