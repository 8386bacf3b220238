"""The runbook's troubleshooting as checks: each looks at one thing and says what it found, why, and the mend.

Nothing is repaired here, and nothing is changed but what a check cannot do without: pgBackRest's own check has the
database finish a WAL segment, and OpenSearch's verification writes a probe into the repository.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import Component, MinioSettings
from aivo_backup.stores.aws import translated
from aivo_backup.stores.opensearch.repository import Repository
from aivo_backup.stores.opensearch.room import refusing
from aivo_backup.stores.opensearch.snapshots import Snapshots
from aivo_backup.stores.opensearch.states import SnapshotOutcome
from aivo_backup.stores.postgres.archive import Archive, Login, archive_lag, connect
from aivo_backup.stores.postgres.runners import Runners

if TYPE_CHECKING:
    from types_boto3_kms.client import KMSClient
    from types_boto3_s3.client import S3Client

# Signatures of AWS are refused from five minutes on; a minute is already enough to mislead a point in time.
_CLOCK_SECONDS = 60
_DISK_LEFT = 0.1
# A database under load has a few finished segments in hand; a whole log file of them is a queue that grows.
_WAITING_SEGMENTS = 16
_GIBIBYTE = 1024**3


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing to look at.

    Attributes:
        component: whose; empty for what all share.
        trouble: what it means when it fails.
        look: answers the evidence that all is well. Raises BackupError with the evidence that it is not, and the mend.
    """

    name: str
    component: str = ""
    trouble: str
    look: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check came to. ``mend`` is empty when it passed."""

    check: str
    component: str
    passed: bool
    finding: str
    evidence: str
    mend: str = ""


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Makes all checks, side by side: one that waits for a dead store delays no other."""
    with ThreadPoolExecutor(max(1, len(checks))) as pool:
        return list(pool.map(_made, checks))


def _made(check: Check) -> Finding:
    try:
        evidence = check.look()
    except BackupError as error:
        return Finding(
            check=check.name,
            component=check.component,
            passed=False,
            finding=check.trouble,
            evidence=error.what,
            mend=error.mend or "see the evidence",
        )
    return Finding(check=check.name, component=check.component, passed=True, finding="ok", evidence=evidence)


def shared_checks(
    s3: "S3Client", *, bucket: str, state: Path, scratch: Path, clock: Callable[[], datetime]
) -> list[Check]:
    """The clock, the catalog's bucket, and the disks of this machine."""
    return [
        Check(
            name="clock",
            trouble="this machine's clock is wrong: signatures are refused, and points in time mean other moments",
            look=lambda: _clock(s3, bucket, clock),
        ),
        Check(
            name="catalog",
            trouble="the catalog cannot be read: no run is recorded, no point is found",
            look=lambda: _bucket(s3, bucket, locked=True),
        ),
        *(
            Check(name=f"disk {folder}", trouble="the disk is nearly full", look=lambda folder=folder: _disk(folder))
            for folder in dict.fromkeys((state, scratch))
        ),
    ]


def backup_checks(component: Component, s3: "S3Client", kms: "KMSClient", *, bucket: str, key: str) -> list[Check]:
    """The component's bucket and key."""
    return [
        Check(
            name="backup bucket",
            component=component.value,
            trouble="the backup bucket cannot be used as it must be",
            look=lambda: _bucket(s3, bucket),
        ),
        Check(
            name="key state",
            component=component.value,
            trouble="the KMS key cannot be used: no backup is written, and none can be read",
            look=lambda: _key(kms, key),
        ),
        Check(
            name="key grants",
            component=component.value,
            trouble="somebody else was granted the KMS key",
            look=lambda: _grants(kms, key),
        ),
    ]


def postgres_checks(login: Callable[[], Login], runners: Callable[[], Runners], archive: Archive) -> list[Check]:
    """The database, its archive and pgBackRest's repository."""

    def check(name: str, trouble: str, look: Callable[[], str]) -> Check:
        return Check(name=name, component=Component.POSTGRES.value, trouble=trouble, look=look)

    return [
        check("database", "the database cannot be asked", lambda: _database(login())),
        check("stanza", "a WAL segment does not get from the database into the repository", lambda: _stanza(runners())),
        check("archive lag", "the archive is behind: a loss now would be larger", lambda: _lag(login(), archive)),
        check("repository", "the pgBackRest repository cannot be read", lambda: _repository(runners())),
    ]


