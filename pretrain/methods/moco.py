"""MoCo v1 and v2: a query encoder, its moving average as key encoder, and a queue of keys."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from evaluation.parallel import Processes
from evaluation.views.parameters import to_device
from evaluation.views.settings import ViewSpec
from pretrain.batchnorm import splits_of
from pretrain.encoder import Encoder
from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.parts import Queue, freeze, gather, info_nce, projection, update_average
from pretrain.sizes import queue_length
from zoo.errors import UserError
from zoo.randomness import generator
from zoo.ranges import POSITIVE, SHARE, Range


@dataclass
class MoCoSettings:
    """Attributes
    ----------
    dim
        Width of the embedding.
    mlp
        MoCo v2's head, Linear - ReLU - Linear with the backbone's width in the middle; off: MoCo v1's single Linear.
    queue
        Number of negatives; the global batch must divide it. None: by the rule of :mod:`pretrain.sizes`.
    momentum
        Of the key encoder's moving average.
    temperature
        0.2 in MoCo v2, 0.07 in v1.
    """

    dim: Annotated[int, Range(1)] = 128
    mlp: bool = True
    queue: Annotated[int | None, Range(1)] = None
    momentum: Annotated[float, SHARE] = 0.999
    temperature: Annotated[float, POSITIVE] = 0.2


class MoCo(Method):
    """Momentum contrast (He et al., arXiv 1911.05722; v2: Chen et al., arXiv 2003.04297).

    View 0 is the query, view 1 the key. The key encoder's parameters are averaged before the keys are encoded; its batch-norm statistics
    are its own. Keys enter the queue after the step, so that no key is its own step's negative. Where batch norm sees several groups
    (processes, or ``bn_splits``), keys are shuffled over the groups, so that a query cannot recognise its key by the statistics.
    """

    Settings: ClassVar[type[Any]] = MoCoSettings
    encoders: ClassVar[dict[str, str]] = {"query": "encoder_q.backbone.", "key": "encoder_k.backbone."}

    @classmethod
    def views(cls, settings: MoCoSettings, size: int) -> tuple[ViewSpec, ...]:
        return ViewSpec("query"), ViewSpec("key")

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: MoCoSettings, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        length = queue_length(facts.images, facts.batch) if settings.queue is None else settings.queue
        if length % facts.batch:
            fitting = max(length // facts.batch, 1) * facts.batch
            raise UserError(f"method.queue={length} is not a multiple of batch={facts.batch}; use for example method.queue={fitting}")
        backbone = make_backbone()
        width = int(backbone.num_features)  # type: ignore[arg-type]
        self.encoder_q = Encoder(backbone, projection(width, width if settings.mlp else None, settings.dim))
        self.encoder_k = freeze(copy.deepcopy(self.encoder_q))
        self.queue = Queue(length, settings.dim)
        self.momentum, self.temperature, self.seed = settings.momentum, settings.temperature, facts.seed
        self._new_keys: list[Tensor] = []

    def start_step(self, step: int) -> None:
        update_average(self.encoder_k.parameters(), self.encoder_q.parameters(), self.momentum)
        self._new_keys.clear()

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        query = self.encoder_q(views[0])
        key = self.encode_keys(views[1], place)
        self._new_keys.append(key)
        return {"contrastive": info_nce(query, key, self.queue.keys, self.temperature)}

    def encode_keys(self, images: Tensor, place: Place) -> Tensor:
        """Embeddings (b, dim) of this rank's key images (b, 3, H, W), encoded in batch-norm groups that are not the queries'."""
        return self.in_other_groups(lambda shown: [self.encoder_k(shown)], images, place)[0]

    @torch.no_grad()
    def in_other_groups(self, encode: Callable[[Tensor], Sequence[Tensor]], images: Tensor, place: Place, view: int = 0) -> list[Tensor]:
        """What ``encode`` makes of this rank's key images (b, 3, H, W), tensors (b, ...), in batch-norm groups that are not the queries'.

        ``view`` tells the images' order apart from that of other keys of the step.
        """
        processes = Processes.current()
        if processes.count * splits_of(self.encoder_k) == 1:
            return list(encode(images))
        everyone = gather(images)
        # Every process draws the same permutation: nothing needs to be sent.
        order = to_device(generator(self.seed, "shuffle keys", place.step, place.part, view).permutation(len(everyone)), images.device)
        back = order.argsort()
        seen = encode(everyone[order.chunk(processes.count)[processes.rank]])
        return [gather(rows)[back].chunk(processes.count)[processes.rank] for rows in seen]

    def finish_step(self) -> None:
        # Each rank's keys of all micro-batches, then the ranks one after the other: the order of the joint batch.
        self.queue.push(gather(torch.cat(self._new_keys)))
        self._new_keys.clear()
