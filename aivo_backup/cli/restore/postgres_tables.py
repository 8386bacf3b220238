"""`aivo-backup restore postgres` for single tables and rows: extraction, rescue of newer rows, and their import."""

from dataclasses import dataclass, replace
from pathlib import Path

import click

from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.output import bytes_text, print_json, progress, seconds_text
from aivo_backup.cli.restore.expected import Expected, warn_if_unproven
from aivo_backup.cli.restore.shared import print_plan, print_result
from aivo_backup.composition import App
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import RescueBundle, Stopwatch
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.rescue import import_bundle
from aivo_backup.stores.postgres.row_recovery import RowRecovery
from aivo_backup.stores.postgres.table_restore import TablePlan, TableRequest, TableRestore, TableResult, Then
from aivo_backup.stores.postgres.targets import Target

_DRIVERS = {"plan": "", "fetch": "bytes", "replay": "wal_segments", "checks": "", "import": ""}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the person wants it done. ``live`` is the environment itself, ``source`` where backups are read from."""

    live: App
    source: App
    plan_only: bool
    yes: bool
    unproven: bool
    as_json: bool


def restore_tables(asked: Asked, request: TableRequest) -> int:
    """Extracts tables into production beside the live ones; swaps or merges them if asked.

    Returns:
        the exit code.
    """
    app, catalog = asked.source, asked.source.catalog
    work = TableRestore(store=app.for_restores.postgres, login=asked.live.postgres_login)
    now = app.clock()
    plan = work.plan(request, now=now)
    if not plan.extracted:
        expected = Expected(app=app, catalog=catalog, component=Component.POSTGRES)
        seconds, measured = expected.of(_DRIVERS, plan.amounts, plan.expected_seconds)
        plan = replace(plan, expected_seconds=seconds, measured_restores=measured)
        warn_if_unproven(expected, plan.recovery_point, since=plan.point_ended, accepted=asked.unproven)
    if asked.plan_only or not asked.yes:
        print_plan(plan, _plan_lines(plan), as_json=asked.as_json)
        if asked.plan_only:
            return 0
        confirm(asked.live, yes=asked.yes)
    # The schema's name was shown: the same moment names it now.
    request = replace(request, into=plan.schema)
    done: list[TableResult] = []

    def carried_out(stopwatch: Stopwatch) -> Restored:
        result = work.run(request, now=now, stopwatch=stopwatch, progress=progress)
        done.append(result)
        return Restored(
            recovery_point=result.recovery_point or plan.schema,
            target_time=result.target_time,
            # The heartbeats of the database are not among what was extracted, so no loss can be told.
            newest_heartbeat=None,
            checks=result.checks,
            amounts=plan.amounts,
        )

    record = run_restore(
        Component.POSTGRES, carried_out, recovery_point=str(request.target), catalog=catalog, clock=app.clock
    )
    return print_result(record, done[0], _result_lines(done[0]), as_json=asked.as_json)


def rescue(asked: Asked, target: Target, folder: Path) -> RescueBundle:
    """Exports what was written to production after ``target``, before a restore loses it.

    Raises:
        RefusedError: the folder is taken, or production does not answer any more; nothing was restored.
    """
    app = asked.source
    now = app.clock()
    store = app.for_restores.postgres
    # A production that cannot be asked is found out before the copy is made.
    connect(asked.live.postgres_login).close()
    progress(f"restoring a copy to {target}, to see what was written after it")
    with store.private_copy(target, now=now, stopwatch=Stopwatch(), progress=progress) as copy:
        recovery = RowRecovery(copy=copy, connect=lambda: connect(asked.live.postgres_login))
        bundle = recovery.export_newer(folder, after=str(target), now=now, progress=progress)
    click.echo(
        f"  {bundle.items} rows of {len(bundle.units)} tables written after {target} are in {bundle.folder} "
        f"({bytes_text(bundle.bytes)}); put them back with `aivo-backup restore postgres --import {bundle.folder}`",
        err=True,
    )
    return bundle


def import_rescued(asked: Asked, folder: Path, *, overwrite: bool) -> int:
    """Puts rescued rows back into production.

    Returns:
        the exit code.
    """
    if not asked.yes:
        confirm(asked.live, yes=False)
    with connect(asked.live.postgres_login) as production:
        done = import_bundle(folder, production, overwrite=overwrite, progress=progress)
    if asked.as_json:
        print_json(done)
    else:
        rows, kept = sum(each.rows for each in done), sum(each.conflicting for each in done)
        overwritten = sum(each.overwritten for each in done)
        click.echo(f"imported {rows} rows, overwrote {overwritten}, left {kept} that were there already")
    return 0


def _plan_lines(plan: TablePlan) -> list[str]:
    lines: list[str] = []
    if plan.extracted:
        lines.append(f"{plan.wanted} is in {plan.schema} of production already")
    else:
        lines.append(
            f"would restore {plan.wanted} as of {plan.target} into {plan.schema} of production, by way of a private "
            f"copy of backup set {plan.recovery_point} ({bytes_text(plan.size_bytes)}, up to {plan.wal_segments} WAL "
            "segments)"
        )
        by = f"by {plan.measured_restores} measured restores" if plan.measured_restores else "at the configured rate"
        lines.append(f"  expected to take {seconds_text(plan.expected_seconds)}, {by}")
    if plan.then is Then.SWAP:
        lines.append(f"  then it becomes the live one; the live one goes to schema {plan.set_aside} and stays there")
    elif plan.then is Then.MERGE:
        lines.append("  then the rows that the live one lacks are inserted; rows that are there stay as they are")
    return lines


def _result_lines(result: TableResult) -> list[str]:
    lines = [f"  {unit}: {rows} rows" for unit, rows in result.rows.items()]
    lines += [f"  {unit}: {rows} rows merged" for unit, rows in result.merged.items()]
    if result.set_aside:
        lines.append(f"  the former tables are in schema {result.set_aside}")
    else:
        lines.append(f"  what was extracted is in schema {result.schema}")
    return lines
