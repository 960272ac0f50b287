"""What `zoo report` offers and takes by default. Imports nothing heavy, so that its help answers at once."""

from __future__ import annotations

from typing import Literal

from zoo.errors import UserError

DEFAULT_TITLE = "Evaluation report"
# The file that is the report, in its folder.
PAGE = "index.html"
MapMethod = Literal["tsne", "umap", "none"]
MAP_METHODS: tuple[MapMethod, ...] = ("tsne", "umap", "none")


def check_map_word(method: str) -> MapMethod:
    """``method`` as one of MAP_METHODS. Raises UserError for another."""
    for known in MAP_METHODS:
        if known == method:
            return known
    raise UserError(f"--map is {', '.join(MAP_METHODS[:-1])} or {MAP_METHODS[-1]}, not '{method}'")
