"""The tasks of ``evaluate``: what each is called, which presets and options it has, and where its code is. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from evaluation.presets import KNN_PRESETS, ImageChoices, KnnPreset, find

if TYPE_CHECKING:
    from evaluation.labelled import LabelledData
    from evaluation.runtime import Runtime
    from zoo.model import Model
    from zoo.results import Result


class Preset(Protocol):
    """What every task's preset has."""

    @property
    def name(self) -> str: ...

    @property
    def images(self) -> ImageChoices: ...


class Run(Protocol):
    """A task's function on a model and a data set."""

    def __call__(
        self, model: Model, data: LabelledData, *, preset: Any, image_size: int | None = None, runtime: Runtime | None = None
    ) -> Result: ...


@dataclass(frozen=True)
class Task:
    """An evaluation that ``evaluate --task`` can run.

    Attributes
    ----------
    name
        What ``--task`` calls it.
    presets
        By name.
    default_preset
        The one that is taken where none is named.
    options
        Options of the command that this task has beside those that all have.
    change
        Applies such options to a preset; raises UserError for values that make no sense.
    run
        ``"module:function"``, imported when it is called.
    columns
        Metrics of a result that its table shows, with their headings.
    """

    name: str
    presets: Mapping[str, Preset]
    default_preset: str
    options: frozenset[str]
    change: Callable[..., Preset]
    run: str
    columns: Callable[[Result], dict[str, str]]

    def preset(self, name: str | None, options: Mapping[str, Any]) -> Preset:
        """The preset of that name, changed by the task's options."""
        return self.change(find(f"{self.name} preset", name or self.default_preset, self.presets), **options)

    def load(self) -> Run:
        module, _, function = self.run.partition(":")
        found: Run = getattr(import_module(module), function)
        return found


def _knn_columns(result: Result) -> dict[str, str]:
    columns = {f"top1_k{k}": f"k={k}" for k in result.protocol["k"]}
    best = result.headline.metric.replace("top1", "top5")
    return columns | ({best: f"top-5 {columns[result.headline.metric]}"} if best in result.metrics else {})


TASKS: Mapping[str, Task] = {
    "knn": Task(
        name="knn",
        presets=KNN_PRESETS,
        default_preset="dino",
        options=frozenset({"k", "temperature"}),
        change=KnnPreset.change,
        run="evaluation.knn:run_knn",
        columns=_knn_columns,
    ),
}
