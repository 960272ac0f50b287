"""Writing, checking and loading a zoo model folder.

The folder holds ``model.safetensors`` (the backbone, by timm's key names), ``config.json`` (so that
``timm.create_model("local-dir:FOLDER", pretrained=True)`` and, once published, ``"hf-hub:ORG/NAME"`` load it with no code of ours),
``zoo.json`` (:mod:`zoo.model_folder.manifest`) and ``README.md`` (:mod:`zoo.model_folder.card`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.backbones import (
    feature_width,
    fixed_input,
    is_timm_native,
    load_backbone,
    read_arguments,
    timm_config,
)
from zoo.errors import UserError, first_line
from zoo.files import new_folder
from zoo.hashing import file_sha256, tensors_sha256
from zoo.model_folder.card import make_card
from zoo.model_folder.claims import check_claims
from zoo.model_folder.eval_results import write_eval_files
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    CURVE_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    read_config,
    read_manifest,
)
from zoo.models.classifiers import head_keys, load_classifier
from zoo.reading.checkpoint_file import read_safetensors

_CHECK_IMAGES = 2
_CHECK_SEED = 0


def write_zoo_model(
    folder: str | Path,
    backbone: nn.Module,
    manifest: Manifest,
    *,
    curve: bytes | None = None,
    overwrite: bool = False,
    release: bool = False,
) -> Path:
    """Write a zoo model folder, load it again through the zoo and through timm, and only then give it its name.

    Parameters
    ----------
    backbone
        The network on the CPU, as :func:`zoo.backbones.create_backbone` makes it for ``manifest.arch`` and ``manifest.image_size``; where
        ``manifest.classes`` names its outputs, a classifier (:func:`zoo.models.classifiers.with_head`).
    manifest
        What is known of the model. Its hashes, counts, ``timm_native`` and ``created`` are filled in here.
    curve
        The picture of the training, a PNG file's bytes; None: there is none.
    overwrite
        Replace an existing zoo model folder; anything else at ``folder`` is never replaced.
    release
        Give up the backbone's tensors once they are written: it is left on the meta device. Saves their memory while the folder is checked.

    Returns
    -------
    The folder.

    Raises
    ------
    UserError
        ``folder`` exists or cannot be written, the backbone is not of ``manifest.arch``, a result is of other weights, or the written
        folder does not give back every tensor and the features bit for bit. Nothing is left behind, and an existing folder is as it was.
    """
    architecture = timm_config(backbone)["architecture"]
    if architecture != manifest.arch:
        raise UserError(f"'{manifest.name}' is said to be a '{manifest.arch}', but the network is a '{architecture}'")
    if manifest.licence is not None and not manifest.licence.strip():
        raise UserError(f"the licence of '{manifest.name}' is empty; name one, or state none")
    state = _separate(backbone)
    with new_folder(folder, overwrite=overwrite, marker=MANIFEST_FILE) as temporary:
        weights = temporary / WEIGHTS_FILE
        try:
            save_file(state, weights, metadata={"format": "pt"})
        except SafetensorError as error:
            raise UserError(f"{Path(folder) / WEIGHTS_FILE} cannot be written ({first_line(error)})") from error
        manifest = replace(
            manifest,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            timm_native=is_timm_native(manifest.arch, manifest.arguments),
            num_features=feature_width(backbone),
            parameters=sum(parameter.numel() for parameter in backbone.parameters()),
            fixed_input=fixed_input(backbone),
            file_sha256=file_sha256(weights),
            tensors_sha256=tensors_sha256(state),
            backbone_sha256=tensors_sha256(without_head(state, backbone)) if manifest.classes else None,
            curve_sha256=None if curve is None else hashlib.sha256(curve).hexdigest(),
        )
        check_claims(manifest.results, manifest)
        config = json.dumps(_timm_file(manifest, backbone), indent=2) + "\n"
        if curve is not None:
            (temporary / CURVE_FILE).write_bytes(curve)
        (temporary / CONFIG_FILE).write_text(config, encoding="utf-8")
        (temporary / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8", errors="backslashreplace")
        (temporary / CARD_FILE).write_text(make_card(manifest), encoding="utf-8", errors="backslashreplace")
        write_eval_files(temporary, manifest)
        wanted = _features(backbone, manifest)
        if release:
            state.clear()
            backbone.to("meta")
        _check_round_trip(temporary, wanted, manifest)
    return Path(folder)


def load_zoo_model(folder: str | Path, *, classifier: bool = False) -> tuple[nn.Module, Manifest]:
    """The backbone of a zoo model folder, in eval mode on the CPU, and what the folder says of it.

    The caller's random numbers are left as they are.

    Parameters
    ----------
    classifier
        Where the folder holds a classifier, the whole network: images -> an output for each of ``manifest.classes``.

    Raises
    ------
    UserError
        The folder is not whole, its files disagree, ``model.safetensors`` is not the file that ``zoo.json`` describes, or its tensors
        are not those of the architecture.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    config = read_config(folder)
    architecture = config.architecture
    if architecture != manifest.arch:
        raise UserError(f"{folder} contradicts itself: {CONFIG_FILE} says '{architecture}', {MANIFEST_FILE} '{manifest.arch}'")
    arguments = read_arguments(config.model_args, str(folder / CONFIG_FILE))
    if arguments != manifest.arguments:
        raise UserError(f"{folder} contradicts itself: {CONFIG_FILE} has the model_args {arguments}, {MANIFEST_FILE} {manifest.arguments}")
    if (config.num_classes, config.label_names or ()) != (len(manifest.classes), manifest.classes):
        raise UserError(f"{folder} contradicts itself: {CONFIG_FILE} and {MANIFEST_FILE} do not name the same classes")
    check_weights(folder, manifest)
    path = folder / WEIGHTS_FILE
    state = read_safetensors(path)
    size: dict[str, Any] = {"image_size": manifest.image_size, "arguments": arguments}
    if manifest.classes:
        network = load_classifier(manifest.arch, state, str(path), len(manifest.classes), **size)
        rest = without_head(state, network)
        if tensors_sha256(rest) != manifest.backbone_sha256:
            raise UserError(f"{folder} contradicts itself: its backbone does not have the backbone_sha256 of {MANIFEST_FILE}")
        if not classifier:
            network = load_backbone(manifest.arch, rest, str(path), **size)
    else:
        network = load_backbone(manifest.arch, state, str(path), **size)
    if tensors_sha256(state) != manifest.tensors_sha256:
        raise UserError(f"{folder} contradicts itself: the tensors of {WEIGHTS_FILE} do not have the tensors_sha256 of {MANIFEST_FILE}")
    return network, manifest


