"""Names of models on the Hub: ``org/name[@revision]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoo.errors import UserError

DEFAULT_REVISION = "main"
# The Hub's own rules: letters, digits, '.', '_', '-', and neither '..' nor '--'.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
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
    """``org/name[@revision]``. Raises UserError for anything else, and for a short commit hash, which the Hub's cache does not know."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in match["repository"] or "--" in match["repository"] or len(match["repository"]) > _LONGEST:
        raise UserError(
            f"'{text}' does not name a model on the Hub: write ORG/NAME or ORG/NAME@REVISION, such as my-lab/resnet50.moco_200ep"
        )
    revision = match["revision"] or DEFAULT_REVISION
    if _SHORT_COMMIT.fullmatch(revision) and not revision.isdecimal() and not revision.isalpha():
        raise UserError(f"'{revision}' looks like a shortened commit; write all of its 40 hex digits, or the name of a branch or tag")
    return HubName(match["repository"], revision)
