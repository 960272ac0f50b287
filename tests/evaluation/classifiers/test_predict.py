"""``zoo predict``: the table, the page, what is left out, and what is refused before anything is computed."""

from __future__ import annotations

import csv
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas
import pytest
import timm
import torch
from PIL import Image
from typed import typed

from evaluation.classifiers.page import page_text
from evaluation.classifiers.predict import Predictions, find_images, predict_images
from evaluation.classifiers.table import harmless, table_text
from zoo.data.base import FileImages
from zoo.data.entries import FileEntry
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.models import published
from zoo.models.model import Inputs, Model
from zoo.models.transforms import own_transform

ODD = ("=cmd|' C calc'!A0.png", "+1.png", "-1.png", "@x.png", '"quoted", b.png', "<b>&amp;.png", "new\nline.png", "tab\t.png", "ü日.png")


@pytest.fixture
def folder_of_photos(photos: Path, tmp_path: Path) -> Path:
    """Images of all names, two that cannot be read, and one of a format that is not read."""
    place = tmp_path / "in"
    (place / "deep" / "er").mkdir(parents=True)
    images = sorted((photos / "test").rglob("*.png"))
    for source, name in zip(images, ODD, strict=False):
        (place / name).write_bytes(source.read_bytes())
    with open(os.fsencode(place) + b"/\xff\xfe.png", "wb") as file:
        file.write(images[-1].read_bytes())
    (place / "deep" / "er" / "a.png").write_bytes(images[-2].read_bytes())
    (place / "deep" / "cut.png").write_bytes(images[0].read_bytes()[:60])
    (place / "deep" / "empty.jpg").touch()
    (place / "notes.txt").write_text("no image")
    return place


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_probabilities_are_a_softmax_of_timm_s_outputs(saved, photos: Path) -> None:
    """Against timm's own network and transform, image by image, in float64."""
    folder, _ = saved("linear")
    paths = find_images([photos / "test"])
    found = predict_images(open_model(folder, classifier=True), paths, top=2, batch_size=4)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    for row, path in enumerate(paths):
        assert found.name(row) == path
        with torch.no_grad():
            outputs = network(transform(Image.open(path).convert("RGB"))[None])[0].double().numpy()
        chances = np.exp(outputs - outputs.max()) / np.exp(outputs - outputs.max()).sum()
        order = np.argsort(-chances)[:2]
        assert found.top[row].tolist() == order.tolist()
        np.testing.assert_allclose(found.probabilities[row], chances[order], atol=1e-5)


def test_the_table_holds_every_image_that_can_be_read(saved, folder_of_photos: Path, tmp_path: Path, capsys) -> None:
    folder, _ = saved("linear")
    out = tmp_path / "p.csv"
    assert typed("zoo", "predict", folder, folder_of_photos, "--out", out, "--top", "99", "--batch", "4", "--device", "cpu") == 0
    said = capsys.readouterr().err
    assert "12 images" not in said
    assert f"written: {out}: 11 images, 2 left out" in said
    for name in ("cut.png", "empty.jpg"):
        assert f"left out: {folder_of_photos}/deep/{name} (" in said
    text = out.read_bytes().decode()
    assert text.startswith("\ufeffimage,class_1,probability_1,class_2,probability_2,class_3,probability_3\r\n")
    rows = rows_of(text)
    names = [row["image"] for row in rows]
    assert set(names) == {str(folder_of_photos / name) for name in (*ODD, "\\udcff\\udcfe.png", "deep/er/a.png")}
    for row in rows:
        chances = [float(row[f"probability_{rank}"]) for rank in (1, 2, 3)]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1, abs=2e-6)
        assert {row[f"class_{rank}"] for rank in (1, 2, 3)} == {"dark", "light", "red"}
    frame = pandas.read_csv(out)
    assert frame.columns[0] == "image"
    assert frame["image"].tolist() == names
    assert frame["probability_1"].dtype == np.float64


def test_no_cell_is_a_formula(saved, folder_of_photos: Path, monkeypatch, tmp_path: Path) -> None:
    """Paths that begin as one does lead to the same file; and names of classes do not, either."""
    folder, _ = saved("linear")
    monkeypatch.chdir(folder_of_photos)
    out = tmp_path / "p.csv"
    names = [name if not name.startswith("-") else f"./{name}" for name in ODD]
    assert typed("zoo", "predict", folder, *names, "--out", out, "--device", "cpu") == 0
    rows = rows_of(out.read_text(encoding="utf-8"))
    assert len(rows) == len(ODD)
    for row in rows:
        assert not row["image"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert os.path.exists(row["image"])
    evil = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "plain")
    images = FileImages("x", "all", [FileEntry("=a.png")], {})
    text = table_text(Predictions(images, evil, np.arange(7)[None], np.full((1, 7), 1 / 7), ()))
    (row,) = rows_of(text)
    assert [row[f"class_{rank}"] for rank in range(1, 8)] == [*(f"'{name}" for name in evil[:-1]), "plain"]
    assert row["image"] == "./=a.png"
    assert harmless("a=b", "'") == "a=b"


