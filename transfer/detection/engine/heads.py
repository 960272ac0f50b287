"""The head that MoCo's C4 configs name. ``import transfer.detection.engine.heads`` registers it with detectron2."""

from __future__ import annotations

from typing import Any

from detectron2.layers import get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from torch import nn


class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """detectron2's ``Res5ROIHeads`` with one more norm (``MODEL.RESNETS.NORM``) behind res5, as its module ``norm``.

    He et al., arXiv 1911.05722, section 4.2: what was fed to a classifier without such a norm in pre-training has other magnitudes.
    """

    @classmethod
    def _build_res5_block(cls, cfg: Any) -> tuple[nn.Sequential, int]:
        res5, channels = super()._build_res5_block(cfg)
        res5.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return res5, channels


# A program may have registered a head of this name itself, as MoCo's train_net.py does.
if Res5ROIHeadsExtraNorm.__name__ not in ROI_HEADS_REGISTRY:
    ROI_HEADS_REGISTRY.register(Res5ROIHeadsExtraNorm)
