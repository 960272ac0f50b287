"""Features from inside a network: what any of its layers gives, as one vector for an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from zoo.errors import UserError, first_line

# The layer that is the network itself, where it has none of this name; PART stands between a layer and one of the things that it gives.
OUTPUT, PART = "output", ":"
_NAMED_NODES = 40


class Layer(nn.Module):
    """A network whose output is that of one of its layers.

    Maps (B, C, H, W) are averaged over their positions; of tokens (B, N, D) the class token is taken where the network has one, else the
    mean of the patch tokens; vectors (B, D) are taken as they are.

    Parameters
    ----------
    network
        Shared, not copied: its weights, buffers and modes stay its own.
    name
        A submodule's name, such as ``"layer3"`` or ``"blocks.11"``, whose output is taken by a forward hook; else a node of the graph
        that torchvision traces (``torchvision.models.feature_extraction.get_graph_node_names``), such as ``"flatten"`` or ``"view"``,
        which names what functions compute too. ``"output"`` is the network's own output, where no layer is called so. Of a layer that
        gives a tuple or a dict, ``"LAYER:PART"`` names the part: a position from 0, or a key, as in ``"output:last_hidden_state"``.

    Raises
    ------
    UserError
        There is no such layer; the message lists those there are.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name
        self.traced: nn.Module | None = None
        modules = dict(network.named_modules())
        self.module, colon, part = (name, "", "") if name in modules else name.rpartition(PART) if PART in name else (name, "", "")
        self.part = part if colon else None
        if self.module == OUTPUT and OUTPUT not in modules:
            self.module = ""
        elif not self.module or self.module not in modules:
            self.traced = _traced(network, self.module)

    def forward(self, images: Tensor) -> Tensor:
        return self._vector(self._part(self._hooked(images) if self.traced is None else self.traced(images)["features"]))

    def _part(self, output: Any) -> Any:
        """The part of the output that was asked for."""
        if self.part is None:
            return output
        parts = parts_of(output)
        if self.part not in parts:
            known = ", ".join(parts) or f"none, for it is a {type(output).__name__}"
            raise UserError(f"what layer '{self.module or OUTPUT}' gives has no part '{self.part}'; it has: {known}")
        return parts[self.part]

    def _hooked(self, images: Tensor) -> Any:
        caught: list[Any] = []
        handle = self.network.get_submodule(self.module).register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            self.network(images)
        finally:
            handle.remove()
        if not caught:
            raise UserError(f"layer '{self.name}' took no part in the forward pass; choose another")
        # A layer that is used several times gives features where it was used last.
        return caught[-1]

    def _vector(self, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or not 2 <= output.ndim <= 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            parts = parts_of(output)
            choose = f"choose one of its parts: {', '.join(f'{self.name}{PART}{part}' for part in parts)}" if parts else "choose another"
            raise UserError(f"layer '{self.name}' gives {shape} and not vectors, tokens or maps; {choose}")
        if output.ndim == 4:
            return output.mean((1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else (2, 3))
        if output.ndim == 3:
            tokens = [getattr(self.network, attribute, None) for attribute in ("cls_token", "class_token")]
            if any(token is not None for token in tokens):
                return output[:, 0]
            return output[:, getattr(self.network, "num_prefix_tokens", 0) :].mean(1)
        return output


def parts_of(output: Any) -> dict[str, Any]:
    """What a network's output that is no tensor is made of, by name: keys of a mapping, positions (from 0) of a tuple or list.

    Parts of a named tuple are called by its names. Anything else has no parts.
    """
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", None)
        return {str(name): value for name, value in zip(names or range(len(output)), output, strict=True)}
    return {}


def _traced(network: nn.Module, name: str) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            nodes = get_graph_node_names(network)[1]
            if name in nodes:
                traced: nn.Module = create_feature_extractor(network, {name: "features"})
                return traced.train(network.training)
    except Exception as error:  # tracing fails in as many ways as networks can be written
        layers = [known for known, _ in network.named_modules() if known]
        reason = f"and its graph cannot be traced ({first_line(error)})"
        raise UserError(f"the network has no submodule '{name}', {reason}; its submodules: {_some(layers)}") from error
    raise UserError(f"the network has no layer '{name}'; it has: {_some(nodes)}")


def _some(names: list[str]) -> str:
    # The last layers are those that features are taken from.
    left = len(names) - _NAMED_NODES
    return ", ".join(names[-_NAMED_NODES:]) + (f" and {left} before them" if left > 0 else "")
