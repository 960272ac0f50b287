"""``--epochs 3`` in the place of ``epochs=3``: what is written like an option, and is a value of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from zoo.errors import UserError, nearest

# An option as near as this was meant, however its value looks.
_NEAR = 0.8


class RecipeCommand(TyperCommand):
    """A command whose values are set by ``KEY=VALUE``: an option that it does not have is answered with the words to write."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = [name for parameter in self.get_params(ctx) for name in parameter.opts if name.startswith("--")]
        if (meant := value_meant(args, known)) is not None:
            raise UserError(meant)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def value_meant(words: Sequence[str], options: Sequence[str]) -> str | None:
    """What to say of the first word that looks like an option and is none of ``options``; None where there is no such word."""
    for place, word in enumerate(words):
        if word == "--":
            return None
        option, equals, value = word.partition("=")
        if not option.startswith("--") or option in options:
            continue
        if near := nearest(option, options, cutoff=_NEAR):
            return f"pretrain has no option '{option}'; did you mean {near[0]}?"
        behind = words[place + 1] if not equals and place + 1 < len(words) and not words[place + 1].startswith("-") else None
        key = option.removeprefix("--").replace("-", "_")
        wanted = f"{key}={value if equals else behind if behind is not None and '=' not in behind else 'VALUE'}"
        return f"pretrain has no option '{option}'; a recipe's values are set without dashes: {wanted} (`pretrain --show RECIPE` has all)"
    return None
