"""What a model is: backbones, zoo models, data sets, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load(name_or_path: str) -> nn.Module:
    """The backbone of a zoo model, run, ``timm:NAME``, ``torchvision:NAME`` or ``random:ARCH``, in eval mode.

    Its forward takes normalised float32 images (B, 3, H, W) and gives pooled features (B, D).
    :func:`zoo.models.open_model` gives the same network together with its preprocessing, hashes and metadata.
    """
    # torch takes seconds to import; quick commands (`zoo --help`) do without it.
    from zoo.models import open_model

    return open_model(name_or_path).module
