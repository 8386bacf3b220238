"""`aivo-backup recover`: the runbook's three scenarios as plans that are shown, carried out and resumed."""

import click

from aivo_backup.cli.recover.database import database
from aivo_backup.cli.recover.storage import storage


@click.group()
def recover() -> None:
    """Recover from a disaster by plan: database-corruption or storage-failure.

    --plan shows every step, what it changes, how long it takes and how to undo it; --execute carries it out, asking
    before each destructive step; a recovery that was killed or failed goes on with --resume.
    """


recover.add_command(database)
recover.add_command(storage)
