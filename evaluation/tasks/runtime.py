"""How an evaluation runs, as opposed to what it measures, and the result that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.cache import FeatureCache, state_of
from evaluation.extraction.features import MEMORY_LIMIT, Features, extract_features
from evaluation.extraction.inputs import input_warnings
from evaluation.parallel import ALONE, Processes
from evaluation.statistics import per_image
from evaluation.statistics.intervals import CONFIDENCE, wilson
from evaluation.tasks.presets import ImageChoices
from zoo.data.base import Data, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform
from zoo.results import DataFacts, Headline, ModelFacts, Result
from zoo.results.provenance import software_versions, toolkit_commit

if TYPE_CHECKING:
    from zoo.models.model import Model

# Raised when what is computed changes, so that features kept by earlier versions are not used.
_FEATURE_FORMAT = 1
# Libraries whose version may change a feature's last digits.
_FEATURE_VERSIONS = ("torch", "torchvision", "timm", "pillow")
# Images whose kept features are compared with new ones before they are used, and the relative difference that is allowed.
_PROBED, _SAME = 4, 1e-3


class UsedData(Protocol):
    """Data that a task used, such as :class:`evaluation.extraction.labelled.LabelledData`: what a result says of them."""

    @property
    def data(self) -> Data: ...

    @property
    def level(self) -> str: ...

    @property
    def facts(self) -> DataFacts: ...


DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        Images per forward pass of one process.
    dtype
        A key of :data:`DTYPES`: what networks compute in. Lower precision than float32 is for GPUs.
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
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes.current)
    batch_size: int = BATCH_SIZE
    dtype: str = "float32"
    workers: int | None = None
    seed: int = 0
    progress: bool = False
    cache: FeatureCache | None = None
    memory_limit: int = MEMORY_LIMIT
    say: Callable[[str], None] = lambda _text: None
    _warnings: dict[Any, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"unknown dtype '{self.dtype}'; known: {', '.join(DTYPES)}")
        if self.dtype != "float32" and self.device.type != "cuda":
            raise UserError(f"dtype {self.dtype} needs a GPU, and this is the {self.device.type}; leave it at float32")
        if self.batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {self.batch_size}")

    def features(self, model: Model, images: Images, transform: EvalTransform, *, fingerprint: str | None = None) -> Features:
        """:func:`evaluation.extraction.features.extract_features` with these settings, or from the cache.

        Parameters
        ----------
        fingerprint
            Of the images (:meth:`zoo.data.base.Images.fingerprint`) where it is known already.
        """

        def compute(of: Images, processes: Processes = self.processes) -> Tensor:
            return extract_features(
                model.module,
                of,
                transform,
                batch_size=self.batch_size,
                device=self.device,
                autocast=DTYPES[self.dtype],
                workers=self.workers if len(of) == len(images) else 0,
                processes=processes,
                progress=self.progress and len(of) == len(images),
                memory_limit=self.memory_limit,
            ).features

        def still_true(kept: Tensor) -> bool:
            sample = np.unique(np.linspace(0, len(images) - 1, _PROBED).round().astype(np.int64))
            now, then = compute(images.subset(sample), ALONE), kept[sample]
            # Another batch size changes the last bits; another network, or another input, changes the first digits.
            return now.shape == then.shape and bool((now - then).norm() <= _SAME * now.norm().clamp(min=1e-30))

        self._check_input(model, images, transform)
        if self.cache is None:
            features = compute(images)
        else:
            description = self._description(model, images, transform, fingerprint)
            features = self.cache.get(description, lambda: compute(images), still_true)
        return Features(features, images.levels, images.name, images.split)

    def warnings(self, model: Model, transform: EvalTransform) -> list[str]:
        """What was found doubtful (:func:`evaluation.extraction.inputs.input_warnings`) when features of this model were computed."""
        return self._warnings.get((model.tensors_sha256, model.layer, transform), [])

    def _check_input(self, model: Model, images: Images, transform: EvalTransform) -> None:
        key = (model.tensors_sha256, model.layer, transform)
        if key not in self._warnings:
            self._warnings[key] = input_warnings(model, images, transform, self.device)
            if self.processes.is_main:
                for text in self._warnings[key]:
                    self.say(f"warning: {model.name}: {text}")

    def _description(self, model: Model, images: Images, transform: EvalTransform, fingerprint: str | None) -> dict[str, Any]:
        """What features depend on."""
        data, error = "", None
        if self.processes.is_main:
            try:
                data = data_key(images, fingerprint)
            except UserError as caught:
                error = caught
        self.processes.raise_first(error)
        return describe_features(
            images,
            self.processes.gather_objects(data)[0],
            transform,
            tensors_sha256=model.tensors_sha256,
            arch=model.arch,
            kind=model.kind,
            layer=model.layer,
            dtype=self.dtype,
            device=device_name(self.device),
            versions=software_versions(),
        )

    def forget_features(self) -> None:
        """Let go of the features that the cache holds in memory."""
        if self.cache is not None:
            self.cache.forget()


def data_key(images: Images, fingerprint: str | None = None) -> str:
    """What a description says of a split; ``fingerprint`` is the split's where it is known. Raises UserError where a file is missing."""
    return f"{fingerprint or images.fingerprint()} {state_of(images)}"


