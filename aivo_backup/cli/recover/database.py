"""`aivo-backup recover database-corruption`, and `restore postgres --to cluster`, which is the same in the cluster."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.recover.parts import parts
from aivo_backup.cli.recover.place import Place, place_options, start_again
from aivo_backup.cli.recover.shared import Mode, mode_options, recover
from aivo_backup.cli.restore.expected import Expected, warn_if_unproven
from aivo_backup.cli.restore.postgres import plan_lines
from aivo_backup.cli.restore.postgres_tables import Asked
from aivo_backup.cli.restore.services import in_cluster
from aivo_backup.cli.restore.shared import moment, print_plan
from aivo_backup.composition import App
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.database_corruption import CorruptionRequest, database_corruption
from aivo_backup.recovery.executor import Procedure
from aivo_backup.recovery.plan import Scenario
from aivo_backup.stores.postgres.restore import InCluster, RestoreRequest, drivers
from aivo_backup.stores.postgres.targets import Target, TargetKind


@click.command(Scenario.DATABASE_CORRUPTION.value)
@click.option("--target-time", callback=moment, help="To a moment, with its zone: 2026-01-31T12:00:00Z.")
@click.option("--set", "label", default="", help="Start from this backup set; alone: stop where it ends.")
@click.option(
    "--rescue",
    "rescue_folder",
    type=click.Path(path_type=Path),
    help="First export to this new folder what was written after the target and would be lost.",
)
@place_options
@click.option("--from-replica", is_flag=True, help="Read the second region's buckets, with its keys alone.")
@mode_options
@click.pass_obj
def database(
    context: Context,
    target_time: datetime | None,
    label: str,
    rescue_folder: Path | None,
    place: Place,
    from_replica: bool,
    mode: Mode,
) -> int:
    """The database is corrupted: restore it in place, to the newest archived state or to a moment.

    Applications are stopped first and started again at the end, also when it fails. The corrupted data directory is
    set aside, never deleted. With --to cluster a Job restores on the volume of the database's StatefulSet.
    """
    request = CorruptionRequest(
        target_time=target_time,
        label=label,
        from_replica=from_replica,
        in_cluster=place.in_cluster,
        adapter_named=place.adapter_named,
        rescue=_absolute(rescue_folder),
    )
    return _recover(context.app, request, mode, place)


def _absolute(folder: Path | None) -> str:
    # A recovery may be resumed from another working folder.
    return str(folder.absolute()) if folder else ""


def restore_in_cluster(
    asked: Asked,
    target: Target,
    *,
    label: str,
    from_replica: bool,
    adapter_named: bool,
    rescue_folder: Path | None,
) -> int:
    """The plan of the restore with its guards, then the recovery.

    Returns:
        the exit code.
    """
    request = CorruptionRequest(
        target_time=target.time,
        label=label,
        from_replica=from_replica,
        kind=target.kind if target.value else TargetKind.LATEST,
        value=target.value,
        in_cluster=True,
        adapter_named=adapter_named,
        rescue=_absolute(rescue_folder),
    )
    app, read = asked.live, asked.source
    place = _volume(app, request)
    plan = read.for_restores.postgres.plan_restore(RestoreRequest(target=target, destination=place), now=app.clock())
    expected = Expected(app=read, catalog=read.catalog, component=Component.POSTGRES)
    seconds, measured = expected.of(drivers(place), plan.amounts, plan.expected_seconds)
    warn_if_unproven(expected, plan.recovery_point, since=plan.point_ended, accepted=asked.unproven)
    if asked.plan_only or not asked.yes:
        shown = replace(plan, expected_seconds=seconds, measured_restores=measured)
        print_plan(shown, plan_lines(shown, rescued=rescue_folder is not None), as_json=asked.as_json)
        if asked.plan_only:
            return 0
    mode = Mode(execute=True, resume=False, abandon=False, yes=asked.yes, as_json=asked.as_json)
    return _recover(app, request, mode, Place(in_cluster=True, adapter_named=adapter_named))


def _recover(app: App, request: CorruptionRequest, mode: Mode, place: Place) -> int:
    def build(request: CorruptionRequest) -> Procedure:
        cluster = _volume(app, request) if request.in_cluster else None
        found = parts(app, from_replica=request.from_replica, service=place.service, unit=place.unit, cluster=cluster)
        return database_corruption(found, request)

    def given_up(request: CorruptionRequest) -> None:
        if request.in_cluster:
            start_again(_volume(app, request))

    return recover(
        app,
        Scenario.DATABASE_CORRUPTION,
        mode,
        kind=CorruptionRequest,
        request=lambda: request,
        build=build,
        given_up=given_up,
    )


def _volume(app: App, request: CorruptionRequest) -> InCluster:
    return in_cluster(app, adapter_named=request.adapter_named, from_replica=request.from_replica)
