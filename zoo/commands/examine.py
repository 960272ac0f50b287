"""What is installed here, what is missing and how it is had, and what keeps it from working."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from zoo.cores import available_cores
from zoo.errors import UserError
from zoo.home import zoo_home
from zoo.lazy import DISTRIBUTION
from zoo.results.provenance import toolkit_commit

NEEDED = ("torch", "torchvision", "timm", "accelerate", "huggingface_hub", "safetensors", "sklearn", "scipy", "omegaconf", "numpy", "PIL")
# Module -> what it is for, and the line that installs it.
_OPTIONAL = {
    "faiss": ("the second engine of k-means", "pip install faiss-gpu (Linux, x86-64), or faiss-cpu"),
    "detectron2": ("transfer detect, evaluate and predict", "python -m transfer.detection.install"),
    "onnx": ("transfer convert --to onnx", f"pip install '{DISTRIBUTION}[onnx]'"),
    "onnxruntime": ("checking an ONNX file", f"pip install '{DISTRIBUTION}[onnx]'"),
    "transformers": ("checking transfer convert --to transformers", "pip install transformers"),
    "datasets": ("--data hf:NAME", f"pip install '{DISTRIBUTION}[hf]'"),
    "pyarrow": ("tables in Parquet", f"pip install '{DISTRIBUTION}[parquet]'"),
    "pillow_heif": ("HEIC photographs", f"pip install '{DISTRIBUTION}[heif]'"),
    "tifffile": ("TIFFs of many bands", f"pip install '{DISTRIBUTION}[tiff]'"),
    "umap": ("maps by UMAP in reports", f"pip install '{DISTRIBUTION}[umap]'"),
    "wandb": ("the tracker wandb", f"pip install '{DISTRIBUTION}[wandb]'"),
}
_FEW_GIB = 10


@dataclass(frozen=True)
class Finding:
    """One line: of which part, what, whether all is well (None: it need not be there), and what to do."""

    part: str
    what: str
    ok: bool | None
    detail: str
    remedy: str = ""


def examine(*, hub: bool = False) -> list[Finding]:
    """Everything that can be said without a network; with ``hub``, whether the Hub answers and knows the token."""
    return [*_software(), *_devices(), *_optional(), *_disk(), *_settings(), *(_hub() if hub else [])]


def _software() -> list[Finding]:
    commit = toolkit_commit()
    own = f"{_version(DISTRIBUTION) or 'not installed'}" + (f", commit {commit[:10]}{commit[40:]}" if commit else "")
    found = [
        Finding("software", DISTRIBUTION, True, own),
        Finding("software", "Python", True, f"{platform.python_version()} on {platform.platform()}"),
    ]
    names = packages_distributions()
    for module in NEEDED:
        known = _version((names.get(module) or [module])[0])
        found.append(Finding("software", module, known is not None, known or "missing", "" if known else f"pip install '{DISTRIBUTION}'"))
    return found


def _devices() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("devices", "torch", False, f"cannot be imported ({error})", f"pip install '{DISTRIBUTION}'")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{available_cores()} cores for this process, {torch.get_num_threads()} threads of torch, {memory:.0f} GiB"
    found = [Finding("devices", "CPU", True, cores)]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            found.append(Finding("devices", f"GPU {number}", True, f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"))
    else:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}" if torch.version.hip else None
        why = f"this torch is built for {built}, and finds no GPU or driver" if built else "this torch is built for CPUs alone"
        found.append(Finding("devices", "GPU", None, f"none: {why}"))
    return found


def _optional() -> list[Finding]:
    names = packages_distributions()
    found = []
    for module, (use, line) in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            found.append(Finding("optional", module, None, f"not installed; for {use}", line))
        else:
            found.append(Finding("optional", module, True, f"{_version((names.get(module) or [module])[0]) or 'here'}; for {use}"))
    return found


def _disk() -> list[Finding]:
    from zoo.cache.kept import items, kinds, size_text

    found = []
    kept = items()
    for kind in kinds().values():
        size = sum(item.bytes for item in kept if item.kind == kind.name)
        if size:
            found.append(Finding("disk", kind.name, True, f"{size_text(size)} in {kind.place}", "zoo cache shows and removes it"))
    place = zoo_home()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 2**30
    writable = os.access(there, os.W_OK)
    remedy = "" if writable else "name another folder by ZOO_HOME"
    found.append(Finding("disk", "ZOO_HOME", writable, f"{place}, {'writable' if writable else 'not writable'}", remedy))
    found.append(Finding("disk", "free", free >= _FEW_GIB, f"{free:.0f} GiB", "" if free >= _FEW_GIB else "make room: zoo cache --prune"))
    return found


def _settings() -> list[Finding]:
    from zoo.hub.surroundings import check_hub_settings

    try:
        check_hub_settings()
    except UserError as error:
        return [Finding("Hub", "settings", False, str(error))]
    return [Finding("Hub", "settings", True, "nothing in the environment keeps the client from working")]


def _hub() -> list[Finding]:
    from huggingface_hub import HfApi, constants, get_token

    from zoo.errors import first_line

    api, token = HfApi(), get_token()
    try:
        api.model_info("timm/resnet18.a1_in1k", timeout=10)
    except Exception as error:  # the client's errors are of unrelated families
        return [Finding("Hub", "answer", False, f"{constants.ENDPOINT} does not answer ({first_line(error)})")]
    found = [Finding("Hub", "answer", True, f"{constants.ENDPOINT} answers")]
    if token is None:
        return [*found, Finding("Hub", "token", None, "none: pulling works, pushing does not", "hf auth login")]
    try:
        return [*found, Finding("Hub", "token", True, f"of {api.whoami(token)['name']}")]
    except Exception as error:
        return [*found, Finding("Hub", "token", False, f"refused ({first_line(error)})", "hf auth login")]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

