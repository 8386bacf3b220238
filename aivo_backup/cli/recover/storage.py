"""`aivo-backup recover storage-failure`."""

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.init import prepare
from aivo_backup.cli.output import progress
from aivo_backup.cli.recover.parts import parts, provisioner, with_endpoints
from aivo_backup.cli.recover.place import Place, place_options, start_again
from aivo_backup.cli.recover.shared import Mode, mode_options, recover
from aivo_backup.cli.restore.services import in_cluster
from aivo_backup.composition import App
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.executor import Procedure
from aivo_backup.recovery.parts import Parts
from aivo_backup.recovery.plan import Scenario
from aivo_backup.recovery.storage_failure import StorageRequest, storage_failure
from aivo_backup.stores.postgres.restore import InCluster

_SIDECAR_SECONDS = 60.0


@click.command(Scenario.STORAGE_FAILURE.value)
@click.option("--minio-point", default="", help="The recovery point of MinIO; the newest one by default.")
@click.option("--opensearch-point", default="", help="The snapshot of OpenSearch; the newest one by default.")
@click.option(
    "--from-replica", is_flag=True, help="The backup buckets are gone too: restore all from the second region."
)
@place_options
@mode_options
@click.pass_obj
def storage(
    context: Context, minio_point: str, opensearch_point: str, place: Place, from_replica: bool, mode: Mode
) -> int:
    """The stores' storage is lost: provision it again, restore all three stores, and point everything to them.

    Applications are stopped first and started again at the end, also when it fails. With --to cluster a Job restores
    the database on the new volume of its StatefulSet.
    """
    app = context.app
    return recover(
        app,
        Scenario.STORAGE_FAILURE,
        mode,
        kind=StorageRequest,
        request=lambda: StorageRequest(
            from_replica=from_replica,
            minio=minio_point,
            opensearch=opensearch_point,
            in_cluster=place.in_cluster,
            adapter_named=place.adapter_named,
        ),
        build=lambda request: _build(app, request, place),
        given_up=lambda request: _given_up(app, request),
    )


def _build(app: App, request: StorageRequest, place: Place) -> Procedure:
    def opened(where: Endpoints) -> Parts:
        there = with_endpoints(app, where)
        return parts(
            there,
            from_replica=request.from_replica,
            service=place.service,
            unit=place.unit,
            cluster=_volume(there, request) if request.in_cluster else None,
            storage_replaced=True,
        )

    def initialise(where: Endpoints) -> None:
        for component in Component:
            prepare(with_endpoints(app, where), component, sidecar_timeout=_SIDECAR_SECONDS, progress=progress)

    return storage_failure(opened, provisioner(app), request, initialise=initialise)


def _given_up(app: App, request: StorageRequest) -> None:
    if request.in_cluster:
        start_again(_volume(app, request))


def _volume(app: App, request: StorageRequest) -> InCluster:
    return in_cluster(app, adapter_named=request.adapter_named, from_replica=request.from_replica)
