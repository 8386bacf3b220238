"""The second chapter: backups by the provisioned CronJobs' own pods, with writes in between."""

from dataclasses import dataclass

import psycopg

from aivo_backup.catalog.records import RecoveryPoint
from sandbox.data.minio import change_minio
from sandbox.data.opensearch import change_opensearch
from sandbox.demo.world import World

ORDERS = "reference.orders"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The recovery points that the chapter leaves, and what was true at them.

    Attributes:
        first_objects: content of the bucket ``documents`` at the first MinIO point, as digests by key.
    """

    postgres: tuple[RecoveryPoint, RecoveryPoint]
    minio: tuple[RecoveryPoint, RecoveryPoint]
    opensearch: tuple[RecoveryPoint, RecoveryPoint]
    first_objects: dict[str, str]


def postgres_backups(world: World) -> tuple[RecoveryPoint, RecoveryPoint]:
    """Full, writes, incremental, and writes that live in WAL alone."""
    tell = world.narrator
    with tell.step("PostgreSQL: full backup"):
        full = world.cronjob("postgresql-backup-full")
    write_orders(world, "between full and incremental", 200)
    with tell.step("PostgreSQL: incremental backup"):
        incremental = world.cronjob("postgresql-backup-incr")
    tell.expect(full.id in incremental.depends_on, f"{incremental.id} builds on {full.id}")
    write_orders(world, "after the last backup, in WAL alone", 300)
    return full, incremental


def minio_backups(world: World) -> tuple[RecoveryPoint, RecoveryPoint, dict[str, str]]:
    """Full sync, 1 % of changes, incremental."""
    tell = world.narrator
    objects = world.objects("documents")
    with tell.step("MinIO: full sync"):
        full = world.cronjob("minio-backup")
    change = change_minio(world.app.minio_source)
    tell.fact(
        f"changed at the source: {len(change.overwritten)} overwritten, {len(change.added)} added, "
        f"{len(change.deleted)} deleted"
    )
    with tell.step("MinIO: incremental"):
        incremental = world.cronjob("minio-backup-incr")
    moved = next(run for run in world.app.catalog.runs(incremental.component) if run.id == incremental.run_id)
    tell.expect(
        moved.bytes_transferred < full.size_bytes / 100,
        f"the incremental moved {moved.bytes_transferred:,} bytes of {full.size_bytes:,}",
    )
    return full, incremental, objects


def opensearch_backups(world: World) -> tuple[RecoveryPoint, RecoveryPoint]:
    """Two snapshots, with changed documents in between."""
    tell = world.narrator
    with tell.step("OpenSearch: snapshot"):
        first = world.cronjob("opensearch-snapshot")
    tell.fact(f"changed {change_opensearch(world.opensearch_client)} documents")
    with tell.step("OpenSearch: second snapshot"):
        second = world.cronjob("opensearch-snapshot-incr")
    return first, second


def take_all(world: World) -> Taken:
    """All three stores."""
    postgres = postgres_backups(world)
    *minio, first_objects = minio_backups(world)
    opensearch = opensearch_backups(world)
    return Taken(postgres=postgres, minio=(minio[0], minio[1]), opensearch=opensearch, first_objects=first_objects)


def write_orders(world: World, note: str, rows: int) -> None:
    """Rows that tell when they were written; what a recovery brings back is counted by them."""
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute(
            f"create table if not exists {ORDERS} (id bigserial primary key, note text, at timestamptz default now())"
        )
        connection.execute(
            f"insert into {ORDERS} (note) select %s from generate_series(1, %s)",  # noqa: S608 - a constant's name
            [note, rows],
        )
    world.narrator.fact(f"{rows} orders written {note}")
