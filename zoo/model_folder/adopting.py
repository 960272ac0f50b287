"""Making a zoo model of files that are published without one: timm's config.json and weights, or a checkpoint that a reader knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from zoo.backbones import checked, read_arguments, size_arguments
from zoo.errors import UserError, first_line
from zoo.formats.beside import read_preprocessing
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.importing import import_checkpoint
from zoo.model_folder.manifest import Config, Manifest, read_config
from zoo.normalisation import three_channels
from zoo.reading.checkpoint_file import open_checkpoint
from zoo.reading.outside import read_record
from zoo.results.provenance import software_versions, toolkit_commit

# What nobody says of such weights in a place where it could be read.
UNKNOWN = ("method", "epochs", "data")
# What a repository states of its licence that names none.
_NO_LICENCE = ("other", "unknown", "")


@dataclass(frozen=True)
class Published:
    """Files of a repository, as they lie here.

    Attributes
    ----------
    weights
        A checkpoint.
    config
        ``config.json``, in the same folder; None: there is none.
    preprocessor
        ``preprocessor_config.json``, as transformers writes it; None: there is none.
    """

    weights: Path
    config: Path | None = None
    preprocessor: Path | None = None


def adopt(
    files: Published, out: Path, *, name: str, source: Mapping[str, Any], licence: str | None, trust_pickle: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Write the zoo model folder ``out``, replacing one that is there.

    Parameters
    ----------
    name
        Of the model.
    source
        Where the files are from, for the record.
    licence
        What the repository states; a licence in timm's config.json counts before it.
    trust_pickle
        As in :func:`zoo.formats.engine.read_backbone`.

    Returns
    -------
    What the files were recognised as, and notes for the user.

    Raises
    ------
    UserError
        They are no network that timm or a reader knows, or not wholly.
    """
    content = {} if files.config is None else read_record(files.config)
    settings = content.get("pretrained_cfg")
    own = settings.get("license") if isinstance(settings, dict) else None
    licence = own if isinstance(own, str) and own else licence
    if licence is None or licence.lower() in _NO_LICENCE:
        licence = None
    facts = {**source, "unknown": [*UNKNOWN, *([] if licence else ["licence"])]}
    if files.config is not None and "pretrained_cfg" in content:
        state = open_checkpoint(files.weights, trust_pickle=trust_pickle).content
        if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
            raise UserError(f"{files.weights} holds something else than a network's tensors, and timm's files hold nothing else")
        _adopt_timm(files, state, read_config(files.config.parent), out, name=name, source=facts, licence=licence)
        return "timm's", ()
    arch = content.get("architecture")
    done = import_checkpoint(
        files.weights,
        out,
        arch=arch if isinstance(arch, str) else None,
        name=name,
        licence=licence,
        preprocessing=None if files.preprocessor is None else read_preprocessing(files.preprocessor),
        origin=facts,
        trust_pickle=trust_pickle,
        overwrite=True,
    )
    assumed = (f"assumed, since nobody says otherwise: {what}" for what in done.assumed)
    return done.reading.reader.name, (*done.reading.function.notes, *assumed)


def _adopt_timm(
    files: Published, state: dict[str, Tensor], config: Config, out: Path, *, name: str, source: Mapping[str, Any], licence: str | None
) -> None:
    """timm's own way: its network takes every tensor, the classifier too, which is left out afterwards."""
    assert files.config is not None
    where, settings = str(files.config), config.pretrained_cfg
    if not timm.is_model(config.architecture):
        raise UserError(f"{where} is for '{config.architecture}', which timm {timm.__version__} does not have")
    channels, height, width = settings["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"{where} is for images of {channels} x {height} x {width}, and the zoo's networks take square images of 3 channels"
        )
    arguments = _arguments(config, height, where)
    classes = config.num_classes
    overlay: dict[str, Any] = {
        "state_dict": state,
        "custom_load": False,
        "num_classes": classes,
        "input_size": (3, height, width),
    }
    try:
        with torch.random.fork_rng(devices=[]):
            network: Any = timm.create_model(
                config.architecture,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                num_classes=classes,
                **size_arguments(config.architecture, height),
                **arguments,
            )
    except Exception as error:  # a constructor or load_state_dict refuses in its own way
        raise UserError(f"{files.weights} is not the '{config.architecture}' that {where} describes ({first_line(error)})") from error
    # Afterwards: timm loads strictly only where the class count is that of the file.
    network.reset_classifier(0)
    backbone: nn.Module = checked(network, config.architecture, height).eval()
    normalisation = {key: list(three_channels(settings[key])) for key in ("mean", "std")}
    manifest = Manifest(
        name=name,
        arch=config.architecture,
        method=None,
        image_size=height,
        normalisation=normalisation,
        interpolation=settings["interpolation"],
        crop_pct=float(settings["crop_pct"]),
        source={
            **source,
            "format": "timm",
            **({"model_args": arguments} if arguments else {}),
            "commit": toolkit_commit(),
            "versions": software_versions(),
        },
        licence=licence,
    )
    write_zoo_model(out, backbone, manifest, overwrite=True, release=True)


def _arguments(config: Config, side: int, where: str) -> dict[str, Any]:
    """The arguments that make another function of the architecture; those that repeat what it is anyway are left out."""
    arguments = dict(config.model_args)
    arguments.pop("num_classes", None)
    usual: dict[str, Any] = {"in_chans": 3, "img_size": side, "global_pool": None}
    if arguments.get("img_size") == [side, side]:
        arguments["img_size"] = side
    if "global_pool" in arguments:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            usual["global_pool"] = _pooling(timm.create_model(config.architecture))
    return read_arguments({key: value for key, value in arguments.items() if key not in usual or value != usual[key]}, where)


def _pooling(network: Any) -> str | None:
    """How the network pools, by timm's word; None where it does not say."""
    for place in (network, getattr(network, "head", None)):
        found = getattr(place, "global_pool", None)
        word = found if isinstance(found, str) else getattr(found, "pool_type", None)
        if isinstance(word, str):
            return word
    return None
