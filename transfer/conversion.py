"""Backbone weights in the file formats of other libraries.

Each target writes one file, and has the other library read it back: a file is kept only if that library's network computes what ours does.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from transfer.formats.detectron2_file import DETECTRON2, open_file
from transfer.formats.onnx_file import ONNX
from transfer.formats.pytorch import TIMM, TORCHVISION
from transfer.formats.target import Target
from transfer.formats.transformers_folder import TRANSFORMERS
from transfer.words import DETECTRON2_SCHEME, TARGET_NAMES, check_target_word
from zoo.errors import UserError, first_line, not_written
from zoo.files import check_can_write, check_new_folder, new_folder, replace_file
from zoo.model_spec import open_model
from zoo.models.model import Model
from zoo.models.selection import Hints, Selection

TARGETS: dict[str, Target] = dict(zip(TARGET_NAMES, (TORCHVISION, TIMM, DETECTRON2, ONNX, TRANSFORMERS), strict=True))


@dataclass(frozen=True)
class Conversion:
    """What became of a conversion: how the file is used, in lines to copy, and what was checked."""

    usage: str
    checks: tuple[str, ...]


def open_source(spec: str, *, hints: Hints = Hints(), selection: Selection = Selection()) -> Model:
    """A model to transfer: what :func:`zoo.model_spec.open_model` takes, or ``detectron2:FILE``, a backbone or detector of detectron2's.

    ``hints`` and ``selection`` are for a checkpoint file of others, as there.
    """
    if not spec.startswith(DETECTRON2_SCHEME):
        return open_model(spec, **asdict(hints), selection=selection)
    if hints or selection:
        raise UserError(f"--key, --prefix, --rename, --drop, --heads and the like are for a checkpoint file, and '{spec}' is detectron2's")
    return open_file(spec.removeprefix(DETECTRON2_SCHEME))


def convert(
    spec: str,
    to: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    verify: bool | None = None,
    hints: Hints = Hints(),
    selection: Selection = Selection(),
) -> Conversion:
    """Write a model's backbone as another library's weights file.

    Parameters
    ----------
    spec
        A model, as :func:`open_source` takes it.
    to
        ``"torchvision"``: a state dict for torchvision's ResNet with ``fc`` replaced by ``nn.Identity()``, plain tensors (``.pth``).
        ``"timm"``: safetensors for the timm network with ``num_classes=0``.
        ``"detectron2"``: the pickle of a ResNet backbone (``.pkl``).
        ``"onnx"``: the network itself (``.onnx``), normalised images -> features.
        ``"transformers"``: a folder for ``transformers.AutoModel.from_pretrained``.
    out
        The file. Where it is verified, it is in place only when the other library's network gave what the model gives.
    verify
        None: where the other library is installed. True: or refuse. False: not at all.
    hints, selection
        How a checkpoint file of others is read, as in :func:`open_source`.

    Raises
    ------
    UserError
        The format does not exist or cannot hold the model, ``out`` exists or cannot be written, the networks differ, or they were to be
        compared and cannot be.
    """
    check_target_word(to)
    target = TARGETS[to]
    out, kind = Path(out), "file" if target.folder_marker is None else "folder"
    if target.folder_marker is not None:
        check_new_folder(out, overwrite=overwrite, marker=target.folder_marker)
        check_can_write(out, folder=True)
    elif out.suffix != target.suffix:
        raise UserError(f"a {to} file is called *{target.suffix}, so --out cannot be '{out}'")
    elif out.is_dir() or (os.path.lexists(out) and not overwrite):
        raise UserError(f"{out} exists already; choose another --out, or give --overwrite to replace it")
    else:
        check_can_write(out)
    obstacle = target.checkable()
    if verify and obstacle is not None:
        raise UserError(f"a {to} {kind} cannot be verified here ({obstacle}); leave out --verify to write it without")
    model = open_source(spec, hints=hints, selection=selection)
    reason = target.reason_against(model)
    if reason is not None:
        raise UserError(f"'{spec}' cannot become a {to} {kind}: {reason}")
    checks: list[str] = []
    if target.folder_marker is not None:
        with new_folder(out, overwrite=overwrite, marker=target.folder_marker) as folder:
            _write(target, model, folder, out)
            if verify is not False and obstacle is None:
                checks.extend(target.check(model, folder))
        return _done(target, model, out, checks, obstacle)

    def write(temporary: Path) -> None:
        # detectron2 tells a file's format by its name.
        named = temporary.with_name(temporary.name + target.suffix)
        try:
            _write(target, model, temporary, out)
            if verify is not False and obstacle is None:
                temporary.rename(named)
                checks.extend(target.check(model, named))
                named.rename(temporary)
        finally:
            named.unlink(missing_ok=True)

    replace_file(out, write)
    return _done(target, model, out, checks, obstacle)


def _done(target: Target, model: Model, out: Path, checks: list[str], obstacle: str | None) -> Conversion:
    if not checks:
        checks.append(f"not verified ({obstacle or 'as asked'}); its names and shapes were accounted for")
    return Conversion(target.usage(model, out), tuple(checks))


def _write(target: Target, model: Model, temporary: Path, out: Path) -> None:
    try:
        target.write(model, temporary)
    except Exception as error:
        # A disk that is full has its own sentence, as has a mistake of the user's.
        if isinstance(error, UserError) or not_written(error) is not None:
            raise
        raise UserError(f"{out} cannot be written ({first_line(error)})") from error
