"""Pushing a zoo model to the Hub: one commit, compared and loaded again when it is there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256
from zoo.hub import failures
from zoo.hub.names import DEFAULT_REVISION, HubName, parse_hub_name
from zoo.hub.publishable import check_publishable
from zoo.hub.retries import DEFAULT_DEADLINE, Deadline, DeadlinePassed
from zoo.hub.snapshot import Access, Listed, Listing, get_file, git_sha1, list_files
from zoo.hub.surroundings import check_hub_settings
from zoo.hub.upload.cancelling import Cancelled, Cancelling
from zoo.hub.upload.sender import Job
from zoo.hub.upload.sending import Sent, send
from zoo.model_folder.eval_results import eval_files
from zoo.model_folder.manifest import MANIFEST_FILE, MODEL_FILES, Manifest, read_json_object, read_manifest

# What the Hub itself puts into every new repository.
_HUB_FILES = (".gitattributes",)
# Seconds for asking which commit stands after a push that was not done.
_STANDING_SECONDS = 15.0
# A deadline is positive, also one that has passed while the process was started.
_SHORTEST = 0.001


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
        with Cancelling() as signals:
            if self.remote is not None and self._holds(self.remote):
                note = f"'{self.name}' holds this very model already; nothing was pushed"
                return self._tested(self.remote.commit, self._page(self.remote.commit), signals, note)
            parent = None if self.remote is None else self.remote.commit
            sent = send(self._job(parent, message, progress), self.access.deadline, signals)
            if sent.moved:
                sent = self._after_conflict(sent)
            if sent.over is not None:
                raise self._given_up(sent.over, self._standing(sent), signals)
            assert sent.commit is not None
            return self._tested(sent.commit, sent.page or self._page(sent.commit), signals)

    def _job(self, parent: str | None, message: str | None, progress: bool) -> Job:
        return Job(
            repository=self.name.repository,
            folder=str(self.folder.absolute()),
            files=list(self.files),
            parent=parent,
            private=self.private,
            create_pr=self.create_pr,
            message=message or f"Publish {self.manifest.name}",
            seconds=max(self.access.deadline.left, _SHORTEST),
            progress=progress,
        )

    def _holds(self, there: Listing) -> bool:
        """Whether the Hub lists each of our files."""
        return all(file in there.files and _same(there.files[file], listed) for file, listed in self.files.items())

    def _page(self, commit: str) -> str:
        return f"{constants.ENDPOINT}/{self.name.repository}/tree/{commit}"

    def _after_conflict(self, sent: Sent) -> Sent:
        """Somebody committed since: that was this very push, of which only the answer was lost, or somebody else's."""
        now = self._list(DEFAULT_REVISION)
        if self._holds(now):
            return Sent(parent=sent.parent, commit=now.commit)
        raise UserError(
            f"somebody else pushed to '{self.name}' at the same time: it was at commit {sent.parent} and is at {now.commit}; nothing of "
            "yours was pushed and nothing of theirs is lost: look at theirs, then push again"
        )

    def _given_up(self, why: str, standing: str, signals: Cancelling) -> Cancelled | UserError:
        """The end before the end, with what stands on the Hub."""
        if signals.signals:
            return Cancelled(signals.signals[0], standing)
        if self.access.deadline.left <= 0:
            return DeadlinePassed(f"{why}, so it was given up: {standing}; give a longer --deadline, or try again later")
        return UserError(f"{why}: {standing}; push again")

    def _standing(self, sent: Sent) -> str:
        """Which commit stands on the Hub after a push that was not done, as the Hub says it now."""
        name = HubName(self.name.repository)
        before = "there was no repository before" if self.remote is None else f"before, it was at commit {self.remote.commit}"
        maybe = "; a request of this push has gone out unanswered, and the Hub may still carry it out: look before you push again"
        doubt = maybe if sent.committing or sent.unanswered else ""
        try:
            # Once, and without signals: the sentence is worth a moment, and not more.
            now = list_files(name, Access(Deadline(_STANDING_SECONDS)))
        except RepositoryNotFoundError:
            return f"nothing was pushed, and there is no repository '{name}'{doubt}"
        except Exception as error:
            return f"'{name}' could not be asked which commit stands there ({first_line(error)}); {before}{doubt}"
        if self._holds(now):
            return f"the push had gone through: '{name}' stands at commit {now.commit}, which holds this model"
        if sent.parent is None or now.commit == sent.parent:
            kind = "new and empty" if self.remote is None else "as before"
            return f"nothing was pushed: '{name}' stands at commit {now.commit}, {kind}{doubt}"
        return f"nothing of yours was pushed: '{name}' stands at commit {now.commit}, which is somebody else's{doubt}"

    def _list(self, revision: str) -> Listing:
        name = HubName(self.name.repository, revision)
        with failures.explained(name):
            return list_files(name, self.access)

    def _tested(self, commit: str, page: str, signals: Cancelling, *notes: str) -> Pushed:
        """Compare what the Hub holds at ``commit``, and load it from there through timm; however that ends, the commit stands."""
        standing = f"'{self.name}' stands at commit {commit}, which was not compared or not wholly"
        try:
            if signals.signals:
                raise Cancelled(signals.signals[0])
            self._test(commit, page)
        except Cancelled as error:
            raise Cancelled(error.number, standing) from error
        except DeadlinePassed as error:
            raise self._given_up("the comparison after the push was not done in time", standing, signals) from error
        return Pushed(commit, page, notes)

    def _test(self, commit: str, page: str) -> None:
        there = self._list(commit)
        wrong = [file for file, listed in self.files.items() if file not in there.files or not _same(there.files[file], listed)]
        if wrong:
            raise UserError(f"{page}: the push is not what was sent, {', '.join(wrong)} differ there; {self._before()}")
        name = HubName(self.name.repository, commit)
        try:
            self.access.deadline.run(lambda: _load_through_timm(name, self.manifest), "loading")
        except DeadlinePassed:
            raise
        except Exception as error:
            raise UserError(
                f"{page}: the push cannot be loaded from the Hub through timm ({first_line(error)}); {self._before()}"
            ) from error

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
    check_can_push()
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
        is taken; somebody else pushed at the same time; what is on the Hub is not what was sent. Where time is up
        (:class:`zoo.hub.retries.DeadlinePassed`) the work has ended, and the sentence says which commit stands on the Hub.
    zoo.hub.upload.cancelling.Cancelled
        Ctrl-C or SIGTERM: the same of those. It is a KeyboardInterrupt.
    """
    plan = plan_push(folder, repository, private=private, create_pr=create_pr, replace=replace, deadline=deadline)
    return plan.carry_out(message, progress=progress)


def check_can_push() -> None:
    """Raise UserError where there is no token, or a setting keeps the Hub's client from working. Asks no network."""
    check_hub_settings()
    if get_token() is None:
        raise UserError(f"a push to {constants.ENDPOINT} needs a token that may write; set HF_TOKEN or run `hf auth login`")


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
