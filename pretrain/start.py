"""The model that a pre-training starts from: the recipe's ``init``."""

from __future__ import annotations

from pretrain.settings import Recipe
from zoo.model_spec import open_model
from zoo.models.model import Model
from zoo.models.selection import read_selection


def open_start(recipe: Recipe, image_size: int | None = None) -> Model:
    """The model that ``recipe.init`` names, read as ``recipe.init_file`` says where it is a checkpoint file of others.

    Raises UserError as :func:`zoo.model_spec.open_model`.
    """
    assert recipe.init is not None
    file = recipe.init_file
    return open_model(
        recipe.init,
        image_size=image_size,
        heads=file.heads,
        norm_eps=file.norm_eps,
        stem_padding=file.stem_padding,
        selection=read_selection(file.key, file.prefix, list(file.rename), list(file.drop)),
    )
