"""Measuring again what a model's card claims, claim by claim.

A claim is measured by the task, the preset, the options, the seed, the label level and the image size that its result records, on data
whose fingerprint is compared. Imports no torch by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol

from evaluation.tasks.again import command_again, registered_name
from evaluation.tasks.presets import Preset
from evaluation.tasks.registry import TASKS
from evaluation.tasks.task import Task, load
from zoo.data.spec import CLASS_LEVEL, WITHOUT_PLACE, parse_spec
from zoo.errors import UserError, first_line
from zoo.results import DataFacts, Result

if TYPE_CHECKING:
    from evaluation.tasks.runtime import Runtime
    from zoo.catalogue import CatalogueEntry, PublishedResult
    from zoo.models.model import Model

# Functions that measure the claims of tasks that `evaluate` does not have, by task.
VERIFIER_GROUP = "zoo.verifiers"
# What a number of a task that counts may differ by on another device, in another precision or with other versions: points of a
# percentage, or one image of a small test set. A choice, not a measurement.
OTHER_MACHINE_TOLERANCE = 0.05
# What a published number may differ by: it was made by other code, and often it is not said by which choices.
PUBLISHED_TOLERANCE = 0.5
# Versions that features depend on.
_DECISIVE_VERSIONS = ("torch", "torchvision", "timm", "pillow")
_NEWER = "this version measures this task by a newer procedure, so the numbers cannot be compared; measure anew by"
# What a protocol says that is no choice of it.
_REMARKS = ("source", "options", "tolerance", "solver_tolerance", "max_iterations")

Status = Literal[
    "reproduced", "not reproduced", "claim too wide", "card disagrees", "other data", "older procedure", "no data", "not measured"
]
# Statuses that say that a claim was tried and does not hold, or cannot be tried.
FAILED: tuple[Status, ...] = ("not reproduced", "claim too wide", "card disagrees", "other data", "not measured")
# Statuses of claims that were not tried.
UNTRIED: tuple[Status, ...] = ("no data", "older procedure")


class Verifier(Protocol):
    """Measures a claim again; registered in the entry-point group ``zoo.verifiers`` under the task's name.

    Raises UserError where it cannot. ``model`` is what ``--model`` takes, ``data`` what ``--data`` takes.
    """

    def __call__(self, claim: Result, *, model: str, data: str, runtime: Runtime) -> Result: ...


def known_tasks() -> list[str]:
    """The tasks whose claims can be measured again here."""
    return [*TASKS, *(entry.name for entry in entry_points(group=VERIFIER_GROUP) if entry.name not in TASKS)]


@dataclass(frozen=True)
class Difference:
    """A metric as it was claimed, as it was found, and what the two may differ by."""

    metric: str
    claimed: float
    found: float
    tolerance: float

    @property
    def holds(self) -> bool:
        # A hundredth of a millionth for what JSON rounds.
        return abs(self.found - self.claimed) <= self.tolerance + 1e-8

    def __str__(self) -> str:
        sign = "=" if self.claimed == self.found else "/"
        change = "" if self.claimed == self.found else f" ({self.found - self.claimed:+.2f}, allowed {self.tolerance:g})"
        return f"{self.metric} {self.claimed:.2f} {sign} {self.found:.2f}{change}"


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes
    ----------
    claim
        Which, in a few words: task, protocol, data, date.
    status
        ``"reproduced"``: every number within its tolerance; ``"not reproduced"``; ``"other data"``: the fingerprint is not the claim's;
        ``"no data"``: none was given for it; ``"not measured"``: it cannot be measured again, or not as it was; ``"claim too wide"``: it
        states a larger tolerance than its task allows; ``"card disagrees"``: the card, or the counts, state another number than the
        result; ``"older procedure"``: the task has measured otherwise since then.
    reason
        Why, where a number does not say it.
    differences
        Number by number.
    result
        What was measured now.
    """

    claim: str
    status: Status
    reason: str = ""
    differences: tuple[Difference, ...] = ()
    result: Result | None = None

    @property
    def failed(self) -> bool:
        return self.status in FAILED

    def __str__(self) -> str:
        worst = [difference for difference in self.differences if not difference.holds] or self.differences
        told = self.reason or "; ".join(map(str, worst))
        status = self.status.upper() if self.failed else self.status
        return f"{self.claim}: {status}" + (f": {told}" if told else "")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "claim": self.claim,
            "status": self.status,
            "reason": self.reason,
            "metrics": [
                {"metric": one.metric, "claimed": one.claimed, "found": one.found, "tolerance": one.tolerance, "holds": one.holds}
                for one in self.differences
            ],
            "result": None if self.result is None else self.result.to_dict(),
        }


