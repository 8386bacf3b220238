"""`aivo-backup restore postgres`."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, progress, seconds_text
from aivo_backup.cli.restore.expected import Expected, warn_if_unproven
from aivo_backup.cli.restore.postgres_tables import Asked, import_rescued, rescue, restore_tables
from aivo_backup.cli.restore.services import ADAPTERS, STATEFUL_SET, in_place
from aivo_backup.cli.restore.shared import moment, print_plan, print_result, rescue_options, restore_options, source
from aivo_backup.cli.restore.targets import target_of
from aivo_backup.errors import UsageError
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.extraction import Wanted
from aivo_backup.stores.postgres.restore import (
    InPlace,
    Prepared,
    RestorePlan,
    RestoreRequest,
    RestoreResult,
    Staging,
    drivers,
)
from aivo_backup.stores.postgres.table_restore import TableRequest, Then

IN_CLUSTER = "cluster"
"""The word for ``--to`` that names no folder."""


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
@click.option(
    "--service",
    type=click.Choice([*ADAPTERS, STATEFUL_SET]),
    help="With --in-place: how the server is run. With --to cluster: statefulset, though an operator owns it.",
)
@click.option("--unit", default="", help="With --service systemd: the server's unit.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    help="Restore to staging, in this new folder; `cluster`: onto the volume of its StatefulSet.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="With --to: the staging server's port on loopback.")
@rescue_options
@click.option("--table", "tables", multiple=True, help="Only this table, into the live database beside the live one.")
@click.option("--schema", default="", help="Only this schema, likewise.")
@click.option(
    "--into", default="", help="With --table, --schema: name of the schema beside; restored_<time> by default."
)
@click.option("--swap", is_flag=True, help="With --table, --schema: then make it the live one; the former one is kept.")
@click.option("--merge", is_flag=True, help="With --table, --schema: then insert the rows that the live one lacks.")
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
    rescue_folder: Path | None,
    bundle: Path | None,
    overwrite: bool,
    tables: tuple[str, ...],
    schema: str,
    into: str,
    swap: bool,
    merge: bool,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    unproven: bool,
    as_json: bool,
) -> int:
    """Restore the database: to the newest archived state, or to a time, LSN, transaction, name or set.

    In place (--in-place) the present data directory is set aside, never deleted, and put back if the restore fails.
    In the cluster (--to cluster) its StatefulSet is scaled to nothing, a Job restores on its volume, and everything is
    scaled back, also when it fails; after a kill, `recover database-corruption --resume` goes on.
    To staging (--to, --port) a server of its own comes up beside production and archives nothing. One table or schema
    (--table, --schema) comes into the live database beside the live one, and is swapped or merged if asked.
    """
    asked = Asked(
        live=context.app,
        source=source(context.app, from_replica=from_replica),
        plan_only=plan_only,
        yes=yes,
        unproven=unproven,
        as_json=as_json,
    )
    if bundle is not None:
        return import_rescued(asked, bundle, overwrite=overwrite)
    target = target_of(target_time, target_lsn, target_xid, target_name, label)
    if tables or schema:
        if into_place or directory is not None:
            raise UsageError("tables are restored into the live database", mend="leave --in-place and --to out")
        then = _then(swap=swap, merge=merge)
        wanted = Wanted(tables=tables, schema=schema)
        return restore_tables(asked, TableRequest(target=target, wanted=wanted, into=into, then=then))
    if str(directory) == IN_CLUSTER:
        if port is not None or stop or delta or unit or into_place:
            raise UsageError(
                "--to cluster takes a target, --service and --rescue alone", mend="leave the other options out"
            )
        from aivo_backup.cli.recover.database import restore_in_cluster

        return restore_in_cluster(
            asked,
            target,
            label=label,
            from_replica=from_replica,
            adapter_named=service is not None,
            rescue_folder=rescue_folder,
        )
    if service == STATEFUL_SET:
        raise UsageError("--service statefulset belongs to --to cluster", mend="give --to cluster")
    if swap or merge or into:
        raise UsageError("--swap, --merge and --into belong to --table or --schema", mend="name the table")
    place = _place(context, into_place, directory, port, stop=stop, delta=delta, service=service, unit=unit)
    if rescue_folder is not None and isinstance(place, Staging):
        raise UsageError("--rescue belongs to --in-place: to staging nothing is lost", mend="leave it out with --to")
    return _restore_whole(asked, RestoreRequest(target=target, destination=place), label, rescue_folder)


def _place(
    context: Context,
    into_place: bool,
    directory: Path | None,
    port: int | None,
    *,
    stop: bool,
    delta: bool,
    service: str | None,
    unit: str,
) -> InPlace | Staging:
    if into_place == (directory is not None):
        raise UsageError("say where to restore to", mend="give either --in-place or --to DIRECTORY --port PORT")
    if directory is None:
        return in_place(context.app, service, unit=unit, stop=stop, delta=delta)
    if port is None:
        raise UsageError("--to needs --port", mend="give a free port for the staging server")
    if delta or stop or service:
        raise UsageError("--delta, --stop and --service belong to --in-place", mend="leave them out with --to")
    return Staging(data=directory, port=port)


def _restore_whole(asked: Asked, request: RestoreRequest, label: str, rescue_folder: Path | None) -> int:
    app, target = asked.source, request.target
    store, catalog = app.for_restores.postgres, app.catalog
    prepared: Prepared | None = store.prepare_restore(request, now=app.clock())
    expected = Expected(app=app, catalog=catalog, component=Component.POSTGRES)
    seconds, measured = expected.of(drivers(request.destination), prepared.plan.amounts, prepared.plan.expected_seconds)
    plan = replace(prepared.plan, expected_seconds=seconds, measured_restores=measured)
    warn_if_unproven(expected, plan.recovery_point, since=plan.point_ended, accepted=asked.unproven)
    if asked.plan_only or not asked.yes:
        print_plan(plan, plan_lines(plan, rescued=rescue_folder is not None), as_json=asked.as_json)
        if asked.plan_only:
            return 0
        confirm(app, yes=asked.yes)
        prepared = None  # somebody took time to agree, and server and archive went on meanwhile
    if rescue_folder is not None:
        rescue(asked, target, rescue_folder)
        prepared = None
    done: list[RestoreResult] = []

    def work(stopwatch: Stopwatch) -> Restored:
        result = store.restore(
            request,
            now=app.clock(),
            stopwatch=stopwatch,
            progress=progress,
            prepared=prepared,
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
    return print_result(record, done[0], _result_lines(done[0]), as_json=asked.as_json)


def _then(*, swap: bool, merge: bool) -> Then:
    if swap and merge:
        raise UsageError("--swap and --merge exclude each other", mend="choose one")
    return Then.SWAP if swap else Then.MERGE if merge else Then.BESIDE


def plan_lines(plan: RestorePlan, *, rescued: bool) -> list[str]:
    """What a restore would do, for people."""
    lines = [
        f"would restore to {plan.target} from backup set {plan.recovery_point}, {bytes_text(plan.size_bytes)}, "
        f"and up to {plan.wal_segments} WAL segments, into {plan.destination}",
        f"  recoverable from {plan.window_start:%Y-%m-%d %H:%M:%S} to {plan.window_end:%Y-%m-%d %H:%M:%S} UTC",
        f"  expected to take {seconds_text(plan.expected_seconds)}, "
        + (f"by {plan.measured_restores} measured restores" if plan.measured_restores else "at the configured rate"),
    ]
    if plan.stops_server and plan.newer_wal_segments != 0:
        newer = plan.newer_wal_segments
        how_much = f"up to {newer} WAL segments of it" if newer else "how much, the target does not tell"
        saved = "exported first" if rescued else "lost: --rescue FOLDER counts the rows and exports them first"
        lines.append(f"  what was written after the target ({how_much}) is {saved}")
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
