"""Opening a model by one word: a zoo model, a run, published weights, random weights, raw pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.backbones import at_size, create_backbone, create_empty_backbone, fixed_input, load_state, native_size, spelled
from zoo.catalogue import load_catalogue
from zoo.errors import UserError
from zoo.formats.beside import is_transformers_folder
from zoo.hashing import tensors_sha256
from zoo.hub.names import HUB_SCHEME
from zoo.hub.pull import folder_of
from zoo.hub.surroundings import check_download_settings, check_hub_settings
from zoo.model_folder.folder import load_zoo_model
from zoo.model_folder.manifest import is_zoo_model
from zoo.models.layers import Layer
from zoo.models.model import Channels, Inputs, Model
from zoo.models.python import open_python
from zoo.models.runs import DEFAULT_ENCODER, backbone_state, is_run, read_checkpoint, read_newest_checkpoint, read_recipe
from zoo.models.selection import Hints, Selection
from zoo.models.transforms import INTERPOLATION, usual_crop_pct
from zoo.words.models import FILE, PIXELS, PYTHON, RANDOM, TIMM, TORCHVISION, as_folder, no_model, python_word, random_word


class Pixels(nn.Module):
    """The baseline that has learned nothing: the normalised image itself, flattened."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def load(name_or_path: str | Path) -> nn.Module:
    """The backbone of a model, in eval mode; models are named as in :func:`open_model`, which gives preprocessing and metadata too.

    Its forward takes normalised float32 images (B, 3, H, W) and gives pooled features (B, D).
    """
    return open_model(name_or_path).module