@dataclass
class Verification:
    """Verifies claims on the data that is at hand.

    Attributes
    ----------
    data
        What ``--data`` gave: ``NAME[:ROOT]`` each. Data that is part of the toolkit needs none.
    runtime
        Device, processes, batch size. Seed and precision are the claim's.
    tasks
        Those whose claims count; None: all.
    """

    data: Sequence[str]
    runtime: Runtime
    tasks: Sequence[str] | None = None
    _prepared: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def wanted(self, task: str) -> bool:
        return self.tasks is None or task in self.tasks

    def claims(self, model: str, results: Sequence[Result]) -> Iterator[Verdict]:
        """Measure each result of a model again, as one verdict after the other.

        ``model`` is what ``--model`` takes; its weights are checked where it is opened.
        """
        for claim in results:
            if self.wanted(claim.task):
                yield self._verdict(claim, model)
        self.runtime.forget_features()

    def catalogue(self, entry: CatalogueEntry) -> Iterator[Verdict]:
        """Measure what the catalogue says of a model: own results as claims, and what others printed, where its task and data are at hand.

        The model is pulled where it is not here yet. What others printed is compared within :data:`PUBLISHED_TOLERANCE`, by the preset of
        the method's name where the task has one, else by its default.
        """
        yield from self.claims(entry.name, [claim for claim in entry.own if self._at_hand(claim.data) is not None])
        for number in entry.published:
            if number.task in TASKS and self.wanted(number.task):
                data = self._at_hand(DataFacts(number.data, number.data, CLASS_LEVEL, 0, {}))
                if data is not None:
                    yield self._published(number, entry, data)
        self.runtime.forget_features()

    def _verdict(self, claim: Result, model: str) -> Verdict:
        label = f"{claim.task} {claim.preset} on {claim.data.spec} ({claim.date[:10]})"
        data = self._at_hand(claim.data)
        if data is None:
            return Verdict(label, "no data", f"give --data {claim.data.name}:ROOT")
        try:
            stated, own = stated_tolerance(claim), own_tolerance(claim)
            if (problem := self._older(claim, model, data)) is not None:
                return Verdict(label, "older procedure", problem)
            again = self._again(claim, model, data)
        except OtherData as other:
            return Verdict(label, "other data", str(other))
        except UserError as error:
            return Verdict(label, "not measured", str(error))
        # A procedure may read the same files otherwise, so that their fingerprint is another: it comes first.
        if procedure_of(claim) < procedure_of(again):
            return Verdict(label, "older procedure", f"{_NEWER}: {command_again(claim, model=model, data=data)}", result=again)
        if (problem := _other_data(claim.data, again.data, data)) is not None:
            return Verdict(label, "other data", problem)
        if (problem := _other_protocol(claim, again)) is not None:
            return Verdict(label, "not measured", problem, result=again)
        missing = [metric for metric in claim.metrics if metric not in again.metrics]
        if missing:
            return Verdict(label, "not measured", f"nothing is measured today that is called {', '.join(missing)}", result=again)
        differences = tuple(
            Difference(metric, value, again.metrics[metric], tolerance_of(claim, again)) for metric, value in claim.metrics.items()
        )
        holds = all(difference.holds for difference in differences)
        # The number that the card shows comes first.
        ordered = tuple(sorted(differences, key=lambda one: one.metric != claim.headline.metric))
        status: Status = "reproduced" if holds else "not reproduced"
        if holds and stated is not None and stated > own:
            too_wide = f"it states a tolerance of {stated:g}, and its task allows {own:g}"
            return Verdict(label, "claim too wide", too_wide, differences=ordered, result=again)
        return Verdict(label, status, differences=ordered if not holds else ordered[:1], result=again)

    def _older(self, claim: Result, model: str, data: str) -> str | None:
        """What to do where the claim's procedure is not today's; None where it is, or only a measurement shows it."""
        task = TASKS.get(claim.task)
        if task is None or preset_of(claim, task).procedure <= procedure_of(claim):
            return None
        return f"{_NEWER}: {command_again(claim, model=model, data=data)}"

    def _again(self, claim: Result, model: str, data: str) -> Result:
        if claim.task not in TASKS:
            return find_verifier(claim.task)(claim, model=model, data=data, runtime=self.runtime)
        task = TASKS[claim.task]
        preset = preset_of(claim, task)
        return self._measure(task, preset, model, data, claim)

    def _measure(self, task: Task, preset: Preset, model: str, data: str, claim: Result | None) -> Result:
        from zoo.data import open_data
        from zoo.model_spec import open_model

        level = claim.data.level if claim is not None else CLASS_LEVEL
        skips = claim is not None and any(split.skipped for split in claim.data.splits.values())
        crop = claim.protocol.get("crop") if claim is not None else None
        runtime = self.runtime
        if claim is not None:
            runtime = replace(runtime, seed=claim.seeds.get("evaluation", 0), dtype=_possible_dtype(claim, runtime))
        key = (data, level, str(skips), task.prepare)
        if key not in self._prepared:
            opened = open_data(data, "skip" if skips else "refuse")
            self._prepared[key] = load(task.prepare)(
                opened, level=level, on_bad="skip" if skips else "refuse", processes=runtime.processes, progress=runtime.progress
            )
        prepared = self._prepared[key]
        if claim is not None and (problem := _other_data(claim.data, getattr(prepared, "facts", None), data)) is not None:
            raise OtherData(problem)
        side = preset.side(prepared.data.image_size, crop)
        how = _inputs_of(claim) if claim is not None else {}
        opened_model: Model = open_model(model, image_size=side, classifier=task.classifier, **how)
        if claim is not None and opened_model.tensors_sha256 != claim.model.tensors_sha256:
            raise UserError(
                f"the weights of '{model}' (tensors_sha256 {opened_model.tensors_sha256[:12]}) are not those that this was measured with "
                f"({claim.model.tensors_sha256[:12]})"
            )
        result: Result = load(task.run)(opened_model, prepared, preset=preset, image_size=crop, runtime=runtime)
        return result

    def _published(self, number: PublishedResult, entry: CatalogueEntry, data: str) -> Verdict:
        task = TASKS[number.task]
        preset = task.preset(entry.method if entry.method in task.presets else None, {})
        label = f"{number.task} on {number.data}, by preset {preset.name} (printed in {number.source})"
        try:
            result = self._measure(task, preset, entry.name, data, None)
        except UserError as error:
            return Verdict(label, "not measured", str(error))
        metric = number.metric if number.metric in result.metrics else result.headline.metric
        difference = Difference(metric, number.value, result.metrics[metric], PUBLISHED_TOLERANCE)
        return Verdict(label, "reproduced" if difference.holds else "not reproduced", differences=(difference,), result=result)

    def _at_hand(self, facts: DataFacts) -> str | None:
        """What ``--data`` takes to open the data that a claim is about: the place that the user gave with the claim's options; None where
        there is none of that name."""
        claimed = parse_spec(facts.spec)
        same_name = [given for given in map(parse_spec, self.data) if given.name == facts.name]
        if not same_name:
            return facts.spec if facts.name in WITHOUT_PLACE else None
        exact = [given for given in same_name if given.without_place().place == claimed.place]
        return str((exact or same_name)[0].with_options_of(claimed))


