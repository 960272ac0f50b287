"""What to cite for the methods that the toolkit trains."""

from __future__ import annotations

_MOCO = """@inproceedings{he2020momentum,
  title     = {Momentum Contrast for Unsupervised Visual Representation Learning},
  author    = {He, Kaiming and Fan, Haoqi and Wu, Yuxin and Xie, Saining and Girshick, Ross},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2020}
}"""
_MOCO_V2 = """@article{chen2020improved,
  title   = {Improved Baselines with Momentum Contrastive Learning},
  author  = {Chen, Xinlei and Fan, Haoqi and Girshick, Ross and He, Kaiming},
  journal = {arXiv preprint arXiv:2003.04297},
  year    = {2020}
}"""
_SIMCLR = """@inproceedings{chen2020simple,
  title     = {A Simple Framework for Contrastive Learning of Visual Representations},
  author    = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning (ICML)},
  year      = {2020}
}"""

_OF_METHOD = {
    "moco": (_MOCO, _MOCO_V2),
    "moco_v2": (_MOCO, _MOCO_V2),
    "mocov2": (_MOCO, _MOCO_V2),
    "simclr": (_SIMCLR,),
}


def citations(method: str | None) -> tuple[str, ...]:
    """BibTeX entries of a method; empty where none is known."""
    return _OF_METHOD.get((method or "").lower().replace("-", "_"), ())
