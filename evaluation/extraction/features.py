"""Features of a data set's images by a frozen network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.extraction.batches import BATCH_SIZE, cut_batches
from evaluation.extraction.forward import Forward
from evaluation.extraction.image_bar import image_bar
from evaluation.parallel import Processes
from zoo.data.base import CLASS_LEVEL, Images, Level
from zoo.errors import UserError
from zoo.models.layers import Layer
from zoo.models.transforms import EvalTransform

# Bytes of features that a process has in memory; larger matrices lie in a file. An eighth of the memory of a common 64 GB machine.
MEMORY_LIMIT = 8 << 30


@dataclass(frozen=True)
class Features:
    """What a network made of a split.

    Attributes
    ----------
    features
        float32 tensor (N, D) on the CPU, in the order of the split.
    levels
        The split's label levels.
    name, split
        The data set and the split.
    """

    features: Tensor
    levels: Mapping[str, Level]
    name: str
    split: str

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """int64 array (N,) of the ``"class"`` level, or None."""
        level = self.levels.get(CLASS_LEVEL)
        return None if level is None else level.labels


def extract_features(
    model: nn.Module,
    images: Images,
    transform: EvalTransform,
    *,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    workers: int | None = None,
    processes: Processes | None = None,
    progress: bool = False,
    layer: str | None = None,
    memory_limit: int = MEMORY_LIMIT,
    name: str = "this network",
) -> Features:
    """Features of all images, by a network in eval mode that is left as it was.

    Under ``torchrun`` or ``accelerate launch`` the processes share the batches, and each gets the whole matrix. Batches are cut the same
    way for any number of processes, so the features have the same bits, and no image is computed twice.

    Parameters
    ----------
    model
        Takes float32 images (B, 3, H, W) and gives features (B, D). Weights and buffers are not changed, and every submodule is in its
        own training mode again afterwards. It may be wrapped in ``DistributedDataParallel``.
    images
        A split. Images that lie in files are decoded by worker processes.
    transform
        How an image becomes the network's input.
    batch_size
        Images per forward pass of one process. None: 256, which on a CPU are passed in smaller pieces where a short trial finds that faster
        and the features' bits the same (:class:`evaluation.extraction.forward.Forward`).
    device
        Where the network runs; it is moved there and stays. None: where it is.
    autocast
        ``torch.bfloat16`` or ``torch.float16``: run the network under autocast. Features are float32 either way.
    workers
        Decoding processes; by default one per core that this process has for itself.
    processes
        Who shares the work; by default the process group of ``torch.distributed`` if there is one. Every process must make the same
        call. In a training loop where only one process evaluates, pass :data:`evaluation.parallel.ALONE`.
    progress
        Show a progress bar, on the main process.
    layer
        Take the output of this layer (:class:`zoo.models.layers.Layer`: any submodule of a timm network, or a node of the traced graph) and
        not the network's own.
    memory_limit
        Bytes of features beyond which they lie in a temporary file (``TMPDIR``) that is mapped into memory and removed when they are
        let go of.
    name
        What messages call the network.

    Returns
    -------
    Features
        float32 (N, D), in the order of ``images``, in every process.

    Raises
    ------
    UserError
        An image cannot be decoded, features are not finite (the message names the first such image), there is no such layer, or the network
        gives something else than one vector for each image.
    ValueError
        There are no images.
    """
    if len(images) == 0:
        raise ValueError(f"there are no images in {images.name} ({images.split})")
    processes = Processes.current() if processes is None else processes
    network: nn.Module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    place = _device_of(network) if device is None else torch.device(device)
    network.to(place)
    if layer is not None:
        network = Layer(network, layer)

    whole = BATCH_SIZE if batch_size is None else batch_size
    share = processes.share(len(images), whole)
    features: Tensor | None = None
    unfinite = _Unfinite()
    error: UserError | None = None
    bar = image_bar(f"{images.name} {images.split}", share.stop - share.start, show=progress and processes.is_main)
    try:
        batches = cut_batches(images, [transform], share, batch_size=whole, workers=workers, device=place)
        count = -(-(share.stop - share.start) // whole)
        forward = Forward(network, transform, place, autocast, whole=whole, batches=count, tries=batch_size is None)
        with eval_mode(network), bar as done, batches as cut:
            start = share.start
            for rows in _one_late(forward(batch) for (batch,) in cut):
                if features is None:
                    features = _matrix(len(images), rows.shape[1], memory_limit)
                features[start : start + len(rows)] = rows
                unfinite.add(rows, start)
                start += len(rows)
                done(len(rows))
    except UserError as caught:
        error = caught
    processes.raise_first(error)

    width = next(size for size in processes.gather_objects(None if features is None else features.shape[1]) if size is not None)
    if features is None:  # more processes than batches
        features = _matrix(len(images), width, memory_limit)
    _Unfinite.refuse(processes.gather_objects(unfinite), images, name, network)
    processes.gather_rows(features, whole)
    return Features(features, images.levels, images.name, images.split)


def _matrix(rows: int, width: int, limit: int) -> Tensor:
    """An uninitialised float32 matrix (rows, width), in memory up to ``limit`` bytes, else in a file that vanishes with it."""
    if 4 * rows * width <= limit:
        return torch.empty(rows, width)
    try:
        with tempfile.TemporaryFile(prefix="features.") as file:  # the mapping keeps it until it is let go of
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(rows, width)))
    except OSError as error:
        size = f"{4e-9 * rows * width:.1f} GB"
        raise UserError(
            f"features of {size} do not fit into {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to a larger disk"
        ) from error


def _one_late(outputs: Iterator[Tensor]) -> Iterator[Tensor]:
    """``outputs`` as float32 tensors on the CPU, each fetched when the next one is under way: a GPU is not left without work meanwhile."""
    before: Tensor | None = None
    for output in outputs:
        if before is not None:
            yield before.to(device="cpu", dtype=torch.float32)
        before = output
    if before is not None:
        yield before.to(device="cpu", dtype=torch.float32)


@dataclass
class _Unfinite:
    """Counts feature vectors that hold NaN or infinity."""

    count: int = 0
    first: int = -1

    def add(self, rows: Tensor, start: int) -> None:
        bad = (~torch.isfinite(rows).all(1)).nonzero()[:, 0]
        if len(bad):
            self.first = start + int(bad[0]) if self.count == 0 else self.first
            self.count += len(bad)

    @staticmethod
    def refuse(shares: list[_Unfinite], images: Images, name: str, network: nn.Module) -> None:
        """Raise UserError if any process found one; shares come in the order of their rows."""
        found = [share for share in shares if share.count]
        if found:
            count = sum(share.count for share in found)
            raise UserError(
                f"{count} of {len(images)} feature vectors of {images.name} ({images.split}) are not finite, first that of image "
                f"{images.where(found[0].first)}; {why_not_finite(name, network)}"
            )


def why_not_finite(name: str, network: nn.Module) -> str:
    """What to say of a network that gives NaN or infinity: whether it is its weights."""
    damaged = [key for key, value in network.state_dict().items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if damaged:
        return f"the weights of {name} are damaged: {len(damaged)} tensors hold NaN or infinity, first '{damaged[0]}'"
    return f"the weights of {name} are numbers, so the precision is too low for it, or its input is not what it was trained on"


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Afterwards every submodule is in the mode that it had, also where they differed."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _device_of(network: nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
