"""Names of models on the Hub: ``org/name[@revision]``. Imports no client."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from zoo.errors import UserError

DEFAULT_REVISION = "main"
# What ``--model`` has before a name on the Hub.
HUB_SCHEME = "hub"
# The Hub's own rules: letters, digits, '.', '_', '-', and neither '..' nor '--'.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
# What git allows in no name of a branch or tag (git-check-ref-format), but for the ends of its parts; and no option's dash.
_NO_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-./]|[./]$|\.lock(/|$)|^@$")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
# Addresses of the Hub's pages: its own, and those of the Hub that HF_ENDPOINT names.
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
# What stands in such an address between the repository and a revision; pages of one file have a file's path behind it.
_OF_REVISION, _OF_FILE = ("tree", "commit", "commits"), ("blob", "resolve", "raw", "blame")
_OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets", "papers", "collections", "docs")
_LONGEST = 96


@dataclass(frozen=True)
class HubName:
    """A repository and one of its revisions.

    Attributes
    ----------
    repository
        ``"org/name"``.
    revision
        A branch, a tag, ``refs/pr/1``, or the 40 hex digits of a commit.
    """

    repository: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return self.repository if self.revision == DEFAULT_REVISION else f"{self.repository}@{self.revision}"

    @property
    def key(self) -> str:
        """What the lock file calls it."""
        return f"{self.repository}@{self.revision}"

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None


def parse_hub_name(text: str) -> HubName:
    """``[hub:]org/name[@revision]``, or the address of a model's page on the Hub.

    Raises UserError for anything else, and for a short commit hash, which the Hub's cache does not know.
    """
    name = text.removeprefix(f"{HUB_SCHEME}:")
    if name.startswith(("http://", "https://")):
        repository, revision = _of_address(name)
    else:
        repository, at, revision = name.partition("@")
        if at and not revision:
            raise _no_name(text)
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository or len(repository) > _LONGEST:
        raise _no_name(text)
    revision = revision or DEFAULT_REVISION
    if _NO_REVISION.search(revision):
        raise UserError(f"'{revision}' in '{text}' cannot be the name of a branch or tag: git allows no such name")
    if _SHORT_COMMIT.fullmatch(revision) and not revision.isdecimal() and not revision.isalpha():
        raise UserError(f"'{revision}' looks like a shortened commit; write all of its 40 hex digits, or the name of a branch or tag")
    return HubName(repository, revision)


def is_hub_name(text: str) -> bool:
    """Whether a name is meant for the Hub, and not for the catalogue, whose names have no stroke."""
    return "/" in text or text.startswith(f"{HUB_SCHEME}:")


def _no_name(text: str) -> UserError:
    return UserError(f"'{text}' does not name a model on the Hub: write ORG/NAME or ORG/NAME@REVISION, such as my-lab/resnet50.moco_200ep")


def _of_address(address: str) -> tuple[str, str]:
    """The repository and the revision of a page's address; the revision is empty where it names none."""
    parts = urlsplit(address)
    own = os.environ.get(ENDPOINT_VARIABLE, "")
    if parts.hostname not in _HUB_HOSTS and parts.netloc != urlsplit(own if "://" in own else f"//{own}").netloc:
        raise UserError(
            f"'{address}' is no page of a Hub that is known here ({_HUB_HOSTS[0]}, or what {ENDPOINT_VARIABLE} names); a checkpoint file "
            "at an address of its own is read by `zoo import URL --out DIR`"
        )
    words = [unquote(word) for word in parts.path.split("/") if word]
    if not words or words[0] in _OTHER_KINDS:
        raise UserError(f"'{address}' is not the page of a model")
    where, kind, revision = "/".join(words[:2]), words[2] if len(words) > 2 else None, "/".join(words[3:])
    if kind in _OF_FILE:
        raise UserError(f"'{address}' is one file of '{where}'; name the model: {where}")
    if kind is not None and kind not in _OF_REVISION:
        raise UserError(f"'{address}' is a page of '{where}' that names no revision; write {where} or {where}@REVISION")
    return where, revision
