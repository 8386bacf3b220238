"""`aivo-backup restore opensearch`."""

from dataclasses import replace
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
@rescue_options
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
    rescue_folder: Path | None,
    bundle: Path | None,
    overwrite: bool,
    plan_only: bool,
    yes: bool,
    from_replica: bool,
    unproven: bool,
    as_json: bool,
) -> int:
    """Restore indices of a snapshot: in place, under new names, or with their aliases moved over.

    In place, the present index is first set aside as a clone, and put back if the restore fails; with aliases moved, it
    stays under its name. The plan says which index holds documents written after the point, and how many; --rescue
    FOLDER exports them first, and --import FOLDER puts them back.
    """
    app = source(context.app, from_replica=from_replica)
    if bundle is not None:
        return _import(app, bundle, overwrite=overwrite, yes=yes, as_json=as_json)
    if overwrite:
        raise UsageError("--overwrite belongs to --import", mend="leave it out")
    catalog, store = app.catalog, app.for_restores.opensearch
    request = RestoreRequest(
        snapshot="",
        indices=indices,
        mode=_mode(alias_swap=alias_swap, renamed=bool(rename_pattern or rename_replacement)),
        rename_pattern=rename_pattern,
        rename_replacement=rename_replacement,
        replicas=replicas,
    )
    if rescue_folder is not None and request.mode is RestoreMode.RENAMED:
        raise UsageError("under new names nothing is lost that --rescue could save", mend="leave --rescue out")
    point = chosen_point(app, Component.OPENSEARCH, point_id, at, unproven=unproven)
    request = replace(request, snapshot=point.id)
    plan = store.plan_restore(request, now=app.clock())
    plan = replace(plan, newer=store.newer_than(plan, point))
    if plan_only or not as_json:
        print_plan(plan, _plan_lines(plan, rescue_folder), as_json=as_json)
    if plan_only:
        return 0
    confirm(app, yes=yes)
    done: list[RestoreResult] = []

    def work(stopwatch: Stopwatch) -> Restored:
        now = app.clock()
        if rescue_folder is not None:
            with stopwatch.phase("rescue"):
                # Anew: somebody took time to agree, and production went on meanwhile.
                current = store.plan_restore(request, now=now)
                rescued = store.rescue(current, point, rescue_folder, now=now, stopwatch=Stopwatch(), progress=progress)
            progress(
                f"{rescued.items} documents of {len(rescued.units)} indices are in {rescued.folder} "
                f"({bytes_text(rescued.bytes)}); put them back with `aivo-backup restore opensearch --import "
                f"{rescued.folder}`"
            )
        done.append(store.restore(request, now=now, stopwatch=stopwatch, progress=progress))
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


def _mode(*, alias_swap: bool, renamed: bool) -> RestoreMode:
    if alias_swap and renamed:
        raise UsageError(
            "--alias-swap chooses the new name itself", mend="leave --rename-pattern and --rename-replacement out"
        )
    if alias_swap:
        return RestoreMode.ALIAS_SWAP
    return RestoreMode.RENAMED if renamed else RestoreMode.IN_PLACE


def _import(app: App, bundle: Path, *, overwrite: bool, yes: bool, as_json: bool) -> int:
    confirm(app, yes=yes)
    with alone(
        Component.OPENSEARCH,
        app.lease(Component.OPENSEARCH, purpose=RESTORE),
        clock=app.clock,
        progress=progress,
    ):
        done = app.for_restores.opensearch.bring_back(bundle, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(done)
    else:
        written, kept = sum(each.written for each in done), sum(each.kept for each in done)
        click.echo(f"imported {written} documents, left {kept} that were there already")
    return 0


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


def _plan_lines(plan: RestorePlan, rescue_folder: Path | None) -> list[str]:
    lines = [f"would restore {plan.snapshot} ({plan.mode.value}), {bytes_text(plan.bytes_needed)} at most"]
    for index in plan.indices:
        aside = f"; the present one is set aside as {index.set_aside}" if index.set_aside else ""
        moved = f"; it gets the aliases {', '.join(index.aliases)}" if index.aliases else ""
        why = index.uncountable
        unknown = f"; it is {why}, and what it holds newer cannot be counted" if why else ""
        lines.append(f"  {index.source} → {index.target}{moved}{aside}{unknown}")
    lost = [newer for newer in plan.newer if not newer.surely_none]
    lines += [f"  {newer.line()}" for newer in lost]
    if lost:
        kept = "in what is set aside" if plan.mode is RestoreMode.IN_PLACE else "in the former index"
        how = f"exported to {rescue_folder} first" if rescue_folder else "not exported: --rescue FOLDER does so first"
        lines.append(f"  users would lose sight of those; they stay {kept}, and are {how}")
    return lines


def _result_lines(result: RestoreResult) -> list[str]:
    lines: list[str] = []
    for index in result.indices:
        aside = f"; the former one is {index.set_aside}" if index.set_aside else ""
        lines.append(f"  {index.source} → {index.target}: {index.counted.documents} documents{aside}")
    lines += [f"  adapted: {line}" for line in result.adapted]
    return lines
