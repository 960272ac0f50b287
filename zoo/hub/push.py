"""Pushing a zoo model to the Hub: one commit, compared and loaded again when it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256
from zoo.hub import failures
from zoo.hub.names import DEFAULT_REVISION, HubName, parse_hub_name
from zoo.hub.publishable import check_publishable
from zoo.hub.retries import DEFAULT_DEADLINE, Deadline
from zoo.hub.snapshot import Access, Listed, Listing, get_file, git_sha1, list_files
from zoo.model_folder.eval_results import eval_files
from zoo.model_folder.manifest import MANIFEST_FILE, MODEL_FILES, Manifest, read_json_object, read_manifest

# What the Hub itself puts into every new repository.
_HUB_FILES = (".gitattributes",)
_CONFLICT, _FORBIDDEN, _MOVED_ON = 409, 403, 412


@dataclass(frozen=True)
class Pushed:
    """A push that is done.

    Attributes
    ----------
    commit
        40 hex digits.
    url
        A page for people: the repository at the commit, or the pull request.
    notes
        What the user should know: each a sentence.
    """

    commit: str
    url: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PushPlan:
    """What a push would do; nothing has been changed yet.

    Attributes
    ----------
    files
        What goes up, by name, with what the Hub would list of it.
    remote
        What the repository holds now; None where there is none yet.
    """

    folder: Path
    manifest: Manifest
    name: HubName
    files: dict[str, Listed]
    remote: Listing | None
    private: bool
    create_pr: bool
    access: Access

    def lines(self) -> list[str]:
        """The plan in words."""
        kind = "private" if self.private else "public"
        where = f"{constants.ENDPOINT}/{self.name.repository}"
        target = f"{where} ({'pull request on' if self.create_pr else 'on top of'} commit {self.remote.commit})" if self.remote else ""
        lines = [f"{self.manifest.name} -> {target or f'{where} (new, {kind})'}"]
        for file, listed in self.files.items():
            there = self.remote.files.get(file) if self.remote is not None else None
            state = "new" if there is None else "unchanged" if _same(there, listed) else "changed"
            lines.append(f"  {file}  {listed.size:,} bytes  sha256 {listed.sha256}  {state}")
        taken = {file.partition("/")[0] for file in self.files}
        left_out = sorted(path.name for path in self.folder.iterdir() if path.name not in taken)
        if left_out:
            lines.append(f"  left out: {', '.join(left_out)}")
        if self.manifest.licence is None:
            lines.append("  no licence is stated, so nobody may use it: `zoo export --licence ID` states one")
        return lines

    def carry_out(self, message: str | None = None, *, progress: bool = False) -> Pushed:
        """Push; see :func:`push`."""
        if self.remote is None:
            self._create()
            base = self._list(DEFAULT_REVISION)
        else:
            base = self.remote
        if all(file in base.files and _same(base.files[file], listed) for file, listed in self.files.items()):
            return self._test(base.commit, f"'{self.name}' holds this very model already; nothing was pushed")
        with _progress_bars(progress):
            commit, url = self._commit(base, message)
        return self._test(commit, url=url)

    def _create(self) -> None:
        def call() -> None:
            HfApi().create_repo(self.name.repository, private=self.private)

        with failures.explained(self.name):
            try:
                self.access.ask(call, self.name, "the making of")
            except HfHubHTTPError as error:
                if failures.status_of(error) == _CONFLICT:
                    raise UserError(f"the name '{self.name}' is taken, and your account may not see by what; choose another") from error
                raise self._refused(error) from error

    def _commit(self, base: Listing, message: str | None) -> tuple[str, str | None]:
        """One commit on top of ``base``. Gives its hash, and the pull request's page."""

        def call() -> Any:
            # Fresh operations for each attempt: the client marks in them what it has uploaded.
            operations = [CommitOperationAdd(file, self.folder / file) for file in self.files]
            return HfApi().create_commit(
                self.name.repository,
                operations,
                commit_message=message or f"Publish {self.manifest.name}",
                parent_commit=base.commit,
                create_pr=self.create_pr,
            )

        try:
            info = self.access.ask(call, self.name, "the push to")
        except UserError:
            raise
        except Exception as error:
            if failures.status_of(failures.cause_of(error)) == _MOVED_ON:
                return self._after_conflict(base, error)
            raise self._refused(error) from error
        return str(info.oid), info.pr_url

    def _after_conflict(self, base: Listing, error: Exception) -> tuple[str, str | None]:
        """Somebody committed since: that was this very push, of which only the answer was lost, or somebody else's."""
        now = self._list(DEFAULT_REVISION)
        if all(file in now.files and _same(now.files[file], listed) for file, listed in self.files.items()):
            return now.commit, None
        raise UserError(
            f"somebody else pushed to '{self.name}' at the same time: it was at commit {base.commit} and is at {now.commit}; nothing of "
            "yours was pushed and nothing of theirs is lost: look at theirs, then push again"
        ) from error

    def _refused(self, error: Exception) -> UserError:
        error = failures.cause_of(error)  # type: ignore[assignment]
        if failures.status_of(error) == _FORBIDDEN:
            owner = self.name.repository.partition("/")[0]
            return UserError(
                f"your token may not write to '{owner}' on {constants.ENDPOINT}: it needs write permission, and your account must be "
                f"'{owner}' or a member of it" + ("" if self.create_pr else "; --create-pr proposes the change instead")
            )
        return failures.sentence(error, self.name)

    def _list(self, revision: str) -> Listing:
        name = HubName(self.name.repository, revision)
        with failures.explained(name):
            return list_files(name, self.access)

    def _test(self, commit: str, *notes: str, url: str | None = None) -> Pushed:
        """Compare what the Hub holds at ``commit``, and load it from there through timm."""
        there = self._list(commit)
        page = url or f"{constants.ENDPOINT}/{self.name.repository}/tree/{commit}"
        wrong = [file for file, listed in self.files.items() if file not in there.files or not _same(there.files[file], listed)]
        if wrong:
            raise UserError(f"{page}: the push is not what was sent, {', '.join(wrong)} differ there; {self._before()}")
        try:
            _load_through_timm(HubName(self.name.repository, commit), self.manifest)
        except Exception as error:
            raise UserError(
                f"{page}: the push cannot be loaded from the Hub through timm ({first_line(error)}); {self._before()}"
            ) from error
        return Pushed(commit, page, notes)

    def _before(self) -> str:
        return "nothing was there before" if self.remote is None else f"the revision before it is {self.remote.commit}"


