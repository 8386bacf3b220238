"""`aivo-backup restore postgres`."""

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path

import click

from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, progress, seconds_text
from aivo_backup.cli.restore.shared import print_plan, print_result, restore_options, source
from aivo_backup.composition import App
from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.codec import parse_time
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.restore import InPlace, RestorePlan, RestoreRequest, RestoreResult, Staging
from aivo_backup.stores.postgres.service import DatabaseService, PgCtlService
from aivo_backup.stores.postgres.targets import Target, TargetKind

SERVICES_GROUP = "aivo_backup.database_services"
"""Entry points of this group are named like an environment; each answers the data directory and the adapter that
stops and starts the server there."""

PlaceOf = Callable[[], tuple[Path, DatabaseService]]


def _time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return parse_time(value.replace(" ", "T", 1))
    except ValueError as error:
        raise UsageError(f"--target-time: {error}", mend="write it as 2026-01-31T12:00:00Z") from error


@click.command()
@click.option("--target-time", callback=_time, help="To a moment, with its zone: 2026-01-31T12:00:00Z.")
@click.option("--target-lsn", help="To a WAL position.")
@click.option("--target-xid", help="To a transaction.")
@click.option("--target-name", help="To a named restore point.")
@click.option("--set", "label", default="", help="Start from this backup set; alone: stop where it ends.")
@click.option("--in-place", is_flag=True, help="Replace the live data directory; the old one is set aside.")
@click.option("--stop", is_flag=True, help="With --in-place: stop the server if it runs.")
@click.option("--service", type=click.Choice(["pg_ctl"]), help="With --in-place: how the server is run.")
@click.option("--to", "directory", type=click.Path(path_type=Path), help="Restore to staging, in this new folder.")
@click.option("--port", type=click.IntRange(1, 65535), help="With --to: the staging server's port on loopback.")
@restore_options
@click.pass_obj
def postgres(
    context: Context,
    target_time: datetime | None,
    target_lsn: str | None,
    target_xid: str | None,
    target_name: str | None,
    label: str,
    in_place: bool,
    stop: bool,
    service: str | None,
    directory: Path | None,
    port: int | None,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    as_json: bool,
) -> int:
    """Restore the database: to the newest archived state, or to a time, LSN, transaction, name or set.

    In place (--in-place) the present data directory is set aside, never deleted, and put back if the restore fails.
    To staging (--to, --port) a server of its own comes up beside production and archives nothing.
    """
    app = source(context.app, from_replica=from_replica)
    target = _target(target_time, target_lsn, target_xid, target_name, label)
    if in_place == (directory is not None):
        raise UsageError("say where to restore to", mend="give either --in-place or --to DIRECTORY --port PORT")
    if directory is not None and port is None:
        raise UsageError("--to needs --port", mend="give a free port for the staging server")
    place = _in_place(app, service, stop=stop) if directory is None else Staging(data=directory, port=port or 0)
    request = RestoreRequest(target=target, destination=place)
    store = app.for_restores.postgres
    if plan_only or not yes:
        plan = store.plan_restore(request, now=app.clock())
        print_plan(plan, _plan_lines(plan), as_json=as_json)
        if plan_only:
            return 0
        confirm(app, yes=yes)
    done: list[RestoreResult] = []

    def work(stopwatch: Stopwatch) -> Restored:
        done.append(store.restore(request, now=app.clock(), stopwatch=stopwatch, progress=progress))
        result = done[0]
        return Restored(
            recovery_point=result.recovery_point,
            target_time=result.target_time,
            newest_heartbeat=result.newest_heartbeat,
            checks=result.checks,
        )

    record = run_restore(
        Component.POSTGRES, work, recovery_point=label or str(target), catalog=app.catalog, clock=app.clock
    )
    return print_result(record, done[0], _result_lines(done[0]), as_json=as_json)


def _target(time: datetime | None, lsn: str | None, xid: str | None, name: str | None, label: str) -> Target:
    given = {
        kind: value
        for kind, value in ((TargetKind.LSN, lsn), (TargetKind.XID, xid), (TargetKind.NAME, name))
        if value is not None
    }
    if len(given) + (time is not None) > 1:
        raise UsageError("only one target can be given", mend="choose one of --target-time, -lsn, -xid and -name")
    if time is not None:
        return Target(kind=TargetKind.TIME, time=time, label=label)
    for kind, value in given.items():
        return Target(kind=kind, value=value, label=label)
    return Target(kind=TargetKind.SET if label else TargetKind.LATEST, label=label)


def _in_place(app: App, service: str | None, *, stop: bool) -> InPlace:
    for entry in entry_points(group=SERVICES_GROUP):
        if entry.name == app.environment.name and service is None:
            place_of: PlaceOf = entry.load()
            data, adapter = place_of()
            return InPlace(data=data, service=adapter, stop=stop, connect=lambda: connect(app.postgres_login))
    if service is None:
        raise RefusedError(
            f"how PostgreSQL is run in {app.environment.name} is not known here",
            mend="name its adapter: --service pg_ctl on the database's own machine",
        )
    data = Path(app.environment.postgres.data_path)
    adapter = PgCtlService(bin_path=Path(app.environment.postgres.bin_path), data=data, log=app.state / "postgres.log")
    return InPlace(data=data, service=adapter, stop=stop, connect=lambda: connect(app.postgres_login))


def _plan_lines(plan: RestorePlan) -> list[str]:
    lines = [
        f"would restore to {plan.target} from backup set {plan.recovery_point}, {bytes_text(plan.size_bytes)}, "
        f"and up to {plan.wal_segments} WAL segments, into {plan.destination}",
        f"  recoverable from {plan.window_start:%Y-%m-%d %H:%M:%S} to {plan.window_end:%Y-%m-%d %H:%M:%S} UTC",
        f"  expected to take {seconds_text(plan.expected_seconds)} at the configured rate",
    ]
    if plan.stops_server:
        lines.append("  the running server is stopped first")
    if plan.set_aside:
        lines.append(f"  the present data directory is set aside as {plan.set_aside}")
    return lines


def _result_lines(result: RestoreResult) -> list[str]:
    lines = [f"  replayed to {result.replayed_to} on timeline {result.timeline}; {result.data}, port {result.port}"]
    if result.set_aside:
        lines.append(f"  the former data directory is {result.set_aside}")
    return lines
