"""What the functions of all tasks begin and end with: what they were called with, made ready, and the result that comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluation.extraction.features import Features
from evaluation.extraction.spread import feature_doubts
from evaluation.statistics import per_image
from evaluation.statistics.accuracy import Accuracy, never_predicted
from evaluation.statistics.intervals import CONFIDENCE, wilson
from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.runtime import Runtime, TrainedClassifier, device_name
from evaluation.tasks.task import Task, load
from zoo.cores import available_cores
from zoo.data.base import Data, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform
from zoo.results import DataFacts, Headline, ModelFacts, Result
from zoo.results.provenance import software_versions, toolkit_commit

if TYPE_CHECKING:
    from zoo.models.model import Model


class UsedData(Protocol):
    """Data that a task used, such as :class:`evaluation.extraction.labelled.LabelledData`: its images by role, and what a result says."""

    @property
    def data(self) -> Data: ...

    @property
    def level(self) -> str: ...

    @property
    def images(self) -> Mapping[str, Images]: ...

    @property
    def facts(self) -> DataFacts: ...

    @property
    def doubts(self) -> list[str]: ...


AnyPreset = TypeVar("AnyPreset", bound=Preset)
Prepared = TypeVar("Prepared")
Used = TypeVar("Used", bound=UsedData)


def made_ready(
    task: Task[AnyPreset], data: Data | Prepared, preset: str | AnyPreset, runtime: Runtime | None
) -> tuple[Prepared, AnyPreset, Runtime]:
    """What a task's function was called with, as it works with it: data that its ``prepare`` made ready, the preset, the runtime.

    Raises UserError for an unknown preset, and what ``prepare`` refuses.
    """
    chosen = task.find(preset) if isinstance(preset, str) else preset
    where = Runtime() if runtime is None else runtime
    ready = load(task.prepare)(data, processes=where.processes, progress=where.progress) if isinstance(data, Data) else data
    return ready, chosen, where


def transform_for(model: Model, data: UsedData, images: ImageChoices, image_size: int | None) -> EvalTransform:
    """The evaluation transform of a protocol's choices, normalising as the model was trained, or else by the data's statistics.

    ``image_size`` is the side that was asked for in place of the protocol's. Raises UserError for a network that was built for another.
    """
    choices = images.fitting(data.data.image_size, image_size)
    if model.fixed_input and model.input_size != choices.crop:
        raise UserError(
            f"'{model.name}' takes images of {model.input_size} px only, and would get {choices.crop}; give --image-size {model.input_size}"
        )
    mean, std = model.mean or data.data.mean, model.std or data.data.std
    return EvalTransform(choices.resize, choices.crop, choices.interpolation, mean, std, model.channels)


@dataclass(kw_only=True)
class Measurement(Generic[AnyPreset, Used]):
    """One task on one model and data set, by one preset: what it is made with, and how long its phases take.

    Attributes
    ----------
    task
        Its name.
    data
        The splits that it uses.
    transform
        How images become the network's input.
    seconds
        By phase (:meth:`timed`).
    doubts
        Sentences on what is doubtful about features and answers (:meth:`doubt`); a result has them among its warnings.
    """

    task: str
    model: Model
    data: Used
    preset: AnyPreset
    runtime: Runtime
    transform: EvalTransform
    seconds: dict[str, float] = field(default_factory=dict, init=False)
    doubts: list[str] = field(default_factory=list, init=False)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """What the block takes counts as ``phase``; several blocks of one phase add up."""
        started = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def features(self, role: str) -> Features:
        """Features of a split that the task uses."""
        fingerprint = self.data.facts.splits[role].fingerprint
        found = self.runtime.features(self.model, self.data.images[role], self.transform, fingerprint=fingerprint)
        if self.model.kind != "pixels":
            self.doubt(feature_doubts(found.features, f"{role} images"))
        return found

    def doubt(self, sentences: Iterable[str]) -> None:
        """Have a result say these too, each once."""
        self.doubts += [text for text in dict.fromkeys(sentences) if text not in self.doubts]

    def keep(self, weight: Tensor, bias: Tensor, backbone: nn.Module | None = None) -> None:
        """Hand over the classifier that the headline is the accuracy of (:attr:`evaluation.tasks.runtime.Runtime.keep`)."""
        weight, bias = (tensor.detach().to("cpu", torch.float32).contiguous() for tensor in (weight, bias))
        self.runtime.keep(TrainedClassifier(weight, bias, self.transform, backbone))

    def result(
        self,
        *,
        protocol: Mapping[str, Any],
        headline: str,
        metrics: Mapping[str, float],
        details: Mapping[str, Any],
        counts: Mapping[str, Any] | None = None,
        correct: Mapping[str, NDArray[np.bool_]] | None = None,
        answers: Accuracy | None = None,
    ) -> Result:
        """A result with all that is known about the model, the data and the machine.

        Parameters
        ----------
        protocol
            It is completed by what holds for every task: the transform, the label level and the mode of batch normalisation.
        headline
            The metric that the preset is known by.
        counts
            Metrics with a whole number of right answers in ``counts["correct"]`` get a confidence interval.
        correct
            By metric which test images, bool (Q,), were answered rightly; the result packs it for comparisons.
        answers
            Those of the headline, on the test images.
        """
        model, facts, counts = self.model, self.data.facts, counts or {}
        layer = {} if model.layer is None else {"layer": model.layer}
        tests = facts.splits["test"].images if "test" in facts.splits else 0
        counted = {name: count for name, count in counts.get("correct", {}).items() if isinstance(count, int) and 0 <= count <= tests}
        known: dict[str, Any] = {}
        if tests and counted:
            known["intervals"] = {
                "method": f"Wilson, {CONFIDENCE:.0%}, of the test images alone",
                **{name: [round(limit, 4) for limit in wilson(count, tests)] for name, count in counted.items()},
            }
        if answers is not None:
            self.doubt(never_predicted(answers, self.data.images["test"].level(self.data.level).classes))
        doubts = [*self.runtime.warnings(model, self.transform), *self.data.doubts, *self.doubts, *details.get("warnings", [])]
        if doubts:
            known["warnings"] = doubts
        known["environment"] = {"threads": torch.get_num_threads(), "cores": available_cores()}
        if (code := model.metadata.get("code_sha256")) is not None and model.kind == "python":
            known["environment"]["code_sha256"] = code
        if correct:
            known[per_image.DETAIL] = per_image.pack(correct)
        images = {f"{role}_images": split.images for role, split in facts.splits.items()}
        return Result(
            task=self.task,
            preset=self.preset.name_at(self.transform.crop),
            protocol={
                **({"procedure": self.preset.procedure} if self.preset.procedure > 1 else {}),
                **protocol,
                **layer,
                **self.transform.describe(),
                "level": self.data.level,
                "batch_norm": _batch_norm(model.module),
            },
            headline=Headline(headline, metrics[headline]),
            metrics=dict(metrics),
            counts={**images, **counts},
            model=ModelFacts(
                name=model.name,
                arch=model.arch,
                kind=model.kind,
                tensors_sha256=model.tensors_sha256,
                mean=self.transform.mean,
                std=self.transform.std,
                file_sha256=model.file_sha256,
            ),
            data=facts,
            seeds={"evaluation": self.runtime.seed},
            versions=software_versions(),
            device=device_name(self.runtime.device),
            dtype=self.runtime.dtype,
            processes=self.runtime.processes.count,
            seconds={phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=toolkit_commit(),
            details={**details, **known},
        )


def _batch_norm(network: nn.Module) -> str:
    """In which mode the network's batch norms stay when it is evaluated."""
    return "training" if any(isinstance(module, _BatchNorm) and module.training for module in network.modules()) else "eval"


def measurement(
    task: Task[Any], model: Model, data: Used, preset: AnyPreset, image_size: int | None, runtime: Runtime
) -> Measurement[AnyPreset, Used]:
    """A measurement with the transform that the preset, the model and the data ask for (:func:`transform_for`)."""
    transform = transform_for(model, data, preset.images, image_size)
    return Measurement(task=task.name, model=model, data=data, preset=preset, runtime=runtime, transform=transform)
