"""``zoo pull`` against a Hub on the loopback, by the real client: right bytes or one sentence, and which case it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from hub_server import git_sha1, sha256
from hub_server.commands import Commands
from hub_typed import ALICE, BOB, WEIGHTS, content, pulled, refused


def pins(commands: Commands) -> dict[str, dict]:
    path = commands.home / "zoo" / "zoo.lock.json"
    return json.loads(path.read_text())["pins"] if path.exists() else {}


def flipped(file: bytes) -> bytes:
    return file[:-5] + bytes([file[-5] ^ 1]) + file[-4:]


def test_a_pull_gives_the_files_and_the_zoo_and_timm_load_them(hub, commands, model):
    commit = hub.store.publish("alice/plain", content(model))
    done = commands.zoo("pull", "alice/plain")
    folder = pulled(done)
    assert content(folder) == content(model)
    assert folder.name == commit
    assert f"alice/plain at commit {commit}, sha256 {sha256(content(model)[WEIGHTS])} checked" in done.err
    assert pins(commands)["alice/plain@main"]["commit"] == commit
    assert pins(commands)["alice/plain@main"]["files"][WEIGHTS]["sha256"] == sha256(content(model)[WEIGHTS])

    hub.seen.clear()
    program = f"""
import timm, torch, zoo
from zoo.hashing import tensors_sha256
from zoo.model_spec import open_model
images = torch.randn(2, 3, 32, 32)
networks = [zoo.load(spec) for spec in ({str(model)!r}, "hub:alice/plain", "hub:alice/plain@{commit}")]
networks += [open_model("hub:alice/plain").module]
networks += [timm.create_model(f"hf-hub:alice/plain{{rev}}", pretrained=True).eval() for rev in ("@{commit}", "")]
for network in networks[1:]:
    assert tensors_sha256(network.state_dict()) == tensors_sha256(networks[0].state_dict())
    assert torch.equal(network(images), networks[0](images))
