"""The one settings object of an environment.

The Pulumi program builds an :class:`Environment` from its stack configuration and publishes it three times with the
same content: as the config map ``aivo-backup-settings``, as the SSM parameter ``/aivo-backup/<name>/settings`` and as
a stack output. Jobs, functions and the CLI read it back, so no name is typed twice. It never holds a secret: only the
names of the places where secrets are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.policy.recovery import RecoverySettings


class Component(StrEnum):
    """A store that is kept recoverable."""

    POSTGRES = "postgres"
    MINIO = "minio"
    OPENSEARCH = "opensearch"


class BackupKind(StrEnum):
    """What a run takes. For OpenSearch, whose snapshots are always incremental, it names the retention class."""

    FULL = "full"
    INCREMENTAL = "incr"


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """The service level objectives (runbook, "Service Level Objectives")."""

    rpo_seconds: int = 3600
    rto_seconds: int = 7200
    backup_success_rate: float = 0.995
    verification_success_rate: float = 0.99


@dataclass(frozen=True, kw_only=True)
class DatabasePod:
    """The StatefulSet that the database runs in, which is not ours, and what is put into its pod.

    Attributes:
        container: the name of PostgreSQL's own container.
        data_volume: the name of the volume (of the claim template) that holds the data directory; mounted at the folder
            above it.
        user_id: the user that PostgreSQL runs as: 999 in the official image, 26 and 70 in others.
        group_id: its group.
        has_fs_group: the StatefulSet hands its volumes to a group, as nearly every chart does. Where it does not, the
            pod's processes join root's group to read their certificates: an fsGroup that is set later would open the
            data directory to that group, and PostgreSQL refuses to start on such a one.
        image: our image; the program fills it in from ``cluster.image``.
        sidecar_memory: limit of the sidecar's memory.
        zone: of the data volume, for the Job that restores onto it; where the volume itself says it, leave it empty.
    """

    namespace: str = "aivo"
    stateful_set: str = "postgresql"
    container: str = "postgresql"
    service_account: str = "postgresql"
    data_volume: str = "data"
    user_id: int = 999
    group_id: int = 999
    has_fs_group: bool = True
    image: str = ""
    image_pull_policy: str = "IfNotPresent"
    sidecar_memory: str = "512Mi"
    zone: str = ""


@dataclass(frozen=True, kw_only=True)
class PostgresSettings:
    """The database, its pgBackRest sidecar, and the repository.

    Attributes:
        host: where PostgreSQL accepts connections (also used for heartbeats and archiver facts).
        sidecar_host: where the pgBackRest TLS server beside the database answers.
        data_path: the data directory as PostgreSQL's own container and the sidecar see it.
        socket_path: the Unix socket directory, likewise.
        bin_path: the folder with the server's programs on the machine that restores.
        archive_timeout_seconds: the longest a write can wait before its WAL segment is archived.
        restore_bytes_per_second: measured restore rate, for the RTO proof.
        verified_points_kept: so many backup sets whose restore test passed stay, however old they are.
        sentinel_queries: SQL by name, each returning one boolean that must be true after a restore.
        pod: where the database runs in the cluster.
        pgbackrest_version: the version in the image, as its label says; no other one is worked with. Any when empty.
    """

    host: str
    port: int = 5432
    database: str = "postgres"
    stanza: str = "aivo-postgres"
    sidecar_host: str
    sidecar_port: int = 8432
    sidecar_config: str = "/etc/pgbackrest/sidecar.conf"
    host_config: str = "/etc/pgbackrest/host.conf"
    data_path: str = "/var/lib/postgresql/data/pgdata"
    socket_path: str = "/var/run/postgresql"
    bin_path: str = "/usr/lib/postgresql/15/bin"
    archive_timeout_seconds: int = 60
    process_max: int = 2
    full_backups_kept: int = 7
    recovery_window_days: int = 14
    verified_points_kept: int = 2
    size_bytes: int = 0
    restore_bytes_per_second: int = 50_000_000
    sentinel_queries: Mapping[str, str] = field(default_factory=dict[str, str])
    pod: DatabasePod = field(default_factory=DatabasePod)
    pgbackrest_version: str = ""


@dataclass(frozen=True, kw_only=True)
class MinioSettings:
    """The object store and how it is mirrored.

    Attributes:
        endpoint: URL of the source.
        buckets: the source buckets to back up; empty means all of them.
        verified_points_kept: so many points whose restore test passed stay, however old they are.
        deletion_guard_share: a run that would find more than this share of the last point's objects gone stops with
            an alarm and changes nothing.
        transfers: objects copied at once.
        bytes_in_flight: upper bound of object bytes held in memory by all transfers together.
        verify_share: share of the bytes that one restore test reads and hashes (rotating).
        source_secret: name of the Secrets Manager secret for code outside the cluster.
    """

    endpoint: str
    buckets: tuple[str, ...] = ()
    heartbeat_bucket: str = "aivo-heartbeat"
    retention_days: int = 30
    increment_retention_hours: int = 48
    verified_points_kept: int = 2
    deletion_guard_share: float = 0.2
    transfers: int = 16
    bytes_in_flight: int = 128 * 1024 * 1024
    part_bytes: int = 16 * 1024 * 1024
    verify_share: float = 0.1
    size_bytes: int = 0
    restore_bytes_per_second: int = 50_000_000
    source_secret: str = ""


class RepositoryType(StrEnum):
    """Where OpenSearch keeps its snapshots. ``fs`` is for the sandbox, where the S3 plugin cannot be had."""

    S3 = "s3"
    FS = "fs"


@dataclass(frozen=True, kw_only=True)
class OpenSearchSettings:
    """The cluster, its snapshot repository, and what is left out.

    Attributes:
        internal_endpoint: the same cluster's address outside Kubernetes, for functions, which resolve no name of it;
            ``endpoint`` when empty.
        verification_endpoint: the cluster on which restore tests run; the production cluster when empty.
        fs_location: repository folder for :attr:`RepositoryType.FS`.
        verified_points_kept: so many snapshots whose restore test passed stay, however old they are.
        index_patterns: what is snapshotted; system and security indices (leading dot) are always left out.
        bytes_per_second: repository and recovery rate limit set on the repository (the default 40 MB/s breaks a
            2-hour RTO at size).
        login_secret: name of the Secrets Manager secret for code outside the cluster.
    """

    endpoint: str
    internal_endpoint: str = ""
    verification_endpoint: str = ""
    repository: str = "aivo-snapshots"
    repository_type: RepositoryType = RepositoryType.S3
    fs_location: str = ""
    base_path: str = "snapshots"
    index_patterns: tuple[str, ...] = ("*",)
    heartbeat_index: str = "aivo-heartbeat"
    retention_days: int = 30
    increment_retention_hours: int = 48
    verified_points_kept: int = 2
    bytes_per_second: int = 200_000_000
    sampled_documents: int = 50
    size_bytes: int = 0
    restore_bytes_per_second: int = 50_000_000
    login_secret: str = ""


@dataclass(frozen=True, kw_only=True)
class VerificationSettings:
    """What a function can hold, and where a restore test goes that it cannot.

    Attributes:
        cluster: name of the EKS cluster that takes it as a Job; none when empty.
        function_seconds: how long the function may run.
        function_bytes: its scratch disk.
    """

    cluster: str = ""
    function_seconds: int = 900
    function_bytes: int = 10 * 1024**3


class LockMode(StrEnum):
    """S3 Object Lock modes: GOVERNANCE can be lifted by a named permission, COMPLIANCE by nobody."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