class OtherData(Exception):
    """The data at hand is not the claim's; the text says by what that shows."""


def preset_of(claim: Result, task: Task) -> Preset:
    """The preset that a claim was measured by, with its changes.

    Raises
    ------
    UserError
        The preset is not known, or a value was changed by a program and not by an option that could be given again.
    """
    options = claim.protocol.get("options")
    if options is not None:
        if not isinstance(options, Mapping) or not isinstance(options.get("preset"), str):
            raise UserError("its protocol's options are not readable")
        return task.preset(options["preset"], options)
    # A result of a program, which has no options: values that are called like one are given to it.
    name = registered_name(claim.preset, task)
    names = {option.name for option in task.options}
    changed = list(claim.protocol.get("changed") or ())
    foreign = [value for value in changed if value not in names]
    if foreign:
        raise UserError(f"its {', '.join(foreign)} was changed from the preset '{name}' by a program, and no option does so again")
    return task.change(task.preset(name, {}), **{value: claim.protocol[value] for value in changed})


def procedure_of(result: Result) -> int:
    """The procedure that a result was measured by (:attr:`evaluation.tasks.presets.Preset.procedure`); 1 where it says none.

    Raises UserError for what is no number of one.
    """
    stated = result.protocol.get("procedure", 1)
    if not isinstance(stated, int) or isinstance(stated, bool) or stated < 1:
        raise UserError(f"its procedure is a whole number from 1 on, not {stated!r}")
    return stated