print("same")
"""
    assert commands.python(program).last == "same"
    # timm asks whether the branch has moved, and gets nothing new; ours asks nothing.
    assert {(seen.method, seen.route) for seen in hub.seen} <= {("HEAD", "resolve"), ("HEAD", "resolve-cache")}


def test_the_token_stays_away_from_the_other_origin(hub, commands, model):
    hub.store.publish("alice/cdn", content(model), private=True)
    pulled(commands.zoo("pull", "alice/cdn", token=ALICE))
    assert [seen.token for seen in hub.seen if seen.origin == "cdn"] == [False]
    assert all(seen.token for seen in hub.seen if seen.origin == "hub")


def test_out_makes_a_whole_folder_or_none(hub, commands, model, tmp_path):
    hub.store.publish("alice/out", content(model))
    assert pulled(commands.zoo("pull", "alice/out", "--out", tmp_path / "copy")) == tmp_path / "copy"
    assert content(tmp_path / "copy") == content(model)
    assert not any(path.is_symlink() for path in (tmp_path / "copy").iterdir())
    hub.seen.clear()
    refused(commands.zoo("pull", "alice/out", "--out", tmp_path / "copy"), "exists already; choose another --out, or give --overwrite")
    assert hub.seen == []
    pulled(commands.zoo("pull", "alice/out", "--out", tmp_path / "copy", "--overwrite"))
    hub.store.publish("alice/out2", content(model))
    hub.fail("cdn", "corrupt", times=2)
    refused(commands.zoo("pull", "alice/out2", "--out", tmp_path / "bad"), "wrong bytes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", "commit"])
def test_any_revision_is_resolved_to_a_commit(hub, commands, model, other_model, revision):
    name = f"alice/rev-{revision.replace('/', '-')}"
    commit = hub.store.publish(name, content(model))
    repository = hub.store.repositories[name]
    repository.tags["v1"] = repository.pull_requests["refs/pr/1"] = commit
    hub.store.publish(name, content(other_model))
    folder = pulled(commands.zoo("pull", f"{name}@{commit if revision == 'commit' else revision}"))
    assert (folder.name, content(folder)) == (commit, content(model))


def test_names_and_revisions_that_are_none(hub, commands, model):
    commit = hub.store.publish("alice/names", content(model))
    refused(commands.zoo("pull", "alice/names@v9"), "has no revision 'v9'; .*/alice/names/tree/main lists")
    hub.seen.clear()
    refused(commands.zoo("pull", f"alice/names@{commit[:10]}"), "looks like a shortened commit; write all of its 40 hex digits")
    refused(commands.zoo("pull", "alice/na--mes"), "does not name a model on the Hub: write ORG/NAME")
    refused(commands.zoo("pull", "resnet50.hcsc_200epp"), r"the catalogue has no model .* did you mean 'resnet50\.hcsc_200ep")
    assert hub.seen == []


def test_a_moved_tag_is_refused_with_both_and_followed_when_told(hub, commands, model, other_model):
    name = "alice/moved"
    old = hub.store.publish(name, content(model))
    tags = hub.store.repositories[name].tags
    tags["v1"] = old
    pulled(commands.zoo("pull", f"{name}@v1"))
    new = tags["v1"] = hub.store.publish(name, content(other_model))
    hub.seen.clear()
    before, now = (sha256(content(folder)[WEIGHTS]) for folder in (model, other_model))
    refused(
        commands.zoo("pull", f"{name}@v1"),
        f"it was commit {old} and is {new}, model.safetensors had sha256 {before} and has {now}; --update accepts the new one, "
        f"{name}@{old} stays with the old one",
    )
    assert "GET cdn" not in hub.routes_since(), "the weights were transferred before they were refused"
    assert content(pulled(commands.zoo("pull", f"{name}@{old}"))) == content(model)
    assert content(pulled(commands.zoo("pull", f"{name}@v1", "--offline"))) == content(model)
    assert content(pulled(commands.zoo("pull", f"{name}@v1", "--update"))) == content(other_model)
    assert pulled(commands.zoo("pull", f"{name}@v1")).name == new


def test_a_branch_whose_card_alone_has_changed_is_followed_and_says_so(hub, commands, model, make_model):
    name = "alice/card"
    old = hub.store.publish(name, content(model))
    pulled(commands.zoo("pull", name))
    more = make_model(results=2)
    new = hub.store.publish(name, content(more))
    done = commands.zoo("pull", name)
    assert content(pulled(done)) == content(more)
    assert f"note: '{name}' has moved from commit {old} to {new}; the weights are the same" in done.err
    assert "moved" not in commands.zoo("pull", name).err


def test_another_config_is_another_model(hub, commands, model):
    name = "alice/config"
    hub.store.publish(name, content(model))
    pulled(commands.zoo("pull", name))
    files = content(model)
    files["config.json"] = files["config.json"].replace(b"bilinear", b"bicubic ")
    hub.store.publish(name, files)
    refused(commands.zoo("pull", name), "config.json had sha256 [0-9a-f]{64} and has [0-9a-f]{64}; --update")


def test_a_lock_file_of_the_project(hub, commands, model, tmp_path):
    commit = hub.store.publish("alice/lock", content(model))
    lock = tmp_path / "models.lock.json"
    pulled(commands.zoo("pull", "alice/lock", "--lock", lock))
    assert json.loads(lock.read_text())["pins"]["alice/lock@main"]["commit"] == commit
    assert "alice/lock@main" not in pins(commands)
    lock.write_text("{")
    refused(commands.zoo("pull", "alice/lock", "--lock", lock), "the lock file .* cannot be read .*put a good copy back, or remove it")


def test_a_commit_whose_listing_was_rewritten_is_not_trusted(hub, commands, model, tmp_path):
    commit = hub.store.publish("alice/rewritten", content(model))
    pulled(commands.zoo("pull", "alice/rewritten"))
    digest = sha256(content(model)[WEIGHTS]).encode()
    hub.fail("info", "edit", edit=(digest, b"0" * 64))
    refused(
        commands.zoo("pull", "alice/rewritten"), f"at commit {commit} with sha256 0{{64}}, .*it was {digest.decode()}", "do not trust it"
    )


def test_wrong_bytes_of_the_right_length_are_downloaded_once_more(hub, commands, model):
    hub.store.publish("alice/flipped", content(model))
    hub.fail("cdn", "corrupt")
    assert content(pulled(commands.zoo("pull", "alice/flipped"))) == content(model)
    assert hub.routes_since().count("GET cdn") == 2


def test_wrong_bytes_again_are_refused_and_not_kept(hub, commands, model):
    files = content(model)
    hub.store.publish("alice/wrong", files)
    hub.fail("cdn", "corrupt", times=2)
    done = commands.zoo("pull", "alice/wrong")
    refused(done, rf"model\.safetensors of 'alice/wrong' .* wrong bytes \(sha256 [0-9a-f]{{64}}, not {sha256(files[WEIGHTS])}\), also when")
    cache = commands.home / "huggingface" / "hub" / "models--alice--wrong"
    assert not list(cache.rglob(WEIGHTS))
    assert not (cache / "blobs" / sha256(files[WEIGHTS])).exists()
    hub.fail("resolve-cache", "corrupt", match="zoo.json", method="GET", times=2)
    hub.store.publish("alice/wrong2", {**files, "zoo.json": files["zoo.json"] + b"\n"})
    refused(
        commands.zoo("pull", "alice/wrong2"),
        r"zoo\.json of .* wrong bytes \(git hash [0-9a-f]{40}, not " + git_sha1(files["zoo.json"] + b"\n"),
    )
    assert content(pulled(commands.zoo("pull", "alice/wrong2")))[WEIGHTS] == files[WEIGHTS]


def test_bit_rot_in_the_cache_is_repaired_with_network_and_refused_without(hub, commands, model):
    commit = hub.store.publish("alice/rot", content(model))
    blob = (pulled(commands.zoo("pull", "alice/rot")) / WEIGHTS).resolve()
    for name in ("alice/rot", f"alice/rot@{commit}"):
        blob.write_bytes(flipped(content(model)[WEIGHTS]))
        refused(
            commands.zoo("pull", name, "--offline"),
            r"model\.safetensors of .* is damaged in the cache \(sha256 .*pull it again with network",
        )
        program = f"import zoo; zoo.load('hub:{name}')"
        assert "is damaged in the cache" in commands.python(program).err
        assert content(pulled(commands.zoo("pull", name))) == content(model)
    blob.unlink()
    refused(commands.zoo("pull", "alice/rot", "--offline"), r"was not pulled before, or not wholly \(model\.safetensors is not in ")
    assert content(pulled(commands.zoo("pull", "alice/rot"))) == content(model)


def test_without_network_no_request_is_made(hub, commands, model, tmp_path):
    commit = hub.store.publish("alice/offline", content(model))
    refused(commands.zoo("pull", "alice/offline", "--offline"), "was not pulled before, or not wholly .* pull it once with network")
    assert hub.seen == []
    folder = pulled(commands.zoo("pull", "alice/offline"))
    hub.seen.clear()
    for name in ("alice/offline", f"alice/offline@{commit}"):
        assert pulled(commands.zoo("pull", name, "--offline")) == folder
    assert commands.python("import zoo; zoo.load('hub:alice/offline'); print('loaded')").last == "loaded"
    # The client reads the variable when it is imported, so this takes a process of its own.
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(commands.home / "huggingface"),
        "ZOO_HOME": str(tmp_path / "fresh"),
        "HF_HUB_OFFLINE": "1",
    }
    program = "import sys; from zoo.commands.cli import main; sys.argv = ['zoo', 'pull', 'alice/offline']; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [str(folder)], done.stderr
    # timm too, by the branch's name; here the variable is set after the import.
    program = """
