"""Subcommands that installed packages add to ``zoo`` by the entry-point group ``zoo.commands``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from zoo.console import make_app
from zoo.console.subcommands import Subcommands
from zoo.errors import UserError, first_line

ENTRY_POINT_GROUP = "zoo.commands"


class CommandsWithPlugins(Subcommands):
    """The subcommands of an application, and those that installed packages register in the group ``zoo.commands``.

    An entry point names a function with typer's annotations, or a typer application. It is imported when its help or the command itself
    is asked for; one that cannot be imported is shown as unavailable, with the reason, and the others go on working.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + sorted(name for name in _plugins() if name not in own)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Of a plugin of that very name before a command of a name that is only near.
        if cmd_name in _plugins() and cmd_name not in self.commands:
            return _command_of(_plugins()[cmd_name])
        return super().get_command(ctx, cmd_name)


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _command_of(entry: EntryPoint) -> Any:
    """The command behind an entry point, in whichever click typer was built on."""
    settings: dict[str, Any] = {"context_settings": {"help_option_names": ["-h", "--help"]}}
    try:
        target = entry.load()
    except Exception as error:  # whatever the importing of somebody else's module may raise
        target, settings = _unavailable(entry, error)
    if isinstance(target, typer.Typer):
        app = target
    else:
        app = make_app("")
        app.command(entry.name, **settings)(target)
    command = typer.main.get_command(app)
    command.name = entry.name
    return command


def _unavailable(entry: EntryPoint, error: Exception) -> tuple[Callable[[], None], dict[str, Any]]:
    reason = f"{type(error).__name__}: {first_line(error)}"

    def refuse() -> None:
        raise UserError(f"`zoo {entry.name}` is unavailable: {entry.value} cannot be imported ({reason})")

    # Its arguments are unknown, so any are let through to the sentence above.
    return refuse, {
        "help": f"(unavailable: {reason})",
        "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    }
