"""Pushing a zoo model to the Hub: one commit, compared and loaded again when it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256
from zoo.hub import failures
from zoo.hub.attempts import DEFAULT_DEADLINE, Deadline
from zoo.hub.names import DEFAULT_REVISION, HubName, parse_hub_name
from zoo.hub.snapshot import OPTIONAL, REQUIRED, Access, Listed, Listing, git_sha1, list_files
from zoo.model_folder.card import make_card
from zoo.model_folder.claims import check_claims
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import CARD_FILE, CONFIG_FILE, CURVE_FILE, MANIFEST_FILE, Manifest, read_json_object, read_manifest

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
class Plan:
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
        left_out = sorted(path.name for path in self.folder.iterdir() if path.name not in self.files)
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
        with _bars(progress):
            commit, url = self._commit(base, message)
        return self._test(commit, url=url)

    def _create(self) -> None:
        def call() -> None:
            HfApi().create_repo(self.name.repository, private=self.private)

        try:
            self.access.ask(call, self.name, "the making of")
        except HfHubHTTPError as error:
            if failures.status_of(error) == _CONFLICT:
                raise UserError(f"the name '{self.name}' is taken, and your account may not see by what; choose another") from error
            raise self._refused(error) from error
        except UserError:
            raise
        except Exception as error:
            raise failures.sentence(error, self.name) from error

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
        try:
            return list_files(name, self.access)
        except UserError:
            raise
        except Exception as error:
            raise failures.sentence(error, name) from error

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
) -> Plan:
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
    remote = _look(name, access)
    if remote is not None:
        _check_same_model(name, remote, manifest, access, replace)
        if private and not remote.private:
            raise UserError(
                f"'{name}' exists already and is public, and --private is for new repositories; its settings page on the Hub changes that"
            )
    elif create_pr:
        raise UserError(f"there is no repository '{name}' that a pull request could go to; push without --create-pr")
    files = {file: _describe(folder / file) for file in (*REQUIRED, *OPTIONAL) if (folder / file).is_file()}
    return Plan(folder, manifest, name, files, remote, private, create_pr, access)


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


def check_publishable(folder: Path, manifest: Manifest) -> None:
    """Raise UserError where a folder may not be published: it is not whole, or its card says what its zoo.json does not.

    Nothing is asked of the network.
    """
    missing = [file for file in REQUIRED if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} is not a whole zoo model folder: it lacks {', '.join(missing)}")
    check_weights(folder, manifest)
    check_claims(manifest.results, manifest)
    _check_config(folder, manifest)
    curve = folder / CURVE_FILE
    if manifest.curve_sha256 != (file_sha256(curve) if curve.is_file() else None):
        raise UserError(f"{curve} is not the picture that {MANIFEST_FILE} describes; export the run again")
    path = folder / CARD_FILE
    card = path.read_text(encoding="utf-8")
    wanted = make_card(manifest)
    if card == wanted:
        from zoo.model_folder.folder import load_zoo_model  # takes torch, and seconds

        load_zoo_model(folder)
        return
    _check_card_claims(path, card, wanted)
    line = next(
        (number for number, (ours, theirs) in enumerate(zip(wanted.splitlines(), card.splitlines(), strict=False), 1) if ours != theirs),
        min(len(wanted.splitlines()), len(card.splitlines())) + 1,
    )
    raise UserError(
        f"{path} is not the card that {MANIFEST_FILE} makes (it differs from line {line} on): the card is made, not edited; "
        f"`zoo card {folder}` makes it again"
    )


def _check_config(folder: Path, manifest: Manifest) -> None:
    """Raise UserError where ``config.json``, which timm goes by, says something else than zoo.json."""
    config = read_json_object(folder / CONFIG_FILE)
    prepared = config.get("pretrained_cfg")
    prepared = prepared if isinstance(prepared, dict) else {}
    said = {
        "architecture": (config.get("architecture"), manifest.arch),
        "mean": (prepared.get("mean"), list(manifest.mean)),
        "std": (prepared.get("std"), list(manifest.std)),
        "interpolation": (prepared.get("interpolation"), manifest.interpolation),
        "crop_pct": (prepared.get("crop_pct"), manifest.crop_pct),
        "input_size": (prepared.get("input_size"), [3, manifest.image_size, manifest.image_size]),
        "license": (prepared.get("license"), manifest.licence),
    }
    for name, (here, there) in said.items():
        if here != there:
            raise UserError(f"{folder} contradicts itself: {CONFIG_FILE} says {name} {here}, {MANIFEST_FILE} {there}; export it again")


def _check_card_claims(path: Path, card: str, wanted: str) -> None:
    """Name a result that the card claims and zoo.json does not hold."""
    try:
        claimed, held = (_card_results(text) for text in (card, wanted))
    except Exception as error:
        raise UserError(
            f"the front matter of {path} cannot be read ({first_line(error)}); `zoo card {path.parent}` makes it again"
        ) from error
    extra = [claim for claim in claimed if claim not in held]
    if extra:
        metric, data, value = extra[0]
        raise UserError(
            f"{path} claims {metric} = {value} on {data}, which {MANIFEST_FILE} does not hold: results come from "
            f"`zoo add-result {path.parent} RESULT.json`"
        )


def _card_results(card: str) -> list[tuple[str, str, Any]]:
    """(metric, data, value) of what a card's front matter and its table of results claim."""
    results = ModelCard(card, ignore_metadata_errors=False).data.get("eval_results") or []
    found = [(result.metric_name or result.metric_type, result.dataset_name, result.metric_value) for result in results]
    for line in card.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 7 and cells[5].replace(".", "", 1).isdecimal():
            found.append((f"{cells[0]} {cells[4]}", cells[1], cells[5]))
    return found


def _look(name: HubName, access: Access) -> Listing | None:
    """What the repository holds; None where there is none."""
    try:
        return list_files(name, access)
    except UserError:
        raise
    except RepositoryNotFoundError:
        return None
    except Exception as error:
        raise failures.sentence(error, name) from error


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
    from zoo.hub.snapshot import get_file

    try:
        theirs = read_json_object(get_file(name, remote.commit, MANIFEST_FILE, access)).get("name")
    except UserError:
        raise
    except Exception as error:
        raise failures.sentence(error, name) from error
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


class _bars:
    """Show the client's progress bars, or not, within a block; its uploads have no other switch."""

    def __init__(self, show: bool) -> None:
        self._change: Callable[[], None] | None = None if show or are_progress_bars_disabled() else enable_progress_bars

    def __enter__(self) -> None:
        if self._change is not None:
            disable_progress_bars()

    def __exit__(self, *_: object) -> None:
        if self._change is not None:
            self._change()
