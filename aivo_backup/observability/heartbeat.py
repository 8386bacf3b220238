"""Heartbeats: one small write a minute into each store, so that the loss after a restore is measured, not assumed.

The newest heartbeat in restored data tells which moment came back. All three carry the same clock's time, which makes
the stores comparable after a recovery.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg

from aivo_backup.errors import BackupError
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import Component, MinioSettings, OpenSearchSettings
from aivo_backup.stores.aws import MissingError, translated
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.postgres.archive import Login, connect

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

KEPT = timedelta(days=1)
"""How long heartbeat rows stay: 1,440 of them tell all that a restore needs."""

OBJECT_KEY = "heartbeat.json"
DOCUMENT_ID = "heartbeat"

Beat = Callable[[datetime], None]


def prepare_postgres(login: Login) -> None:
    """Makes the heartbeat schema and table where they are missing.

    Raises:
        UnreachableError: PostgreSQL does not answer or refuses the login.
    """
    with connect(login) as connection:
        connection.execute("create schema if not exists aivo_backup")
        connection.execute("create table if not exists aivo_backup.heartbeat (at timestamptz primary key)")


def beat_postgres(login: Login, now: datetime) -> None:
    """Writes one row and trims those older than :data:`KEPT`.

    Raises:
        UnreachableError: PostgreSQL does not answer or refuses the login.
        BackupError: the table is missing, or the server went away meanwhile.
    """
    with connect(login) as connection:
        try:
            connection.execute("insert into aivo_backup.heartbeat (at) values (%s) on conflict do nothing", [now])
            connection.execute("delete from aivo_backup.heartbeat where at < %s", [now - KEPT])
        except psycopg.errors.UndefinedTable as error:
            raise BackupError("PostgreSQL has no heartbeat table", mend="run `aivo-backup init postgres`") from error
        except psycopg.Error as error:
            raise BackupError(f"PostgreSQL took no heartbeat: {error}") from error


def prepare_minio(source: "S3Client", settings: MinioSettings) -> None:
    """Makes the heartbeat bucket where it is missing.

    Raises:
        UnreachableError, AccessDeniedError: as MinIO answers.
    """
    with translated(f"MinIO bucket {settings.heartbeat_bucket}"):
        try:
            with translated(f"MinIO bucket {settings.heartbeat_bucket}"):
                source.head_bucket(Bucket=settings.heartbeat_bucket)
        except MissingError:
            source.create_bucket(Bucket=settings.heartbeat_bucket)


def beat_minio(source: "S3Client", settings: MinioSettings, now: datetime) -> None:
    """Overwrites the heartbeat object.

    Raises:
        UnreachableError, AccessDeniedError: as MinIO answers.
    """
    body = json.dumps({"at": format_time(now)}).encode()
    with translated(f"MinIO heartbeat in {settings.heartbeat_bucket}"):
        source.put_object(Bucket=settings.heartbeat_bucket, Key=OBJECT_KEY, Body=body, ContentType="application/json")


def prepare_opensearch(cluster: Cluster, settings: OpenSearchSettings) -> None:
    """Makes the heartbeat index where it is missing.

    Raises:
        UnreachableError, AccessDeniedError, ClusterError: as the cluster answers.
    """
    index = settings.heartbeat_index
    if not cluster.exists(index):
        cluster.put(
            index,
            what=f"making the index {index}",
            body={
                # date_nanos: the other stores keep microseconds, and a plain date would cut them off.
                "mappings": {"properties": {"at": {"type": "date_nanos"}}},
                "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"},
            },
        )


def beat_opensearch(cluster: Cluster, settings: OpenSearchSettings, now: datetime) -> None:
    """Overwrites the heartbeat document.

    Raises:
        UnreachableError, AccessDeniedError, ClusterError: as the cluster answers.
    """
    cluster.put(
        settings.heartbeat_index,
        "_doc",
        DOCUMENT_ID,
        what=f"the heartbeat in {settings.heartbeat_index}",
        body={"at": format_time(now)},
        params={"refresh": "true"},
    )


def beat_all(beats: Mapping[Component, Beat], now: datetime) -> dict[Component, BackupError]:
    """Writes one heartbeat into every store; one that is away does not keep the others from theirs.

    Returns:
        the error of each store that could not be reached.
    """
    failures: dict[Component, BackupError] = {}
    for component, beat in beats.items():
        try:
            beat(now)
        except BackupError as error:
            failures[component] = error
    return failures
