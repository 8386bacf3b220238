"""How the CLI prints: tables and progress for people, JSON for programs. Nothing else prints."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from aivo_backup.errors import UsageError
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def json_option(command: F) -> F:
    """Adds ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text.")(command)


def component_argument(*, required: bool) -> Callable[[F], F]:
    """Adds the COMPONENT argument: postgres, minio or opensearch."""

    def parse(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Component | None:
        if value is None:
            return None
        try:
            return Component(value)
        except ValueError as error:
            known = ", ".join(member.value for member in Component)
            raise UsageError(f"{value!r} is not a component", mend=f"use one of {known}") from error

    return click.argument("component", required=required, callback=parse)


def print_json(value: object) -> None:
    """Prints records or plain data as JSON on standard output."""
    click.echo(json.dumps(to_json(value), indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; wide when the output is not a terminal, so that a log keeps whole cells.

    Cells are plain text: one that quotes a log may have brackets in it, which are no markup.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)


def progress(line: str) -> None:
    """One line of progress on standard error, so that standard output stays clean for ``--json``."""
    click.echo(f"  {line}", err=True)


def bytes_text(size: float) -> str:
    """For example ``12.3 MiB``."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit always answers")


def seconds_text(seconds: float | None) -> str:
    """For example ``4.2 s`` or ``3 min 5 s``; ``unknown`` for None."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