def open_model(
    spec: str | Path,
    *,
    weights_encoder: str = DEFAULT_ENCODER,
    image_size: int | None = None,
    weights: str | Path | None = None,
    layer: str | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    channels: Channels | None = None,
    heads: int | None = None,
    norm_eps: float | None = None,
    stem_padding: int | None = None,
    selection: Selection | None = None,
    classifier: bool = False,
    trust_pickle: bool = False,
) -> Model:
    """Open a model.

    Parameters
    ----------
    spec
        A zoo model folder, or the weights file in it; ``hub:ORG/NAME[@REVISION]`` on the Hugging Face Hub or a name of the catalogue,
        either of which is pulled where it is not here yet (:mod:`zoo.hub.pull`); a run folder (its newest checkpoint) or one checkpoint
        file of it; a checkpoint file of others, by its path or as ``file:PATH`` (every layout that ``zoo import`` knows); ``timm:NAME``
        (with timm's pretrained weights, e.g. ``timm:resnet50.a1_in1k``); ``torchvision:NAME[.WEIGHTS]`` (a ResNet with torchvision's
        weights); ``random:ARCH[:SEED]`` (random weights that depend on the seed alone, 0 by default); ``python:FILE_OR_MODULE:CALLABLE``
        (what a function returns; its code is run); ``pixels``.
    weights_encoder
        Which encoder of a run; ``"query"`` is the trained one, ``"key"`` its moving average. Of a file, the one that the method's authors
        evaluate unless another is named. Other models have one encoder.
    image_size
        Side in pixels of the images: a ``random:`` or ``timm:`` network is built for it, one with weights is resized where it takes one
        size only (:func:`zoo.backbones.at_size`), and its ``notes`` say so; any other is checked to take it.
    weights
        For ``python:`` alone: a file of weights.
    layer
        Take the features of this layer (:class:`zoo.models.layers.Layer`) and not the network's own output.
    heads, norm_eps, stem_padding
        What names and shapes in a checkpoint file leave open, as :class:`zoo.models.selection.Hints` has it.
    selection
        Which tensors of a checkpoint file, or of ``weights``, are the network's.
    classifier
        With the layer that gives its classes, where the model has one: a zoo model with classes, ``timm:``, ``torchvision:``. The others,
        and all without this, give features.
    trust_pickle
        Of a checkpoint file, as in :func:`zoo.reading.checkpoint_file.open_checkpoint`.
    mean, std, channels
        How images are to reach the network, instead of what it was trained with or declares.

    Raises
    ------
    UserError
        There is no such model, its files are damaged or do not fit, or published weights cannot be had.
    """
    spec = str(spec)
    hints = Hints(heads, norm_eps, stem_padding)
    how = _HowRead(hints, selection, trust_pickle)
    scheme, colon, rest = spec.partition(":")
    if weights is not None and not (colon and scheme == PYTHON):
        raise UserError(f"'{spec}' has weights of its own; --weights is for python:FILE_OR_MODULE:CALLABLE")
    if spec == PIXELS:
        model = _open_pixels()
    elif colon and scheme == RANDOM:
        model = _open_random(spec, image_size)
    elif colon and scheme == HUB_SCHEME:
        model = _open_zoo_model(folder_of(rest), image_size, classifier)
    elif colon and scheme == PYTHON:
        model = open_python(spec, *python_word(spec), weights, selection)
    elif colon and scheme in (TIMM, TORCHVISION):
        # Only these two need the network, and the clients behind it are slow to import.
        from zoo.models import published

        opener = published.open_timm if scheme == TIMM else published.open_torchvision
        try:
            model = opener(rest, image_size, classifier=classifier)
        except UserError as error:
            # A download that failed has a cause; a setting that keeps the client from working is the better reason.
            if error.__cause__ is not None:
                check_hub_settings() if scheme == TIMM else check_download_settings(published.TORCHVISION_HOST)
            raise
    elif colon and scheme == FILE:
        model = _open_file(Path(rest).expanduser(), weights_encoder, image_size, how)
    else:
        model = _open_path(spec, weights_encoder, image_size, how, classifier)
    if weights_encoder != DEFAULT_ENCODER and model.kind not in ("run", "file"):
        raise UserError(f"'{spec}' has one encoder only; '{weights_encoder}' can be chosen where the model is a run or a checkpoint file")
    if hints and model.kind != "file":
        raise UserError(f"--heads, --norm-eps and --stem-padding are for a checkpoint file, and '{spec}' says itself what it is")
    if selection and not (model.kind == "file" or (model.kind == "python" and weights is not None)):
        raise UserError(f"--key, --prefix, --rename and --drop are for a checkpoint file or --weights; '{spec}' says itself what it holds")
    if layer is not None:
        model = replace(model, module=Layer(model.module, layer).eval(), layer=layer, num_features=None)
    return replace(model, mean=mean or model.mean, std=std or model.std, channels=channels or model.channels)


def absolute_model_spec(spec: str) -> str:
    """A model's name with a path of this machine in it made absolute, so that it means the same wherever it is read; others stay."""
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == FILE:
        return f"file:{os.path.abspath(os.path.expanduser(rest))}"
    if colon and scheme == PYTHON:
        place, _, name = rest.rpartition(":")
        return f"python:{os.path.abspath(place)}:{name}" if place.endswith(".py") and os.path.exists(place) else spec
    place = os.path.expanduser(spec)
    return os.path.abspath(place) if os.path.exists(place) else spec


def _open_pixels() -> Model:
    description = hashlib.sha256(b"pixels: the normalised image, flattened").hexdigest()
    return Model(Pixels().eval(), name="pixels", kind="pixels", arch="pixels", num_features=None, tensors_sha256=description)


def _open_random(spec: str, image_size: int | None) -> Model:
    arch, seed = random_word(spec)
    # Only the CPU's generator is forked and seeded: weights are drawn on the CPU, and the caller's streams must not notice.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = create_backbone(arch, image_size=image_size)
    size = native_size(module) if image_size is None else image_size
    return Model.of_backbone(
        module,
        name=f"random:{arch}:{seed}",
        kind="random",
        arch=arch,
        input_size=size if fixed_input(module) else None,
    )


@dataclass(frozen=True)
class _HowRead:
    """How a checkpoint file is read, as the user says."""

    hints: Hints
    selection: Selection | None
    trust_pickle: bool


