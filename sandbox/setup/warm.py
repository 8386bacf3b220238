"""Imports what the commands, the AWS API and the tests import, so that their bytecode is there (see ``python.py``)."""

from importlib import import_module

from aivo_backup.cli.lazy import LazyGroup
from aivo_backup.cli.root import root
from sandbox.plan import register

LIBRARIES = ("hypothesis", "matplotlib.pyplot", "moto.server", "pulumi", "pytest", "rich.table")
"""Beside those of the commands."""
STACKS = ("local", "prod")
"""Between them, they register every kind of resource, each of which is a module of its provider."""


def load(group: LazyGroup) -> None:
    """Imports every command below a group."""
    for lazy in group.lazy.values():
        command = lazy.load()
        if isinstance(command, LazyGroup):
            load(command)


if __name__ == "__main__":
    load(root)
    for name in LIBRARIES:
        import_module(name)
    for stack in STACKS:
        register(stack)
