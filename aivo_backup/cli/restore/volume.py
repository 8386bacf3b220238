"""`aivo-backup restore volume`: what the Job of a restore in the cluster runs. Not for people."""

import shutil
from datetime import datetime
from pathlib import Path

import click
import psycopg

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import progress
from aivo_backup.cli.restore.shared import moment, source
from aivo_backup.cli.restore.targets import target_of
from aivo_backup.errors import RefusedError
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.exclusion import alone_in
from aivo_backup.stores.postgres.in_cluster import told
from aivo_backup.stores.postgres.restore import InPlace, RestoreRequest


class _Elsewhere:
    """A server that is down while this Job has its volume, and that somebody else starts again."""

    def running(self) -> bool:
        """Its StatefulSet stands at nothing."""
        return False

    def stop(self) -> None:
        """It does not run."""

    def start(self) -> None:
        """Its StatefulSet does."""

    def complaint(self) -> str:
        """It said nothing here."""
        return ""


@click.command()
@click.option("--target-time", callback=moment)
@click.option("--target-lsn")
@click.option("--target-xid")
@click.option("--target-name")
@click.option("--set", "label", default="")
@click.option("--storage-replaced", is_flag=True)
@click.option("--from-replica", is_flag=True)
@click.pass_obj
def volume(
    context: Context,
    target_time: datetime | None,
    target_lsn: str | None,
    target_xid: str | None,
    target_name: str | None,
    label: str,
    storage_replaced: bool,
    from_replica: bool,
) -> int:
    """Restore onto the database's volume, which no server uses now. Run by `restore postgres --to cluster`."""
    app = source(context.app, from_replica=from_replica)
    data = Path(app.environment.postgres.data_path)
    with alone_in(data.parent):
        for unfinished in data.parent.glob(f"{data.name}.restoring-*"):
            progress(f"removing what an earlier attempt fetched: {unfinished}")
            shutil.rmtree(unfinished, ignore_errors=True)
    request = RestoreRequest(
        target=target_of(target_time, target_lsn, target_xid, target_name, label),
        destination=InPlace(
            data=data,
            service=_Elsewhere(),
            stop=False,
            connect=_no_server,
            # Whether it may be done was asked before the StatefulSet was scaled down.
            adapter_named=True,
            started_elsewhere=True,
            storage_replaced=storage_replaced,
        ),
    )
    result = app.postgres.restore(request, now=app.clock(), stopwatch=Stopwatch(), progress=progress)
    click.echo(told(result))
    return 0


def _no_server() -> "psycopg.Connection[tuple[object, ...]]":
    raise RefusedError("no server runs on this volume now")
