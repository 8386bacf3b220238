"""Backup sets as recovery points."""

from aivo_backup.catalog.records import Artefact, Fact
from aivo_backup.stores.port import HeldPoint, TakenBackup
from aivo_backup.stores.postgres.info import BackupSet


def facts(backup: BackupSet) -> dict[str, Fact]:
    """What a restore test must find again, and what an operator wants to see. Sizes are bytes."""
    return {
        "lsn.start": backup.lsn_start,
        "lsn.stop": backup.lsn_stop,
        "wal.start": backup.wal_start,
        "wal.stop": backup.wal_stop,
        "timeline": backup.timeline,
        "system_id": backup.system_id,
        "archive_id": backup.archive_id,
        "database_bytes": backup.size_bytes,
        "repository_bytes": backup.repository_bytes,
    }


def taken(backup: BackupSet, inventory: Artefact) -> TakenBackup:
    """The set as what a run left."""
    return TakenBackup(
        point=backup.label,
        recoverable_at=backup.stopped,
        size_bytes=backup.size_bytes,
        bytes_transferred=backup.repository_bytes,
        inventory=inventory,
        facts=facts(backup),
        depends_on=backup.references,
    )


def held(backup: BackupSet, inventory: Artefact | None) -> HeldPoint:
    """The set as the repository tells it."""
    return HeldPoint(
        point=backup.label,
        kind=backup.kind,
        started=backup.started,
        recoverable_at=backup.stopped,
        size_bytes=backup.size_bytes,
        inventory=inventory,
        facts=facts(backup),
        depends_on=backup.references,
    )
