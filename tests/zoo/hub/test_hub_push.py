"""``zoo push`` against a Hub on the loopback, by the real client: one commit or none, and nothing that the zoo.json does not hold."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hub_server import sha256
from hub_typed import ALICE, BOB, READER, WEIGHTS, content, pulled, refused, whole_content

from zoo.model_folder.claims import add_results
from zoo.model_folder.manifest import read_manifest

FOUR = {"README.md", "config.json", "model.safetensors", "zoo.json"}


def pushed(done) -> str:
    assert done.status == 0, done.err
    return done.last


def remote(hub, name: str, revision: str = "main") -> dict[str, bytes]:
    files = hub.store.repositories[name].files(revision)
    files.pop(".gitattributes")
    return files


def test_a_push_is_one_commit_of_the_model_s_files(hub, commands, model):
    name = "zoo-lab/new"
    url = pushed(commands.zoo("push", model, name, token=ALICE))
    repository = hub.store.repositories[name]
    assert remote(hub, name) == whole_content(model)
    assert set(remote(hub, name)) == {*FOUR, ".eval_results/cifar10-knn-dino-at-32.yaml"}
    assert not repository.private
    commits = list(repository.commits.values())
    assert [(commit.title, commit.author) for commit in commits] == [("initial commit", ""), ("Publish test_resnet.moco_2ep", "alice")]
    assert url == f"{hub.url}/{name}/tree/{commits[-1].oid}"
    # What arrived was loaded again through timm: its config and its weights were fetched.
    assert [seen.path.rpartition("/")[2] for seen in hub.seen if (seen.route, seen.method) == ("resolve", "HEAD")] == [
        "config.json",
        WEIGHTS,
    ]
    assert content(pulled(commands.zoo("pull", name))) == content(model)


def test_the_same_again_and_an_update(hub, commands, model, make_model):
    name = "alice/update"
    pushed(commands.zoo("push", model, name, token=ALICE))
    done = commands.zoo("push", model, name, token=ALICE)
    pushed(done)
    assert "holds this very model already; nothing was pushed" in done.err
    more = make_model(results=2)
    hub.seen.clear()
    done = commands.zoo("push", more, name, "--message", "A second result", token=ALICE)
    pushed(done)
    assert [line.split()[0] for line in done.err.splitlines() if line.endswith(" changed")] == ["zoo.json", "README.md"]
    assert "PUT cdn-upload" not in hub.routes_since()
    repository = hub.store.repositories[name]
    assert [commit.title for commit in repository.commits.values()][1:] == ["Publish test_resnet.moco_2ep", "A second result"]
    assert remote(hub, name) == whole_content(more)


def test_private_and_pull_request(hub, commands, model, make_model):
    name = "zoo-lab/private"
    pushed(commands.zoo("push", model, name, "--private", token=ALICE))
    assert hub.store.repositories[name].private
    refused(commands.zoo("push", model, name, token=BOB), "your token may not write to 'zoo-lab'")
    pushed(commands.zoo("push", model, name, "--private", token=ALICE))
    hub.store.publish("zoo-lab/open", whole_content(model))
    refused(commands.zoo("push", model, "zoo-lab/open", "--private", token=ALICE), "exists already and is public, and --private is for new")
    more = make_model(results=2)
    url = pushed(commands.zoo("push", more, "zoo-lab/open", "--create-pr", token=BOB))
    assert url == f"{hub.url}/zoo-lab/open/discussions/1"
    assert remote(hub, "zoo-lab/open") == whole_content(model)
    assert remote(hub, "zoo-lab/open", "refs/pr/1") == whole_content(more)
    refused(
        commands.zoo("push", more, "zoo-lab/none", "--create-pr", token=BOB), "no repository 'zoo-lab/none' that a pull request could go to"
    )


def test_a_dry_run_changes_nothing(hub, commands, model, tmp_path):
    done = commands.zoo("push", model, "alice/dry", "--dry-run", token=ALICE)
    assert (done.status, done.out) == (0, "")
    assert f"test_resnet.moco_2ep -> {hub.url}/alice/dry (new, public)" in done.err
    for file, bytes_ in whole_content(model).items():
        assert f"  {file}  {len(bytes_):,} bytes  sha256 {sha256(bytes_)}  new" in done.err
    assert "no licence is stated" in done.err
    assert done.err.endswith("nothing was pushed (--dry-run)\n")
    assert {seen.method for seen in hub.seen} == {"GET"}
    assert "alice/dry" not in hub.store.repositories


def test_who_may_not(hub, commands, model):
    hub.store.publish("alice/other", {"README.md": b"# Something else", "weights.bin": b"123"})
    hub.store.publish("alice/theirs", {**whole_content(model), "zoo.json": json.dumps({"name": "resnet50.dino"}).encode()})
    refused(commands.zoo("push", model, "alice/any"), "needs a token that may write; set HF_TOKEN or run `hf auth login`")
    assert hub.seen == []
    refused(commands.zoo("push", model, "alice/any", token="hf_old"), "does not know your token, it is wrong or expired")
    refused(commands.zoo("push", model, "alice/any", token=READER), "your token may not write to 'alice'")
    refused(commands.zoo("push", model, "alice/any", token=BOB), "your token may not write to 'alice' .* or a member of it; --create-pr")
    refused(
        commands.zoo("push", model, "alice/other", token=ALICE),
        r"'alice/other' is taken: the repository holds README\.md, weights\.bin and no",
    )
    refused(
        commands.zoo("push", model, "alice/theirs", token=ALICE),
        "is taken: the repository holds the model 'resnet50.dino', not 'test_resnet.moco_2ep'",
    )
    hub.fail("create", status=409)
    refused(
        commands.zoo("push", model, "alice/hidden", token=ALICE), "the name 'alice/hidden' is taken, and your account may not see by what"
    )
    refused(commands.zoo("push", model, "alice/any@v1", token=ALICE), "leave out '@v1'")
    refused(commands.zoo("push", model, "any", token=ALICE), "'any' does not name a model on the Hub: write ORG/NAME")
    assert "POST commit" not in hub.routes_since()
    pushed(commands.zoo("push", model, "alice/other", "--replace", token=ALICE))
    assert remote(hub, "alice/other") == {**whole_content(model), "weights.bin": b"123"}


def edit(folder: Path, file: str, before: str, after: str) -> None:
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1))


CHANGES = {
    "a better number in the table": (lambda f: edit(f, "README.md", "| 50.00 |", "| 99.00 |"), r"claims knn top1_k20 = 99\.00 on cifar10"),
    "a better number in the front matter": (lambda f: edit(f, "README.md", "value: 50.0", "value: 99.0"), r"claims .* = 99\.0 on cifar10"),
    "another sentence": (
        lambda f: edit(f, "README.md", "## Limitations", "Best ever.\n\n## Limitations"),
        r"differs from line \d+ on.*`zoo card",
    ),
    "broken front matter": (lambda f: edit(f, "README.md", "tags:", "tags: ["), "the front matter of .* cannot be read"),
    "other weights": (
        lambda f: (f / WEIGHTS).write_bytes(b"\0" + (f / WEIGHTS).read_bytes()[1:]),
        "is not the file that zoo.json describes",
    ),
    "a result of other weights": (
        lambda f: edit(f, "zoo.json", '"kind": "run",\n        "tensors_sha256": "', '"kind": "run",\n        "tensors_sha256": "0'),
        "was measured with the weights of 'run'",
    ),
    "another mean for timm": (
        lambda f: edit(f, "config.json", "0.5", "0.25"),
        r"config\.json says mean \[0\.25, 0\.4, 0\.3\], zoo\.json \[0\.5",
    ),
    "another licence for timm": (
        lambda f: edit(f, "config.json", '"pretrained_cfg": {', '"pretrained_cfg": {"license": "mit",'),
        r"config\.json says license mit, zoo\.json None",
    ),
    "no card": (lambda f: (f / "README.md").unlink(), r"it lacks README\.md"),
    "a picture from elsewhere": (
        lambda f: (f / "training_curve.png").write_bytes(b"png"),
        r"training_curve\.png is not the picture that zoo\.json",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_says_what_its_zoo_json_does_not_is_not_published(hub, commands, make_model, change):
    folder = make_model()
    alter, sentence = CHANGES[change]
    alter(folder)
    refused(commands.zoo("push", folder, "alice/altered", token=ALICE), sentence)
    assert hub.seen == []


def test_the_card_can_be_made_again(hub, commands, make_model):
    folder = make_model()
    before = whole_content(folder)
    edit(folder, "README.md", "## Limitations", "Best ever.\n\n## Limitations")
    assert commands.zoo("card", folder).status == 0
    assert whole_content(folder) == before


def test_another_push_at_the_same_time_is_noticed_and_nothing_is_lost(hub, commands, model, other_model, make_model):
    name = "alice/race"
    hub.store.publish(name, whole_content(model))
    more = make_model(results=2)
    program = f"""
