"""Commands that are imported when they are called: whoever asks for one plan waits for one command's libraries.

Importing all of them takes 1.5 s of a processor, and several seconds on a busy machine: each store brings its client.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click


@dataclass(frozen=True, kw_only=True)
class Lazy:
    """Where a command is, and its line in its group's help, which fits an ordinary terminal."""

    at: str
    summary: str

    def load(self) -> click.Command:
        """Imports the command; ``at`` is ``module:attribute``, as in an entry point."""
        module, _, attribute = self.at.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class LazyGroup(click.Group):
    """A group whose commands are imported one by one.

    Args:
        lazy: the commands by name.
        entries: an entry-point group whose entries are commands too; each is imported when it is called, or listed.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], entries: str = "", **rest: Any) -> None:
        super().__init__(*arguments, **rest)
        self.lazy = lazy
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as the help lists them."""
        brought = {entry.name for entry in entry_points(group=self._entries)} if self._entries else set[str]()
        return sorted({*super().list_commands(ctx), *self.lazy, *brought})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported; None when there is none."""
        if cmd_name in self.lazy:
            return self.lazy[cmd_name].load()
        if self._entries:
            for entry in entry_points(group=self._entries, name=cmd_name):
                command: click.Command = entry.load()
                return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing those whose summary is known."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._rows(ctx)))

    def _rows(self, ctx: click.Context) -> Iterable[tuple[str, str]]:
        for name in self.list_commands(ctx):
            if name in self.lazy:
                yield name, self.lazy[name].summary
            elif (command := self.get_command(ctx, name)) is not None:
                yield name, command.get_short_help_str(limit=200)
