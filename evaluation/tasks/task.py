"""What a task of ``evaluate`` declares about itself. Imports no torch, for quick commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from evaluation.tasks.presets import Preset, find
from zoo.errors import UserError
from zoo.files import check_can_write
from zoo.ranges import Range

if TYPE_CHECKING:
    from evaluation.tasks.runtime import Runtime
    from zoo.models.model import Model
    from zoo.results import Result

# Where data is made ready for a task that says nothing else: labelled train and test images with one list of classes.
LABELLED_DATA = "evaluation.extraction.labelled:labelled_data"
# For tasks that choose their splits themselves.
LAZY_SPLITS = "evaluation.extraction.splits:lazy_splits"

# Of tasks that train or draw at random, in their numbers' own unit (points of accuracy). A choice, not a measurement.
DEFAULT_TOLERANCE = 0.5


AnyPreset = TypeVar("AnyPreset", bound=Preset)


class Run(Protocol):
    """A task's function on a model and on data that the task's ``prepare`` made ready."""

    def __call__(
        self, model: Model, data: Any, *, preset: Any, image_size: int | None = None, runtime: Runtime | None = None
    ) -> Result: ...


@dataclass(frozen=True)
class Option:
    """An option of the command that changes a value of a task's preset. Tasks may share one; its kind and meaning are then the same.

    Attributes
    ----------
    name
        The keyword of the task's ``change``; ``base_lr`` is ``--base-lr`` on the command line.
    kind
        ``str``, ``int``, ``float``, ``bool`` (a flag) or ``Path``.
    help, metavar
        What ``--help`` says of it.
    parse
        Turns what was typed into the value; raises UserError.
    within
        The numbers that it may be; :func:`check_options` holds it to them, and ``--help`` shows them.
    """

    name: str
    kind: type
    help: str
    metavar: str | None = None
    parse: Callable[[Any], Any] | None = None
    within: Range | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def full_help(self) -> str:
        """The help, with the range where there is one."""
        return self.help if self.within is None else f"{self.help} [{self.within}]"


@dataclass(frozen=True)
class Task(Generic[AnyPreset]):
    """An evaluation that ``evaluate --task`` can run.

    Attributes
    ----------
    name
        What ``--task`` calls it.
    summary
        One line for ``--help``.
    presets
        By name.
    default_preset
        The one that is taken where none is named.
    options
        Options of the command that this task has beside those that all have.
    change
        Applies such options to a preset; raises UserError for values that make no sense.
    run
        ``"module:function"`` (:class:`Run`), imported when it is called.
    columns
        Metrics of a result that its table shows, with their headings.
    prepare
        ``"module:function"`` that makes an opened data set ready, once for all models and all tasks that name the same function. It is
        called with the data and the keywords ``level``, ``on_bad``, ``processes`` and ``progress``.
    tolerance
        What a number may differ by, in its own unit, when the same is measured again (``zoo verify``); 0 for a task that counts and draws
        nothing at random.
    draw
        ``"module:function"`` that draws a picture of a result, ``(path, result, prepared data)``; None for a task without pictures.
    in_all
        Whether ``--task all`` includes it.
    classifier
        Whether it takes a model with the layer that gives its classes, where it has one, and not the backbone alone.
    saves
        Whether it trains a classifier, which ``--save`` keeps (:attr:`evaluation.tasks.runtime.Runtime.keep`).
    note
        What the numbers of its table are, for the line below it.
    """

    name: str
    summary: str
    presets: Mapping[str, AnyPreset]
    default_preset: str
    options: tuple[Option, ...]
    change: Callable[..., AnyPreset]
    run: str
    columns: Callable[[Result], dict[str, str]]
    prepare: str = LABELLED_DATA
    tolerance: float = DEFAULT_TOLERANCE
    draw: str | None = None
    in_all: bool = True
    classifier: bool = False
    saves: bool = False
    note: str = "top-1 accuracy in percent unless said otherwise"

    def find(self, name: str) -> AnyPreset:
        """The preset of that name. Raises UserError that names the nearest and all known ones."""
        return find(f"{self.name} preset", name, self.presets)

    def preset(self, name: str | None, values: Mapping[str, Any]) -> AnyPreset:
        """The preset of that name, changed by those of the task's options that were given (not None), as they were typed."""
        changes = {
            option.name: values[option.name] if option.parse is None else option.parse(values[option.name])
            for option in self.options
            if values.get(option.name) is not None
        }
        return self.change(self.find(name or self.default_preset), **changes)

    def typed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the task's options that were given, as they were typed; paths, which no other machine has, are left out."""
        return {
            option.name: values[option.name] for option in self.options if option.kind is not Path and values.get(option.name) is not None
        }


def several(value: Any) -> tuple[Any, ...]:
    """Numbers of which one may be given alone, as a tuple: ``20`` is ``(20,)``."""
    return tuple(value) if hasattr(value, "__len__") else (value,)


def check_options(options: Sequence[Option], values: Mapping[str, Any]) -> None:
    """Raise UserError for the first of the ``options`` whose value lies outside its range, or that names a number twice."""
    for option in options:
        value = values.get(option.name)
        if option.within is None or value is None:
            continue
        if isinstance(value, (list, tuple)) and (not value or len(set(value)) < len(value)):
            typed = ",".join(map(str, value)) or "none"
            raise UserError(f"{option.flag} takes different numbers, each {option.within}, not {typed}")
        option.within.check(option.flag, value)


def load(reference: str) -> Any:
    """The object that ``"module:name"`` names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def folder_to_write(folder: Path) -> Path:
    """The parser of an option that names a folder to write: it is tried before anything is computed."""
    check_can_write(folder, folder=True)
    return folder


def whole_numbers(flag: str) -> Callable[[str], list[int]]:
    """A parser of ``1,5,20`` for an option called ``flag``."""

    def parse(text: str) -> list[int]:
        words = text.split(",")
        if not all(word.strip().isascii() and word.strip().isdecimal() for word in words):
            raise UserError(f"{flag} takes whole numbers with commas between them, such as {flag} 1,5,20, not '{text}'")
        return [int(word) for word in words]

    return parse


def numbers(flag: str) -> Callable[[str], list[float]]:
    """A parser of ``0.1,0.3,1`` for an option called ``flag``."""

    def parse(text: str) -> list[float]:
        try:
            return [float(word) for word in text.split(",")]
        except ValueError:
            raise UserError(f"{flag} takes numbers with commas between them, such as {flag} 0.1,0.3,1, not '{text}'") from None

    return parse
