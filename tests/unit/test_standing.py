"""What can be restored now: told from the records, with what was removed since and what was lost."""

from datetime import UTC, datetime, timedelta

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import Expiry, RecoveryPoint, Registration, RunStatus
from aivo_backup.catalog.standing import Standing
from aivo_backup.jobs.standing import not_obsolete
from aivo_backup.policy.environment import (
    BackupKind,
    Component,
    Environment,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
)
from tests.unit.conftest import EVIDENCE

NOW = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


def environment(*, minio_days: int) -> Environment:
    """Settings with only what tells how long points are kept."""
    return Environment(
        name="test",
        region="us-east-1",
        account_id="123456789012",
        buckets={},
        keys={},
        evidence=EVIDENCE,
        postgres=PostgresSettings(host="h", sidecar_host="s"),
        minio=MinioSettings(endpoint="https://m", retention_days=minio_days),
        opensearch=OpenSearchSettings(endpoint="https://o"),
        backups=(),
    )


def point(days_ago: int, number: int) -> RecoveryPoint:
    moment = NOW - timedelta(days=days_ago, hours=3 * number)
    return RecoveryPoint(
        id=f"{moment:%Y%m%d_%H%M%S}",
        component=Component.MINIO,
        kind=BackupKind.FULL,
        run_id="run",
        started=moment,
        recoverable_at=moment,
        size_bytes=1,
    )


def reconciliation(moment: datetime, *, found: tuple[str, ...], missing: tuple[str, ...] = ()) -> Registration:
    return Registration(
        id=f"{moment:%H}",
        component=Component.MINIO,
        scheduled_for=moment,
        finished=moment,
        found=found,
        recorded=(),
        missing=missing,
    )


ENVIRONMENT = environment(minio_days=40)
VERIFIED = point(200, 0)


def test_what_was_removed_since_or_is_lost_is_told(catalog: Catalog) -> None:
    removed, lost, newest = point(20, 0), point(3, 1), point(0, 0)
    for each in (VERIFIED, removed, lost, newest):
        catalog.append(each)
    catalog.append(reconciliation(NOW - timedelta(hours=1), found=(VERIFIED.id, removed.id), missing=(lost.id,)))
    catalog.append(
        Expiry(
            id="e",
            component=Component.MINIO,
            job="minio-prune",
            started=NOW,
            finished=NOW,
            status=RunStatus.SUCCEEDED,
            removed=(removed.id, VERIFIED.id),
            version="0",
        )
    )
    stood = {each.point.id: each.standing for each in not_obsolete(catalog, ENVIRONMENT, Component.MINIO, now=NOW)}
    assert stood == {lost.id: Standing.LOST, newest.id: Standing.VALID}


def test_without_a_reconciliation_every_point_is_shown(catalog: Catalog) -> None:
    catalog.append(VERIFIED)
    stood = not_obsolete(catalog, ENVIRONMENT, Component.MINIO, now=NOW)
    assert [(each.point, each.standing) for each in stood] == [(VERIFIED, Standing.VALID)]
