"""What the server holds: accounts, repositories, their commits, and large files; all in memory and bounded."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

MAX_BYTES = 512 << 20
MAX_REPOSITORIES = 200
# Files of these kinds go to the store of large files, as the Hub's .gitattributes says.
LARGE_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubError(Exception):
    """An answer that is an error: HTTP status, the Hub's error code, its message."""

    def __init__(self, status: int, code: str | None = None, message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message or code or str(status))
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


@dataclass(frozen=True)
class Account:
    """Somebody with a token."""

    name: str
    organizations: tuple[str, ...] = ()
    may_write: bool = True


@dataclass(frozen=True)
class File:
    content: bytes
    large: bool
    xet_hash: str | None = None

    @property
    def oid(self) -> str:
        return git_sha1(self.pointer) if self.large else git_sha1(self.content)

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(self.content)}\nsize {len(self.content)}\n"
        return text.encode()

    def describe(self, path: str) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.large:
            entry["lfs"] = {"oid": sha256(self.content), "size": len(self.content), "pointerSize": len(self.pointer)}
        if self.xet_hash:
            entry["xetHash"] = self.xet_hash
        return entry


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    files: dict[str, File]
    title: str
    author: str
    date: str


@dataclass
class Repository:
    id: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    def resolve(self, revision: str) -> Commit:
        for names in (self.branches, self.tags, self.pull_requests):
            if revision in names:
                return self.commits[names[revision]]
        if revision in self.commits:
            return self.commits[revision]
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: file.content for path, file in self.resolve(revision).files.items()}


class Store:
    """Accounts by token, repositories by id, large files by sha256."""

    def __init__(self) -> None:
        self.accounts = {
            "hf_alice": Account("alice", ("zoo-lab",)),
            "hf_bob": Account("bob"),
            "hf_reader": Account("alice", ("zoo-lab",), may_write=False),
        }
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        # sha256 -> hash of hf-xet, of files that it has written into its local store
        self.xet_hashes: dict[str, str] = {}
        self._serial = itertools.count(1)

    def account(self, authorization: str | None) -> Account | None:
        if not authorization:
            return None
        token = authorization.removeprefix("Bearer ").strip()
        if token not in self.accounts:
            raise HubError(401, None, "Invalid credentials in Authorization header")
        return self.accounts[token]

    def repository(self, name: str, account: Account | None) -> Repository:
        """The repository, if this account may know that it exists."""
        repository = self.repositories.get(name)
        if repository is None or (repository.private and not self._member(repository, account)):
            # On the Hub a stranger gets 401 for what is missing or private; the code is what its client needs on plain http.
            raise HubError(401 if account is None else 404, "RepoNotFound", "Repository not found")
        return repository

    def check_readable(self, repository: Repository, account: Account | None) -> None:
        if repository.gated and not self._member(repository, account):
            if account is None:
                raise HubError(401, "GatedRepo", f"Access to model {repository.id} is restricted. You must be authenticated to access it.")
            if account.name not in repository.granted:
                raise HubError(403, "GatedRepo", f"Access to model {repository.id} is restricted and you are not in the authorized list.")

    def check_writable(self, owner: str, account: Account | None) -> Account:
        if account is None:
            raise HubError(401, None, "Invalid username or password.")
        if not account.may_write or owner not in (account.name, *account.organizations):
            raise HubError(403, None, f"You don't have the rights to create a model under the namespace {owner!r}")
        return account

    def create(self, name: str, *, private: bool = False) -> Repository:
        if name in self.repositories:
            raise HubError(409, None, "You already created this model repo")
        if len(self.repositories) >= MAX_REPOSITORIES:
            raise HubError(507, None, "too many repositories")
        repository = self.repositories[name] = Repository(name, private)
        self._commit(
            repository, {".gitattributes": File(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)}, "initial commit", ""
        )
        return repository

    def publish(self, name: str, files: dict[str, bytes], **settings: bool) -> str:
        """Put files into a repository without HTTP, as a test's starting point; returns the commit."""
        repository = self.repositories.get(name) or self.create(name)
        for setting, value in settings.items():
            setattr(repository, setting, value)
        known = dict(repository.resolve("main").files)
        for path, content in files.items():
            large = path.endswith(LARGE_SUFFIXES)
            known[path] = File(content, large, self.xet_hashes.get(sha256(content)))
            if large:
                self.add_large(content)
        return self._commit(repository, known, "published", "").oid

    def add_large(self, content: bytes) -> str:
        self._check_room(len(content))
        oid = sha256(content)
        self.large_files[oid] = content
        return oid

    def commit(
        self,
        repository: Repository,
        revision: str,
        changes: dict[str, File | None],
        *,
        title: str,
        author: str,
        parent: str | None,
        pr: bool,
    ) -> tuple[Commit, str | None]:
        """A commit on a branch, or on a new pull request; None for a path deletes it. Returns it and the pull request's number."""
        base = repository.resolve(revision)
        if parent is not None and parent != base.oid:
            raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
        if revision not in repository.branches and not (pr and revision in repository.commits):
            raise HubError(400, None, "commits go to a branch")
        self._check_room(sum(len(file.content) for file in changes.values() if file is not None))
        files = {path: file for path, file in {**base.files, **changes}.items() if file is not None}
        if not pr:
            return self._commit(repository, files, title, author, revision), None
        number = str(len(repository.pull_requests) + 1)
        repository.pull_requests[f"refs/pr/{number}"] = base.oid
        return self._commit(repository, files, title, author, f"refs/pr/{number}"), number

    def _commit(self, repository: Repository, files: dict[str, File], title: str, author: str, name: str = "main") -> Commit:
        names = repository.pull_requests if name.startswith("refs/pr/") else repository.branches
        parent, serial = names.get(name), next(self._serial)
        oid = hashlib.sha1(f"{repository.id} {serial} {parent}".encode()).hexdigest()
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=serial)
        commit = Commit(oid, parent, files, title, author, date.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
        repository.commits[oid] = commit
        names[name] = oid
        return commit

    def _check_room(self, more: int) -> None:
        if more + sum(map(len, self.large_files.values())) > MAX_BYTES:
            raise HubError(507, None, "the test server is full")

    @staticmethod
    def _member(repository: Repository, account: Account | None) -> bool:
        return account is not None and repository.owner in (account.name, *account.organizations)
