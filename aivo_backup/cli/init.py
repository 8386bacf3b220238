"""`aivo-backup init`: what has to be there once before the first backup. Repeating it changes nothing."""

import json

import click
import yaml

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import component_argument, progress
from aivo_backup.composition import App
from aivo_backup.observability import heartbeat
from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import Component, Environment
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
@click.option(
    "--patch",
    is_flag=True,
    help="PostgreSQL: print what has to be added to its StatefulSet, for review; nothing is changed.",
)
@click.pass_obj
def init(
    context: Context, component: Component | None, envelope_only: bool, sidecar_timeout: float, patch: bool
) -> None:
    """Prepare COMPONENT, or all three: cipher envelope, stanza, snapshot repository, and the heartbeats' homes."""
    app = context.app
    if patch:
        click.echo(_patch_text(app.environment), nl=False)
        return
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


def _patch_text(environment: Environment) -> str:
    document = json.dumps(environment.to_json(), indent=1, sort_keys=True)
    sql = "".join(f"#   {statement}\n" for statement in database_pod.statements(environment.postgres))
    head = (
        "# pgBackRest beside PostgreSQL (docs/adr/0002-archiving-through-the-sidecar.md). Review it, then:\n"
        "# 1. `aivo-backup init postgres --envelope-only`\n"
        f"# 2. as a superuser of the database:\n{sql}"
        "# 3. kubectl apply --server-side --field-manager=aivo-backup -f THIS_FILE\n"
        "#    (a conflict names a field that somebody else has set; the rollout restarts PostgreSQL)\n"
        "# 4. `aivo-backup init postgres`\n---\n"
    )
    return head + yaml.safe_dump_all(database_pod.patch(environment, document), sort_keys=False, width=120)


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
