"""Getting a model by one name: a row of the catalogue, or a repository on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.attempts import DEFAULT_DEADLINE
from zoo.catalogue.files import find_entry
from zoo.errors import UserError
from zoo.hub.names import HubName, is_hub_name, parse_hub_name
from zoo.pins import Pins

# What ``--model`` has before a name on the Hub.
HUB_SCHEME = "hub"


@dataclass(frozen=True)
class PulledModel:
    """A zoo model that is here.

    Attributes
    ----------
    folder
        A zoo model folder.
    origin
        Where it is from, in words.
    sha256
        Of ``model.safetensors``.
    notes
        What the user should know: each a sentence.
    """

    folder: Path
    origin: str
    sha256: str
    notes: tuple[str, ...] = ()


def pull_model(
    name: str,
    *,
    out: str | Path | None = None,
    offline: bool = False,
    deadline: float = DEFAULT_DEADLINE,
    pins: Pins | None = None,
    update: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> PulledModel:
    """Get a model by its name in the catalogue, or by ``org/name[@revision]`` on the Hub.

    The arguments are those of :func:`zoo.hub.pull.pull`.

    Raises
    ------
    UserError
        No such name; its weights are published nowhere; whatever :func:`zoo.hub.pull.pull` refuses.
    """
    from zoo.hub.pull import pull

    sha256: str | None = None
    if is_hub_name(name):
        hub_name = parse_hub_name(name)
    else:
        entry = find_entry(name)
        if entry.home is None:
            made = f"; the recipe '{entry.recipe}' makes such weights" if entry.recipe else ""
            raise UserError(f"the weights of '{name}' are published nowhere, as far as we know{made}")
        if entry.home.repository is None:
            raise UserError("not yet")
        hub_name = HubName(entry.home.repository, entry.home.revision) if entry.home.revision else HubName(entry.home.repository)
        sha256 = entry.sha256
    pulled = pull(
        hub_name,
        out=out,
        offline=offline,
        deadline=deadline,
        pins=pins,
        sha256=sha256,
        update=update,
        overwrite=overwrite,
        progress=progress,
    )
    return PulledModel(pulled.folder, f"{hub_name.repository} at commit {pulled.commit}", pulled.sha256, pulled.notes)


def open_name(name: str) -> Path:
    """The folder of a model that was pulled before, checked again without a request; pulled now where it was not.

    Parameters
    ----------
    name
        As :func:`pull_model` takes it.

    Raises
    ------
    UserError
        As :func:`pull_model`.
    """
    from zoo.hub.pull import pulled_folder

    if "/" in name and not is_hub_name(name):
        parse_hub_name(name)  # says what is wrong with it
    is_here = is_hub_name(name) and pulled_folder(parse_hub_name(name)) is not None
    return pull_model(name, offline=is_here, progress=True).folder
