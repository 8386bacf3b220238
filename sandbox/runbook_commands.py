"""Writes docs/runbook-commands.md: every command of the runbook this project began from, and what became of it.

The runbook itself is not part of the repository. What is kept of it are its commands, in docs/runbook-commands.toml;
a digest for each block tells a table that is complete from one that lost a command.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.codec import from_json
from sandbox.state import CHECKOUT

TABLE = CHECKOUT / "docs" / "runbook-commands.toml"
PAGE = CHECKOUT / "docs" / "runbook-commands.md"

_FENCE = "```"
_HEAD = """<!-- Written from runbook-commands.toml by `make runbook`. -->

# The runbook's commands

Every command of the runbook that this project began from, in its order, and what to type now. *Supported*: it works as
it stands. *Corrected*: it would fail or mislead; the second column does what was meant. *Refused*: nothing takes its
place, for the reason given. Every `aivo-backup` command takes `--environment prod`, or `AIVO_BACKUP_ENVIRONMENT=prod`;
a restore shows its plan and asks before it changes anything. The three scenarios are pages of their own:
[runbook](runbook/README.md).

The scripts are in `infra/backup/` of the checkout, and in `/usr/local/share/aivo-backup/backup/` of the image.
"""


class Verdict(StrEnum):
    """What became of a command."""

    SUPPORTED = "supported"
    CORRECTED = "corrected"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some lines of a block.

    Attributes:
        was: the runbook's lines.
        now: what to type instead, of a correction.
        why: its reason; of what is supported, what one should know.
    """

    was: str
    verdict: Verdict
    now: str = ""
    why: str = ""

    @property
    def lines(self) -> list[str]:
        """Its commands, each on one line."""
        return commands(self.was)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of commands.

    Attributes:
        section: the headings above it.
        digest: of all its commands.
    """

    section: str
    digest: str
    part: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """All of them.

    Attributes:
        digest: of the blocks' digests.
    """

    digest: str
    block: tuple[Block, ...]

    @property
    def parts(self) -> list[Part]:
        """Every part, in the runbook's order."""
        return [part for block in self.block for part in block.part]


def commands(text: str) -> list[str]:
    """The commands of a block of shell (or PromQL): no comments, no empty lines, continuations joined."""
    joined: list[str] = []
    open_quote = False
    for line in text.replace("\\\n", " ").splitlines():
        bare = " ".join(line.split())
        if open_quote:
            joined[-1] += f" {bare}"
        elif bare and not bare.startswith("#"):
            joined.append(bare)
        else:
            continue
        open_quote = joined[-1].count("'") % 2 == 1
    return joined


def digest(lines: Sequence[str]) -> str:
    """What tells one block's commands from others."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def incomplete(found: Table) -> list[str]:
    """Where the table does not hold what its digests were made of: a command, or a whole block, was lost."""
    lacking = [
        block.section
        for block in found.block
        if digest([line for part in block.part for line in part.lines]) != block.digest
    ]
    if digest([block.digest for block in found.block]) != found.digest:
        lacking.append("the list of blocks")
    return lacking


def blocks_in(markdown: str) -> list[list[str]]:
    """The commands of every fenced block."""
    return [commands(block.partition("\n")[2]) for block in markdown.split(_FENCE)[1::2]]


def table(file: Path = TABLE) -> Table:
    """The table.

    Raises:
        ConfigurationError: it is malformed.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: {error}", mend="mend that line") from error
    return from_json(Table, data, where=file.name)


def page(blocks: Sequence[Block]) -> str:
    """The page's text."""
    lines = [_HEAD]
    for block in blocks:
        lines += [f"## {block.section}", "", "| the runbook says | now | |", "| --- | --- | --- |"]
        lines += [_row(part) for part in block.part]
        lines.append("")
    return "\n".join(lines)


def _row(part: Part) -> str:
    was = "<br>".join(_code(line) for line in part.lines)
    now = _code(part.now) if part.now else {Verdict.SUPPORTED: "the same", Verdict.REFUSED: "nothing"}[part.verdict]
    why = f": {part.why}" if part.why else ""
    return f"| {was} | {now} | **{part.verdict.value}**{_cell(why)} |"


def _code(line: str) -> str:
    return f"`{_cell(line)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(file: Path = PAGE) -> None:
    """Writes the page."""
    file.write_text(page(table().block), encoding="utf-8")


if __name__ == "__main__":
    main()
