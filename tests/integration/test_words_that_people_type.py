"""What people type: forms that are understood, and mistakes that are answered with the words to write."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

import evaluation.commands.cli
import pretrain.cli
import transfer.cli
import zoo.commands.cli
from pretrain.mistakes import value_meant
from zoo.console import sentence_of
from zoo.console.subcommands import nearest_form
from zoo.console.tables import facts, table
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.reading.reach import why_away

APPS = {
    "evaluate": evaluation.commands.cli.app,
    "pretrain": pretrain.cli.app,
    "transfer": transfer.cli.app,
    "zoo": zoo.commands.cli.app,
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `zoo data` keeps of a set is told by later commands: not to other tests."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


def typed(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Standard output of a command line, and the sentence of its mistake."""
    command, *words = line.split()
    capsys.readouterr()
    try:
        APPS[command](words, standalone_mode=False)
        sentence = ""
    except UserError as error:
        sentence = sentence_of(error)
    return capsys.readouterr().out, sentence


ANSWERS = {
    "evaluate --model resnet50 --data digits": r"write timm:resnet50 for timm's weights, or random:resnet50 .*catalogue has resnet50\.hcsc",
    "evaluate --model timm/resnet18 --data digits": "write timm:resnet18, or hub:timm/resnet18",
    "evaluate --model Pixels --data digits": "write pixels",
    "evaluate --model my-lab/resnet50 --data digits": "a repository on the Hub is written hub:my-lab/resnet50",
    "evaluate --model timm:resnet50x --data digits": "timm has no network 'resnet50x'; did you mean 'resnet50'",
    "evaluate --model pixels --data CIFAR10:/x": "write cifar10:/x",
    "evaluate --model pixels --data digit": "nearest: 'digits'",
    "evaluate --task kNNN --model pixels --data digits": "nearest: 'knn'",
    "evaluate knn --task linear --model pixels --data digits": "named twice",
    "evaluate pixels --model pixels --data digits": "a model is given by --model",
    "pretrain shapes_demo --epochs 3": "set without dashes: epochs=3",
    "pretrain shapes_demo --epochs=3": "set without dashes: epochs=3",
    "pretrain shapes_demo --batch-size": "set without dashes: batch_size=VALUE",
    "pretrain shapes_demo --outt x": "did you mean --out",
    "pretrain resume": "name the run to go on with: pretrain --resume RUN",
    "pretrain shape_demo --out x": "did you mean 'shapes_demo'",
    "zoo info resnet50.hcsc_200": "did you mean 'resnet50.hcsc_200ep'",
}


