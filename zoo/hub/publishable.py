"""Whether a zoo model folder may be published: it is whole, and its card and config.json say what its zoo.json does. Asks no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256
from zoo.model_folder.card import make_card
from zoo.model_folder.claims import check_claims
from zoo.model_folder.eval_results import eval_files
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import CARD_FILE, CONFIG_FILE, CURVE_FILE, MANIFEST_FILE, REQUIRED_FILES, Manifest, read_json_object
from zoo.reading.outside import read_text


def check_publishable(folder: Path, manifest: Manifest) -> None:
    """Raise UserError where a folder may not be published: it is not whole, or its card says what its zoo.json does not."""
    missing = [file for file in REQUIRED_FILES if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} is not a whole zoo model folder: it lacks {', '.join(missing)}")
    check_weights(folder, manifest)
    check_claims(manifest.results, manifest)
    _check_config(folder, manifest)
    curve = folder / CURVE_FILE
    if manifest.curve_sha256 != (file_sha256(curve) if curve.is_file() else None):
        raise UserError(f"{curve} is not the picture that {MANIFEST_FILE} describes; export the run again")
    _check_card(folder / CARD_FILE, manifest)
    for name, text in eval_files(manifest).items():
        if (folder / name).is_file() and read_text(folder / name) != text:
            raise UserError(f"{folder / name} is not the file that {MANIFEST_FILE} makes; `zoo card {folder}` makes it again")
    from zoo.model_folder.folder import load_zoo_model  # takes torch, and seconds

    load_zoo_model(folder)


def _check_config(folder: Path, manifest: Manifest) -> None:
    """Raise UserError where ``config.json``, which timm goes by, says something else than zoo.json."""
    config = read_json_object(folder / CONFIG_FILE)
    settings = config.get("pretrained_cfg")
    settings = settings if isinstance(settings, dict) else {}
    said = {
        "architecture": (config.get("architecture"), manifest.arch),
        "mean": (settings.get("mean"), list(manifest.mean)),
        "std": (settings.get("std"), list(manifest.std)),
        "interpolation": (settings.get("interpolation"), manifest.interpolation),
        "crop_pct": (settings.get("crop_pct"), manifest.crop_pct),
        "input_size": (settings.get("input_size"), [3, manifest.image_size, manifest.image_size]),
        "license": (settings.get("license"), manifest.licence),
    }
    for name, (here, there) in said.items():
        if here != there:
            raise UserError(f"{folder} contradicts itself: {CONFIG_FILE} says {name} {here}, {MANIFEST_FILE} {there}; export it again")


def _check_card(path: Path, manifest: Manifest) -> None:
    """Raise UserError where a card is not the one that zoo.json makes; what it claims beyond that is named first."""
    card, wanted = path.read_text(encoding="utf-8"), make_card(manifest)
    if card == wanted:
        return
    _check_card_claims(path, card, wanted)
    line = next(
        (number for number, (ours, theirs) in enumerate(zip(wanted.splitlines(), card.splitlines(), strict=False), 1) if ours != theirs),
        min(len(wanted.splitlines()), len(card.splitlines())) + 1,
    )
    raise UserError(
        f"{path} is not the card that {MANIFEST_FILE} makes (it differs from line {line} on): the card is made, not edited; "
        f"`zoo card {path.parent}` makes it again"
    )


def _check_card_claims(path: Path, card: str, wanted: str) -> None:
    """Name a result that the card claims and zoo.json does not hold."""
    try:
        claimed, known = (_card_results(text) for text in (card, wanted))
    except Exception as error:
        raise UserError(
            f"the front matter of {path} cannot be read ({first_line(error)}); `zoo card {path.parent}` makes it again"
        ) from error
    extra = [claim for claim in claimed if claim not in known]
    if extra:
        metric, data, value = extra[0]
        raise UserError(
            f"{path} claims {metric} = {value} on {data}, which {MANIFEST_FILE} does not hold: results come from "
            f"`zoo add-result {path.parent} RESULT.json`"
        )


def _card_results(card: str) -> list[tuple[str, str, Any]]:
    """(metric, data, value) of what a card's front matter and its table of results claim."""
    results = ModelCard(card, ignore_metadata_errors=False).data.get("eval_results") or []
    found = [(result.metric_name or result.metric_type, result.dataset_name, result.metric_value) for result in results]
    for line in card.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 7 and cells[5].replace(".", "", 1).isdecimal():
            found.append((f"{cells[0]} {cells[4]}", cells[1], cells[5]))
    return found
