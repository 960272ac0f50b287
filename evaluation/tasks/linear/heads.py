"""Linear classifiers trained side by side: the same features and steps, another learning rate for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from timm.optim.lars import Lars
from torch import Tensor, nn

from evaluation.views.parameters import to_device
from zoo.randomness import generator

INITIAL_STD = 0.01
_INIT_PURPOSE = "linear head"
# Logits (rows x heads x classes) computed at a time.
_LOGITS_AT_ONCE = 1 << 23


class Heads:
    """G linear classifiers (C classes, D features) whose tensors lie in one matrix, so that one product serves all of them.

    All start from the same weights, drawn from N(0, 0.01), and biases of zero.

    Parameters
    ----------
    count, classes, width
        G, C, D.
    seed
        Of the initial weights.
    """

    def __init__(self, count: int, classes: int, width: int, *, seed: int, device: torch.device) -> None:
        self.count, self.classes = count, classes
        start = generator(seed, _INIT_PURPOSE).standard_normal((classes, width)) * INITIAL_STD
        self.weight = torch.from_numpy(start).to(device, torch.float32).repeat(count, 1)
        self.bias = torch.zeros(count * classes, device=device)
        self.weight_gradient, self.bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def backward(self, features: Tensor, labels: Tensor, used: Tensor | None = None) -> Tensor:
        """Set the gradients of each classifier's mean cross-entropy.

        Parameters
        ----------
        features
            float32 (B, D).
        labels
            int64 (B,).
        used
            float32 (B, G): 1 where a classifier learns from an image, else 0; None: all learn from all.

        Returns
        -------
        The mean losses (G,) before the step.
        """
        rows = len(features)  # may be 0, where all images of a batch are held out
        logits = torch.addmm(self.bias, features, self.weight.T)
        # Of softmax and cross-entropy the gradient with respect to the logits is the probabilities minus one at the truth.
        probabilities = torch.softmax(logits.view(rows, self.count, self.classes), dim=2)
        place = labels[:, None, None].expand(rows, self.count, 1)
        truth = probabilities.gather(2, place)[:, :, 0]
        probabilities.scatter_add_(2, place, -torch.ones_like(truth)[:, :, None])
        losses = truth.clamp_(min=torch.finfo(torch.float32).tiny).log_().neg_()
        if used is None:
            probabilities.div_(max(1, rows))
            mean = losses.sum(0) / max(1, rows)
        else:
            share = used / used.sum(0).clamp(min=1)
            probabilities.mul_(share[:, :, None])
            mean = (losses * share).sum(0)
        flat = probabilities.view(rows, self.count * self.classes)
        torch.mm(flat.T, features, out=self.weight_gradient)
        torch.sum(flat, 0, out=self.bias_gradient)
        return mean

    def parameters_of(self, head: int) -> list[nn.Parameter]:
        """Weights and biases of one classifier: views, with views of the gradients."""
        rows = slice(head * self.classes, (head + 1) * self.classes)
        found = []
        for values, gradients in ((self.weight, self.weight_gradient), (self.bias, self.bias_gradient)):
            parameter = nn.Parameter(values[rows])
            parameter.grad = gradients[rows]
            found.append(parameter)
        return found

    def predict(self, features: Tensor) -> Tensor:
        """int64 (Q, G) on the CPU: each classifier's largest output, the smaller class of equals."""
        found = torch.empty(len(features), self.count, dtype=torch.int64)
        step = max(1, _LOGITS_AT_ONCE // (self.count * self.classes))
        for start in range(0, len(features), step):
            part = features[start : start + step].to(self.weight.device)
            logits = torch.addmm(self.bias, part, self.weight.T)
            found[start : start + step] = logits.view(len(part), self.count, self.classes).argmax(2).cpu()
        return found

    def outputs(self, features: Tensor, head: int) -> Tensor:
        """float32 (Q, C) on the CPU: what one classifier gives."""
        rows = slice(head * self.classes, (head + 1) * self.classes)
        weight, bias = self.weight[rows], self.bias[rows]
        step = max(1, _LOGITS_AT_ONCE // self.classes)
        parts = [torch.addmm(bias, part.to(weight.device), weight.T).cpu() for part in features.split(step)]
        return torch.cat(parts)

    def layer(self, head: int) -> tuple[Tensor, Tensor]:
        """Copies of the weights (C, D) and biases (C,) of one classifier, on the CPU."""
        rows = slice(head * self.classes, (head + 1) * self.classes)
        return self.weight[rows].cpu().clone(), self.bias[rows].cpu().clone()

    def finite(self) -> Tensor:
        """bool (G,): whether a classifier's weights are still numbers."""
        return torch.isfinite(self.weight.view(self.count, -1)).all(1).cpu()


class SideBySideSgd(torch.optim.Optimizer):
    """SGD with momentum over all classifiers at once; the update of each is that of ``torch.optim.SGD`` with its own rate.

    One group per classifier holds its rate, for schedules. torch's own goes through groups one after the other, which at this size
    takes longer than the products.
    """

    def __init__(self, heads: Heads, rates: Sequence[float], *, momentum: float, weight_decay: float) -> None:
        groups = [{"params": heads.parameters_of(head), "lr": rate} for head, rate in enumerate(rates)]
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})
        self._heads, self._momentum, self._weight_decay = heads, momentum, weight_decay
        self._tensors = ((heads.weight, heads.weight_gradient), (heads.bias, heads.bias_gradient))
        self._moving = [torch.zeros_like(values) for values, _ in self._tensors]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        rates = to_device(np.array([group["lr"] for group in self.param_groups], dtype=np.float32), self._heads.weight.device)[:, None]
        for (values, gradients), moving in zip(self._tensors, self._moving, strict=True):
            if self._weight_decay:
                gradients.add_(values, alpha=self._weight_decay)
            moving.mul_(self._momentum).add_(gradients)
            values.view(self._heads.count, -1).addcmul_(moving.view(self._heads.count, -1), rates, value=-1)


def make_heads_optimizer(
    heads: Heads, rates: Sequence[float], *, solver: str, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of classifiers with these peak rates: ``"sgd"``, or timm's ``"lars"``."""
    if solver == "sgd":
        return SideBySideSgd(heads, rates, momentum=momentum, weight_decay=weight_decay)
    groups = [{"params": heads.parameters_of(head), "lr": rate} for head, rate in enumerate(rates)]
    # As in SimSiam, whose LARC adapts rates without weight decay too; timm by default does not.
    return Lars(groups, lr=rates[0], momentum=momentum, weight_decay=weight_decay, always_adapt=True)
