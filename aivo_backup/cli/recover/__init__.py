"""`aivo-backup recover`: the runbook's three scenarios as plans that are shown, carried out and resumed."""

import click

from aivo_backup.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "database-corruption": Lazy(
        at="aivo_backup.cli.recover.database:database", summary="The database is damaged: restore it in place."
    ),
    "storage-failure": Lazy(
        at="aivo_backup.cli.recover.storage:storage", summary="The storage is lost: restore all three stores onto new."
    ),
    "partial-loss": Lazy(
        at="aivo_backup.cli.recover.partial:partial", summary="Some data is gone: bring back what production lacks."
    ),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def recover() -> None:
    """Recover from a disaster by plan: database-corruption, storage-failure or partial-loss.

    --plan shows every step, what it changes, how long it takes and how to undo it; --execute carries it out, asking
    before each destructive step; a recovery that was killed or failed goes on with --resume.
    """
