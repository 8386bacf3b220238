"""`aivo-backup init`: what has to be there once before the first backup. Repeating it changes nothing."""

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import component_argument, progress
from aivo_backup.composition import App
from aivo_backup.observability import heartbeat
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.setup import make_envelope, make_stanza

_SIDECAR_SECONDS = 60.0


@click.command()
@component_argument(required=False)
@click.option(
    "--envelope-only",
    is_flag=True,
    help="PostgreSQL: make the cipher envelope and stop; the sidecar can start then, and init go on.",
)
@click.option(
    "--sidecar-timeout",
    type=click.FloatRange(min=0),
    default=_SIDECAR_SECONDS,
    show_default=True,
    help="PostgreSQL: seconds to wait for the sidecar.",
)
@click.pass_obj
def init(context: Context, component: Component | None, envelope_only: bool, sidecar_timeout: float) -> None:
    """Prepare COMPONENT, or all three: cipher envelope, stanza, snapshot repository, and the heartbeats' homes."""
    app = context.app
    for each in [component] if component else list(Component):
        click.echo(f"{each}:", err=True)
        if each is Component.POSTGRES and envelope_only:
            prepare_envelope(app, progress=progress)
        else:
            prepare(app, each, sidecar_timeout=sidecar_timeout, progress=progress)


def prepare(app: App, component: Component, *, sidecar_timeout: float, progress: Progress) -> None:
    """Prepares one component.

    Args:
        sidecar_timeout: seconds to wait for PostgreSQL's sidecar.

    Raises:
        UnreachableError, AccessDeniedError, ConfigurationError: as the store answers.
    """
    settings = app.environment
    match component:
        case Component.POSTGRES:
            prepare_envelope(app, progress=progress)
            heartbeat.prepare_postgres(app.postgres_login)
            progress("heartbeat table: there")
            make_stanza(app.postgres.runners, sidecar_timeout_seconds=sidecar_timeout, progress=progress)
        case Component.MINIO:
            heartbeat.prepare_minio(app.minio_source, settings.minio)
            progress(f"heartbeat bucket {settings.minio.heartbeat_bucket}: there")
        case Component.OPENSEARCH:
            changed = app.opensearch.register()
            progress(f"snapshot repository {settings.opensearch.repository}: {'registered' if changed else 'there'}")
            heartbeat.prepare_opensearch(app.opensearch_cluster, settings.opensearch)
            progress(f"heartbeat index {settings.opensearch.heartbeat_index}: there")


def prepare_envelope(app: App, *, progress: Progress) -> None:
    """Makes the cipher envelope of the pgBackRest repository, without which the sidecar does not start.

    Raises:
        RefusedError: the repository holds data and its envelope is gone.
        UnreachableError, AccessDeniedError: as S3 and KMS answer.
    """
    make_envelope(
        app.s3,
        bucket=app.environment.bucket(Component.POSTGRES),
        keys=app.region_keys(),
        now=app.clock(),
        progress=progress,
    )
