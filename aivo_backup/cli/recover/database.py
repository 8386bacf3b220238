"""`aivo-backup recover database-corruption`."""

from datetime import datetime

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.recover.parts import parts
from aivo_backup.cli.recover.shared import Mode, mode_options, recover
from aivo_backup.cli.restore.postgres import moment
from aivo_backup.cli.restore.services import ADAPTERS
from aivo_backup.recovery.database_corruption import CorruptionRequest, database_corruption
from aivo_backup.recovery.plan import Scenario


@click.command(Scenario.DATABASE_CORRUPTION.value)
@click.option("--target-time", callback=moment, help="To a moment, with its zone: 2026-01-31T12:00:00Z.")
@click.option("--set", "label", default="", help="Start from this backup set; alone: stop where it ends.")
@click.option("--service", type=click.Choice(list(ADAPTERS)), help="How the server is run, where that is not known.")
@click.option("--unit", default="", help="With --service systemd: the server's unit.")
@click.option("--from-replica", is_flag=True, help="Read the second region's buckets, with its keys alone.")
@mode_options
@click.pass_obj
def database(
    context: Context,
    target_time: datetime | None,
    label: str,
    service: str | None,
    unit: str,
    from_replica: bool,
    mode: Mode,
) -> int:
    """The database is corrupted: restore it in place, to the newest archived state or to a moment.

    Applications are stopped first and started again at the end, also when it fails. The corrupted data directory is
    set aside, never deleted.
    """
    app = context.app
    return recover(
        app,
        Scenario.DATABASE_CORRUPTION,
        mode,
        kind=CorruptionRequest,
        request=lambda: CorruptionRequest(target_time=target_time, label=label, from_replica=from_replica),
        build=lambda request: database_corruption(
            parts(app, from_replica=request.from_replica, service=service, unit=unit), request
        ),
    )
