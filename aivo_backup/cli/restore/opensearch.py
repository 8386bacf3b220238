"""`aivo-backup restore opensearch`."""

from datetime import datetime

import click

from aivo_backup.catalog.lease import RESTORE
from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import progress
from aivo_backup.cli.restore.shared import (
    chosen_point,
    point_options,
    print_plan,
    print_result,
    restore_options,
    source,
)
from aivo_backup.jobs.restore import Restored, run_restore
from aivo_backup.policy.environment import Component
from aivo_backup.stores.opensearch.facts import expected_counts
from aivo_backup.stores.opensearch.restore import RestoredIndex, RestoreMode, RestorePlan, RestoreRequest, RestoreResult
from aivo_backup.stores.opensearch.states import Counted, count_problem
from aivo_backup.stores.port import Stopwatch


@click.command()
@point_options
@click.option("--index", "indices", multiple=True, help="An index or wildcard in the snapshot; may be repeated.")
@click.option("--rename-pattern", default="", help="Restore under new names: a regular expression over the name.")
@click.option("--rename-replacement", default="", help="The new name, with $1 for the first group.")
@click.option("--alias-swap", is_flag=True, help="Restore beside the live index, then move its aliases over.")
@click.option("--replicas", type=click.IntRange(min=0), help="Copies of each shard; as in the snapshot by default.")
@restore_options
@click.pass_obj
def opensearch(
    context: Context,
    point_id: str | None,
    at: datetime | None,
    indices: tuple[str, ...],
    rename_pattern: str,
    rename_replacement: str,
    alias_swap: bool,
    replicas: int | None,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    unproven: bool,
    as_json: bool,
) -> int:
    """Restore indices of a snapshot: in place, under new names, or with their aliases moved over.

    In place, the present index is first set aside as a clone; no mode deletes an index.
    """
    app = source(context.app, from_replica=from_replica)
    catalog, store = app.catalog, app.for_restores.opensearch
    point = chosen_point(app, Component.OPENSEARCH, point_id, at, unproven=unproven)
    if alias_swap:
        mode = RestoreMode.ALIAS_SWAP
    else:
        mode = RestoreMode.RENAMED if rename_pattern or rename_replacement else RestoreMode.IN_PLACE
    request = RestoreRequest(
        snapshot=point.id,
        indices=indices,
        mode=mode,
        rename_pattern=rename_pattern,
        rename_replacement=rename_replacement,
        replicas=replicas,
    )
    if plan_only or not yes:
        plan = store.plan_restore(request, now=app.clock())
        print_plan(plan, _plan_lines(plan), as_json=as_json)
        if plan_only:
            return 0
        confirm(app, yes=yes)
    done: list[RestoreResult] = []

    def work(stopwatch: Stopwatch) -> Restored:
        done.append(store.restore(request, now=app.clock(), stopwatch=stopwatch, progress=progress))
        return _restored(point, done[0])

    record = run_restore(
        Component.OPENSEARCH,
        work,
        recovery_point=point.id,
        catalog=catalog,
        clock=app.clock,
        lease=app.lease(Component.OPENSEARCH, purpose=RESTORE),
        progress=progress,
    )
    return print_result(record, done[0], _result_lines(done[0]), as_json=as_json)


def _restored(point: RecoveryPoint, result: RestoreResult) -> Restored:
    recorded = expected_counts(point.facts)
    return Restored(
        recovery_point=point.id,
        target_time=point.recoverable_at,
        newest_heartbeat=None,
        checks=tuple(_count_check(index, recorded.get(index.source)) for index in result.indices),
    )


def _count_check(index: RestoredIndex, recorded: Counted | None) -> Check:
    name, found = f"documents in {index.source}", index.counted.documents
    if recorded is None:
        return Check(name=name, passed=found > 0, detail=f"{found}; the point carries no count of this index")
    problem = count_problem(recorded, index.counted)
    return Check(name=name, passed=not problem, detail=problem or f"{found}, as the run counted")


def _plan_lines(plan: RestorePlan) -> list[str]:
    lines = [f"would restore {plan.snapshot} ({plan.mode.value})"]
    for index in plan.indices:
        aside = f"; the present one is set aside as {index.set_aside}" if index.set_aside else ""
        lines.append(f"  {index.source} → {index.target}{aside}")
    return lines


def _result_lines(result: RestoreResult) -> list[str]:
    lines: list[str] = []
    for index in result.indices:
        aside = f"; the former one is {index.set_aside}" if index.set_aside else ""
        lines.append(f"  {index.source} → {index.target}: {index.counted.documents} documents{aside}")
    return lines
