"""`aivo-backup restore minio`."""

import click

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, progress
from aivo_backup.cli.restore.shared import print_plan, print_result, restore_options, source
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.environment import Component
from aivo_backup.stores.minio.restore import RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.port import Stopwatch

_SHOWN = 20


@click.command()
@click.option("--point", "point_id", help="The recovery point (BACKUP_DATE); the newest one by default.")
@click.option("--bucket", required=True, help="The bucket as it was backed up.")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--glob", default="", help="Only keys that match; * and ? also match /.")
@click.option("--key", default="", help="Only this key.")
@click.option("--target-bucket", default="", help="Restore into another bucket.")
@click.option("--overwrite-newer", is_flag=True, help="Also replace objects written after the recovery point.")
@click.option("--exact", is_flag=True, help="Also remove selected objects that the point lacks.")
@restore_options
@click.pass_obj
def minio(
    context: Context,
    point_id: str | None,
    bucket: str,
    prefix: str,
    glob: str,
    key: str,
    target_bucket: str,
    overwrite_newer: bool,
    exact: bool,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    as_json: bool,
) -> int:
    """Restore a bucket, a prefix, a glob or one key, as of a recovery point.

    Newer objects are kept unless --overwrite-newer; objects that the point lacks are kept unless --exact. Content is
    verified against the checksums of the point. An interrupted restore is resumed by giving the command again.
    """
    app = source(context.app, from_replica=from_replica)
    catalog, store = app.catalog, app.for_restores.minio
    point = catalog.point(Component.MINIO, point_id) if point_id else catalog.newest_point(Component.MINIO)
    request = RestoreRequest(
        point=point.id,
        selection=Selection(bucket=bucket, prefix=prefix, glob=glob, key=key),
        target_bucket=target_bucket,
        overwrite_newer=overwrite_newer,
        exact=exact,
    )
    if plan_only or not yes:
        plan = store.plan_restore(request)
        print_plan(plan, _lines(plan, "would"), as_json=as_json)
        if plan_only:
            return 0
        confirm(app, yes=yes)
    done: list[RestorePlan] = []

    def work(stopwatch: Stopwatch) -> Restored:
        with stopwatch.phase("restore"):
            done.append(store.restore(request, progress=progress))
        return _restored(point, done[0])

    record = run_restore(Component.MINIO, work, recovery_point=point.id, catalog=catalog, clock=app.clock)
    return print_result(record, done[0], _lines(done[0], "did"), as_json=as_json)


def _restored(point: RecoveryPoint, plan: RestorePlan) -> Restored:
    written = sum(count for change, count in plan.changes.items() if change.writes)
    return Restored(
        recovery_point=point.id,
        target_time=point.recoverable_at,
        newest_heartbeat=None,
        # The engine compares every written object with the checksum in the manifest, and raises at the first that
        # differs after its retries: reaching this line is the check.
        checks=(Check(name="checksums", passed=True, detail=f"{written} objects as in the manifest"),),
    )


def _lines(plan: RestorePlan, mood: str) -> list[str]:
    request = plan.request
    counts = ", ".join(f"{change.value} {count}" for change, count in sorted(plan.changes.items()) if count)
    lines = [f"{mood} restore {request.point} into {request.into}: {counts}; {bytes_text(plan.bytes_written)} written"]
    lines += [f"  {example.change.value:<14} {example.key}" for example in plan.examples[:_SHOWN]]
    if len(plan.examples) > _SHOWN:
        lines.append(f"  … and more: --plan --json lists {len(plan.examples)}")
    if mood == "would" and plan.lost_for_good:
        lines.append(f"  {plan.lost_for_good} objects would be lost for good: {request.into} keeps no versions")
    return lines
