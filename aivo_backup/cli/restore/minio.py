"""`aivo-backup restore minio`."""

from datetime import datetime
from pathlib import Path

import click

from aivo_backup.catalog.lease import RESTORE
from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, print_json, progress
from aivo_backup.cli.restore.shared import (
    chosen_point,
    point_options,
    print_plan,
    print_result,
    rescue_options,
    restore_options,
    source,
)
from aivo_backup.composition import App
from aivo_backup.errors import UsageError
from aivo_backup.jobs.restore import Restored, alone, run_restore
from aivo_backup.policy.environment import Component
from aivo_backup.stores.minio.bringing import BroughtBack
from aivo_backup.stores.minio.objects import ObjectStore
from aivo_backup.stores.minio.plan import Change, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.port import Stopwatch

_SHOWN = 20


@click.command()
@point_options
@click.option("--bucket", default="", help="The bucket as it was backed up.")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--glob", default="", help="Only keys that match; * and ? also match /.")
@click.option("--key", default="", help="Only this key.")
@click.option("--target-bucket", default="", help="Restore into another bucket.")
@click.option("--to-endpoint", default="", help="Restore to another S3-compatible store, by its URL.")
@click.option("--to-login", default="", help="With --to-endpoint: the secret with its access-key and secret-key.")
@click.option("--only-missing", is_flag=True, help="Write what the target lacks, and touch nothing that it has.")
@click.option("--overwrite-newer", is_flag=True, help="Also replace objects written after the recovery point.")
@click.option("--exact", is_flag=True, help="Also remove selected objects that the point lacks.")
@click.option("--partial", is_flag=True, help="Of a point past its retention, restore what is left.")
@rescue_options
@restore_options
@click.pass_obj
def minio(
    context: Context,
    point_id: str | None,
    at: datetime | None,
    bucket: str,
    prefix: str,
    glob: str,
    key: str,
    target_bucket: str,
    to_endpoint: str,
    to_login: str,
    only_missing: bool,
    overwrite_newer: bool,
    exact: bool,
    partial: bool,
    rescue_folder: Path | None,
    bundle: Path | None,
    overwrite: bool,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    unproven: bool,
    as_json: bool,
) -> int:
    """Restore a bucket, a prefix, a glob or one key, as of a recovery point.

    Newer objects are kept unless --overwrite-newer; objects that the point lacks are kept unless --exact; with
    --rescue FOLDER those that will be lost are exported first. Content is verified against the checksums of the point.
    An interrupted restore is resumed by giving the command again.
    """
    app = source(context.app, from_replica=from_replica)
    to = _target(app, to_endpoint, to_login)
    catalog, store = app.catalog, app.for_restores.minio
    if bundle is not None:
        if not yes:
            confirm(app, yes=False)
        lease = app.lease(Component.MINIO, purpose=RESTORE)
        with alone(Component.MINIO, lease, clock=app.clock, progress=progress):
            back = store.bring_back(bundle, to=to, into=target_bucket, overwrite=overwrite, progress=progress)
        return _print_brought_back(back, as_json=as_json)
    if overwrite:
        raise UsageError("--overwrite belongs to --import", mend="for a restore, say --overwrite-newer")
    if not bucket:
        raise UsageError("say what to restore", mend="give --bucket BUCKET, or --import FOLDER")
    selection = Selection(bucket=bucket, prefix=prefix, glob=glob, key=key)
    point = chosen_point(app, Component.MINIO, point_id, at, unproven=unproven)
    request = RestoreRequest(
        point=point.id,
        selection=selection,
        target_bucket=target_bucket,
        only_missing=only_missing,
        overwrite_newer=overwrite_newer,
        exact=exact,
        partial=partial,
    )
    if plan_only or not yes:
        plan = store.plan_restore(request, to=to)
        print_plan(plan, _lines(plan, "would", rescue_folder), as_json=as_json)
        if plan_only:
            return 0
        confirm(app, yes=yes, what=request.into)
    done: list[RestorePlan] = []

    def work(stopwatch: Stopwatch) -> Restored:
        with stopwatch.phase("restore"):
            done.append(store.restore(request, to=to, progress=progress, rescue=rescue_folder))
        return _restored(point, done[0])

    record = run_restore(
        Component.MINIO,
        work,
        recovery_point=point.id,
        catalog=catalog,
        clock=app.clock,
        lease=app.lease(Component.MINIO, purpose=RESTORE),
        progress=progress,
    )
    return print_result(record, done[0], _lines(done[0], "did", rescue_folder), as_json=as_json)


def _target(app: App, endpoint: str, login: str) -> ObjectStore | None:
    if bool(endpoint) != bool(login):
        raise UsageError(
            "--to-endpoint and --to-login belong together", mend="name the store's URL, and the secret with its login"
        )
    return app.object_store(endpoint, login) if endpoint else None


def _print_brought_back(back: BroughtBack, *, as_json: bool) -> int:
    if as_json:
        print_json(back)
    else:
        replaced = back.count(Change.REPLACE)
        kept = back.count(Change.KEEP_OTHER, Change.KEEP_NEWER)
        click.echo(
            f"imported {back.count(Change.CREATE)} objects, overwrote {replaced}, left {kept} that are there and differ"
            f"; {back.count(Change.EQUAL)} were there already"
        )
    return 0


def _restored(point: RecoveryPoint, plan: RestorePlan) -> Restored:
    written = sum(count for change, count in plan.changes.items() if change.writes)
    return Restored(
        recovery_point=point.id,
        target_time=point.recoverable_at,
        newest_heartbeat=None,
        # The engine compares every written object with the checksum in the manifest, and raises at the first that
        # differs after its retries: reaching this line is the check.
        checks=(Check(name="checksums", passed=True, detail=f"{written} objects as in the manifest"),),
        amounts={"objects": float(written), "bytes": float(plan.bytes_written)},
    )


def _lines(plan: RestorePlan, mood: str, rescue: Path | None) -> list[str]:
    request = plan.request
    counts = ", ".join(f"{change.value} {count}" for change, count in sorted(plan.changes.items()) if count)
    lines = [f"{mood} restore {request.point} into {request.into}: {counts}; {bytes_text(plan.bytes_written)} written"]
    lines += [f"  {example.change.value:<14} {example.key}" for example in plan.examples[:_SHOWN]]
    if len(plan.examples) > _SHOWN:
        lines.append(f"  … and more: --plan --json lists {len(plan.examples)}")
    if plan.newer_lost:
        lost = f"{plan.newer_lost} objects written after the point"
        if rescue is not None:
            lines.append(f"  {lost}: {'to be exported first' if mood == 'would' else 'exported'} to {rescue}")
            if mood == "did":
                lines.append(f"  put them back with `aivo-backup restore minio --import {rescue}`")
        elif mood == "would":
            lines.append(f"  {lost} would be lost; --rescue FOLDER exports them first")
    if gone := plan.changes.get(Change.GONE, 0):
        left = "; a restore is refused unless --partial" if mood == "would" and not request.partial else ""
        lines.append(f"  {gone} objects of this point have expired, which is past its retention{left}")
    if mood == "would" and plan.lost_for_good:
        lines.append(f"  {plan.lost_for_good} objects would be lost for good: {request.into} keeps no versions")
    return lines
