"""`aivo-backup restore`: a plan first, then the restore, filed like every other."""

import click

from aivo_backup.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "minio": Lazy(at="aivo_backup.cli.restore.minio:minio", summary="A bucket, a prefix, a glob or one key."),
    "opensearch": Lazy(at="aivo_backup.cli.restore.opensearch:opensearch", summary="Indices of a snapshot."),
    "postgres": Lazy(at="aivo_backup.cli.restore.postgres:postgres", summary="The database, or some of its tables."),
    "volume": Lazy(at="aivo_backup.cli.restore.volume:volume", summary="What the Job of `postgres --to cluster` runs."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def restore() -> None:
    """Restore PostgreSQL, MinIO objects or OpenSearch indices.

    Each command shows its plan and asks before it changes anything; --plan stops after the plan.
    """
