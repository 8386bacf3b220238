"""`aivo-backup restore postgres`."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, progress, seconds_text
from aivo_backup.cli.restore.services import ADAPTERS, in_place
from aivo_backup.cli.restore.shared import print_plan, print_result, restore_options, source
from aivo_backup.composition import App
from aivo_backup.errors import UsageError
from aivo_backup.jobs.expectation import check_proven, expected_seconds
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.codec import parse_time
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.restore import (
    InPlace,
    RestorePlan,
    RestoreRequest,
    RestoreResult,
    Staging,
    drivers,
)
from aivo_backup.stores.postgres.targets import Target, TargetKind


def moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """Reads a time option.

    Raises:
        UsageError: it is malformed, or has no zone.
    """
    if value is None:
        return None
    try:
        return parse_time(value.replace(" ", "T", 1))
    except ValueError as error:
        raise UsageError(f"--target-time: {error}", mend="write it as 2026-01-31T12:00:00Z") from error


@click.command()
@click.option("--target-time", callback=moment, help="To a moment, with its zone: 2026-01-31T12:00:00Z.")
@click.option("--target-lsn", help="To a WAL position.")
@click.option("--target-xid", help="To a transaction.")
@click.option("--target-name", help="To a named restore point.")
@click.option("--set", "label", default="", help="Start from this backup set; alone: stop where it ends.")
@click.option(
    "--in-place", "into_place", is_flag=True, help="Replace the live data directory; the old one is set aside."
)
@click.option("--stop", is_flag=True, help="With --in-place: stop the server if it runs.")
@click.option("--delta", is_flag=True, help="With --in-place: copy the present files and fetch only what differs.")
@click.option("--service", type=click.Choice(list(ADAPTERS)), help="With --in-place: how the server is run.")
@click.option("--unit", default="", help="With --service systemd: the server's unit.")
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
    into_place: bool,
    stop: bool,
    delta: bool,
    service: str | None,
    unit: str,
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
    if into_place == (directory is not None):
        raise UsageError("say where to restore to", mend="give either --in-place or --to DIRECTORY --port PORT")
    if directory is not None and port is None:
        raise UsageError("--to needs --port", mend="give a free port for the staging server")
    if directory is not None and (delta or stop or service):
        raise UsageError("--delta, --stop and --service belong to --in-place", mend="leave them out with --to")
    place: InPlace | Staging
    if directory is None:
        place = in_place(context.app, service, unit=unit, stop=stop, delta=delta)
    else:
        place = Staging(data=directory, port=port or 0)
    request = RestoreRequest(target=target, destination=place)
    store, catalog = app.for_restores.postgres, app.catalog
    prepared = store.prepare_restore(request, now=app.clock())
    plan = _expected(app, catalog, prepared.plan, place)
    warning = check_proven(
        catalog,
        Component.POSTGRES,
        plan.recovery_point,
        rule=app.environment.unproven_points,
        since=plan.point_ended,
    )
    if warning:
        click.echo(f"  warning: {warning}", err=True)
    if plan_only or not yes:
        print_plan(plan, _plan_lines(plan), as_json=as_json)
        if plan_only:
            return 0
        confirm(app, yes=yes)
    done: list[RestoreResult] = []

    def work(stopwatch: Stopwatch) -> Restored:
        result = store.restore(
            request,
            now=app.clock(),
            stopwatch=stopwatch,
            progress=progress,
            # What somebody took time to agree to is planned anew: the server and the archive went on meanwhile.
            prepared=prepared if yes else None,
        )
        done.append(result)
        return Restored(
            recovery_point=result.recovery_point,
            target_time=result.target_time,
            newest_heartbeat=result.newest_heartbeat,
            checks=result.checks,
            amounts=plan.amounts,
        )

    record = run_restore(
        Component.POSTGRES, work, recovery_point=label or str(target), catalog=catalog, clock=app.clock
    )
    return print_result(record, done[0], _result_lines(done[0]), as_json=as_json)


def _expected(app: App, catalog: Catalog, plan: RestorePlan, place: InPlace | Staging) -> RestorePlan:
    prediction = expected_seconds(
        catalog,
        Component.POSTGRES,
        now=app.clock(),
        drivers=drivers(place),
        amounts=plan.amounts,
        fallback_seconds=plan.expected_seconds,
    )
    return replace(plan, expected_seconds=prediction.seconds, measured_restores=prediction.measured)


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


def _plan_lines(plan: RestorePlan) -> list[str]:
    lines = [
        f"would restore to {plan.target} from backup set {plan.recovery_point}, {bytes_text(plan.size_bytes)}, "
        f"and up to {plan.wal_segments} WAL segments, into {plan.destination}",
        f"  recoverable from {plan.window_start:%Y-%m-%d %H:%M:%S} to {plan.window_end:%Y-%m-%d %H:%M:%S} UTC",
        f"  expected to take {seconds_text(plan.expected_seconds)}, "
        + (f"by {plan.measured_restores} measured restores" if plan.measured_restores else "at the configured rate"),
    ]
    if plan.copied_first:
        lines.append(f"  the present files are copied first ({plan.copied_first}), and only what differs is fetched")
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
