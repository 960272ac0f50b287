"""What to cite for the methods that the toolkit trains or imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _entry(kind: str, key: str, **fields: str) -> str:
    width = max(map(len, fields))
    lines = ",\n".join(f"  {name:<{width}} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


_CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)"
_ICCV = "IEEE/CVF International Conference on Computer Vision (ICCV)"
_NEURIPS = "Advances in Neural Information Processing Systems (NeurIPS)"
_ICML = "International Conference on Machine Learning (ICML)"
_ICLR = "International Conference on Learning Representations (ICLR)"

_MOCO = _entry(
    "inproceedings",
    "he2020momentum",
    title="Momentum Contrast for Unsupervised Visual Representation Learning",
    author="He, Kaiming and Fan, Haoqi and Wu, Yuxin and Xie, Saining and Girshick, Ross",
    booktitle=_CVPR,
    year="2020",
)
_MOCO_V2 = _entry(
    "article",
    "chen2020improved",
    title="Improved Baselines with Momentum Contrastive Learning",
    author="Chen, Xinlei and Fan, Haoqi and Girshick, Ross and He, Kaiming",
    journal="arXiv preprint arXiv:2003.04297",
    year="2020",
)
_SIMCLR = _entry(
    "inproceedings",
    "chen2020simple",
    title="A Simple Framework for Contrastive Learning of Visual Representations",
    author="Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey",
    booktitle=_ICML,
    year="2020",
)
_BYOL = _entry(
    "inproceedings",
    "grill2020bootstrap",
    title="Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
    author="Grill, Jean-Bastien and Strub, Florian and Altch\\'e, Florent and Tallec, Corentin and Richemond, Pierre and others",
    booktitle=_NEURIPS,
    year="2020",
)
_SIMSIAM = _entry(
    "inproceedings",
    "chen2021exploring",
    title="Exploring Simple Siamese Representation Learning",
    author="Chen, Xinlei and He, Kaiming",
    booktitle=_CVPR,
    year="2021",
)
_HCSC = _entry(
    "inproceedings",
    "guo2022hcsc",
    title="HCSC: Hierarchical Contrastive Selective Coding",
    author="Guo, Yuanfan and Xu, Minghao and Li, Jiawen and Ni, Bingbing and Zhu, Xuanyu and Sun, Zhenbang and Xu, Yi",
    booktitle=_CVPR,
    year="2022",
)
_CSML = _entry(
    "article",
    "xu2020seed",
    title="Seed the Views: Hierarchical Semantic Alignment for Contrastive Representation Learning",
    author="Xu, Haohang and Zhang, Xiaopeng and Li, Hao and Xie, Lingxi and Dai, Wenrui and Xiong, Hongkai and Tian, Qi",
    journal="arXiv preprint arXiv:2012.02733",
    year="2020",
)
_CONTRASTIVE_CROP = _entry(
    "inproceedings",
    "peng2022crafting",
    title="Crafting Better Contrastive Views for Siamese Representation Learning",
    author="Peng, Xiangyu and Wang, Kai and Zhu, Zheng and Wang, Mang and You, Yang",
    booktitle=_CVPR,
    year="2022",
)
_SWAV = _entry(
    "inproceedings",
    "caron2020unsupervised",
    title="Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    author="Caron, Mathilde and Misra, Ishan and Mairal, Julien and Goyal, Priya and Bojanowski, Piotr and Joulin, Armand",
    booktitle=_NEURIPS,
    year="2020",
)
_DINO = _entry(
    "inproceedings",
    "caron2021emerging",
    title="Emerging Properties in Self-Supervised Vision Transformers",
    author="Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J\\'egou, Herv\\'e and Mairal, Julien and Bojanowski, Piotr and others",
    booktitle=_ICCV,
    year="2021",
)
_PCL = _entry(
    "inproceedings",
    "li2021prototypical",
    title="Prototypical Contrastive Learning of Unsupervised Representations",
    author="Li, Junnan and Zhou, Pan and Xiong, Caiming and Hoi, Steven C. H.",
    booktitle=_ICLR,
    year="2021",
)
_BARLOW_TWINS = _entry(
    "inproceedings",
    "zbontar2021barlow",
    title="Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
    author="Zbontar, Jure and Jing, Li and Misra, Ishan and LeCun, Yann and Deny, St\\'ephane",
    booktitle=_ICML,
    year="2021",
)
_VICREG = _entry(
    "inproceedings",
    "bardes2022vicreg",
    title="VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
    author="Bardes, Adrien and Ponce, Jean and LeCun, Yann",
    booktitle=_ICLR,
    year="2022",
)

_OF_METHOD = {
    "barlow_twins": (_BARLOW_TWINS,),
    "byol": (_BYOL,),
    "csml": (_CSML,),
    "dino": (_DINO,),
    "hcsc": (_HCSC,),
    "moco": (_MOCO, _MOCO_V2),
    "moco_v2": (_MOCO, _MOCO_V2),
    "mocov2": (_MOCO, _MOCO_V2),
    "pcl": (_PCL,),
    "simclr": (_SIMCLR,),
    "simsiam": (_SIMSIAM,),
    "swav": (_SWAV,),
    "vicreg": (_VICREG,),
}
# Crops that are part of another paper than the method's.
_OF_CROP = {"contrastive_crop": (_CONTRASTIVE_CROP,), "simccrop": (_CONTRASTIVE_CROP,)}


def citations(method: str | None, recipe: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """BibTeX entries of a method, and of the crops that its recipe takes; empty where none is known."""
    views = (recipe or {}).get("views")
    crop = views.get("crop") if isinstance(views, Mapping) else None
    return (*_OF_METHOD.get((method or "").lower().replace("-", "_"), ()), *_OF_CROP.get(str(crop), ()))
