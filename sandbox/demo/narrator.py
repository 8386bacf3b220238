"""Tells what happens, how long each step took, and what was seen; a step that fails ends the demo by its name."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDTH_OF_A_LOG = 150


class DemoError(Exception):
    """A step did not do what it must; the message is one line."""


class Narrator:
    """Prints the story. ``failed_at`` names the step that raised, if one did."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_LOG)
        self._begun = time.monotonic()
        self.failed_at = ""

    def chapter(self, title: str) -> None:
        """Begins a part of the story."""
        elapsed = time.monotonic() - self._begun
        self._console.print(f"\n[bold]── {escape(title)}[/] [dim]({elapsed:.0f} s since the start)[/]")

    @contextmanager
    def step(self, what: str) -> Generator[None]:
        """One step: its name before, its time after."""
        self._console.print(f"[cyan]▸[/] {escape(what)}")
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            self.failed_at = self.failed_at or what
            raise
        self._console.print(f"  [green]✓[/] [dim]{time.monotonic() - begun:.1f} s[/]")

    def command(self, argv: Sequence[str], *, where: str = "") -> None:
        """A command as a person would type it, and where it runs."""
        tail = f"  [dim]# {escape(where)}[/]" if where else ""
        self._console.print(f"  [bold]$ {escape(' '.join(argv))}[/]{tail}")

    def fact(self, text: str) -> None:
        """Something that was seen."""
        self._console.print(f"  {escape(text)}")

    def expect(self, condition: bool, what: str) -> None:
        """Says what must be true, and ends the demo when it is not.

        Raises:
            DemoError: it is not.
        """
        if not condition:
            raise DemoError(f"not true: {what}")
        self._console.print(f"  [green]✓[/] {escape(what)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._console.print(table)

    def failure(self, line: str) -> None:
        """The last words of a demo that failed."""
        self._console.print(f"\n[bold red]The demo failed[/] at: {escape(self.failed_at)}\n  {escape(line)}")

    def success(self, line: str) -> None:
        """The last words of a demo that ran to its end."""
        self._console.print(f"\n[bold green]{escape(line)}[/]")

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._begun