import huggingface_hub, timm
huggingface_hub.constants.HF_HUB_OFFLINE = True
timm.create_model("hf-hub:alice/offline", pretrained=True)
print("timm too")
"""
    assert commands.python(program).last == "timm too"
    assert hub.seen == []


def test_the_same_commit_again_needs_no_request(hub, commands, model):
    commit = hub.store.publish("alice/again", content(model))
    pulled(commands.zoo("pull", "alice/again"))
    assert hub.routes_since().count("GET info") == 1
    hub.seen.clear()
    pulled(commands.zoo("pull", f"alice/again@{commit}"))
    assert hub.seen == []
    pulled(commands.zoo("pull", "alice/again"))
    assert hub.routes_since() == ["GET info"]


def test_which_of_private_missing_gated_and_bad_token_it_is(hub, commands, model):
    hub.store.publish("alice/private", content(model), private=True)
    hub.store.publish("alice/gated", content(model), gated=True)
    refused(
        commands.zoo("pull", "alice/private"), "has no public model 'alice/private': it does not exist, or it is private and needs a token"
    )
    refused(
        commands.zoo("pull", "alice/missing"), "has no public model 'alice/missing': it does not exist, or it is private and needs a token"
    )
    refused(
        commands.zoo("pull", "alice/private", token=BOB), "shows your account no model 'alice/private': .* private and not yours to see"
    )
    refused(commands.zoo("pull", "alice/private", token="hf_old"), "does not know your token, it is wrong or expired")
    refused(commands.zoo("pull", "alice/gated"), "is gated: accept its terms at .*/alice/gated, then give your token")
    refused(commands.zoo("pull", "alice/gated", token=BOB), "is gated and your account has not been let in; ask for access at")
    assert len([seen for seen in hub.seen if "alice/private" in seen.path]) == 4, "a refusal was tried again"
    pulled(commands.zoo("pull", "alice/private", token=ALICE))
    hub.store.repositories["alice/gated"].granted.add("bob")
    pulled(commands.zoo("pull", "alice/gated", token=BOB))


def test_a_bad_token_does_not_keep_from_a_public_model(hub, commands, model):
    hub.store.publish("alice/public", content(model))
    done = commands.zoo("pull", "alice/public", token="hf_old")
    assert content(pulled(done)) == content(model)
    assert "note: http://" in done.err
    assert "does not know your token, it is wrong or expired" in done.err
    assert "'alice/public' is public and was got without it" in done.err


def test_what_is_no_zoo_model(hub, commands, model, other_model):
    files = content(model)
    hub.store.publish("alice/part", {name: files[name] for name in ("config.json", "zoo.json", WEIGHTS)})
    refused(
        commands.zoo("pull", "alice/part"),
        r"is no whole zoo model: it has config\.json, model\.safetensors, zoo\.json, and lacks README\.md",
    )
    hub.store.publish("alice/notes", {"README.md": b"# Nothing"})
    refused(commands.zoo("pull", "alice/notes"), r"is no zoo model, and holds no weights: it has README\.md, and lacks zoo\.json, config")
    hub.store.publish("alice/lying", {**files, WEIGHTS: content(other_model)[WEIGHTS]})
    refused(commands.zoo("pull", "alice/lying"), r"model\.safetensors is not the file that zoo\.json describes")
    hub.store.publish("alice/torn", {**files, "zoo.json": b"{"})
    refused(commands.zoo("pull", "alice/torn"), r"zoo\.json is not valid JSON")


@pytest.mark.parametrize(
    ("route", "kind", "settings"),
    [
        ("cdn", "reset", {"after": 100_000}),
        ("cdn", "cut", {"after": 100_000}),
        ("cdn", "short", {"after": 100_000}),
        ("cdn", "status", {"status": 503}),
        ("info", "status", {"status": 502}),
        ("info", "status", {"status": 429, "headers": {"Retry-After": "1"}}),
        ("info", "reset", {}),
        ("resolve", "status", {"status": 503, "method": "HEAD"}),
    ],
)
def test_what_may_pass_is_tried_again(hub, commands, model, route, kind, settings):
    name = f"alice/again-{route}-{kind}-{settings.get('status', 0)}"
    hub.store.publish(name, content(model))
    hub.fail(route, kind, **settings)
    assert content(pulled(commands.zoo("pull", name))) == content(model)
    assert not hub.faults[0].times, "the fault did not happen"


def test_a_hub_in_trouble_does_not_pass_off_a_stale_copy(hub, commands, model, other_model):
    hub.store.publish("alice/stale", content(model))
    pulled(commands.zoo("pull", "alice/stale"))
    hub.store.publish("alice/stale", content(other_model))
    hub.fail("info", status=503, times=9)
    refused(commands.zoo("pull", "alice/stale", "--deadline", "2"), r"has trouble \(HTTP status 503\)|was not done within 2 seconds")
    assert content(pulled(commands.zoo("pull", "alice/stale", "--offline"))) == content(model)


def test_refusals_are_not_tried_again(hub, commands, model):
    hub.store.publish("alice/refusals", content(model))
    cases = {
        ("info", 403): "forbids your token to do this with 'alice/refusals'",
        ("info", 401): "wants a token for this",
        ("info", 404): "has no public model",
        ("info", 400): r"refused a request for 'alice/refusals' \(HTTP status 400",
        ("resolve", 403): "forbids your token to do this with 'alice/refusals'",
    }
    for (route, status), sentence in cases.items():
        hub.faults.clear()
        hub.seen.clear()
        hub.fail(route, status=status, times=9)
        refused(commands.zoo("pull", "alice/refusals"), sentence)
        assert sum(seen.route == route for seen in hub.seen) == 1


def test_a_long_wait_ends_at_the_deadline(hub, commands, model):
    hub.store.publish("alice/slow", content(model))
    hub.fail("info", status=429, headers={"Retry-After": "3600"}, times=9)
    refused(
        commands.zoo("pull", "alice/slow", "--deadline", "5"), "too many requests from here; try again in 3600 seconds, or with a token"
    )
    # Within the client, which sleeps for an hour.
    hub.faults.clear()
    hub.fail("cdn", status=429, headers={"Retry-After": "3600"}, times=9)
    started = time.monotonic()
    refused(commands.zoo("pull", "alice/slow", "--deadline", "2"), "alice/slow was not done within 2 seconds")
    assert time.monotonic() - started < 10
    hub.faults.clear()
    hub.fail("cdn", "slow", seconds=0.2, times=9)
    refused(commands.zoo("pull", "alice/slow", "--deadline", "2"), "was not done within 2 seconds")
    hub.faults.clear()
    assert content(pulled(commands.zoo("pull", "alice/slow"))) == content(model)


def test_what_does_not_answer_like_a_hub(hub, commands, model):
    hub.store.publish("alice/mirror", content(model))
    hub.fail("resolve", "drop-header", header="X-Repo-Commit", times=9)
    hub.fail("resolve-cache", "drop-header", header="X-Repo-Commit", times=9)
    refused(commands.zoo("pull", "alice/mirror"), "does not answer like a Hub .*X-Repo-Commit.*check HF_ENDPOINT and any proxy")


def test_no_network(commands):
    program = """
