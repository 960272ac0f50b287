"""The catalogue: what it holds, and what a user's file may say."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import timm
import torch

from pretrain.recipe_files import RECIPES
from zoo.catalogue import CatalogueEntry, files, find_entry, load_catalogue
from zoo.catalogue.files import matching
from zoo.errors import UserError
from zoo.formats.readers import reader_names
from zoo.hub.pull import pull
from zoo.results import save_result

OWN = """
[project.lab]
source = "our page"
licence = "MIT"

[[model]]
name = "resnet18.lab_10ep"
project = "lab"
method = "moco_v2"
epochs = 10
repository = "lab/resnet18"
revision = "0123456789012345678901234567890123456789"
mean = [0.1, 0.2, 0.3]
published = [{ task = "knn", value = 40, data = "cifar10" }]
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    return path


def test_every_field_of_an_entry_can_come_from_a_file():
    derived = {"published", "own", "home", "mean", "std", "origin"}
    assert {item.name for item in fields(CatalogueEntry)} == files._MODEL_KEYS.keys() | derived


@pytest.mark.parametrize(
    ("name", "linear", "knn"),
    [
        ("resnet50.hcsc_200ep", 69.2, 60.7),
        ("resnet50.hcsc_multicrop_200ep", 73.3, 66.6),
        ("resnet50.hcsc_400ep", 71.0, 64.1),
        ("resnet50.hcsc_multicrop_400ep", 74.1, 69.9),
        ("resnet50.hcsc_800ep", 72.0, 64.5),
        ("resnet50.hcsc_multicrop_800ep", 74.2, 70.6),
    ],
)
def test_hcsc_as_its_readme_prints_it(name, linear, knn):
    entry = find_entry(name, files=())
    assert {result.task: (result.value, result.metric) for result in entry.published} == {"linear": (linear, "top1"), "knn": (knn, "top1")}
    assert all("README" in result.source for result in entry.published)
    assert (entry.arch, entry.reader, entry.licence, entry.sha256) == ("resnet50", "hcsc", "MIT", None)


def test_every_builtin_entry_is_whole():
    entries = load_catalogue(files=())
    recipes = RECIPES.names()
    for entry in entries.values():
        assert entry.citation, entry.name
        assert entry.home is not None or entry.note, entry.name
        assert entry.recipe is None or entry.recipe in recipes, entry.name
        assert entry.epochs is None or re.search(rf"{entry.epochs}ep", entry.name), entry.name
        assert entry.name.startswith(entry.arch + "."), entry.name
        assert entry.reader in reader_names() or (entry.reader is None and entry.note), entry.name
    assert {name for name, entry in entries.items() if entry.missing} >= {"resnet50.csml", "resnet50.mocov2_ccrop_100ep"}


def test_parameters_are_those_of_the_architectures():
    stated = {entry.arch: entry.parameters for entry in load_catalogue(files=()).values()}
    for arch, parameters in stated.items():
        with torch.device("meta"):
            network = timm.create_model(arch, num_classes=0)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters, arch


def test_a_users_file_adds_to_the_catalogue(own, monkeypatch):
    monkeypatch.setenv(files.FILES_VARIABLE, str(own))
    entries = load_catalogue()
    entry = entries["resnet18.lab_10ep"]
    assert (entry.arch, entry.licence, entry.origin, entry.mean) == ("resnet18", "MIT", str(own), (0.1, 0.2, 0.3))
    assert entry.home is not None
    assert (entry.home.repository, entry.home.url) == ("lab/resnet18", None)
    assert entry.published[0].value == 40.0
    assert "resnet50.hcsc_200ep" in entries


def test_the_file_in_the_configuration_folder_is_found(own, monkeypatch, tmp_path):
    monkeypatch.delenv(files.FILES_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert files.user_files() == ()
    target = tmp_path / "config" / "backbone-loop" / "catalogue.toml"
    target.parent.mkdir(parents=True)
    own.rename(target)
    assert "resnet18.lab_10ep" in load_catalogue()


def test_an_entry_of_the_user_takes_the_place_of_a_builtin_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[model]]\nname = "resnet50.hcsc_200ep"\nmethod = "hcsc"\nurl = "https://mirror.example/hcsc.pth"\n')
    entry = find_entry("resnet50.hcsc_200ep", files=[path])
    assert (entry.home.url, entry.origin, entry.published) == ("https://mirror.example/hcsc.pth", str(path), ())


def test_a_result_of_our_own_is_a_file_beside_the_catalogue(tmp_path, make_result):
    result = make_result("c" * 64)
    save_result(result, tmp_path / "knn.json")
    path = tmp_path / "mine.toml"
    path.write_text('[[model]]\nname = "resnet18.a"\nmethod = "moco"\nown = ["knn.json"]\n')
    assert find_entry("resnet18.a", files=[path]).own == (result,)
    (tmp_path / "knn.json").write_text("{}")
    with pytest.raises(UserError, match=r"knn\.json is not a result"):
        load_catalogue([path])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('method = "moco_v2"', "", r"'method' is missing in model 'resnet18\.lab_10ep'"),
        ("epochs = 10", 'epochs = "ten"', r"'epochs' is 'ten' in model 1"),
        ("epochs = 10", "epochs = true", r"'epochs' is True"),
        ("epochs = 10", "epoch = 10", r"'epoch' is not known in model 1; did you mean 'epochs'\?"),
        ('project = "lab"', 'project = "other"', r"there is no project 'other'"),
        ('01234567890123456789"', 'main"', r"'revision' must be the 40 hex digits"),
        ('repository = "lab/resnet18"', "", r"either 'repository' or 'url'"),
        ('repository = "lab/resnet18"', 'repository = "resnet18"', r"ORG/NAME"),
        ("value = 40, ", "", r"lacks 'value'"),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2]", r"'mean' must be three numbers"),
        ("resnet18.lab_10ep", "lab model", r"cannot name a model"),
        ("[[model]]", "[[model]", r"cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_it(own, old, new, message):
    assert old in OWN
    own.write_text(OWN.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        load_catalogue([own])
    assert str(own) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no catalogue file .*absent"):
        load_catalogue([tmp_path / "absent.toml"])


def test_an_unknown_name_has_neighbours():
    with pytest.raises(UserError, match=r"no model 'resnet50\.hcsc_200'; did you mean 'resnet50\.hcsc_200ep"):
        find_entry("resnet50.hcsc_200", files=())


def test_patterns():
    entries = load_catalogue(files=())
    assert [entry.name for entry in matching(entries, "*.hcsc_[24]00ep")] == ["resnet50.hcsc_200ep", "resnet50.hcsc_400ep"]
    assert len(matching(entries, "HCSC")) == 6
    assert matching(entries, None) == list(entries.values())
    assert matching(entries, "nothing") == []


def test_weights_that_must_be_asked_for() -> None:
    entry = find_entry("vit_small_patch16_dinov3_qkvb.dinov3_lvd1689m")
    assert (entry.home, entry.reader) == (None, "transformers")
    sentence = r"are given to those who ask \(the Hub \(facebook/dinov3-vits16-pretrain-lvd1689m\).*zoo import FILE --name"
    with pytest.raises(UserError, match=sentence):
        pull(entry.name)