from huggingface_hub import CommitOperationAdd, HfApi
from zoo.hub.push import plan_push
plan = plan_push({str(more)!r}, "{name}")
HfApi().create_commit("{name}", [CommitOperationAdd("NOTES.md", b"theirs")], commit_message="theirs")
plan.carry_out()
"""
    refused(commands.python(program, token=ALICE), f"somebody else pushed to '{name}' at the same time: .* nothing of theirs is lost")
    assert remote(hub, name) == {**whole_content(model), "NOTES.md": b"theirs"}
    pushed(commands.zoo("push", more, name, token=ALICE))
    assert remote(hub, name) == {**whole_content(more), "NOTES.md": b"theirs"}


def test_a_commit_whose_answer_is_lost_is_recognised(hub, commands, model):
    hub.fail("commit", "lost", status=503)
    pushed(commands.zoo("push", model, "alice/lost", token=ALICE))
    assert remote(hub, "alice/lost") == whole_content(model)
    assert len(hub.store.repositories["alice/lost"].commits) == 2


@pytest.mark.parametrize(
    ("route", "kind", "settings"),
    [
        ("validate-yaml", "status", {"status": 503}),
        ("preupload", "status", {"status": 429, "headers": {"Retry-After": "1"}}),
        ("cdn-upload", "status", {"status": 503}),
        ("cdn-upload", "reset", {"after": 100_000}),
        ("commit", "status", {"status": 503}),
        ("create", "status", {"status": 502}),
    ],
)
def test_what_may_pass_is_tried_again(hub, commands, model, route, kind, settings):
    name = f"alice/push-{route}-{kind}"
    # Weights that the Hub has already are not sent again.
    hub.store.large_files.clear()
    hub.fail(route, kind, **settings)
    pushed(commands.zoo("push", model, name, token=ALICE))
    assert remote(hub, name) == whole_content(model)
    assert not hub.faults[0].times, "the fault did not happen"


def test_an_interrupted_push_leaves_the_old_revision_whole(hub, commands, model, other_model):
    name = "alice/interrupted"
    old = hub.store.publish(name, whole_content(model))
    hub.fail("cdn-upload", "hang", seconds=20)
    pid = commands.start("push", other_model, name, token=ALICE)
    while not any(seen.route == "cdn-upload" for seen in hub.seen):
        time.sleep(0.05)
    os.kill(pid, 9)
    assert commands.wait(pid).status == -9
    assert hub.store.repositories[name].branches["main"] == old
    assert content(pulled(commands.zoo("pull", name))) == content(model)
    hub.faults.clear()
    hub.fail("commit", status=503, times=99)
    refused(
        commands.zoo("push", other_model, name, "--deadline", "6", token=ALICE), "trouble .HTTP status 503.|was not done within 6 seconds"
    )
    assert remote(hub, name) == whole_content(model)
    hub.faults.clear()
    pushed(commands.zoo("push", other_model, name, token=ALICE))
    assert remote(hub, name) == whole_content(other_model)


def test_what_arrived_is_compared_and_loaded(hub, commands, model, other_model):
    digests = [sha256(whole_content(folder)[WEIGHTS]).encode() for folder in (model, other_model)]
    # Three listings: before, of the new repository, and of the commit.
    hub.fail("info", "edit", edit=(digests[0], digests[1]), match="revision/[0-9a-f]{40}", skip=0)
    refused(
        commands.zoo("push", model, "alice/arrived", token=ALICE),
        r"the push is not what was sent, model\.safetensors differ there; nothing was",
    )
    hub.fail("cdn", "corrupt", times=9)
    done = commands.zoo("push", model, "alice/arrived2", token=ALICE)
    refused(done, r"cannot be loaded from the Hub through timm \(its tensors are not those that were pushed\)")


def test_a_card_that_the_hub_refuses(hub, commands, model):
    hub.fail("validate-yaml", status=400, headers={"X-Error-Message": "unknown licence"})
    refused(commands.zoo("push", model, "alice/yaml", token=ALICE), "HTTP status 400")


def test_networks_that_timm_does_not_have(hub, commands, make_model):
    folder = make_model(arch="resnet10_small")
    pushed(commands.zoo("push", folder, "alice/small", token=ALICE))
    program = """
import timm, torch, zoo
ours = zoo.load("hub:alice/small")
theirs = timm.create_model("hf-hub:alice/small", pretrained=True).eval()
images = torch.randn(2, 3, 32, 32)
assert torch.equal(ours(images), theirs(images))
print("same")
"""
    assert commands.python(program).last == "same"


def test_a_result_is_added_pushed_and_pulled(hub, commands, make_model, make_result):
    folder = make_model(results=0, licence="Apache-2.0")
    done = commands.zoo("push", folder, "alice/result", token=ALICE)
    assert "no licence" not in done.err
    add_results(folder, [make_result(read_manifest(folder).tensors_sha256, value=61.5)])
    pushed(commands.zoo("push", folder, "alice/result", token=ALICE))
    there = pulled(commands.zoo("pull", "alice/result"))
    assert [result.headline.value for result in read_manifest(there).results] == [61.5]
