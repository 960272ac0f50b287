"""Getting a model by one name: a row of the catalogue, or a repository on the Hub."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from zoo.catalogue import CatalogueEntry, find_entry
from zoo.files import check_new_folder, new_folder
from zoo.hub.from_authors import imported_folder, pull_from_authors
from zoo.hub.names import HubName, is_hub_name, parse_hub_name
from zoo.hub.pins import Pins
from zoo.hub.pulled import Pulled
from zoo.hub.retries import DEFAULT_DEADLINE, Deadline
from zoo.hub.surroundings import check_home, check_hub_settings
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import MANIFEST_FILE, MODEL_FILES, is_zoo_model, read_manifest


def pull(
    name: str,
    *,
    out: str | Path | None = None,
    offline: bool = False,
    deadline: float = DEFAULT_DEADLINE,
    pins: Pins | None = None,
    update: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    trust_pickle: bool = False,
) -> Pulled:
    """Get a zoo model by its name in the catalogue, or by ``org/name[@revision]`` on the Hub, and check every byte of it.

    A zoo model on the Hub lies in the Hub client's cache afterwards (:mod:`zoo.hub.from_hub`). Weights that lie at their authors' are
    downloaded and imported (:mod:`zoo.hub.from_authors`) into ``models`` in :func:`zoo.home.zoo_home`, and so are those of repositories
    that hold no zoo model (:mod:`zoo.hub.plain`): timm's, and others that a reader knows.

    Parameters
    ----------
    out
        Copy the folder there as well; None: it stays in the cache.
    offline
        Make no request at all; so does ``HF_HUB_OFFLINE=1``.
    deadline
        Seconds for everything.
    pins
        The lock file; None: the user's own.
    update
        Accept that the name now stands for other weights than when it was first pulled, and remember those.
    overwrite
        Replace the zoo model folder at ``out``.
    progress
        Show progress bars.
    trust_pickle
        Read weights that name unknown classes, with empty stand-ins for them, as :func:`zoo.formats.engine.read_backbone` does.

    Raises
    ------
    UserError
        No such name; its weights are published nowhere, or in a layout that no reader knows; it cannot be had, and which case that is; a
        file is not what it must be; the name stands for other weights than before; ``out`` exists; a setting of the environment keeps it
        from working, which is found before anything is transferred.
    """
    repository, entry = _resolved(name)
    # The Hub's client takes a moment to import.
    from huggingface_hub import constants

    from zoo.hub.from_hub import pull_from_hub

    if out is not None:
        check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    limit, pins = Deadline(deadline), Pins() if pins is None else pins
    offline = offline or bool(constants.HF_HUB_OFFLINE)
    if not offline:
        check_home()
        if repository is not None:
            check_hub_settings()
    if repository is not None:
        sha256 = None if entry is None else entry.sha256
        pulled = pull_from_hub(
            repository,
            offline=offline,
            deadline=limit,
            pins=pins,
            sha256=sha256,
            update=update,
            progress=progress,
            trust_pickle=trust_pickle,
        )
    else:
        assert entry is not None
        pulled = pull_from_authors(
            entry, offline=offline, deadline=limit, pins=pins, update=update, progress=progress, trust_pickle=trust_pickle
        )
    if out is None:
        return pulled
    with new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE) as temporary:
        for file in MODEL_FILES:
            if (pulled.folder / file).exists():
                # The cache holds links; the copy is of what they point at.
                shutil.copyfile(pulled.folder / file, temporary / file)
        check_weights(temporary, read_manifest(temporary))
    return replace(pulled, folder=Path(out))


def folder_of(name: str) -> Path:
    """The folder of a model that was pulled before, without a request; it is pulled now where it was not.

    ``name`` and what is raised are as in :func:`pull`.
    """
    from zoo.hub.from_hub import folder_in_cache

    repository, entry = _resolved(name)
    if repository is not None:
        is_here = folder_in_cache(repository, Pins()) is not None
    else:
        assert entry is not None
        is_here = is_zoo_model(imported_folder(entry))
    return pull(name, offline=is_here, progress=sys.stderr.isatty()).folder


def _resolved(name: str) -> tuple[HubName | None, CatalogueEntry | None]:
    """The repository on the Hub that a name stands for, or None where it lies elsewhere; and its row of the catalogue, if it is one."""
    if is_hub_name(name):
        return parse_hub_name(name), None
    entry = find_entry(name)
    if entry.home is None or entry.home.repository is None:
        return None, entry
    return HubName(entry.home.repository, *([entry.home.revision] if entry.home.revision else [])), entry