def stated_tolerance(claim: Result) -> float | None:
    """The tolerance that a claim states (``"tolerance"`` in its protocol), in the numbers' own unit; None where it states none.

    Raises UserError for what is no number from 0 on.
    """
    protocol = claim.protocol
    # Results of logistic regression once called the solver's tolerance by this name, beside its largest number of iterations.
    if "tolerance" not in protocol or "max_iterations" in protocol:
        return None
    stated = protocol["tolerance"]
    if not isinstance(stated, int | float) or isinstance(stated, bool) or not 0 <= stated < math.inf:
        raise UserError(f"its tolerance is a number from 0 on, not {stated!r}")
    return float(stated)


def own_tolerance(claim: Result) -> float:
    """What a number may differ by at most, by the claim's task: of one that counts :data:`OTHER_MACHINE_TOLERANCE` or one image."""
    task = TASKS.get(claim.task)
    if task is None or task.tolerance > 0:
        return Task.tolerance if task is None else task.tolerance
    images = claim.data.splits["test"].images if "test" in claim.data.splits else 0
    return max(OTHER_MACHINE_TOLERANCE, 100 / images if images else 0.0)


def tolerance_of(claim: Result, again: Result) -> float:
    """What a metric may differ by, in its own unit: :func:`own_tolerance`, or less where the claim states less.

    Of a task that counts it is 0 on the same device, in the same precision, with the same versions, unless the claim states a tolerance.
    """
    own, stated = own_tolerance(claim), stated_tolerance(claim)
    if stated is not None:
        return min(stated, own)
    task = TASKS.get(claim.task)
    same = (claim.device, claim.dtype) == (again.device, again.dtype) and all(
        claim.versions.get(name) == again.versions.get(name) for name in _DECISIVE_VERSIONS
    )
    return 0.0 if same and task is not None and task.tolerance == 0 else own


def find_verifier(task: str) -> Verifier:
    """The verifier that is registered for a task. Raises UserError where there is none, or it cannot be imported."""
    for entry in entry_points(group=VERIFIER_GROUP):
        if entry.name == task:
            try:
                found: Verifier = entry.load()
            except Exception as error:  # whatever the importing of somebody else's module may raise
                raise UserError(f"the verifier of task '{task}', {entry.value}, cannot be imported ({first_line(error)})") from error
            return found
    raise UserError(f"there is no task '{task}' here, and no installed package registers a verifier for it ({VERIFIER_GROUP})")


def _other_data(claimed: DataFacts, found: DataFacts | None, spec: str) -> str | None:
    """How the data at hand shows that it is not the claim's; None where it does not."""
    if found is None:
        return None
    for role, split in claimed.splits.items():
        other = found.splits.get(role)
        if other is None:
            return f"{spec} has no {role} split, and this was measured on one of {split.images:,} images"
        if (other.images, other.fingerprint) != (split.images, split.fingerprint):
            return (
                f"{spec} is not the data that this was measured on: its {role} split has {other.images:,} images with fingerprint "
                f"{other.fingerprint[:12]}, not {split.images:,} with {split.fingerprint[:12]}; numbers on other data cannot be compared"
            )
    return None


def _other_protocol(claim: Result, again: Result) -> str | None:
    """How the new measurement was made otherwise than the claim; None where it was made in the same way."""
    if again.preset != claim.preset:
        return f"this version measures in another way: by {again.preset}"
    for name, value in claim.protocol.items():
        if name in _REMARKS:
            continue
        found = json.loads(json.dumps(again.protocol.get(name)))
        if found != json.loads(json.dumps(value)):
            return f"this version measures in another way: {name} is {json.dumps(found)}, and was {json.dumps(value)}"
    return None


def _inputs_of(claim: Result) -> dict[str, Any]:
    """How images reached the network and which layer was taken, where the claim says so."""
    protocol = claim.protocol
    how: dict[str, Any] = {"layer": protocol.get("layer"), "channels": protocol.get("channels")}
    how |= {"mean": tuple(claim.model.mean), "std": tuple(claim.model.std)}
    return {name: value for name, value in how.items() if value is not None}


def _possible_dtype(claim: Result, runtime: Runtime) -> str:
    """The claim's precision, or float32 where this device has no other."""
    return claim.dtype if runtime.device.type == "cuda" else "float32"


def summarise(verdicts: Sequence[Verdict]) -> str:
    """One line: how many claims, and what became of them."""
    counts = {status: sum(verdict.status == status for verdict in verdicts) for status in dict.fromkeys(one.status for one in verdicts)}
    plural = "s" if len(verdicts) != 1 else ""
    return f"{len(verdicts)} claim{plural}: " + ", ".join(f"{count} {status}" for status, count in counts.items())
