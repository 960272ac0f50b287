"""Data sets: one way to name them, named splits, label levels, bad images."""

from zoo.data.base import ArrayImages, Data, FileImages, Images, Level, MultiLabel, Role, UnusedFile
from zoo.data.own.torch_data import torch_data
from zoo.data.registry import data_names, download_data, open_data
from zoo.data.scan import BadImage, OnBad, check_images, find_bad_images, without_bad_images

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
