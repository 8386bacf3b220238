"""`aivo-backup agent` (heartbeats from inside the cluster) and `aivo-backup sidecar` (pgBackRest beside PostgreSQL)."""

import signal
import threading
from datetime import datetime
from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.composition import App
from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.observability import heartbeat
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import SECRET_PGBACKREST_SERVER
from aivo_backup.stores.postgres import portable
from aivo_backup.stores.postgres.sidecar import become, prepare

_INTERVAL_SECONDS = 60
"""One heartbeat a minute tells the loss to the minute (DESIGN.md, "Objectives, honestly computed")."""


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=_INTERVAL_SECONDS,
    show_default=True,
    help="Seconds between heartbeats.",
)
@click.option("--once", is_flag=True, help="Write one heartbeat into each store and stop.")
@click.pass_obj
def agent(context: Context, interval: float, once: bool) -> None:
    """Write a heartbeat into PostgreSQL, MinIO and OpenSearch, over and over.

    A store that is away does not keep the others from theirs; it is named on standard error each time.
    """
    app = context.app
    beats = _beats(app)
    if once:
        failures = heartbeat.beat_all(beats, app.clock())
        if failures:
            raise _together(failures)
        return
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    while not ended.is_set():
        for component, error in heartbeat.beat_all(beats, app.clock()).items():
            click.echo(f"aivo-backup: no heartbeat for {component}: {error}", err=True)
        ended.wait(interval)


def _beats(app: App) -> dict[Component, heartbeat.Beat]:
    settings = app.environment
    login = app.postgres_login

    def postgres(now: datetime) -> None:
        heartbeat.beat_postgres(login, now)

    def minio(now: datetime) -> None:
        heartbeat.beat_minio(app.minio_source, settings.minio, now)

    def opensearch(now: datetime) -> None:
        heartbeat.beat_opensearch(app.opensearch_cluster, settings.opensearch, now)

    return {Component.POSTGRES: postgres, Component.MINIO: minio, Component.OPENSEARCH: opensearch}


def _together(failures: dict[Component, BackupError]) -> BackupError:
    text = "; ".join(f"{component}: {error}" for component, error in failures.items())
    return UnreachableError(f"no heartbeat for {text}")


@click.command()
@click.option(
    "--install",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Copy pgBackRest and its libraries there, for PostgreSQL's own container, and stop.",
)
@click.pass_obj
def sidecar(context: Context, install: Path | None) -> None:
    """Run pgBackRest's TLS server beside PostgreSQL, with the repository's secrets in its environment only.

    The command of the sidecar container. It becomes the server, and ends with it. Until `aivo-backup init
    postgres` has made the cipher envelope it exits with 3, and Kubernetes starts it again.
    """
    if install is not None:
        portable.install(install)
        return
    app = context.app
    become(
        prepare(
            app.environment.postgres,
            app.repository_access,
            certificates=app.secrets_folder / SECRET_PGBACKREST_SERVER,
            state=app.state,
        )
    )
