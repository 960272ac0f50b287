"""A classifier goes to the Hub and comes back as one: pushed with its card, found by timm, used from there."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from hub_typed import ALICE, content, pulled, whole_content
from huggingface_hub import ModelCard
from PIL import Image

from zoo.model_folder.folder import load_zoo_model, write_zoo_model
from zoo.models.classifiers import build_classifier, with_head

CLASSES = ("cat", "dog", "=cow")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, make_backbone, make_manifest) -> Path:
    backbone = make_backbone()
    weight = torch.randn(3, backbone.num_features, generator=torch.Generator().manual_seed(0))
    network = with_head(build_classifier("test_resnet", {}, 3), backbone, weight, torch.tensor([0.1, 0.2, 0.3]), 32)
    folder = tmp_path_factory.mktemp("classifier") / "model"
    return write_zoo_model(folder, network, make_manifest(name="test_resnet.pets", classes=CLASSES, licence="mpl-2.0"))


def test_a_classifier_is_pushed_and_pulled_and_predicts(hub, commands, classifier, tmp_path) -> None:
    name = "alice/pets"
    done = commands.zoo("push", classifier, name, token=ALICE)
    assert done.status == 0, done.err
    files = hub.store.repositories[name].files("main")
    files.pop(".gitattributes")
    assert files == whole_content(classifier)
    card = ModelCard(files["README.md"].decode()).data
    assert (card.pipeline_tag, card.license, card.library_name) == ("image-classification", "mpl-2.0", "timm")
    folder = pulled(commands.zoo("pull", name))
    assert content(folder) == content(classifier)
    ours, theirs = load_zoo_model(folder, classifier=True)[0], timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    picture = tmp_path / "a.png"
    Image.radial_gradient("L").convert("RGB").save(picture)
    done = commands.zoo("predict", f"hub:{name}", picture, "--top", "3", "--device", "cpu")
    assert done.status == 0, done.err
    (line,) = done.out.splitlines()
    assert line.startswith(f"{picture}: ")
    assert {part.rsplit(" ", 2)[0] for part in line.removeprefix(f"{picture}: ").split(", ")} == set(CLASSES)
