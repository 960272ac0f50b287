"""The command that measures a claim again, as the card prints it; and the words that all such commands share. Imports no torch.

``evaluate`` keeps in ``protocol.options`` what was asked for. Of a result without it, such as a program's or one of another command,
``zoo verify`` knows the way.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.errors import UserError
from zoo.model_folder.manifest import Manifest
from zoo.results import Result

# What stands where a path of another machine stood, and for the folder that a card lies in.
PLACE, FOLDER = "PLACE", "FOLDER"
# Options that say how images reached the network, and those that say what of a checkpoint file it was, as `evaluate` writes them.
IMAGE_OPTIONS = ("image_size", "mean", "std", "channels")
FILE_OPTIONS = ("heads", "norm_eps", "stem_padding", "key", "prefix", "rename", "drop")
_REPEATED = ("rename", "drop")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LIST = "the list "


def command_on_card(result: Result, manifest: Manifest) -> str:
    """The command that measures a result of a zoo model again, with every option that its number depends on.

    The model is the folder itself, so what was said of a checkpoint file is left out; places of data are placeholders.
    """
    options = result.protocol.get("options")
    if not isinstance(options, Mapping) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in options):
        return shlex.join(["zoo", "verify", FOLDER, "--task", result.task, "--data", data_word(result)])
    asked = {name: value for name, value in options.items() if name not in FILE_OPTIONS}
    words = ["evaluate", "--task", result.task, *option_words(asked, [name for name in asked if name not in IMAGE_OPTIONS])]
    words += [*list_words(result), *image_words(result, {**_as_measured(result, manifest, asked), **asked}), "--model", FOLDER]
    return shlex.join([*words, *data_words(result)])


def option_words(values: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Options of these names that have a value, as they are typed."""
    for name in names:
        value = values.get(name)
        if value is None or value is False:
            continue
        for one in value if name in _REPEATED and isinstance(value, list | tuple) else [value]:
            yield "--" + name.replace("_", "-")
            if isinstance(one, list | tuple):
                yield ",".join(map(str, one))
            elif one is not True:
                yield str(one)


def list_words(result: Result) -> Iterator[str]:
    """The list of labelled images: a file of the user's, of which the name is known and nothing else."""
    origin = result.protocol.get("labelled_images")
    if isinstance(origin, str) and origin.startswith(_LIST):
        yield from ("--labels", origin.removeprefix(_LIST))


def image_words(result: Result, values: Mapping[str, Any]) -> Iterator[str]:
    """How images reached the network; the side also where the preset's name alone says that it was another."""
    side = result.protocol.get("crop")
    if "@" in result.preset and side is not None and "image_size" not in values:
        yield from ("--image-size", str(side))
    yield from option_words(values, IMAGE_OPTIONS)


def data_word(result: Result) -> str:
    """The data of a result as ``--data`` takes it, with :data:`PLACE` for where they lay."""
    from zoo.data.spec import WITHOUT_PLACE, is_hub_folder, parse_spec

    try:
        known = parse_spec(result.data.spec)
    except UserError:
        return result.data.spec
    if known.name in WITHOUT_PLACE or (known.name == "hf" and not is_hub_folder(known.place)):
        return result.data.spec  # a name that is the same on every machine
    without = str(known.without_place())
    head, comma, options = without.partition(",")
    return f"{known.name}:{PLACE}{comma}{options}" if head.partition(":")[0] == known.name else without


def data_words(result: Result, data: str | None = None) -> list[str]:
    """Data, and what every task has beside its own options. ``data`` is what ``--data`` takes, where it is known."""
    from zoo.data.spec import CLASS_LEVEL

    words = ["--data", data or data_word(result)]
    if result.data.level != CLASS_LEVEL:
        words += ["--level", result.data.level]
    if (layer := result.protocol.get("layer")) is not None:
        words += ["--features", str(layer)]
    if any(split.skipped for split in result.data.splits.values()):
        words.append("--skip-bad-images")
    if seed := result.seeds.get("evaluation", 0):
        words += ["--seed", str(seed)]
    return words if result.dtype == "float32" else [*words, "--dtype", result.dtype]


def _as_measured(result: Result, manifest: Manifest, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of the input, what the folder says otherwise than the network said that was measured, though its weights are the same."""
    found: dict[str, Any] = {}
    for name, own in (("mean", list(manifest.mean)), ("std", list(manifest.std))):
        used = result.protocol.get(name)
        # `--legacy-std` changes the deviation by itself.
        if isinstance(used, list) and used != own and not (name == "std" and asked.get("legacy_std")):
            found[name] = used
    return found | ({"channels": "bgr"} if result.protocol.get("channels") == "bgr" else {})
