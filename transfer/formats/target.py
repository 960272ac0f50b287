"""What every format has, and the check that most share: the other library's network must give the features of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.backbones import native_size
from zoo.errors import UserError
from zoo.models.model import Model

# The two networks may add in another order; anything beyond rounding is a wrong conversion.
RELATIVE_TOLERANCE = 1e-5
_CHECK_IMAGES = 2
_CHECK_SEED = 0


@dataclass(frozen=True)
class Target:
    """A format of a file, or of a folder.

    Attributes
    ----------
    suffix
        What its files are called.
    refusal
        Model with weights -> why it cannot become such a file, or None.
    write
        Writes a model's backbone to a file.
    check
        Reads the file with the other library and compares its network with the model; gives lines to print. Raises UserError where the
        two differ.
    usage
        How the file is used, as lines to copy.
    checkable
        Why the check cannot run here, or None.
    folder_marker
        Of a target that is a folder: the file by which such a folder is known, which ``--overwrite`` may replace. None: it is a file.
    """

    suffix: str
    refusal: Callable[[Model], str | None]
    write: Callable[[Model, Path], None]
    check: Callable[[Model, Path], list[str]]
    usage: Callable[[Model, Path], str]
    checkable: Callable[[], str | None] = lambda: None
    folder_marker: str | None = None

    def reason_against(self, model: Model) -> str | None:
        """Why a model cannot become such a file, or None."""
        return "raw pixels have no weights" if model.kind == "pixels" else self.refusal(model)


def backbone_tensors(model: Model) -> dict[str, Tensor]:
    """The backbone's tensors by timm's key names, on the CPU, each with memory of its own."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.module.state_dict().items()}


def check_images(side: int, count: int = _CHECK_IMAGES) -> Tensor:
    """float32 (count, 3, side, side): normalised images of noise, the same in every process."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(_CHECK_SEED))


def check_features(model: Model, theirs: Callable[[Tensor], Tensor], to: str, side: int | None = None) -> str:
    """Compare features on random images.

    Parameters
    ----------
    theirs
        The other library's network: float32 (B, 3, H, W) -> (B, D).
    to
        What it is called in messages.
    side
        Of the images, in pixels; None: the model's own.

    Returns
    -------
    A line that says what was compared.

    Raises
    ------
    UserError
        The largest difference exceeds 1e-5 of the largest feature.
    """
    images = check_images(side or model.input_size or native_size(model.module))
    with torch.no_grad():
        wanted, found = model.module(images), theirs(images)
    difference = (wanted - found).abs().max().item() if wanted.shape == found.shape else float("inf")
    largest = wanted.abs().max().item()
    # Written so that a difference that is not a number fails too.
    if not difference <= RELATIVE_TOLERANCE * largest:
        raise UserError(
            f"'{model.name}' was not converted: the {to} network gives features that differ by up to {difference:.3g} from ours"
        )
    return f"checked by a forward pass: features differ by at most {difference:.1e}, of {largest:.3g}"