def plan_push(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    replace: bool = False,
    deadline: float = DEFAULT_DEADLINE,
) -> PushPlan:
    """Check a folder and look at the repository it shall go to, without changing anything.

    Raises
    ------
    UserError
        As :func:`push`.
    """
    name = parse_hub_name(repository)
    if name.revision != DEFAULT_REVISION:
        raise UserError(
            f"a push goes to the branch '{DEFAULT_REVISION}' or, with --create-pr, to a pull request; leave out '@{name.revision}'"
        )
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_publishable(folder, manifest)
    if get_token() is None:
        raise UserError(f"a push to {constants.ENDPOINT} needs a token that may write; set HF_TOKEN or run `hf auth login`")
    access = Access(Deadline(deadline))
    remote: Listing | None = None
    with failures.explained(name), contextlib.suppress(RepositoryNotFoundError):
        remote = list_files(name, access)
    if remote is not None:
        _check_same_model(name, remote, manifest, access, replace)
        if private and not remote.private:
            raise UserError(
                f"'{name}' exists already and is public, and --private is for new repositories; its settings page on the Hub changes that"
            )
    elif create_pr:
        raise UserError(f"there is no repository '{name}' that a pull request could go to; push without --create-pr")
    files = {file: _describe(folder / file) for file in (*MODEL_FILES, *eval_files(manifest)) if (folder / file).is_file()}
    return PushPlan(folder, manifest, name, files, remote, private, create_pr, access)


def push(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    replace: bool = False,
    message: str | None = None,
    deadline: float = DEFAULT_DEADLINE,
    progress: bool = False,
) -> Pushed:
    """Put a zoo model folder on the Hub.

    Everything is checked first. Then one commit is made on top of the commit that was seen: it is there whole or not at all, and where
    somebody else has pushed in between it is refused. Afterwards the hashes that the Hub lists are compared, and the model is loaded from
    there through timm (after ``import zoo.backbones``) and compared tensor by tensor.

    Parameters
    ----------
    repository
        ``org/name``; it is made where there is none.
    private
        Of a new repository.
    create_pr
        Propose the change in a pull request of an existing repository.
    replace
        Push although the repository holds something else than an earlier revision of this model.
    message
        Of the commit.
    deadline
        Seconds for everything.

    Raises
    ------
    UserError
        The folder is not whole or its card is not the one that its zoo.json makes; there is no token, or one that may not write; the name
        is taken; somebody else pushed at the same time; what is on the Hub is not what was sent.
    """
    plan = plan_push(folder, repository, private=private, create_pr=create_pr, replace=replace, deadline=deadline)
    return plan.carry_out(message, progress=progress)


def _check_same_model(name: HubName, remote: Listing, manifest: Manifest, access: Access, replace: bool) -> None:
    """Raise UserError where the repository is something else than an earlier revision of this model."""
    other = [file for file in remote.files if file not in _HUB_FILES]
    if replace or not other:
        return
    if MANIFEST_FILE not in remote.files:
        raise UserError(
            f"the name '{name}' is taken: the repository holds {', '.join(sorted(other)[:4])} and no zoo model; choose another name, or "
            "give --replace"
        )
    with failures.explained(name):
        theirs = read_json_object(get_file(name, remote.commit, MANIFEST_FILE, access)).get("name")
    if theirs != manifest.name:
        raise UserError(
            f"the name '{name}' is taken: the repository holds the model '{theirs}', not '{manifest.name}'; choose another name, or give "
            "--replace"
        )


def _describe(path: Path) -> Listed:
    return Listed(path.stat().st_size, file_sha256(path), git_sha1(path))


def _same(there: Listed, ours: Listed) -> bool:
    """Whether the Hub lists our file: by sha256 where it is large, else by git's hash."""
    return there.sha256 == ours.sha256 if there.sha256 is not None else there.git_sha1 == ours.git_sha1


def _load_through_timm(name: HubName, manifest: Manifest) -> None:
    import timm
    import torch

    import zoo.backbones  # noqa: F401  # registers architectures that timm does not have
    from zoo.hashing import tensors_sha256

    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(f"hf-hub:{name.key}", pretrained=True)
    if tensors_sha256(network.state_dict()) != manifest.tensors_sha256:
        raise ValueError("its tensors are not those that were pushed")


@contextlib.contextmanager
def _progress_bars(show: bool) -> Iterator[None]:
    """Show the client's progress bars, or not; its uploads have no other switch."""
    switch = not show and not are_progress_bars_disabled()
    if switch:
        disable_progress_bars()
    try:
        yield
    finally:
        if switch:
            enable_progress_bars()
