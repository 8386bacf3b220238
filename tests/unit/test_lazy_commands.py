"""A command imports its own libraries and no others: ``--help`` and ``--plan`` are asked for when time is short."""

import subprocess
import sys

import click
import pytest

from aivo_backup.cli.lazy import LazyGroup
from aivo_backup.cli.root import root

HEAVY = (
    "aivo_backup.composition", "boto3", "botocore", "cryptography", "jinja2", "matplotlib", "moto", "opensearchpy",
    "prometheus_client", "psycopg", "pulumi", "requests", "rich", "urllib3", "yaml",
)  # fmt: skip
"""Each takes longer to import than the command itself."""

_ORDINARY_TERMINAL = 80

# What a command may import of the heavy ones; the options of a command cannot be read without its module.
CLIENTS = {"aivo_backup.composition", "boto3", "botocore", "urllib3"}
SANDBOX = {"cryptography"}
COMMANDS = [
    (("--help",), SANDBOX),
    (("restore", "--help"), set[str]()),
    (("recover", "--help"), set[str]()),
    (("sandbox", "--help"), SANDBOX),
    (("restore", "minio", "--help"), CLIENTS),
    (("restore", "postgres", "--help"), {*CLIENTS, "psycopg"}),
    (("restore", "opensearch", "--help"), {*CLIENTS, "opensearchpy", "requests"}),
    (("status", "--help"), CLIENTS),
    (("points", "--help"), CLIENTS),
]


def imported_by(*arguments: str) -> set[str]:
    """The heavy modules that the command has imported when it ends, in a process of its own."""
    code = (
        "import sys\n"
        "from aivo_backup.cli.root import run\n"
        f"assert run({list(arguments)!r}) == 0\n"
        f"print('imported', *(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(("arguments", "allowed"), COMMANDS)
def test_a_command_imports_what_it_needs(arguments: tuple[str, ...], allowed: set[str]) -> None:
    assert imported_by(*arguments) - allowed == set()


def groups(group: LazyGroup) -> list[LazyGroup]:
    """The group and those below it."""
    loaded = [lazy.load() for lazy in group.lazy.values()]
    return [group, *(below for one in loaded if isinstance(one, LazyGroup) for below in groups(one))]


def test_every_command_is_where_its_group_says_and_its_summary_is_one_line_of_the_help() -> None:
    for group in groups(root):
        widest = max(len(name) for name in group.lazy)
        for name, lazy in group.lazy.items():
            command = lazy.load()
            assert isinstance(command, click.Command)
            assert command.name == name, lazy.at
            assert lazy.summary.endswith("."), lazy.at
            assert len(lazy.summary) + widest + 4 <= _ORDINARY_TERMINAL - 2, lazy.summary


def test_an_unknown_command_is_named() -> None:
    context = click.Context(root)
    assert root.get_command(context, "restoer") is None
    assert root.get_command(context, "sandbox") is not None
