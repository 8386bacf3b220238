"""What the values of the stores' settings may be."""

from aivo_backup.policy.bounds import holds, matching, within
from aivo_backup.policy.environment import RepositoryType
from aivo_backup.policy.retention import (
    MINIO_DAYS,
    OPENSEARCH_DAYS,
    POSTGRES_FULLS_KEPT,
    POSTGRES_RECOVERY_WINDOW_DAYS,
)
from infra.settings import Settings
from infra.validation_words import DNS_LABEL, GIBIBYTE, URL, key

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"


def check_stores(settings: Settings) -> None:
    """Refuses settings of PostgreSQL, MinIO and OpenSearch that cannot be used.

    Raises:
        ConfigurationError: the first setting out of its bounds, with key, value and bound.
    """
    _check_postgres(settings)
    _check_minio(settings)
    _check_opensearch(settings)


def _check_postgres(settings: Settings) -> None:
    postgres = settings.postgres
    for name in ("host", "sidecar_host"):
        matching(
            key("postgres", name), getattr(postgres, name), pattern=_HOST, example="postgresql.aivo.svc.cluster.local"
        )
    for name in ("port", "sidecar_port"):
        within(key("postgres", name), getattr(postgres, name), low=1, high=65535, why="a TCP port")
    matching(key("postgres", "stanza"), postgres.stanza, pattern=DNS_LABEL, example="aivo-postgres")
    within(
        key("postgres", "archive_timeout_seconds"),
        postgres.archive_timeout_seconds,
        low=1,
        high=settings.objectives.rpo_seconds,
        why="every write waits at most this long for the archive",
    )
    within(
        key("postgres", "full_backups_kept"),
        postgres.full_backups_kept,
        low=POSTGRES_FULLS_KEPT,
        high=60,
        why="the runbook keeps 7 weekly fulls",
    )
    within(
        key("postgres", "recovery_window_days"),
        postgres.recovery_window_days,
        low=POSTGRES_RECOVERY_WINDOW_DAYS,
        high=postgres.full_backups_kept * 7,
        why="the runbook's 14 days, and no more than the weekly fulls cover",
    )
    _check_verified_kept("postgres", postgres.verified_points_kept)
    within(key("postgres", "process_max"), postgres.process_max, low=1, high=64, why="parallel processes")
    within(key("postgres", "size_bytes"), postgres.size_bytes, low=0, high=2**60, why="bytes")


def _check_minio(settings: Settings) -> None:
    minio = settings.minio
    matching(key("minio", "endpoint"), minio.endpoint, pattern=URL, example="http://minio.aivo.svc.cluster.local:9000")
    within(
        key("minio", "retention_days"),
        minio.retention_days,
        low=MINIO_DAYS,
        high=365,
        why="the operational class is 30",
    )
    within(
        key("minio", "increment_retention_hours"), minio.increment_retention_hours, low=24, high=24 * 30, why="hours"
    )
    _check_verified_kept("minio", minio.verified_points_kept)
    within(key("minio", "deletion_guard_share"), minio.deletion_guard_share, low=0, high=1, why="a share of 1")
    within(key("minio", "verify_share"), minio.verify_share, low=0.01, high=1, why="a share of 1")
    within(key("minio", "transfers"), minio.transfers, low=1, high=256, why="objects at once")
    within(key("minio", "part_bytes"), minio.part_bytes, low=5 * 1024**2, high=5 * GIBIBYTE, why="what S3 allows")
    within(
        key("minio", "bytes_in_flight"),
        minio.bytes_in_flight,
        low=minio.part_bytes,
        high=64 * GIBIBYTE,
        why="one part",
    )
    within(key("minio", "size_bytes"), minio.size_bytes, low=0, high=2**60, why="bytes")


def _check_opensearch(settings: Settings) -> None:
    search = settings.opensearch
    matching(key("opensearch", "endpoint"), search.endpoint, pattern=URL, example="https://opensearch.aivo.svc:9200")
    within(
        key("opensearch", "retention_days"),
        search.retention_days,
        low=OPENSEARCH_DAYS,
        high=365,
        why="the operational class is 30",
    )
    within(
        key("opensearch", "increment_retention_hours"),
        search.increment_retention_hours,
        low=24,
        high=96,
        why="hours; more than 200 snapshots slow a repository down",
    )
    _check_verified_kept("opensearch", search.verified_points_kept)
    within(key("opensearch", "bytes_per_second"), search.bytes_per_second, low=1, high=2**40, why="bytes per second")
    within(key("opensearch", "size_bytes"), search.size_bytes, low=0, high=2**60, why="bytes")
    holds(
        key("opensearch", "repository_type"),
        search.repository_type.value,
        settings.sandbox or search.repository_type is RepositoryType.S3,
        bound="fs is for the sandbox: a folder of the cluster dies with the cluster",
    )
    holds(
        key("opensearch", "fs_location"),
        search.fs_location,
        (search.repository_type is RepositoryType.FS) == bool(search.fs_location),
        bound="set it for a repository of type fs, and only then",
    )


def _check_verified_kept(component: str, number: int) -> None:
    within(
        key(component, "verified_points_kept"),
        number,
        low=1,
        high=30,
        why="without one, backups that fail for a month cost the last good point",
    )
