"""Names on the Hub, sentences that no test server can provoke, and what the commands import."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from hub_server import git_sha1

from zoo.errors import UserError
from zoo.hub import failures
from zoo.hub.names import HubName, parse_hub_name
from zoo.hub.snapshot import git_sha1 as ours


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("org/name", "org/name", "main"),
        ("my-lab/resnet50.moco_200ep@v1.0", "my-lab/resnet50.moco_200ep", "v1.0"),
        ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
        ("a/b@20260101", "a/b", "20260101"),
        ("a/b@" + "0a" * 20, "a/b", "0a" * 20),
        ("a/b@v1.0+cu", "a/b", "v1.0+cu"),
        ("a/b@main@2", "a/b", "main@2"),
        ("a/b@feature/größe,1", "a/b", "feature/größe,1"),
        ("hub:a/b", "a/b", "main"),
        ("hub:a/b@v1", "a/b", "v1"),
        ("https://huggingface.co/a/b", "a/b", "main"),
        ("https://huggingface.co/a/b/", "a/b", "main"),
        ("https://huggingface.co/a/b/tree/v1.0", "a/b", "v1.0"),
        ("https://hf.co/a/b/tree/refs%2Fpr%2F1", "a/b", "refs/pr/1"),
        ("https://huggingface.co/a/b/commit/" + "0a" * 20, "a/b", "0a" * 20),
        ("hub:https://huggingface.co/a/b?library=timm#readme", "a/b", "main"),
    ],
)
def test_names(text, repository, revision):
    name = parse_hub_name(text)
    assert name == HubName(repository, revision)
    assert name.is_commit == (len(revision) == 40)
    assert parse_hub_name(name.key) == parse_hub_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "/name",
        "org/",
        "a/b/c",
        "a/b@",
        "a b/c",
        "a/..",
        "a/b--c",
        "-a/b",
        "hub:name",
        "hub:",
        "https://huggingface.co/a",
        "a/" + "b" * 100,
    ],
)
def test_names_that_are_none(text):
    with pytest.raises(UserError, match="does not name a model on the Hub: write ORG/NAME"):
        parse_hub_name(text)


@pytest.mark.parametrize(
    "revision",
    ["-x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[1]", "a\\b", "a@{1}", "a//b", "/a", "a/", "a.", "a.lock", "a/.b", "@", "\x07"],
)
def test_revisions_that_git_does_not_allow(revision):
    with pytest.raises(UserError, match="git allows no such name"):
        parse_hub_name(f"a/b@{revision}")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("https://example.org/a/b", r"is no page of a Hub .*`zoo import URL --out DIR`"),
        ("https://huggingface.co/datasets/a/b", "is not the page of a model"),
        ("https://huggingface.co/", "is not the page of a model"),
        ("https://huggingface.co/a/b/resolve/main/model.safetensors", "is one file of 'a/b'; name the model: a/b"),
        ("https://huggingface.co/a/b/discussions/3", "names no revision"),
    ],
)
def test_addresses_that_name_no_model(address, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_hub_name(address)


def test_an_address_of_the_hub_that_hf_endpoint_names(monkeypatch):
    for endpoint in ("https://hub.example.org", "https://hub.example.org/", "hub.example.org"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert parse_hub_name("https://hub.example.org/a/b/tree/v1") == HubName("a/b", "v1")


def test_a_short_commit_is_refused():
    with pytest.raises(UserError, match="'0a1b2c3' looks like a shortened commit"):
        parse_hub_name("a/b@0a1b2c3")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: 'a/b' does not fit into .*HF_HOME moves it"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache/x"), r"/cache/x cannot be used \(Permission denied\)"),
        (RuntimeError("Data processing error: CAS"), "could not be transferred .*if it is hf-xet that fails, set HF_HUB_DISABLE_XET=1"),
    ],
)
def test_troubles_of_this_machine(error, sentence):
    assert not isinstance(error, OSError) or not failures.is_transient(error)
    with pytest.raises(UserError, match=sentence):
        raise failures.sentence(error, HubName("a/b"))


def test_the_hash_that_git_gives(tmp_path):
    for content in (b"", b"hello\n", bytes(3 << 20)):
        (tmp_path / "file").write_bytes(content)
        assert ours(tmp_path / "file") == git_sha1(content)
    # `echo hello | git hash-object --stdin`
    assert git_sha1(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_help_needs_neither_torch_nor_the_client():
    program = """
import sys
from zoo.commands.cli import app
for command in ("pull", "push", "card", "verify"):
    try:
        app([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
print([name for name in ("torch", "timm", "huggingface_hub", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
