"""A catalog made up for tests: every expected run happens and succeeds, and a test breaks what it wants broken."""

from collections import deque
from datetime import UTC, datetime, timedelta

from aivo_backup.catalog.records import (
    BackupRun,
    Check,
    Expiry,
    Phase,
    Purpose,
    RecoveryPoint,
    Registration,
    Restore,
    RunStatus,
)
from aivo_backup.evidence.build import Records
from aivo_backup.policy.environment import (
    Component,
    Environment,
    EvidenceSettings,
    LockMode,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
    ScheduledRun,
)
from aivo_backup.policy.schedules import BACKUPS, EXPIRIES, expected_runs

NOW = datetime(2026, 11, 23, 7, 0, 2, tzinfo=UTC)
SCHEDULED = NOW.replace(second=0)

_LOSS = {Component.POSTGRES: 48.0, Component.MINIO: 1260.0, Component.OPENSEARCH: 1335.0}
_PHASES = {
    Component.POSTGRES: (("restore files", 212.4), ("replay WAL", 96.1), ("page checksums", 61.0), ("queries", 9.3)),
    Component.MINIO: (("read manifest", 6.2), ("list versions", 58.0), ("read and hash", 402.7)),
    Component.OPENSEARCH: (("register", 1.3), ("restore indices", 288.9), ("count and sample", 22.8)),
}
_CHECKS = {
    Component.POSTGRES: ("page checksums", "pg_amcheck", "heartbeat", "sentinel orders"),
    Component.MINIO: ("every object present", "content", "user metadata", "heartbeat"),
    Component.OPENSEARCH: ("green", "document counts", "sampled documents", "heartbeat"),
}


def environment() -> Environment:
    """Production as the default schedule has it."""
    return Environment(
        name="prod",
        region="us-east-1",
        account_id="123456789012",
        buckets={component.value: f"aivo-backup-{component.value}" for component in Component},
        keys={"compliance": "alias/aws/s3"},
        evidence=EvidenceSettings(bucket="aivo-backup-compliance", lock_mode=LockMode.GOVERNANCE, lock_days=1),
        postgres=PostgresSettings(host="postgres", sidecar_host="postgres"),
        minio=MinioSettings(endpoint="https://minio:9000"),
        opensearch=OpenSearchSettings(endpoint="https://opensearch:9200"),
        backups=BACKUPS,
    )


def run(job: str, component: Component, started: datetime, status: RunStatus = RunStatus.SUCCEEDED) -> BackupRun:
    """One run; one that succeeded names its recovery point."""
    kind = next((row.kind for row in BACKUPS if row.name == job), BACKUPS[0].kind)
    return BackupRun(
        id=f"{component}-{job}-{started:%Y%m%dT%H%M%SZ}",
        component=component,
        kind=kind,
        job=job,
        started=started,
        finished=started + timedelta(seconds=75),
        status=status,
        recovery_point=f"{started:%Y%m%d_%H%M%S}" if status is RunStatus.SUCCEEDED else None,
        bytes_transferred=83_000_000 if status is RunStatus.SUCCEEDED else 0,
        error="" if status is RunStatus.SUCCEEDED else "opensearch refused the snapshot: see the cluster's log",
        version="0.1.0",
    )


def point(made_by: BackupRun) -> RecoveryPoint:
    """What a run left."""
    return RecoveryPoint(
        id=made_by.recovery_point or "",
        component=made_by.component,
        kind=made_by.kind,
        run_id=made_by.id,
        started=made_by.started,
        recoverable_at=made_by.finished,
        size_bytes=41_300_000_000,
        facts={"objects": 120_000, "complete": True},
    )


def restore(component: Component, started: datetime, *, point_id: str = "20261123_040010") -> Restore:
    """A restore test that passed."""
    phases = tuple(Phase(name=name, seconds=seconds) for name, seconds in _PHASES[component])
    return Restore(
        id=f"{component}-test-{started:%Y%m%dT%H%M%SZ}",
        component=component,
        purpose=Purpose.TEST,
        recovery_point=point_id,
        started=started,
        finished=started + timedelta(seconds=sum(phase.seconds for phase in phases)),
        target_time=started,
        newest_heartbeat=started - timedelta(seconds=_LOSS[component]),
        loss_seconds=_LOSS[component],
        phases=phases,
        checks=tuple(Check(name=name, passed=True, detail="as recorded") for name in _CHECKS[component]),
    )


def expiries(removed: tuple[str, ...] = (), status: RunStatus = RunStatus.SUCCEEDED) -> list[Expiry]:
    """Each expiry of the last day, a minute late."""
    at = SCHEDULED.replace(hour=8, minute=11) - timedelta(days=1)
    return [
        Expiry(
            id=f"{row.name}-1",
            component=row.component,
            job=row.name,
            started=at,
            finished=at + timedelta(seconds=9),
            status=status,
            removed=removed if row.component is Component.MINIO else (),
            kept=40,
            version="0.1.0",
        )
        for row in EXPIRIES
    ]


def registration(component: Component, scheduled: datetime) -> Registration:
    """A comparison that found all there."""
    return Registration(
        id=f"{component}-registration-{scheduled:%Y%m%dT%H%M%SZ}",
        component=component,
        scheduled_for=scheduled,
        finished=scheduled + timedelta(seconds=4),
        found=("20261122_040010", "20261123_040010"),
        recorded=(),
        missing=(),
    )


def flawless(days: float, *, until: datetime = SCHEDULED, backups: tuple[ScheduledRun, ...] = BACKUPS) -> Records:
    """Everything that the schedule expects in the days up to ``until``, all of it well."""
    since = until - timedelta(days=days)
    runs = [
        run(row.name, row.component, due + timedelta(seconds=10))
        for row in backups
        for due in expected_runs(row.cron, since, until)
    ]
    runs.sort(key=lambda one: one.started)
    points = [point(one) for one in runs]
    tests: list[Restore] = []
    newest: dict[Component, str] = {}
    waiting = deque(points)
    for due in expected_runs("0 6 * * *", since, until):
        while waiting and waiting[0].recoverable_at <= due:
            made = waiting.popleft()
            newest[made.component] = made.id
        tests.extend(
            restore(component, due + timedelta(seconds=3), point_id=newest[component])
            for component in Component
            if component in newest
        )
    checked = [
        registration(component, due) for due in expected_runs("0 5 * * *", since, until) for component in Component
    ]
    return Records(runs=runs, points=points, restores=tests, registrations=checked)
