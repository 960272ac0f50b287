"""``python:FILE_OR_MODULE:CALLABLE``: any network that a Python function returns, with weights from a file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from zoo.backbones import load_state
from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256, tensors_sha256
from zoo.models.model import Inputs, Model
from zoo.models.selection import Selection, selected, spell
from zoo.normalisation import three_channels
from zoo.reading.checkpoint_file import open_checkpoint

# Wrappers that put a prefix before every key: DataParallel and DistributedDataParallel, torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
# Under which names training scripts put the weights into their checkpoints.
_STATE_NAMES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "backbone")


def open_python(spec: str, place: str, name: str, weights: str | Path | None, selection: Selection | None = None) -> Model:
    """The network that a function returns.

    What the network declares of its input is taken from its attributes, or else the function's: a timm ``pretrained_cfg`` or
    ``default_cfg``, or ``mean``, ``std`` (of pixels in [0, 1], in the order of the channels) and ``channels`` (``"rgb"`` or ``"bgr"``).

    Parameters
    ----------
    spec
        What the user wrote, for messages and results.
    place, name
        ``FILE.py`` or ``PACKAGE.MODULE``, whose code is run, and the function in it.
    weights
        What :func:`zoo.reading.checkpoint_file.open_checkpoint` reads: a state dict, or a dict that holds one under a
        usual name. None: the network is used as the function returns it, drawn with seed 0 where it draws.
    selection
        Which of the file's tensors are the network's; the file is then read as ``zoo import`` reads one.

    Raises
    ------
    UserError
        The code cannot be run, it gives no network, or the weights do not fit; every key is accounted for.
    """
    function = _function(spec, place, name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            module = function()
        except UserError:
            raise
        except Exception as error:  # somebody else's code
            raise UserError(
                f"'{name}' of {place} failed ({type(error).__name__}: {first_line(error)}); it is called without arguments"
            ) from error
    if not isinstance(module, nn.Module):
        raise UserError(f"'{name}' of {place} must return a torch.nn.Module, not {type(module).__name__}")
    notes = []
    if weights is None:
        notes.append(f"{name}: no --weights were given, so it is evaluated as {place} returns it")
    else:
        file = Path(weights).expanduser()
        state, said = selected_state(file, selection) if selection else read_state(file)
        load_state(module, state, str(weights), name)
        notes.append(f"{name}: all {len(state)} tensors of {Path(weights).name} loaded" + said)
    declared = _declared(module, function)
    return Model(
        module.eval(),
        name=name if weights is None else f"{name}:{Path(weights).stem}",
        kind="python",
        arch=name,
        num_features=None,
        tensors_sha256=tensors_sha256(module.state_dict()),
        mean=declared.mean,
        std=declared.std,
        channels=declared.channels or "rgb",
        declared=declared,
        file_sha256=None if weights is None else file_sha256(Path(weights).expanduser()),
        notes=tuple(notes),
        metadata={"source": place, "callable": name, "code_sha256": _code_sha256(function)},
    )


def read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """The named tensors of a weights file, and in words what was done to find them (empty for a plain state dict).

    Raises UserError for a file that cannot be read without running code, and for one without exactly one state dict.
    """
    content = _read(path)
    said = []
    state = content
    if not _is_state(content):
        found = [name for name in _STATE_NAMES if isinstance(content, Mapping) and _is_state(content.get(name))]
        if len(found) != 1:
            what = f"it holds {', '.join(map(str, content))}" if isinstance(content, Mapping) else f"it holds a {type(content).__name__}"
            raise UserError(
                f"{path} has {'several state dicts' if found else 'no state dict'} ({what}); save the network's own state_dict()"
            )
        state = content[found[0]]
        said.append(f"under '{found[0]}'")
    state = dict(state)
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
            said.append(f"prefix '{prefix}' removed")
    return state, f" ({', '.join(said)})" if said else ""


def selected_state(path: Path, selection: Selection) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file that the user points at, by the network's names, and in words what was done to find them.

    Raises UserError for a file that cannot be opened safely, and for a selection that finds nothing or two tensors of one name.
    """
    state, prefix = selected(str(path), open_checkpoint(path).content, selection)
    tensors: dict[str, Tensor] = {}
    left = 0
    for full, tensor in state.tensors.items():
        name = selection.name(full.removeprefix(prefix))
        if not full.startswith(prefix) or selection.drops(name):
            left += 1
        elif name in tensors:
            raise UserError(f"two tensors of {path} would both be '{name}'; change --rename or --drop one")
        else:
            tensors[name] = tensor
    return tensors, f" ({spell(state.place)}, prefix '{state.wrapper}{prefix}', {left} others left out)"


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and len(content) > 0 and all(isinstance(value, Tensor) for value in content.values())


def _read(path: Path) -> Any:
    if not path.exists():
        raise UserError(f"there is no weights file {path}")
    return open_checkpoint(path).content


def _function(spec: str, place: str, name: str) -> Callable[[], Any]:
    module = _import(spec, place)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
        raise UserError(f"{place} has no function '{name}'; it has: {', '.join(known) or 'none'}")
    found: Callable[[], Any] = function
    return found


def _import(spec: str, place: str) -> ModuleType:
    path = Path(place).expanduser()
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise UserError(f"'{spec}': there is no file {path}")
    # As `python FILE` and `python -m MODULE` would find what the code imports.
    folder = str(path.resolve().parent) if is_file else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        if not is_file:
            return importlib.import_module(place)
        found = importlib.util.spec_from_file_location(f"_model_of_{path.stem}", path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[found.name] = module  # dataclasses and pickle look their module up
        found.loader.exec_module(module)
        return module
    except Exception as error:  # somebody else's code
        raise UserError(f"'{spec}': {place} cannot be imported ({type(error).__name__}: {first_line(error)})") from error
    finally:
        sys.path.remove(folder)


def _code_sha256(function: Callable[[], Any]) -> str | None:
    """sha256 of the file that the function is written in; None where it has none (what that file imports is not in it)."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # a built-in function, or an object that can be called
        file = None
    return file_sha256(Path(file)) if file is not None and Path(file).is_file() else None


def _declared(module: nn.Module, function: Callable[[], Any]) -> Inputs:
    for holder in (module, function):
        for attribute in ("pretrained_cfg", "default_cfg"):
            config = getattr(holder, attribute, None)
            if isinstance(config, Mapping) and config.get("mean"):
                return Inputs(_three(config["mean"], "mean"), _three(config["std"], "std"))
        mean, std, channels = (getattr(holder, name, None) for name in ("mean", "std", "channels"))
        if mean is not None or channels is not None:
            if channels not in (None, "rgb", "bgr"):
                raise UserError(f"the network declares channels {channels!r}; known: rgb, bgr")
            return Inputs(_three(mean, "mean"), _three(std, "std"), channels)
    return Inputs()


def _three(values: Any, name: str) -> tuple[float, float, float] | None:
    if values is None:
        return None
    try:
        return three_channels(torch.as_tensor(values, dtype=torch.float64).flatten())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the network declares {name} {values!r}, and not three numbers, for channels of pixels in [0, 1]") from error