@pytest.mark.parametrize("line", ANSWERS)
def test_a_mistake_is_answered_with_the_words_to_write(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    _, sentence = typed(line, capsys)
    assert re.search(ANSWERS[line], sentence), sentence


def test_what_is_understood(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain, _ = typed("evaluate --task knn --model pixels --data digits --k 5 --no-cache --quiet", capsys)
    assert plain.split()[0] == "pixels"
    for words in ("evaluate knn", "evaluate --task kNN", "evaluate --task KNN"):
        assert typed(f"{words} --model pixels --data digits --k 5 --no-cache --quiet", capsys)[0] == plain
    listed, _ = typed("pretrain --list", capsys)
    assert typed("pretrain list", capsys)[0] == listed
    shown, _ = typed("pretrain --show shapes_demo epochs=3", capsys)
    assert typed("pretrain show shapes_demo epochs=3", capsys)[0] == shown
    assert typed("zoo data digits --quiet", capsys)[0] == typed("zoo Data digits --quiet", capsys)[0]
    assert nearest_form("run", ("runs", "boxes")) == "runs"
    assert nearest_form("box", ("runs", "boxes")) == "boxes"
    assert nearest_form("add_results", ("add-result", "list")) == "add-result"
    assert nearest_form("bos", ("runs", "boxes")) is None


def test_the_weights_file_of_a_zoo_model_is_the_model(model_folder: Path) -> None:
    assert open_model(model_folder / "model.safetensors").tensors_sha256 == open_model(model_folder).tensors_sha256


@pytest.fixture
def model_folder(tmp_path: Path, make_backbone) -> Path:
    from zoo.model_folder.folder import write_zoo_model
    from zoo.model_folder.manifest import Manifest

    facts = {"name": "test_resnet.x", "method": "moco", "arch": "test_resnet", "image_size": 32}
    manifest = Manifest(normalisation={"mean": [0.5] * 3, "std": [0.2] * 3}, interpolation="bilinear", crop_pct=1.0, **facts)
    return write_zoo_model(tmp_path / "model", make_backbone(), manifest)


JSON = (
    "zoo list --json",
    "zoo info resnet50.hcsc_200ep --json",
    "zoo data digits --json",
    "zoo doctor --json",
    "zoo cache --json",
    "pretrain --list --json",
    "pretrain --show shapes_demo --json",
    "transfer detect --list --json",
    "evaluate knn --model pixels --data digits --k 5 --no-cache --json",
)


@pytest.mark.parametrize("line", JSON)
def test_json_is_json_and_nothing_else(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, sentence = typed(line, capsys)
    assert sentence == ""
    # Of a cache that is empty the list is.
    assert isinstance(json.loads(out), list | dict)


def test_numbers_in_json_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = "evaluate knn --model pixels --data digits --k 5 --no-cache"
    (result,) = json.loads(typed(f"{words} --json", capsys)[0])
    assert f"{result['metrics']['top1_k5']:.2f}" in typed(f"{words} --quiet", capsys)[0].split()


def test_tables_at_fifty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    for line in ("pretrain --list", "zoo list hcsc", "zoo info resnet50.hcsc_200ep"):
        out, _ = typed(line, capsys)
        # What may be copied, such as an address or a hash, stays whole.
        assert [row for row in out.splitlines() if len(row) > 50 and len(max(row.split(), key=len)) < 25] == [], line
    out, _ = typed("evaluate knn --model pixels --model random:resnet10_small --data digits --no-cache", capsys)
    # Sentences are the terminal's to wrap.
    assert [row for row in out.splitlines() if row[:1] in "┏┃│└├" and len(row) > 50] == []
    for number in ("97.98", "97.75"):
        assert number in out
    assert table(["name", "what"], [["a", "b" * 60]], width=50).splitlines()[0] == "a"
    assert facts([("name", "many words " * 8)], width=50).splitlines()[1].startswith("      ")


def test_a_word_that_looks_like_an_option() -> None:
    options = ["--out", "--overwrite", "--continue"]
    assert value_meant(["moco", "--out", "x", "epochs=3"], options) is None
    assert value_meant(["moco", "--", "--epochs"], options) is None
    assert "epochs=VALUE" in str(value_meant(["moco", "--epochs", "batch=3"], options))


@pytest.fixture
def listening() -> str:
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=server.accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_host_that_is_away_is_found_by_one_connection(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_away(listening) is None
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    assert "refused" in str(why_away(f"http://127.0.0.1:{port}"))
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    assert why_away(f"http://127.0.0.1:{port}") is None


def test_timms_weights_without_network_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    asked = []
    monkeypatch.setattr("time.sleep", asked.append)
    with pytest.raises(UserError, match=r"the weights of 'timm:resnet18.a1_in1k' cannot be loaded \(127.0.0.1: .*refused\)"):
        open_model("timm:resnet18.a1_in1k")
    assert asked == []
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("command", "words", "place", "wanted"),
    [
        ("evaluate", "evaluate --model pix", 2, ["pixels"]),
        ("evaluate", "evaluate --data cifar", 2, ["cifar10:", "cifar100:"]),
        ("evaluate", "evaluate kn", 1, ["knn"]),
        ("zoo", "zoo info resnet50.hcsc_2", 2, ["resnet50.hcsc_200ep"]),
        ("pretrain", "pretrain hcsc_v", 1, ["hcsc_vit_shapes", "hcsc_vit_small_imagenet"]),
    ],
)
def test_completion(
    command: str, words: str, place: int, wanted: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    monkeypatch.setenv(f"_{command.upper()}_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        APPS[command](prog_name=command)
    assert capsys.readouterr().out.split() == wanted