def describe_features(
    images: Images,
    data: str,
    transform: EvalTransform,
    *,
    tensors_sha256: str,
    arch: str,
    kind: str,
    layer: str | None,
    dtype: str,
    device: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the features of a split depend on, by which a :class:`evaluation.extraction.cache.FeatureCache` names them.

    A result holds it all but ``data`` (:func:`data_key`), so features can be looked up without the model.
    """
    how = transform.describe()
    if images.pixels is not None and images.pixels.shape[1:3] == (transform.resize, transform.resize):
        del how["interpolation"]  # nothing is resized, whatever the preset says
    return {
        "format": _FEATURE_FORMAT,
        "tensors_sha256": tensors_sha256,
        "arch": arch,
        "kind": kind,
        "layer": layer,
        "data": [images.name, images.split, len(images), data],
        "transform": how,
        "dtype": dtype,
        "device": device,
        "versions": {name: versions.get(name) for name in _FEATURE_VERSIONS},
    }


def transform_for(model: Model, data: UsedData, choices: ImageChoices) -> EvalTransform:
    """The evaluation transform of a protocol's choices, normalising as the model was trained, or else by the data's statistics.

    Raises UserError for a network that was built for images of another size.
    """
    if model.fixed_input and model.input_size != choices.crop:
        raise UserError(
            f"'{model.name}' takes images of {model.input_size} px only, and would get {choices.crop}; give --image-size {model.input_size}"
        )
    mean, std = model.mean or data.data.mean, model.std or data.data.std
    return EvalTransform(choices.resize, choices.crop, choices.interpolation, mean, std, model.channels)


def make_result(
    model: Model,
    data: UsedData,
    runtime: Runtime,
    transform: EvalTransform,
    *,
    task: str,
    preset: str,
    protocol: Mapping[str, Any],
    headline: str,
    metrics: Mapping[str, float],
    counts: Mapping[str, Any],
    details: Mapping[str, Any],
    seconds: Mapping[str, float],
    correct: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Result:
    """A result with all that is known about the model, the data and the machine.

    ``correct`` says by metric which test images, bool (Q,), were answered rightly; the result packs it for comparisons. Metrics with a
    whole number of right answers in ``counts["correct"]`` get a confidence interval.

    ``protocol`` is completed by what holds for every task: the transform, the label level and the mode of batch normalisation.
    """
    layer = {} if model.layer is None else {"layer": model.layer}
    tests = data.facts.splits["test"].images if "test" in data.facts.splits else 0
    counted = {name: count for name, count in counts.get("correct", {}).items() if isinstance(count, int) and 0 <= count <= tests}
    known: dict[str, Any] = {}
    if tests and counted:
        known["intervals"] = {
            "method": f"Wilson, {CONFIDENCE:.0%}, of the test images alone",
            **{name: [round(limit, 4) for limit in wilson(count, tests)] for name, count in counted.items()},
        }
    if doubts := runtime.warnings(model, transform):
        known["warnings"] = doubts
    if correct:
        known[per_image.DETAIL] = per_image.pack(correct)
    images = {f"{role}_images": split.images for role, split in data.facts.splits.items()}
    return Result(
        task=task,
        preset=preset,
        protocol={**protocol, **layer, **transform.describe(), "level": data.level, "batch_norm": "eval"},
        headline=Headline(headline, metrics[headline]),
        metrics=dict(metrics),
        counts={**images, **counts},
        model=ModelFacts(
            name=model.name,
            arch=model.arch,
            kind=model.kind,
            tensors_sha256=model.tensors_sha256,
            mean=transform.mean,
            std=transform.std,
            file_sha256=model.file_sha256,
        ),
        data=data.facts,
        seeds={"evaluation": runtime.seed},
        versions=software_versions(),
        device=device_name(runtime.device),
        dtype=runtime.dtype,
        processes=runtime.processes.count,
        seconds={phase: round(time, 3) for phase, time in seconds.items()},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=toolkit_commit(),
        details={**details, **known},
    )


def device_name(device: torch.device) -> str:
    """``"cpu"``, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