import sys
from huggingface_hub import constants
from zoo.commands.cli import main
constants.ENDPOINT = "http://127.0.0.1:9"
sys.argv = ["zoo", "pull", "alice/any", "--deadline", "3"]
main()
"""
    refused(commands.python(program), r"127\.0\.0\.1:9 cannot be reached .*--offline takes what was pulled")


def test_pulls_at_once_download_once(hub, commands, model):
    hub.store.publish("alice/together", content(model))
    hub.fail("cdn", "slow", seconds=0.03)
    done = commands.together(*[["pull", "alice/together"]] * 3)
    assert {pulled(one) for one in done} == {pulled(done[0])}
    assert content(pulled(done[0])) == content(model)
    assert hub.routes_since().count("GET cdn") == 1


def test_a_killed_pull_leaves_nothing_that_counts(hub, commands, model):
    hub.store.publish("alice/killed", content(model))
    hub.fail("cdn", "slow", seconds=0.5)
    pid = commands.start("pull", "alice/killed")
    while not any(seen.route == "cdn" for seen in hub.seen):
        time.sleep(0.05)
    os.kill(pid, 9)
    assert commands.wait(pid).status == -9
    refused(commands.zoo("pull", "alice/killed", "--offline"), "was not pulled before, or not wholly")
    assert content(pulled(commands.zoo("pull", "alice/killed"))) == content(model)


def test_the_cache_of_pulled_models_is_listed_and_pruned(hub, commands, model, other_model):
    for name in ("zoo-lab/cached", "zoo-lab/kept"):
        hub.store.publish(name, content(model if name.endswith("cached") else other_model))
    folder, kept = (pulled(commands.zoo("pull", name)) for name in ("zoo-lab/cached", "zoo-lab/kept"))
    part = folder.parent.parent / "blobs" / "0f.12345678.incomplete"
    part.write_bytes(b"x")
    os.utime(part, (0, 0))
    listed = {item["name"]: item for item in json.loads(commands.zoo("cache", "--json").out)}
    assert listed["zoo-lab/cached"]["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert listed[part.name]["kind"] == "interrupted"
    # A pull cleans what earlier ones of the model have left.
    pulled(commands.zoo("pull", "zoo-lab/cached"))
    assert not part.exists()
    assert commands.zoo("cache", "--prune", "--kind", "hub", "--yes").status == 0
    assert not folder.exists()
    assert not kept.exists()
    assert content(pulled(commands.zoo("pull", "zoo-lab/cached"))) == content(model)
