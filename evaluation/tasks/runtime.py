"""How an evaluation runs, as opposed to what it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.extraction.cache import FeatureCache
from evaluation.extraction.descriptions import data_key, describe_features
from evaluation.extraction.features import MEMORY_LIMIT, Features, extract_features
from evaluation.extraction.inputs import input_warnings
from evaluation.parallel import ALONE, Processes
from zoo.cores import available_cores
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform
from zoo.results.provenance import software_versions
from zoo.words.runtime import check_dtype_word

if TYPE_CHECKING:
    from zoo.models.model import Model

# Images whose kept features are compared with new ones before they are used, and the relative difference that is allowed.
_PROBED, _SAME = 4, 1e-3

# What forward passes are cast to; None: nothing is.
_CAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A linear layer that a task trained, and the backbone below it.

    Attributes
    ----------
    weight, bias
        float32 (C, D) and (C,) on the CPU.
    transform
        How images reached the network.
    backbone
        Where the task trained it too; None: it is the model's own.
    """

    weight: Tensor
    bias: Tensor
    transform: EvalTransform
    backbone: nn.Module | None = None


@dataclass(frozen=True)
class Runtime:
    """Settings that no protocol fixes.

    Attributes
    ----------
    device
        Where networks run and similarities are computed.
    processes
        Who shares the work.
    batch_size
        Images per forward pass of one process; None: chosen as :func:`evaluation.extraction.features.extract_features` says.
    dtype
        One of :data:`zoo.words.runtime.DTYPES`: what networks compute in. Lower precision than float32 is for GPUs.
    workers
        Decoding processes; None: one per core.
    seed
        Of the random draws of tasks that make any.
    progress
        Show progress bars.
    cache
        Where features are looked up before they are computed; None: they are computed anew each time.
    memory_limit
        Bytes of features of one split beyond which they lie in a file.
    say
        Called, in the main process, with a sentence for the user: what is doubtful about a model's input.
    keep
        Called, in every process, with the classifier that a task's headline is the accuracy of, where it trained one.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes.current)
    batch_size: int | None = None
    dtype: str = "float32"
    workers: int | None = None
    seed: int = 0
    progress: bool = False
    cache: FeatureCache | None = None
    memory_limit: int = MEMORY_LIMIT
    say: Callable[[str], None] = lambda _text: None
    keep: Callable[[TrainedClassifier], None] = lambda _classifier: None
    _warnings: dict[Any, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_dtype_word(self.dtype)
        if self.dtype != "float32" and self.device.type != "cuda":
            raise UserError(f"dtype {self.dtype} needs a GPU, and this is the {self.device.type}; leave it at float32")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {self.batch_size}")

    @property
    def autocast(self) -> torch.dtype | None:
        """What forward passes are cast to; None: nothing is."""
        return _CAST[self.dtype]

    @property
    def shows_progress(self) -> bool:
        """Whether this process shows progress bars."""
        return self.progress and self.processes.is_main

    def loader_workers(self, images: Images) -> int:
        """Loader processes for training images: none for images in memory, and by default this process's part of the cores."""
        if images.pixels is not None:
            return 0
        return max(1, available_cores() // self.processes.count) if self.workers is None else self.workers

    def outputs(
        self, network: nn.Module, images: Images, transform: EvalTransform, *, progress: bool = False, name: str = "this network"
    ) -> Tensor:
        """float32 (N, D): what any network gives for all images, in every process (:func:`extract_features` with these settings)."""
        return extract_features(
            network,
            images,
            transform,
            batch_size=self.batch_size,
            device=self.device,
            autocast=self.autocast,
            workers=self.workers,
            processes=self.processes,
            progress=progress,
            memory_limit=self.memory_limit,
            name=name,
        ).features

    def features(self, model: Model, images: Images, transform: EvalTransform, *, fingerprint: str | None = None) -> Features:
        """Features by a model, from the cache where they are known; the model's input is checked at its first call.

        Parameters
        ----------
        fingerprint
            Of the images (:meth:`zoo.data.base.Images.fingerprint`) where it is known already.
        """

        def compute() -> Tensor:
            return self.outputs(model.module, images, transform, progress=self.progress, name=model.name)

        def still_true(kept: Tensor) -> bool:
            sample = np.unique(np.linspace(0, len(images) - 1, _PROBED).round().astype(np.int64))
            alone = replace(self, processes=ALONE, workers=0)
            now, then = alone.outputs(model.module, images.subset(sample), transform), kept[sample]
            # Another batch size changes the last bits; another network, or another input, changes the first digits.
            return now.shape == then.shape and bool((now - then).norm() <= _SAME * now.norm().clamp(min=1e-30))

        self._check_input(model, images, transform)
        if self.cache is None:
            features = compute()
        else:
            features = self.cache.get(self._description(model, images, transform, fingerprint), compute, still_true)
        return Features(features, images.levels, images.name, images.split)

    def warnings(self, model: Model, transform: EvalTransform) -> list[str]:
        """What was found doubtful (:func:`evaluation.extraction.inputs.input_warnings`) when features of this model were computed."""
        return self._warnings.get((model.tensors_sha256, model.layer, transform), [])

    def forget_features(self) -> None:
        """Let go of the features that the cache has in memory."""
        if self.cache is not None:
            self.cache.forget()

    def _check_input(self, model: Model, images: Images, transform: EvalTransform) -> None:
        key = (model.tensors_sha256, model.layer, transform)
        if key not in self._warnings:
            self._warnings[key] = input_warnings(model, images, transform, self.device)
            if self.processes.is_main:
                for text in self._warnings[key]:
                    self.say(f"warning: {model.name}: {text}")

    def _description(self, model: Model, images: Images, transform: EvalTransform, fingerprint: str | None) -> dict[str, Any]:
        """What the features depend on."""
        return describe_features(
            images,
            self.processes.from_main(lambda: data_key(images, fingerprint)),
            transform,
            tensors_sha256=model.tensors_sha256,
            arch=model.arch,
            kind=model.kind,
            layer=model.layer,
            dtype=self.dtype,
            device=device_name(self.device),
            versions=software_versions(),
        )


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
