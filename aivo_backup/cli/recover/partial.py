"""`aivo-backup recover partial-loss`."""

from datetime import datetime

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.recover.parts import parts
from aivo_backup.cli.recover.shared import Mode, mode_options, recover
from aivo_backup.cli.restore.postgres import moment
from aivo_backup.errors import UsageError
from aivo_backup.recovery.executor import request_of
from aivo_backup.recovery.partial_loss import give_up, partial_loss
from aivo_backup.recovery.partial_plan import PartialRequest
from aivo_backup.recovery.plan import Scenario


@click.command(Scenario.PARTIAL_LOSS.value)
@click.option("--target-time", callback=moment, help="A moment before the loss, with its zone: 2026-01-31T12:00:00Z.")
@click.option("--table", "tables", multiple=True, help="A table to look at, as schema.table; may be repeated.")
@click.option("--bucket", "buckets", multiple=True, help="A bucket to look at; may be repeated.")
@click.option("--index", "indices", multiple=True, help="An index to look at; may be repeated.")
@click.option("--from-replica", is_flag=True, help="Read the second region's buckets, with its keys alone.")
@mode_options
@click.pass_obj
def partial(
    context: Context,
    target_time: datetime | None,
    tables: tuple[str, ...],
    buckets: tuple[str, ...],
    indices: tuple[str, ...],
    from_replica: bool,
    mode: Mode,
) -> int:
    """Part of the data is lost: find what is missing against a moment, and bring exactly that back.

    All stores are looked at unless tables, buckets or indices are named. Production goes on meanwhile. What it has,
    newer or changed, is never touched: it is told and listed.
    """
    app = context.app

    def request() -> PartialRequest:
        if target_time is None:
            raise UsageError("say what to compare with", mend="give --target-time, a moment before the loss")
        return PartialRequest(
            target_time=target_time, tables=tables, buckets=buckets, indices=indices, from_replica=from_replica
        )

    return recover(
        app,
        Scenario.PARTIAL_LOSS,
        mode,
        kind=PartialRequest,
        request=request,
        build=lambda asked: partial_loss(
            lambda place: parts(app, from_replica=asked.from_replica, isolation=place),
            asked,
        ),
        remove=lambda journal: give_up(
            lambda place: parts(app, from_replica=request_of(journal, PartialRequest).from_replica, isolation=place),
            journal,
        ),
    )
