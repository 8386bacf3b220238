"""`aivo-backup restore`: a plan first, then the restore, filed like every other."""

import click

from aivo_backup.cli.restore.minio import minio
from aivo_backup.cli.restore.opensearch import opensearch
from aivo_backup.cli.restore.postgres import postgres


@click.group()
def restore() -> None:
    """Restore PostgreSQL, MinIO objects or OpenSearch indices.

    Each command shows its plan and asks before it changes anything; --plan stops after the plan.
    """


restore.add_command(postgres)
restore.add_command(minio)
restore.add_command(opensearch)
