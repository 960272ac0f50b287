"""Names by which the models of several results are told apart. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from zoo.results.result import ModelFacts


def model_labels(models: Sequence[ModelFacts]) -> list[str]:
    """A label for each model: its name, with as much of its path before it as tells it from others of that name.

    Two runs called ``run`` in the folders ``a`` and ``b`` are ``a/run`` and ``b/run``. What was opened by the same text keeps one label.
    """
    specs: dict[str, list[str]] = {}
    for model in models:
        if model.spec is not None and model.spec not in specs.setdefault(model.name, []):
            specs[model.name].append(model.spec)
    return [_label(model, specs.get(model.name, [])) for model in models]


def _label(model: ModelFacts, specs: Sequence[str]) -> str:
    if model.spec is None or len(specs) < 2:
        return model.name
    depth = next((depth for depth in range(1, 64) if len({_end(spec, depth) for spec in specs}) == len(specs)), 64)
    end = _end(model.spec, depth)
    return end if PurePath(end).name == model.name else f"{model.name} ({end})"


def _end(spec: str, depth: int) -> str:
    return str(PurePath(*PurePath(spec).parts[-depth:]))
