"""Data sets: one way to name them, named splits, label levels, bad images.

What is exported is imported when it is asked for: commands that only read a name of a data set do without NumPy and Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from zoo.data.base import ArrayImages, Data, FileImages, Images, Level, MultiLabel, Role, UnusedFile
    from zoo.data.own.torch_data import torch_data
    from zoo.data.registry import data_names, download_data, open_data
    from zoo.data.scan import BadImage, OnBad, check_images, find_bad_images, without_bad_images

_HOMES = {
    **dict.fromkeys(("ArrayImages", "Data", "FileImages", "Images", "Level", "MultiLabel", "Role", "UnusedFile"), "base"),
    "torch_data": "own.torch_data",
    **dict.fromkeys(("data_names", "download_data", "open_data"), "registry"),
    **dict.fromkeys(("BadImage", "OnBad", "check_images", "find_bad_images", "without_bad_images"), "scan"),
}

__all__ = [
    "ArrayImages",
    "BadImage",
    "Data",
    "FileImages",
    "Images",
    "Level",
    "MultiLabel",
    "OnBad",
    "Role",
    "UnusedFile",
    "check_images",
    "data_names",
    "download_data",
    "find_bad_images",
    "open_data",
    "torch_data",
    "without_bad_images",
]

__getattr__ = lazy_names(__name__, _HOMES)