def test_without_a_table_the_likeliest_are_printed(saved, photos: Path, capsys) -> None:
    folder, _ = saved("linear")
    image = sorted((photos / "test" / "red").iterdir())[0]
    assert typed("zoo", "predict", folder, image, image, "--top", "1", "--device", "cpu") == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()  # the same path twice is one image
    assert line.startswith(f"{image}: ")
    assert line.endswith(" %")
    assert ", 3 classes, on cpu: 1 image\n" in captured.err


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.percents: list[list[float]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "h2":
            self.percents.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if self.open[-1:] == ["strong"]:
            self.percents[-1].append(float(data.removesuffix(" %")))


def test_the_page_has_thumbnails_by_class_the_least_certain_first(saved, photos: Path, folder_of_photos: Path, tmp_path: Path) -> None:
    folder, _ = saved("linear")
    out, html = tmp_path / "p.csv", tmp_path / "p.html"
    assert typed("zoo", "predict", folder, photos / "test", folder_of_photos, "--out", out, "--html", html, "--device", "cpu") == 0
    text = html.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    rows = rows_of(out.read_text(encoding="utf-8"))
    wanted = {name: sorted(float(row["probability_1"]) for row in rows if row["class_1"] == name) for name in page.headings}
    assert page.headings == sorted({row["class_1"] for row in rows})
    for name, percents in zip(page.headings, page.percents, strict=True):
        assert percents == sorted(percents)
        np.testing.assert_allclose(percents, 100 * np.array(wanted[name]), atol=0.06)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == len(rows)
    assert all(str(picture["src"]).startswith("data:image/") for picture in pictures)
    # Nothing is fetched, and nobody's name is markup.
    assert not [attributes for tag, attributes in page.tags if tag in ("script", "link", "b")]
    assert {str(attributes["alt"]) for attributes in pictures} >= {"<b>&amp;.png", "new\\nline.png", "\\udcff\\udcfe.png"}
    assert "2 images were left out, for they could not be read" in text


def test_a_long_page_shows_the_least_certain_and_says_so(saved, photos: Path, monkeypatch) -> None:
    folder, _ = saved("linear")
    monkeypatch.setattr("evaluation.classifiers.page.MOST_OF_A_CLASS", 2)
    found = predict_images(open_model(folder, classifier=True), find_images([photos / "test"]))
    page = Page(text := page_text(found, "evil <script>"))
    assert all(len(percents) <= 2 for percents in page.percents)
    assert "the 2 least certain are shown" in text
    assert "of them; the table holds all." in text
    assert "<script>" not in text
    for number, percents in zip(np.unique(found.top[:, 0]), page.percents, strict=True):
        certain = np.sort(found.probabilities[found.top[:, 0] == number, 0])[:2]
        np.testing.assert_allclose(percents, 100 * certain, atol=0.06)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{model} {here}/none", "there is no image or folder"),
        ("{model} {here}/bare", "there are no images in"),
        ("{model} {photos} --out {here}/p.txt", "must end in .csv"),
        ("{model} {photos} --out {here}/old.csv", "exists already; choose another --out, or give --overwrite"),
        ("{model} {photos} --html {here}/p.csv", "must end in .html"),
        ("{model} {photos} --out {here}/file/p.csv", "is no folder"),
        ("{model} {photos} --top 0", "--top must be at least 1, not 0"),
        ("{model} {photos} --device gpu", "--device is auto, cpu or cuda"),
        ("random:test_resnet {photos}", "gives features and no classes; `evaluate --task linear"),
        ("pixels {photos}", "gives features and no classes"),
        ("{model} {here}/bad.png", "none of 1 images can be read, first"),
        ("nothing {photos}", "there is no model 'nothing'"),
    ],
)
def test_mistakes_are_one_sentence(words: str, told: str, saved, photos: Path, tmp_path: Path, capsys) -> None:
    folder, _ = saved("linear")
    (tmp_path / "bare").mkdir()
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "file").touch()
    (tmp_path / "bad.png").write_bytes(b"no image")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert typed("zoo", "predict", *words.format(model=folder, here=tmp_path, photos=photos / "test").split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert told in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "old.csv").read_text() == "old"


