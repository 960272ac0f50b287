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
    ],
)
def test_names(text, repository, revision):
    name = parse_hub_name(text)
    assert name == HubName(repository, revision)
    assert name.is_commit == (len(revision) == 40)
    assert parse_hub_name(name.key) == parse_hub_name(str(name)) == name


@pytest.mark.parametrize(
    "text", ["name", "/name", "org/", "a/b/c", "a/b@", "a b/c", "a/..", "a/b--c", "-a/b", "a/b@-x", "hub:a/b", "a/" + "b" * 100]
)
def test_names_that_are_none(text):
    with pytest.raises(UserError, match="does not name a model on the Hub: write ORG/NAME"):
        parse_hub_name(text)


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
