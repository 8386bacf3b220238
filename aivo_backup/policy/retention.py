"""How long each class of data is kept (runbook, "Retention Policies"), in days.

Bucket lifecycles, locks and the jobs that expire and prune read the same numbers.
"""

from datetime import timedelta

from aivo_backup.policy.environment import BackupKind, Component, Environment

OPERATIONAL_DAYS = 30
# Seven, three and five years, leap days rounded up: a record is kept for at least the years that are promised.
COMPLIANCE_DAYS = 2557
AUDIT_DAYS = 1096
DISASTER_RECOVERY_DOCUMENT_DAYS = 1827

POSTGRES_FULLS_KEPT = 7
POSTGRES_RECOVERY_WINDOW_DAYS = 14
MINIO_DAYS = 30
OPENSEARCH_DAYS = 30

# S3 takes no transition to Standard-IA earlier than this after creation.
STANDARD_IA_AFTER_DAYS = 30
# Longer than the longest run, so that no upload in progress is taken for an abandoned one.
ABORT_MULTIPART_AFTER_DAYS = 7


def kept_for(environment: Environment, component: Component, kind: BackupKind) -> timedelta:
    """How long a recovery point is kept. One that is gone earlier, and that no expiry removed, was lost.

    PostgreSQL's increments go by the recovery window and its fulls by number, of which there is one a week; of the
    other two, the increments between daily points go earlier.
    """
    if component is Component.POSTGRES:
        if kind is BackupKind.FULL:
            return timedelta(weeks=environment.postgres.full_backups_kept)
        return timedelta(days=environment.postgres.recovery_window_days)
    settings = environment.minio if component is Component.MINIO else environment.opensearch
    if kind is BackupKind.INCREMENTAL:
        return timedelta(hours=settings.increment_retention_hours)
    return timedelta(days=settings.retention_days)