def test_outputs_that_are_no_numbers_name_the_image(photos: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) * torch.nan

    facts = {"input_size": 16, "mean": (0.5,) * 3, "std": (0.2,) * 3, "crop_pct": 1.0, "interpolation": "bilinear", "declared": Inputs()}
    model = Model(Broken(), "broken", "zoo", "x", 3, "", classes=("a", "b", "c"), **facts)
    paths = find_images([photos / "test"])
    with pytest.raises(UserError, match=f"the outputs for image {paths[0]} are not finite"):
        predict_images(model, paths)
    with pytest.raises(UserError, match="does not say how its images are resized"):
        predict_images(Model(Broken(), "broken", "zoo", "x", 3, "", classes=("a", "b", "c")), paths)


def test_photos_are_seen_upright_as_those_that_the_classifier_was_trained_on(saved, photos: Path, tmp_path: Path) -> None:
    """The orientation in EXIF is applied: a turned file with its mark gives the same probabilities as the upright one."""
    folder, _ = saved("linear")
    # Dark above, light below: a network sees which way up it is.
    pixels = np.repeat(np.linspace(0, 255, 24)[:, None, None], 24, 1).repeat(3, 2).astype(np.uint8)
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    upright.save(tmp_path / "a.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png")
    found = predict_images(open_model(folder, classifier=True), find_images([tmp_path]), top=3)
    np.testing.assert_array_equal(found.probabilities[0], found.probabilities[1])
    assert abs(found.probabilities[0] - found.probabilities[2]).max() > 1e-6


def test_models_of_timm_and_torchvision_know_imagenet_s_classes(photos: Path, monkeypatch) -> None:
    """With random weights in the place of those that would be downloaded; everything else is the libraries' own."""
    import torchvision
    from torchvision.models import get_model_weights

    create = timm.create_model

    def without_download(name: str, pretrained: bool = False, **settings):
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr(published.timm, "create_model", without_download)
    model = open_model("timm:resnet18.a1_in1k", classifier=True)
    assert (len(model.classes), model.classes[0], model.num_features) == (1000, "tench, Tinca tinca", 1000)
    transform = own_transform(model)
    assert (transform.resize, transform.crop) == (235, 224)  # timm: floor(224 / 0.95)
    paths = find_images([photos / "test"])[:5]
    found = predict_images(model, paths, top=5)
    assert found.top.shape == (5, 5)
    assert open_model("timm:resnet18.a1_in1k").classes == ()
    assert open_model("timm:resnet18.a1_in1k").num_features == 512

    network = torchvision.models.resnet18(weights=None)
    weights = get_model_weights("resnet18").DEFAULT
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_values, **_settings: network.state_dict())
    model = open_model("torchvision:resnet18", classifier=True)
    assert (len(set(model.classes)), model.classes[0], model.classes[134]) == (1000, "tench", "crane bird")
    images = torch.stack([weights.transforms()(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        expected = network.eval()(images).argmax(1)
    assert predict_images(model, paths, top=1).top[:, 0].tolist() == expected.tolist()


def test_what_the_page_of_the_docs_prints_runs_as_it_stands(saved, photos: Path, tmp_path: Path, monkeypatch) -> None:
    """Its Python, and its two commands in the folder that they speak of."""
    folder, _ = saved("linear")
    text = (Path(__file__).parents[3] / "docs" / "classifiers.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    os.symlink(photos / "train", "photos")
    os.symlink(photos / "test", "new-photos")
    os.makedirs("models")
    os.symlink(folder, "models/moco")
    commands = [line.split() for line in text.splitlines() if line.startswith("    ") and line.split()[0] in ("evaluate", "zoo")][:2]
    assert [command[:2] for command in commands] == [["evaluate", "--task"], ["zoo", "predict"]]
    for command in commands:
        faster = ["--epochs", "1"] if command[0] == "evaluate" else []
        assert typed(*command, *faster, "--device", "cpu") == 0
    assert sorted(os.listdir()) == ["models", "new-photos", "photos", "predictions.csv", "predictions.html"]
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert len(names["found"].top) == 31
    assert names["model"].num_classes == 3
    header = next(line for line in text.splitlines() if line.startswith("    image,class_1")).strip()
    assert header == table_text(names["found"]).splitlines()[0].removeprefix("\ufeff")
