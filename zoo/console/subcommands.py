"""Subcommands that are found by a word near their name: in the plural or singular, in capitals, with underscores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup


def nearest_form(word: str, known: Sequence[str]) -> str | None:
    """The one of ``known`` that ``word`` is, but for capitals, ``_`` in the place of ``-``, and an ``s`` or ``es`` at the end of either."""
    plain = word.lower().replace("_", "-")
    forms = {plain, f"{plain}s", f"{plain}es", plain.removesuffix("s"), plain.removesuffix("es")} - {""}
    return word if word in known else next((name for name in known if name in forms), None)


class Subcommands(TyperGroup):
    """A group of commands, each found by any form of its name."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        name = nearest_form(cmd_name, self.list_commands(ctx))
        return None if name is None or name == cmd_name else self.get_command(ctx, name)