def _open_path(spec: str, encoder: str, image_size: int | None, how: _HowRead, classifier: bool) -> Model:
    path = as_folder(Path(spec).expanduser())
    if is_zoo_model(path):
        return _open_zoo_model(path, image_size, classifier)
    if is_run(path):
        newest = read_newest_checkpoint(path)
        model = _open_run(path, newest.path, newest.content, encoder, image_size)
        return model if newest.note is None else replace(model, notes=(*model.notes, newest.note))
    if path.is_file() and is_run(path.parent.parent):
        return _open_run(path.parent.parent, path, read_checkpoint(path), encoder, image_size)
    if not path.exists() and spec in load_catalogue():
        return _open_zoo_model(folder_of(spec), image_size, classifier)
    if path.is_file() or is_transformers_folder(path):
        try:
            return _open_file(path, encoder, image_size, how)
        except UserError as error:
            raise UserError(f"'{spec}' is no model: {error}") from error
    if path.exists():
        raise UserError(
            f"'{spec}' is no model: a zoo model folder holds zoo.json and model.safetensors, a run folder recipe.yaml and checkpoints/, a "
            "folder of transformers config.json and model.safetensors"
        )
    raise no_model(spec)


def _open_file(path: Path, encoder: str, image_size: int | None, how: _HowRead) -> Model:
    # Only these need the readers.
    from zoo.formats.checkpoint_model import open_file

    wanted = None if encoder == DEFAULT_ENCODER else encoder
    return open_file(path, wanted, image_size, hints=how.hints, selection=how.selection, trust_pickle=how.trust_pickle)


def _open_zoo_model(folder: Path, image_size: int | None, classifier: bool) -> Model:
    module, manifest = load_zoo_model(folder, classifier=classifier)
    classes = manifest.classes if classifier else ()
    resized = None
    if not classes:
        module, resized = at_size(module, manifest.arch, image_size)
    return Model.of_backbone(
        module,
        name=manifest.name,
        kind="zoo",
        arch=spelled(manifest.arch, manifest.arguments),
        tensors_sha256=manifest.tensors_sha256 if classes or manifest.backbone_sha256 is None else manifest.backbone_sha256,
        input_size=image_size if resized else manifest.image_size,
        notes=(f"{manifest.name}: {resized}",) if resized else (),
        mean=manifest.mean,
        std=manifest.std,
        declared=Inputs(manifest.mean, manifest.std, "rgb"),
        interpolation=manifest.interpolation,
        crop_pct=manifest.crop_pct,
        classes=classes,
        file_sha256=manifest.file_sha256,
        metadata=manifest.to_dict(),
    )


def _open_run(run: Path, path: Path, checkpoint: Mapping[str, Any], encoder: str, image_size: int | None) -> Model:
    recipe = read_recipe(run)
    arch = str(checkpoint["arch"])
    if recipe["backbone"] != arch:
        raise UserError(f"the recipe of {run} is for '{recipe['backbone']}', but its checkpoint {path.name} is of '{arch}'")
    side = checkpoint["image_size"]
    module = create_empty_backbone(arch, image_size=side)
    load_state(module, backbone_state(checkpoint, encoder), f"{path} (encoder '{encoder}')")
    sha256 = tensors_sha256(module.state_dict())
    module, resized = at_size(module, arch, image_size)
    mean, std = tuple(checkpoint["mean"]), tuple(checkpoint["std"])
    return Model.of_backbone(
        module,
        name=run.resolve().name,
        kind="run",
        arch=arch,
        tensors_sha256=sha256,
        input_size=image_size if resized else side,
        notes=(f"{run.resolve().name}: {resized}",) if resized else (),
        mean=mean,
        std=std,
        declared=Inputs(mean, std, "rgb"),
        interpolation=INTERPOLATION,
        crop_pct=usual_crop_pct(side),
        metadata={
            "encoder": encoder,
            "step": checkpoint["step"],
            "epoch": checkpoint["epoch"],
            "data": checkpoint["data"],
            "checkpoint": path.name,
            "recipe": recipe,
        },
    )
