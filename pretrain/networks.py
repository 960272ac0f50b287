"""The networks of a training: made, checked against the views and the batch, and put as a step runs them."""

from __future__ import annotations

import torch
from torch import nn

from evaluation.training.kernels import compile_networks, recompute_activations
from pretrain.batchnorm import split_batchnorm
from pretrain.methods import Method
from pretrain.settings import Recipe
from pretrain.start import open_start
from zoo.backbones import checked, create_backbone, load_state
from zoo.errors import UserError


def make_backbone(recipe: Recipe) -> nn.Module:
    """A backbone as the recipe says, with fresh weights or those of ``init``.

    Raises UserError for an unknown architecture, a side that it does not take, or weights of another architecture.
    """
    backbone = create_backbone(recipe.backbone, image_size=recipe.views.size, zero_init_residual=recipe.zero_init_residual)
    if recipe.init:
        start = open_start(recipe, recipe.views.size)
        if start.arch != recipe.backbone:
            raise UserError(
                f"init={recipe.init} is a {start.arch}, but the recipe's backbone is {recipe.backbone}"
                + ("; a recipe builds no network with such arguments" if "(" in start.arch else f"; set backbone={start.arch}")
            )
        load_state(backbone, start.module.state_dict(), source=f"init={recipe.init}")
    return backbone


def check_sizes(backbone: nn.Module, arch: str, sizes: set[int], size: int) -> None:
    """Views may differ in size from ``size`` (pixels), and not every backbone takes that: raises UserError."""
    for other in sorted(sizes - {size}):
        try:
            checked(backbone, arch, other)
        except UserError as error:
            raise UserError(
                f"{error}; views of several sizes ({', '.join(map(str, sorted(sizes)))} px) need a backbone that takes any, such as "
                f"resnet50: choose one, or leave all views at views.size={size} (method.local_views=false)"
            ) from error


def check_share(method: Method, name: str, batch: int, parts: int, processes: int) -> None:
    """Raise UserError where a forward pass has fewer images than the method needs."""
    share, (least, why) = batch // processes // parts, method.fewest_images()
    if share < least:
        raise UserError(
            f"{name} needs at least {least} images per forward pass ({why}), and gets {share}: batch={batch} over {processes} "
            f"process{'es' if processes > 1 else ''} in {parts} part{'s' if parts > 1 else ''}; set a larger batch"
            + (" or micro_batch" if parts > 1 else "")
        )


def prepare_batchnorm(method: Method, recipe: Recipe, share: int, device: torch.device, processes: int) -> Method:
    """``method`` with the batch norm that the recipe asks for, over the processes or in groups of a forward pass of ``share`` images."""
    if recipe.sync_bn:
        if recipe.bn_splits > 1:
            raise UserError("sync_bn=true and bn_splits contradict each other; choose one")
        if device.type != "cuda" and processes > 1:
            raise UserError("sync_bn=true needs GPUs: torch has no SyncBatchNorm for CPUs; use one process, or sync_bn=false")
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    if recipe.bn_splits > 1:
        if share % recipe.bn_splits or share // recipe.bn_splits < 2:
            raise UserError(f"bn_splits={recipe.bn_splits} must divide the {share} images of a forward pass into groups of at least two")
        split_batchnorm(method, recipe.bn_splits)
    return method


def prepare_networks(method: Method, recipe: Recipe, device: torch.device) -> Method:
    """Networks as the step runs them: on their device, where the optimizer finds them, laid out, compiled; in place."""
    if recipe.activation_checkpointing:
        recompute_activations(method.backbone(), recipe.backbone)
    method.to(device)
    if recipe.channels_last:
        method.to(memory_format=torch.channels_last)
    if recipe.compile:
        compile_networks([method.named_encoder(name) for name in method.encoders])
    return method