def minio_checks(source: Callable[[], "S3Client"], settings: MinioSettings) -> list[Check]:
    """The object store that is backed up."""

    def check(name: str, trouble: str, look: Callable[[], str]) -> Check:
        return Check(name=name, component=Component.MINIO.value, trouble=trouble, look=look)

    return [
        check("reachability", "MinIO does not answer, or refuses the login", lambda: _buckets(source(), settings)),
        check("permissions", "a source bucket cannot be read", lambda: _readable(source(), settings)),
    ]


def opensearch_checks(
    repository: Callable[[], Repository], *, longest_run_seconds: int, clock: Callable[[], datetime]
) -> list[Check]:
    """The cluster, its repository and its snapshots."""

    def check(name: str, trouble: str, look: Callable[[], str]) -> Check:
        return Check(name=name, component=Component.OPENSEARCH.value, trouble=trouble, look=look)

    return [
        check("cluster health", "the cluster lacks data: its snapshots are partial", lambda: _health(repository())),
        check(
            "cluster writes",
            "writes are refused: no heartbeat is written, and no index can be restored in place",
            lambda: _writes(repository()),
        ),
        check(
            "repository settings",
            "the snapshot repository is not registered as it must be",
            lambda: _settings(repository()),
        ),
        check("repository access", "the nodes cannot use the repository", lambda: _verified(repository())),
        check(
            "snapshot status",
            "the newest snapshot is not usable",
            lambda: _snapshots(repository(), timedelta(seconds=longest_run_seconds), clock()),
        ),
    ]


def _clock(s3: "S3Client", bucket: str, clock: Callable[[], datetime]) -> str:
    with translated(f"bucket {bucket}"):
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    theirs = parsedate_to_datetime(headers["date"]).astimezone(UTC)
    apart = (clock() - theirs).total_seconds()
    if abs(apart) > _CLOCK_SECONDS:
        way = "ahead of" if apart > 0 else "behind"
        raise BackupError(
            f"{abs(apart):.0f} s {way} AWS", mend="start time synchronisation (chrony, systemd-timesyncd)"
        )
    return f"within {max(1, abs(round(apart)))} s of AWS"


def _bucket(s3: "S3Client", bucket: str, *, locked: bool = False) -> str:
    with translated(f"bucket {bucket}"):
        s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
        status = s3.get_bucket_versioning(Bucket=bucket).get("Status", "off")
    if status != "Enabled":
        raise BackupError(
            f"versioning of {bucket} is {status.lower()}: what is overwritten or deleted is gone", mend="pulumi up"
        )
    return f"{bucket}: listed, versioned{', locked' if locked else ''}"


def _disk(folder: Path) -> str:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    text = f"{usage.free / _GIBIBYTE:.1f} of {usage.total / _GIBIBYTE:.1f} GiB free"
    if usage.free < _DISK_LEFT * usage.total:
        raise BackupError(text, mend=f"make room on the file system of {there}")
    return text


def _key(kms: "KMSClient", key: str) -> str:
    with translated(f"KMS key {key}"):
        metadata = kms.describe_key(KeyId=key)["KeyMetadata"]
    state = metadata.get("KeyState", "unknown")
    if state == "Enabled":
        return f"{key} is enabled"
    mends = {
        "Disabled": f"aws kms enable-key --key-id {key}",
        "PendingDeletion": f"aws kms cancel-key-deletion --key-id {key}, then enable-key: the backups die with it",
    }
    raise BackupError(f"{key} is {state}", mend=mends.get(str(state), "look at the key in the KMS console"))


def _grants(kms: "KMSClient", key: str) -> str:
    with translated(f"grants on KMS key {key}"):
        grants = kms.list_grants(KeyId=key)["Grants"]
    if grants:
        names = ", ".join(sorted({grant.get("GranteePrincipal", "?") for grant in grants}))
        raise BackupError(
            f"{len(grants)} grants, to {names}", mend=f"aws kms revoke-grant --key-id {key} --grant-id ..."
        )
    return "no grants"


def _database(login: Login) -> str:
    with connect(login) as connection:
        try:
            row = connection.execute("SELECT pg_is_in_recovery(), current_setting('server_version')").fetchone()
        except psycopg.Error as error:
            raise BackupError(f"PostgreSQL: {error}", mend="see the server's log") from error
    standby, version = row or (True, "?")
    if standby:
        raise BackupError(f"{login.host}:{login.port} is a standby", mend="point postgres.host at the primary")
    return f"PostgreSQL {version}, primary"


