"""The folder of a detection run: what it holds, and what it was made with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.files import check_can_write, replace_text
from zoo.reading.outside import FieldError, read_fields, read_record
from zoo.results.provenance import software_versions, toolkit_commit

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
BACKBONE_FILE = "backbone.pkl"
PROBLEMS_FILE = "annotations.txt"
RESULT_FILE = "result.json"
SHEET_FILE = "detections.png"
ENGINE_LOG = "detectron2.log"
EVALUATION_FOLDER = "evaluation"


@dataclass(frozen=True)
class RunFacts:
    """What a run is of: enough to go on with it, and to write its result.

    Attributes
    ----------
    config, overrides
        Name or path of the config, and the ``KEY VALUE`` words over it.
    model
        ``spec``, ``name``, ``arch``, ``kind``, ``tensors_sha256``, ``file_sha256``, ``mean``, ``std``.
    data, strict, classes
        ``voc:ROOT`` or ``coco:ROOT``; whether broken annotations are refused; the classes found in it.
    fingerprints
        Of the splits ``train`` and ``test``.
    seed, processes, device
        Where and how it runs.
    scaled
        ``[key, published, here]`` of each scaled value.
    notes
        What a reader of the result must know.
    """

    config: str
    overrides: list[str]
    model: dict[str, Any]
    data: str
    strict: bool
    classes: list[str]
    fingerprints: dict[str, str]
    seed: int
    processes: int
    device: str
    scaled: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_detection_run(folder: Path) -> bool:
    return (folder / RUN_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise UserError where ``out`` may not become a run: it exists, and is no detection run that ``--overwrite`` may replace."""
    check_can_write(out, folder=True)
    if not out.exists():
        return
    if not overwrite:
        run = is_detection_run(out)
        advice = f"go on with `transfer detect --resume {out}`, or give --overwrite to start again" if run else "choose another --out"
        raise UserError(f"{out} exists already; {advice}")
    if not out.is_dir() or (any(out.iterdir()) and not is_detection_run(out)):
        raise UserError(f"{out} is not a detection run, so --overwrite does not remove it; choose another --out")


def make_run_folder(out: Path, facts: RunFacts, config: str, problems: list[str], *, overwrite: bool) -> None:
    """An empty run folder with the resolved config, the list of broken annotations, and what the run is of."""
    check_out(out, overwrite=overwrite)
    if out.exists():
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"the run folder {out} cannot be made ({error.strerror}); choose another --out") from error
    replace_text(out / CONFIG_FILE, config)
    replace_text(out / PROBLEMS_FILE, "".join(f"{line}\n" for line in problems))
    environment = {"versions": software_versions(), "commit": toolkit_commit()}
    replace_text(out / RUN_FILE, json.dumps({**asdict(facts), **environment}, indent=2) + "\n")


def read_facts(run: Path) -> RunFacts:
    """Raises UserError where the folder is no detection run."""
    if not is_detection_run(run):
        raise UserError(f"{run} is not a detection run: it has no {RUN_FILE} and {CONFIG_FILE}")
    content = read_record(run / RUN_FILE)
    try:
        return read_fields(RunFacts, {name: content[name] for name in RunFacts.__dataclass_fields__ if name in content})
    except FieldError as error:
        raise UserError(f"{run / RUN_FILE} is not what `transfer detect` writes: {error}") from error
