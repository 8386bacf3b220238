"""Who may do what with which data: the one table that role policies and key policies are both made from.

Writing, expiring, testing, restoring and administering are different roles, so that no single stolen identity can both
spoil the data and hide it. No role here can remove a version, change a lifecycle or shorten a lock; where a role may
remove, the bucket's versioning turns that into a delete marker, and the version stays for its time.
"""

from dataclasses import dataclass

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import (
    ARCHIVE_PREFIX,
    BACKUP_PREFIX,
    CIPHER_PREFIX,
    COMPLIANCE,
    DOCUMENTS,
    INVENTORY_PREFIX,
    LEASES_PREFIX,
    MINIO_DATA_PREFIX,
    MINIO_LONG_PREFIX,
    MINIO_MANIFEST_PREFIX,
    RECORDS_PREFIX,
    REPORTS_PREFIX,
    REVIEWS_PREFIX,
    SECRET_MINIO_SOURCE,
    SECRET_OPENSEARCH,
    SNAPSHOTS_PREFIX,
    Role,
)

POSTGRES, MINIO, OPENSEARCH = (component.value for component in Component)


LOOKS_AT_KEY = ("kms:DescribeKey", "kms:ListGrants")


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a role may do in one bucket, by key prefix; an empty prefix is the whole bucket.

    Attributes:
        use: the component, or the locked bucket.
        removes: prefixes where it may put a delete marker.
        unwraps: it uses the component's key itself, not only through S3, to read the wrapped cipher pass.
        wraps: it makes the wrapped cipher pass.
        looks_at_key: it asks KMS itself whether the key is enabled, and to whom it is granted.
    """

    use: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    unwraps: bool = False
    wraps: bool = False
    looks_at_key: bool = False
    why: str

    @property
    def touches_bucket(self) -> bool:
        """Whether it is about data, and not about the key alone."""
        return bool(self.reads or self.writes or self.removes)


_FILES_RECORDS = Grant(use=COMPLIANCE, writes=(RECORDS_PREFIX,), why="each run files its record")
_READS_CATALOG = Grant(
    use=COMPLIANCE,
    reads=(RECORDS_PREFIX,),
    writes=(RECORDS_PREFIX,),
    why="finds the recovery point, or which points are verified; files its record",
)
_READS_EVERYTHING = (
    Grant(use=POSTGRES, reads=("",), unwraps=True, why="reads the repository, whose files are encrypted"),
    Grant(use=MINIO, reads=("",), why="reads manifests and the versions that they name"),
    Grant(use=OPENSEARCH, reads=("",), why="reads the snapshot repository"),
    _READS_CATALOG,
)

GRANTS: dict[Role, tuple[Grant, ...]] = {
    Role.POSTGRES_WRITER: (
        Grant(
            use=POSTGRES,
            reads=("",),
            writes=(ARCHIVE_PREFIX, BACKUP_PREFIX, INVENTORY_PREFIX, LEASES_PREFIX),
            # Every backup asks to delete backup/<stanza>/latest, and one that follows a killed one removes what that
            # left; pgBackRest fails where it may not. Only delete markers: the versions stay for the bucket's 14 days.
            removes=(BACKUP_PREFIX,),
            unwraps=True,
            why="takes backups",
        ),
        _FILES_RECORDS,
    ),
    Role.POSTGRES_ARCHIVER: (
        Grant(
            use=POSTGRES,
            # The database's own identity: whoever has it has the data already.
            reads=(ARCHIVE_PREFIX, BACKUP_PREFIX, CIPHER_PREFIX, INVENTORY_PREFIX),
            writes=(ARCHIVE_PREFIX,),
            unwraps=True,
            why="the sidecar archives WAL, and fetches it for a standby or a recovering database; a Job restores",
        ),
    ),
    Role.MINIO_WRITER: (
        Grant(
            use=MINIO,
            reads=("",),
            writes=(MINIO_DATA_PREFIX, MINIO_LONG_PREFIX, MINIO_MANIFEST_PREFIX, LEASES_PREFIX),
            # A deletion at the source becomes a delete marker, so that S3 expires the version after its 30 days.
            removes=(MINIO_DATA_PREFIX, MINIO_LONG_PREFIX),
            why="mirrors the source and writes manifests",
        ),
        _FILES_RECORDS,
    ),
    Role.OPENSEARCH_WRITER: (
        Grant(
            use=OPENSEARCH,
            reads=("",),
            writes=(LEASES_PREFIX,),
            why="asks the cluster for a snapshot and notes which object versions it left; the cluster writes them",
        ),
        _FILES_RECORDS,
    ),
    Role.OPENSEARCH_STORE: (
        Grant(
            use=OPENSEARCH,
            reads=(SNAPSHOTS_PREFIX,),
            writes=(SNAPSHOTS_PREFIX,),
            # The snapshot API deletes the files of snapshots that retention drops; versions stay for their time.
            removes=(SNAPSHOTS_PREFIX,),
            why="OpenSearch's own nodes write the repository",
        ),
    ),
    Role.POSTGRES_EXPIRER: (
        Grant(
            use=POSTGRES,
            reads=("",),
            # backup.info says what the repository holds; of the sets themselves it writes nothing.
            writes=(BACKUP_PREFIX, LEASES_PREFIX),
            removes=(ARCHIVE_PREFIX, BACKUP_PREFIX, INVENTORY_PREFIX),
            unwraps=True,
            why="expires sets and WAL: delete markers, whose versions stay for the bucket's 14 days",
        ),
        _READS_CATALOG,
    ),
    Role.MINIO_EXPIRER: (
        Grant(
            use=MINIO,
            reads=(MINIO_MANIFEST_PREFIX, LEASES_PREFIX),
            writes=(LEASES_PREFIX,),
            # The objects themselves S3 clears, once no manifest of their days can name them any more.
            removes=(MINIO_MANIFEST_PREFIX,),
            why="expires manifests",
        ),
        _READS_CATALOG,
    ),
    Role.OPENSEARCH_EXPIRER: (
        Grant(
            use=OPENSEARCH,
            reads=(LEASES_PREFIX,),
            writes=(LEASES_PREFIX,),
            why="asks the cluster to delete snapshots, under a login of its own; the cluster deletes the files",
        ),
        _READS_CATALOG,
    ),
    Role.AGENT: (
        Grant(
            use=POSTGRES,
            reads=(ARCHIVE_PREFIX,),
            looks_at_key=True,
            why="compares the newest WAL in the repository with the database",
        ),
        Grant(use=MINIO, looks_at_key=True, why="publishes whether its key is enabled"),
        Grant(use=OPENSEARCH, looks_at_key=True, why="publishes whether its key is enabled"),
        Grant(
            use=COMPLIANCE,
            reads=(RECORDS_PREFIX,),
            writes=(RECORDS_PREFIX,),
            looks_at_key=True,
            why="publishes the age of the newest point and test; files the failure of a Job that got no pod",
        ),
    ),
    Role.INITIALISER: (
        Grant(
            use=POSTGRES,
            reads=("",),
            writes=(ARCHIVE_PREFIX, BACKUP_PREFIX, CIPHER_PREFIX, LEASES_PREFIX),
            unwraps=True,
            wraps=True,
            why="makes the cipher pass and the stanza, once",
        ),
    ),
    Role.VERIFIER: _READS_EVERYTHING,
    Role.REGISTRAR: _READS_EVERYTHING,
    Role.RESTORER: _READS_EVERYTHING,
    # The verifier's work where it outgrows a function; in a pod of its own.
    Role.RESTORE_TESTER: _READS_EVERYTHING,
    Role.DRILLER: (
        *_READS_EVERYTHING,
        Grant(use=DOCUMENTS, writes=(REVIEWS_PREFIX,), why="files the yearly review"),
    ),
    Role.REPORTER: (
        Grant(
            use=COMPLIANCE,
            reads=(RECORDS_PREFIX, REPORTS_PREFIX),
            writes=(RECORDS_PREFIX, REPORTS_PREFIX),
            why="counts the records and files the report",
        ),
    ),
    Role.SCHEDULER: (),
    Role.SECURITY_FORWARDER: (),
    # S3 itself, which copies versions to the second region: infra/replica.py.
    Role.REPLICATOR: (),
}

# Functions and operators act outside the cluster, where no Kubernetes secret is mounted.
SECRET_READERS: dict[Role, tuple[str, ...]] = {
    Role.VERIFIER: (SECRET_MINIO_SOURCE, SECRET_OPENSEARCH),
    Role.REGISTRAR: (SECRET_MINIO_SOURCE, SECRET_OPENSEARCH),
    Role.RESTORER: (SECRET_MINIO_SOURCE, SECRET_OPENSEARCH),
}

SETTINGS_READERS = (Role.VERIFIER, Role.REGISTRAR, Role.REPORTER, Role.RESTORER, Role.INITIALISER)
"""Roles that read the settings parameter; pods have the config map instead."""


def grants_on(use: str) -> dict[Role, Grant]:
    """Every role that touches one bucket, with what it may do there."""
    return {role: grant for role, grants in GRANTS.items() for grant in grants if grant.use == use}
