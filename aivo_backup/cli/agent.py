"""`aivo-backup agent`, `metrics` (what the agent sees) and `sidecar` (pgBackRest beside PostgreSQL)."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.composition import App
from aivo_backup.errors import BackupError, UnreachableError, UsageError
from aivo_backup.jobs.unfiled import file_unfiled
from aivo_backup.observability import facts, heartbeat
from aivo_backup.observability.loops import Loops, Source
from aivo_backup.observability.metrics import Board, Gather, Sample
from aivo_backup.observability.serving import application, serve
from aivo_backup.policy.environment import Component
from aivo_backup.policy.metrics import HEARTBEAT
from aivo_backup.policy.names import SECRET_PGBACKREST_SERVER
from aivo_backup.stores import in_cluster
from aivo_backup.stores.postgres import portable
from aivo_backup.stores.postgres.archive import Archive
from aivo_backup.stores.postgres.sidecar import become, prepare

_INTERVAL_SECONDS = 60
"""One heartbeat a minute tells the loss to the minute (DESIGN.md, "Objectives, honestly computed")."""

_KEYS_EVERY_SECONDS = 300.0
# AWS measures buckets once a day.
_BUCKETS_EVERY_SECONDS = 3600.0


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=_INTERVAL_SECONDS,
    show_default=True,
    help="Seconds between heartbeats, and between two looks at a store.",
)
@click.option("--once", is_flag=True, help="Write one heartbeat into each store and stop.")
@click.option(
    "--listen",
    default="",
    metavar="HOST:PORT",
    help="Serve /metrics, /healthz and /readyz there; nothing is served without it.",
)
@click.pass_obj
def agent(context: Context, interval: float, once: bool, listen: str) -> None:
    """Write a heartbeat into PostgreSQL, MinIO and OpenSearch, over and over, and publish what only the cluster sees.

    Each store has a loop of its own: one that is away does not keep the others from theirs; it is named on standard
    error each time. In a pod that may read its cluster's Jobs it also files the failure of those that left no record,
    because their pod was not let in or never began.
    """
    app = context.app
    if once:
        failures = heartbeat.beat_all(_beats(app), app.clock())
        if failures:
            raise _together(failures)
        return
    board = Board()

    def tell(source: str, error: BackupError) -> None:
        click.echo(f"aivo-backup: {source}: {error}", err=True)

    loops = Loops(board, sources(app, interval), clock=app.clock, tell=tell)
    stop = _serve(board, loops, app.endpoints.agent or listen)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: loops.end())
    loops.start()
    loops.wait()
    stop()


@click.command()
@click.pass_obj
def metrics(context: Context) -> None:
    """Look at every source once, and print what the agent would publish, in Prometheus's text format.

    A source that does not answer is told by `backup_source_up` and on standard error. Heartbeats are not written.
    """
    app = context.app
    board = Board()
    asked = [source for source in sources(app, _INTERVAL_SECONDS) if not source.changes]

    def look(source: Source) -> BackupError | None:
        return board.look(source.name, source.gather, app.clock())

    with ThreadPoolExecutor(len(asked)) as pool:
        failures = list(pool.map(look, asked))
    click.echo(board.exposition().decode(), nl=False)
    for source, failure in zip(asked, failures, strict=True):
        if failure is not None:
            click.echo(f"aivo-backup: {source.name}: {failure}", err=True)


def sources(app: App, interval: float) -> list[Source]:
    """Everything that the agent looks at; logins are read when they are needed, so that one alone can be missing."""
    environment = app.environment
    archive = Archive(s3=app.s3, bucket=environment.bucket(Component.POSTGRES), stanza=environment.postgres.stanza)
    buckets = [*environment.buckets.values(), environment.evidence.bucket]
    found = [
        Source(name=f"heartbeat-{component}", gather=_gather(component, beat), every_seconds=interval, changes=True)
        for component, beat in _beats(app).items()
    ]
    looks: list[tuple[str, float, Gather]] = [
        ("postgres", interval, facts.postgres_facts(lambda: app.postgres_login, archive)),
        ("opensearch", interval, facts.opensearch_facts(lambda: app.opensearch_cluster)),
        ("catalog", interval, facts.CatalogFacts(app.catalog, environment)),
        ("keys", _KEYS_EVERY_SECONDS, facts.key_facts(app.aws.client("kms"), environment.keys)),
        ("buckets", _BUCKETS_EVERY_SECONDS, facts.bucket_facts(app.aws.client("cloudwatch"), buckets)),
    ]
    found += [Source(name=name, gather=gather, every_seconds=every) for name, every, gather in looks]
    if in_cluster.is_inside():
        found.append(Source(name="jobs", gather=_unfiled(app), every_seconds=interval, changes=True))
    return found


def _unfiled(app: App) -> Gather:
    """Jobs that could not file their own failure get their record from here."""

    def gather(now: datetime) -> list[Sample]:
        jobs = in_cluster.barren_jobs(in_cluster.connect(), app.environment.namespace)
        file_unfiled(jobs, environment=app.environment, catalog=app.catalog, now=now)
        return []  # the catalog's facts count what was filed

    return gather


def _gather(component: Component, beat: heartbeat.Beat) -> Gather:
    def gather(now: datetime) -> list[Sample]:
        beat(now)
        return [Sample(metric=HEARTBEAT, value=now.timestamp(), labels={"component": component.value})]

    return gather


def _serve(board: Board, loops: Loops, listen: str) -> Callable[[], None]:
    if not listen:
        return lambda: None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--listen {listen!r} is no address", mend="write it as HOST:PORT, for example 0.0.0.0:9464")
    return serve(application(board, alive=loops.alive, ready=loops.ready), host=host, port=int(port))


def _beats(app: App) -> dict[Component, heartbeat.Beat]:
    settings = app.environment

    def postgres(now: datetime) -> None:
        heartbeat.beat_postgres(app.postgres_login, now)

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