def _stanza(runners: Runners) -> str:
    runners.client().run("check", "--archive-timeout=20")
    return f"pgbackrest check --stanza={runners.settings.stanza} passed"


def _lag(login: Login, archive: Archive) -> str:
    with connect(login) as connection:
        claimed = archive_lag(connection, None).claimed
        newest = archive.newest_listed()
        lag = archive_lag(connection, newest)
    if lag.failed_since is not None:
        raise BackupError(
            f"archiving fails since {lag.failed_since:%Y-%m-%d %H:%M:%S} UTC, last archived {lag.claimed or 'nothing'}",
            mend="see the logs of PostgreSQL and of the sidecar for archive_command",
        )
    if lag.behind and lag.held < claimed:
        raise BackupError(
            f"PostgreSQL archived {claimed}, the repository holds {lag.held or 'nothing'}: {lag.behind} segments lost",
            mend="take a full backup: aivo-backup backup postgres --type full",
        )
    if lag.waiting > _WAITING_SEGMENTS:
        raise BackupError(f"{lag.waiting} segments wait to be archived", mend="see whether S3 is slow or refuses")
    return f"newest in the repository {lag.held or 'none yet'}, {lag.waiting} waiting"


def _repository(runners: Runners) -> str:
    info = runners.repository().info()
    if not info.exists:
        raise BackupError(f"stanza {runners.settings.stanza} does not exist", mend="aivo-backup init postgres")
    if not info.sets:
        raise BackupError("no backup in the repository", mend="aivo-backup backup postgres --type full")
    return f"{len(info.sets)} backup sets, newest {info.sets[-1].label}"


def _buckets(source: "S3Client", settings: MinioSettings) -> str:
    with translated(f"MinIO at {settings.endpoint}"):
        found = source.list_buckets()["Buckets"]
    return f"{settings.endpoint} answers, {len(found)} buckets"


def _readable(source: "S3Client", settings: MinioSettings) -> str:
    with translated(f"MinIO at {settings.endpoint}"):
        names = settings.buckets or tuple(entry.get("Name", "") for entry in source.list_buckets()["Buckets"])
    for name in names:
        with translated(f"MinIO bucket {name}"):
            found = source.list_objects_v2(Bucket=name, MaxKeys=1).get("Contents", [])
            for entry in found:
                source.get_object(Bucket=name, Key=entry.get("Key", ""))["Body"].close()
    return f"{len(names)} buckets listed and read"


def _health(repository: Repository) -> str:
    health = repository.cluster.get("_cluster", "health", what="reading OpenSearch's health")
    text = f"{health['status']}, {health['number_of_nodes']} nodes, {health['unassigned_shards']} shards unassigned"
    if health["status"] == "red":
        raise BackupError(text, mend="GET _cluster/allocation/explain says why a shard is nowhere")
    return text


def _writes(repository: Repository) -> str:
    found = refusing(repository.cluster)
    if found:
        first = ", ".join(f"{name} ({block})" for name, block in list(found.items())[:3])
        raise BackupError(
            f"{len(found)} refuse writes: {first}",
            mend="free disk space on the nodes until all are below the flood stage, or take the block off by hand",
        )
    return "no index is read-only for want of disk"


def _settings(repository: Repository) -> str:
    differences = repository.differences()
    if differences:
        raise BackupError(f"{repository.name}: {'; '.join(differences)}", mend="aivo-backup init opensearch")
    return f"{repository.name} is registered with our settings"


def _verified(repository: Repository) -> str:
    repository.verify()
    return "every node wrote and read a probe"


def _snapshots(repository: Repository, longest: timedelta, now: datetime) -> str:
    known = Snapshots(repository).all()
    if not known:
        raise BackupError("the repository holds no snapshot", mend="aivo-backup backup opensearch")
    newest = max(known, key=lambda snapshot: snapshot.started)
    seconds = (now - newest.started).total_seconds()
    if newest.outcome is SnapshotOutcome.RUNNING and seconds > longest.total_seconds():
        raise BackupError(
            f"{newest.name} has run for {seconds:.0f} s, it may take {longest.total_seconds():.0f} s",
            mend=f"GET _snapshot/{repository.name}/{newest.name}/_status names the shard that it waits for",
        )
    if newest.outcome in (SnapshotOutcome.PARTIAL, SnapshotOutcome.FAILED):
        raise BackupError(
            f"{newest.name} is {newest.outcome.value}",
            mend="mend red indices first, then aivo-backup backup opensearch",
        )
    return f"{len(known)} snapshots, newest {newest.name}: {newest.outcome.value}"
