"""How the live database is run here: which adapter stops and starts it, and where its data directory is."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from aivo_backup.composition import App
from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.restore import InCluster, InPlace
from aivo_backup.stores.postgres.service import DatabaseService, PgCtlService, SystemdService

SERVICES_GROUP = "aivo_backup.database_services"
"""Entry points of this group are named like an environment; each answers the data directory and the adapter that
stops and starts the server there."""

Place = tuple[Path, DatabaseService]
PlaceOf = Callable[[], Place]


def _pg_ctl(app: App, _unit: str) -> Place:
    settings = app.environment.postgres
    data = Path(settings.data_path)
    return data, PgCtlService(bin_path=Path(settings.bin_path), data=data, log=app.state / "postgres.log")


def _systemd(app: App, unit: str) -> Place:
    if not unit:
        raise UsageError("--service systemd needs --unit", mend="for example --unit postgresql@15-main")
    settings = app.environment.postgres
    data = Path(settings.data_path)
    return data, SystemdService(unit=unit, data=data, bin_path=Path(settings.bin_path))


ADAPTERS: Mapping[str, Callable[[App, str], Place]] = {"pg_ctl": _pg_ctl, "systemd": _systemd}
"""By the word for ``--service``. Each gets the environment and ``--unit``."""

STATEFUL_SET = "statefulset"
"""Likewise, of a database that Kubernetes runs: it is restored on its volume, by :func:`in_cluster`."""


def in_cluster(app: App, *, adapter_named: bool, from_replica: bool) -> InCluster:
    """The live database in its cluster, as the settings name it, as a destination; ``app`` is the environment's own."""
    from aivo_backup.cli.restore.stateful_set import StatefulSetDatabase

    return InCluster(
        data=Path(app.environment.postgres.data_path),
        database=StatefulSetDatabase(app.environment, adapter_named=adapter_named),
        connect=lambda: connect(app.postgres_login),
        from_replica=from_replica,
    )


def in_place(app: App, service: str | None, *, unit: str, stop: bool, delta: bool) -> InPlace:
    """The live database as a destination.

    Args:
        service: a key of :data:`ADAPTERS`; the environment's own where it brings one.

    Raises:
        RefusedError: nothing says how the database is run.
        UsageError: the adapter lacks something.
    """
    if service is not None:
        data, adapter = ADAPTERS[service](app, unit)
    else:
        data, adapter = _own(app)
    return InPlace(
        data=data,
        service=adapter,
        stop=stop,
        connect=lambda: connect(app.postgres_login),
        delta=delta,
        adapter_named=service is not None,
    )


def _own(app: App) -> Place:
    for entry in entry_points(group=SERVICES_GROUP):
        if entry.name == app.environment.name:
            place_of: PlaceOf = entry.load()
            return place_of()
    raise RefusedError(
        f"how PostgreSQL is run in {app.environment.name} is not known here",
        mend=f"name its adapter: --service {' | '.join(ADAPTERS)} on the database's own machine, or --to cluster",
    )
