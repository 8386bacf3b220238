"""Builds what recovery plans work with: the stores, and the adapters that an environment names by entry point."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from aivo_backup.catalog.lease import RESTORE
from aivo_backup.catalog.records import Recovery
from aivo_backup.cli.restore.services import in_place
from aivo_backup.composition import App
from aivo_backup.errors import RefusedError, UnreachableError
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import DRILL_BUCKETS
from aivo_backup.recovery.applications import Applications, NoApplications
from aivo_backup.recovery.estimates import Estimator
from aivo_backup.recovery.journal import Journals
from aivo_backup.recovery.parts import Isolation, Parts, Provisioner
from aivo_backup.stores.aws import translated
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.postgres.restore import InCluster

APPLICATIONS_GROUP = "aivo_backup.applications"
"""Entry points of this group are named like an environment; each answers the adapter that stops and starts the
applications there. Without one, :mod:`aivo_backup.cli.recover.kubectl` does it by label."""
PROVISIONERS_GROUP = "aivo_backup.provisioners"
"""Likewise for the adapter that provisions an environment again. Without one, the Pulumi CLI does it."""


def journals(app: App) -> Journals:
    """Where this machine's recoveries keep their journals."""
    return Journals(app.state / "recoveries")


def applications(app: App) -> Applications:
    """The environment's applications."""
    adapter: Callable[[], Applications] | None = _adapter(APPLICATIONS_GROUP, app)
    if adapter is not None:
        return adapter()
    from aivo_backup.cli.recover.kubectl import KubectlApplications

    settings = app.environment.recovery
    return KubectlApplications(
        namespaces=(settings.store_namespace, app.environment.namespace), selector=settings.application_selector
    )


def provisioner(app: App) -> Provisioner:
    """What provisions the environment again."""
    adapter: Callable[[], Provisioner] | None = _adapter(PROVISIONERS_GROUP, app)
    if adapter is not None:
        return adapter()
    from aivo_backup.cli.recover.kubectl import PulumiCli

    return PulumiCli(environment=app.environment)


def parts(
    app: App,
    *,
    from_replica: bool,
    isolation: Isolation | None = None,
    service: str | None = None,
    unit: str = "",
    cluster: InCluster | None = None,
    storage_replaced: bool = False,
) -> Parts:
    """The parts of one environment.

    Args:
        isolation: for a drill.
        service, unit: how the database's server is run; the environment's own adapter when None.
        cluster: the database in its cluster, where it is restored there.
        storage_replaced: what is found at its place came with the new storage.

    Raises:
        ConfigurationError: the second region is asked for and there is none; a login is missing.
    """
    source = app.from_replica if from_replica else app
    # A drill's pod reads the backups under a role of its own, and cannot take on that of a person.
    engines = source if isolation is not None and isolation.drill and app.web_identity else source.for_restores
    return Parts(
        environment=app.environment,
        catalog=source.catalog,
        postgres=engines.postgres,
        minio=engines.minio,
        opensearch=app.opensearch if not from_replica else engines.opensearch,
        place=lambda: replace(
            cluster or in_place(app, service, unit=unit, stop=True, delta=False), storage_replaced=storage_replaced
        ),
        login=lambda: app.postgres_login,
        objects=S3ObjectStore(app.minio_source),
        remove_bucket=lambda bucket: remove_bucket(app, bucket),
        cluster=app.opensearch_cluster,
        applications=NoApplications() if isolation else applications(app),
        leases={each: (app.lease(each), app.lease(each, purpose=RESTORE)) for each in Component},
        estimator=Estimator(environment=app.environment, history=_history(source), from_replica=from_replica),
        clock=app.clock,
        from_replica=from_replica,
        isolation=isolation,
    )


def with_endpoints(app: App, endpoints: Endpoints) -> App:
    """The app with some endpoints in place of its own."""
    given = {name: value for name, value in vars(endpoints).items() if value}
    if not given:
        return app
    merged = replace(app.endpoints, **given)
    return replace(app, environment=merged.apply(app.environment), endpoints=merged)


def _history(app: App) -> list[Recovery]:
    # A plan must be had although the evidence cannot be read: it then says that nothing was measured.
    with suppress(UnreachableError):
        return app.catalog.recoveries()
    return []


def _adapter(group: str, app: App) -> Any:
    """What an entry point loads is typed by whoever asked for its group."""
    for entry in entry_points(group=group):
        if entry.name == app.environment.name:
            return entry.load()
    return None


def remove_bucket(app: App, bucket: str) -> None:
    """Empties and removes a bucket that a drill has made.

    Raises:
        RefusedError: no drill has made it.
        UnreachableError, AccessDeniedError: MinIO.
    """
    if not bucket.startswith(DRILL_BUCKETS):
        raise RefusedError(f"{bucket} was not made by a drill", mend="nothing was removed")
    store = S3ObjectStore(app.minio_source)
    batch: list[str] = []
    for item in store.objects(bucket):
        batch.append(item.key)
        if len(batch) == 1000:
            store.delete(bucket, batch)
            batch = []
    if batch:
        store.delete(bucket, batch)
    with translated(f"MinIO bucket {bucket}"):
        app.minio_source.delete_bucket(Bucket=bucket)