@dataclass(frozen=True, kw_only=True)
class EvidenceSettings:
    """Where records and reports go and how long they are locked (runbook, "Retention Policies").

    Attributes:
        bucket: the locked compliance bucket that holds the catalog and the reports.
        lock_days: how long a record cannot be deleted.
    """

    bucket: str
    lock_mode: LockMode
    lock_days: int


class UnprovenPoints(StrEnum):
    """What a restore does with a recovery point that no restore test has passed."""

    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True)
class ScheduledRun:
    """One row of the schedule: a run that is expected to happen.

    Attributes:
        name: the CronJob's or EventBridge schedule's name.
        cron: five-field expression in UTC.
        start_deadline_seconds: the longest a start may be late.
        longest_run_seconds: the deadline after which the run is ended; a run in progress yields no newer point.
    """

    name: str
    component: Component
    kind: BackupKind
    cron: str
    start_deadline_seconds: int
    longest_run_seconds: int


@dataclass(frozen=True, kw_only=True)
class SecondRegion:
    """Where the copies of every backup bucket are; there is none when ``region`` is empty.

    Attributes:
        buckets: component, and ``compliance``, to the name of the copy.
        keys: likewise to the ARN of the KMS key that the copies are encrypted with.
    """

    region: str = ""
    buckets: Mapping[str, str] = field(default_factory=dict[str, str])
    keys: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class ExpiryRun:
    """One CronJob that removes what retention no longer keeps.

    Attributes:
        arguments: what ``aivo-backup`` is called with.
    """

    name: str
    component: Component
    arguments: tuple[str, ...]
    cron: str
    start_deadline_seconds: int
    longest_run_seconds: int


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One environment. Buckets and keys are by component name.

    Attributes:
        name: ``local``, ``dev``, ``staging`` or ``prod``.
        namespace: the Kubernetes namespace of the jobs.
        production: restores in place ask for the environment's name to be typed.
        buckets: component to bucket name (``aivo-backup-postgres`` and so on).
        keys: component, and ``compliance``, to KMS key ARN.
        restore_role: ARN that the CLI assumes for restores; empty means the caller's own identity.
        backups: every scheduled backup run; the denominator of the backup success rate.
        expiries: every scheduled removal of what retention no longer keeps.
        verification_cron: when the daily restore test runs, per component.
        replica: the second region, from which everything can be restored alone.
        verification: where restore tests are held.
    """

    name: str
    region: str
    account_id: str
    namespace: str = "aivo-system"
    production: bool = False
    objectives: Objectives = field(default_factory=Objectives)
    buckets: Mapping[str, str]
    keys: Mapping[str, str]
    evidence: EvidenceSettings
    postgres: PostgresSettings
    minio: MinioSettings
    opensearch: OpenSearchSettings
    backups: tuple[ScheduledRun, ...]
    expiries: tuple[ExpiryRun, ...] = ()
    verification_cron: str = "0 6 * * *"
    restore_role: str = ""
    replica: SecondRegion = field(default_factory=SecondRegion)
    unproven_points: UnprovenPoints = UnprovenPoints.WARN
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    verification: VerificationSettings = field(default_factory=VerificationSettings)

    def store(self, component: Component) -> PostgresSettings | MinioSettings | OpenSearchSettings:
        """The settings of one component."""
        match component:
            case Component.POSTGRES:
                return self.postgres
            case Component.MINIO:
                return self.minio
            case Component.OPENSEARCH:
                return self.opensearch

    def from_outside(self) -> "Environment":
        """The environment as a function sees it, which runs in the VPC and resolves no name of the cluster."""
        search = self.opensearch
        return replace(self, opensearch=replace(search, endpoint=search.internal_endpoint or search.endpoint))

    def in_second_region(self) -> "Environment":
        """The environment with the copies' buckets, keys and region in place of its own.

        Raises:
            ConfigurationError: it has no second region.
        """
        there = self.replica
        if not there.region:
            raise ConfigurationError(
                f"{self.name} has no second region", mend="set aivo-backup:replica in its stack and provision again"
            )
        return replace(
            self,
            region=there.region,
            buckets=there.buckets,
            keys=there.keys,
            evidence=replace(self.evidence, bucket=self._lookup(there.buckets, "compliance", "replica.buckets")),
            replica=SecondRegion(),
        )

    def bucket(self, component: Component) -> str:
        """The backup bucket of a component.

        Raises:
            ConfigurationError: the settings name none.
        """
        return self._lookup(self.buckets, component.value, "buckets")

    def key(self, use: str) -> str:
        """The KMS key ARN of a component, or of ``compliance``.

        Raises:
            ConfigurationError: the settings name none.
        """
        return self._lookup(self.keys, use, "keys")

    def _lookup(self, names: Mapping[str, str], key: str, where: str) -> str:
        if key not in names:
            raise ConfigurationError(
                f"settings of {self.name}: {where}.{key} is missing", mend="provision the environment again"
            )
        return names[key]

    @staticmethod
    def from_json(data: object, *, where: str) -> "Environment":
        """Reads the settings back from their JSON form.

        Raises:
            ConfigurationError: naming the key that is unknown, missing or mistyped.
        """
        return from_json(Environment, data, where=where)

    def to_json(self) -> Any:
        """The JSON form that is published."""
        return to_json(self)
