"""The folder of a detection run: what it holds, and what it was made with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.files import PARTIAL_SUFFIX, check_can_write, replace_text
from zoo.models.run_lock import LOCK_FILE
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
    undecodable
        Image files that could not be decoded before the first iteration, and why: no part of the run, even if they are mended later.
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
    undecodable: dict[str, str] = field(default_factory=dict)


def is_detection_run(folder: Path) -> bool:
    return (folder / RUN_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise UserError where ``out`` may not become a run: it exists, and is no detection run that ``--overwrite`` may replace."""
    check_can_write(out, folder=True)
    if not out.exists():
        return
    if not overwrite:
        run = is_detection_run(out)
        advice = "give --continue to go on, or --overwrite to start again" if run else "choose another --out"
        raise UserError(f"{out} exists already; {advice}")
    if not out.is_dir() or not (is_detection_run(out) or _is_half_made(out)):
        raise UserError(f"{out} is not a detection run, so --overwrite does not remove it; choose another --out")


def _is_half_made(out: Path) -> bool:
    """Whether a folder is empty, or holds nothing but what a run that was killed while its folder was made may have left."""
    first = {CONFIG_FILE, PROBLEMS_FILE, LOCK_FILE}
    return all(path.name in first or path.name.endswith(PARTIAL_SUFFIX) for path in out.iterdir())


def check_same_call(out: Path, **given: Any) -> None:
    """Raise UserError where a run was begun otherwise than it is called now: by another value of ``config``, ``overrides``, ..."""
    facts = read_facts(out)
    own = {"config": facts.config, "overrides": facts.overrides, "model": facts.model.get("spec"), "data": facts.data, "seed": facts.seed}
    for name, value in given.items():
        wanted = list(value) if name == "overrides" else value
        if wanted != own[name]:
            here, there = ((" ".join(one) or "nothing") if isinstance(one, list) else one for one in (wanted, own[name]))
            raise UserError(
                f"{name} is {here} in this command, and the run {out} was begun with {there}; leave it as it was to go on, or choose "
                "another --out"
            )


def fill_run_folder(folder: Path, facts: RunFacts, config: str, problems: list[str]) -> None:
    """The resolved config, the list of broken annotations, and what the run is of, in a new folder."""
    replace_text(folder / CONFIG_FILE, config)
    replace_text(folder / PROBLEMS_FILE, "".join(f"{line}\n" for line in problems))
    environment = {"versions": software_versions(), "commit": toolkit_commit()}
    replace_text(folder / RUN_FILE, json.dumps({**asdict(facts), **environment}, indent=2) + "\n")


def read_facts(run: Path) -> RunFacts:
    """Raises UserError where the folder is no detection run."""
    if not is_detection_run(run):
        raise UserError(f"{run} is not a detection run: it has no {RUN_FILE} and {CONFIG_FILE}")
    content = read_record(run / RUN_FILE)
    try:
        known = {name: content[name] for name in RunFacts.__dataclass_fields__ if name in content}
        return read_fields(RunFacts, known, later=frozenset({"undecodable"}))
    except FieldError as error:
        raise UserError(f"{run / RUN_FILE} is not what `transfer detect` writes: {error}") from error