def without_head(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a classifier that its backbone has."""
    own = head_keys(network)
    return {name: tensor for name, tensor in state.items() if name not in own}


def _timm_file(manifest: Manifest, backbone: nn.Module) -> dict[str, Any]:
    """``config.json``, as timm reads it. ``pretrained_cfg`` may hold nothing but timm's own keys."""
    known = timm_config(backbone)
    side = manifest.image_size
    same_size = tuple(known["input_size"][1:]) == (side, side)
    settings: dict[str, Any] = {
        "tag": manifest.name.partition(".")[2] or manifest.name,
        "custom_load": False,
        "input_size": [3, side, side],
        # For a network of fixed size, timm builds the network by input_size where this is set.
        "fixed_input_size": manifest.fixed_input,
        "interpolation": manifest.interpolation,
        "crop_pct": manifest.crop_pct,
        "crop_mode": "center",
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        # Both class counts are those of the file, so that timm loads strictly; `classifier` is what a caller's own head is named.
        "num_classes": len(manifest.classes),
        "pool_size": known.get("pool_size") if same_size else None,
        "first_conv": known.get("first_conv"),
        "classifier": known.get("classifier"),
    }
    if manifest.licence is not None:
        settings["license"] = manifest.licence
    arguments = {"model_args": manifest.arguments} if manifest.arguments else {}
    return {
        "architecture": manifest.arch,
        "num_classes": len(manifest.classes),
        "num_features": manifest.num_features,
        **({"label_names": list(manifest.classes)} if manifest.classes else {}),
        **arguments,
        "pretrained_cfg": settings,
    }


def _separate(backbone: nn.Module) -> dict[str, Tensor]:
    """The network's tensors, of which no two share memory: safetensors stores none that do."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in backbone.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        state[name] = tensor
    return state


def _features(network: nn.Module, manifest: Manifest) -> Tensor:
    """What the network makes of fixed images. Raises UserError where that is not finite."""
    side = manifest.image_size
    images = torch.randn(_CHECK_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(_CHECK_SEED))
    with torch.no_grad(), _evaluating(network):
        features: Tensor = network(images)
    if not torch.isfinite(features).all():
        raise UserError(f"'{manifest.name}' gives features that are not finite: its training diverged, so it is not written")
    return features


def _check_round_trip(folder: Path, wanted: Tensor, manifest: Manifest) -> None:
    # One after the other: three networks at a time would be the peak of memory.
    for name, load in {"the zoo": lambda: load_zoo_model(folder, classifier=True)[0], "timm": lambda: _load_through_timm(folder)}.items():
        network = load()
        if tensors_sha256(network.state_dict()) != manifest.tensors_sha256:
            raise UserError(f"'{manifest.name}' was not kept: loaded again through {name}, its tensors differ from those written")
        if not torch.equal(_features(network, manifest), wanted):
            raise UserError(f"'{manifest.name}' was not kept: loaded again through {name}, it gives other features")
        del network


def _load_through_timm(folder: Path) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:
        raise UserError(f"the model was not kept: timm cannot load it again ({first_line(error)})") from error
    return network.eval()


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
