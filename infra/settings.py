"""Stack configuration to typed, validated settings. Nothing is registered before all of it has been checked.

Keys are spelled as in the published ``settings.json``. None of them holds a secret: secrets are named, and live in
Kubernetes secrets and in Secrets Manager.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, get_type_hints

from aivo_backup.policy.bounds import holds
from aivo_backup.policy.codec import from_json
from aivo_backup.policy.environment import (
    ExpiryRun,
    LockMode,
    MinioSettings,
    Objectives,
    OpenSearchSettings,
    PostgresSettings,
    ScheduledRun,
    UnprovenPoints,
)
from aivo_backup.policy.names import PROJECT
from aivo_backup.policy.recovery import RecoverySettings
from aivo_backup.policy.schedules import BACKUPS, EXPIRIES, VERIFICATION_CRON

Row = TypeVar("Row", ScheduledRun, ExpiryRun)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The Kubernetes cluster that runs the jobs.

    Attributes:
        oidc_provider: the cluster's OIDC issuer without ``https://``; roles trust its service accounts.
        image: the job image; pinned by digest wherever the environment is production-like.
        pgbackrest_version: what the image's label ``com.aivo.backup.pgbackrest`` says; `make image` prints it. Jobs and
            sidecar refuse to work with another one.
        create_namespace: create the namespace under the restricted Pod Security level; adopted when false.
        store_namespace: where PostgreSQL, MinIO and OpenSearch run.
        postgres_service_account: service account of the database's pods; its sidecar archives WAL.
        opensearch_service_account: service account of OpenSearch's pods; they write the snapshots.
        storage_class: class of the volumes that keep spools and scratch; the cluster's default when empty.
        name: the EKS cluster's name, through whose API functions hand over restore tests that outgrow them; none of
            them may when empty.
        restore_test_scratch: size of the volume that such a test restores onto; it lives as long as the Job.
        priority_class: of every pod of ours; the cluster's default when empty. A backup that is pushed off its node
            half way is a failed run, so the class should preempt what can wait.
    """

    oidc_provider: str
    image: str
    pgbackrest_version: str = ""
    image_pull_policy: str = "IfNotPresent"
    namespace: str = "aivo-system"
    create_namespace: bool = False
    store_namespace: str = "aivo"
    postgres_service_account: str = "postgresql"
    opensearch_service_account: str = "opensearch"
    storage_class: str = ""
    name: str = ""
    restore_test_scratch: str = "20Gi"
    priority_class: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What network policies open. What reaches what is the table in :mod:`infra.network`.

    Attributes:
        aws_ranges: where AWS's APIs answer on port 443: everywhere, or the ranges of your VPC endpoints.
        cluster_api_ranges: where the cluster's own API answers on port 443: its addresses in the VPC.
        restore_cluster_ranges: where the OpenSearch cluster of restore tests answers (``verification_endpoint``).
        dns_namespace: where the cluster's DNS runs.
        endpoints: make VPC endpoints for every AWS service that a function reaches; false where they, or NAT, exist.
        vpc: the VPC of the functions' subnets, for the endpoints.
        route_tables: of those subnets, for the S3 gateway endpoint.
        monitoring_namespace: where Prometheus runs, which reads the agent's metrics.
    """

    restore_cluster_ranges: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    endpoints: bool = False
    vpc: str = ""
    route_tables: tuple[str, ...] = ()
    aws_ranges: tuple[str, ...] = ("0.0.0.0/0",)
    cluster_api_ranges: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    dns_namespace: str = "kube-system"
    monitoring_namespace: str = "monitoring"


@dataclass(frozen=True, kw_only=True)
class ReplicaSettings:
    """The second region.

    Attributes:
        region: where the copies are; no replica when empty.
        account_id: the vault account that owns the copies; the environment's own when empty.
        provisioning_role: ARN of the role in the vault account that this program acts under there.
    """

    region: str = ""
    account_id: str = ""
    provisioning_role: str = ""

    @property
    def ours(self) -> bool:
        """Whether there are copies, and they belong to the environment's own account."""
        return bool(self.region) and not self.account_id


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Whom alarms reach (runbook, "Escalation Path"): e-mail addresses, and telephone numbers for text messages.

    Attributes:
        level1: of the data reliability engineers and whoever is on call; each address confirms its subscription once.
        level2: of the infrastructure engineering manager.
        level3: of the CTO / VP engineering.
        security: of the Security team, which is told of what endangers the backups themselves: :mod:`infra.security`.
    """

    level1: tuple[str, ...] = ()
    level2: tuple[str, ...] = ()
    level3: tuple[str, ...] = ()
    security: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FunctionSettings:
    """The Lambda functions.

    Attributes:
        image: the image, by digest wherever it is pulled from a registry.
        zipped: whatever has a zip package runs from it, also where the package lacks programs that the image has
            (sandbox only: the machine has pgBackRest and PostgreSQL).
        log_retention_days: of log groups; CloudWatch takes only its own steps.
        reserved_concurrency: at most so many at once; None leaves the account's pool open, -1 is the same to AWS.
        subnets: run inside these subnets of the VPC; outside any VPC when empty.
    """

    image: str
    zipped: bool = False
    memory_megabytes: int = 3008
    scratch_megabytes: int = 10240
    log_retention_days: int = 400
    reserved_concurrency: int | None = None
    tracing: bool = True
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvidenceLock:
    """How records and reports are locked.

    Attributes:
        days: never beyond the seven years of the retention class: a lock may not outlive what was promised.
    """

    mode: LockMode
    days: int


@dataclass(frozen=True, kw_only=True)
class ScheduleOverride:
    """What an environment changes in one row of the table of schedules; None keeps the row's own."""

    cron: str | None = None
    start_deadline_seconds: int | None = None
    longest_run_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that differs between environments.

    Attributes:
        environment: the stack's name.
        production: restores in place ask for the environment's name to be typed; images must be pinned.
        protect: Pulumi refuses to delete keys and buckets.
        bucket_suffix: makes bucket names unique among all accounts; empty uses the runbook's names as they are.
        administrators: ARNs that may administer keys (never use them); the account's root when empty.
        operators: ARNs that may take on the restorer and the initialiser.
        block_public_account: forbid public access to S3 for the whole account, not for our buckets alone; false where
            other teams of the account have buckets that are public on purpose.
        audit_trail: record every touch of buckets and keys with a trail of our own; false where the organisation's
            trail already does.
        registry: make an image repository; false where images come from one that exists.
        schedules: overrides by the schedule's name.
        unproven_points: whether a restore of a point that passed no restore test yet is refused, or warned of. At
            03:00 the newest point may be the only good one, so the default warns.
    """

    environment: str
    region: str
    account_id: str
    production: bool = False
    protect: bool = True
    owner: str
    bucket_suffix: str
    key_deletion_days: int = 30
    administrators: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    objectives: Objectives = field(default_factory=Objectives)
    evidence: EvidenceLock
    cluster: ClusterSettings
    functions: FunctionSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    replica: ReplicaSettings = field(default_factory=ReplicaSettings)
    block_public_account: bool = True
    audit_trail: bool = True
    registry: bool = True
    postgres: PostgresSettings
    minio: MinioSettings
    opensearch: OpenSearchSettings
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    schedules: Mapping[str, ScheduleOverride] = field(default_factory=dict[str, ScheduleOverride])
    verification_cron: str = VERIFICATION_CRON
    unproven_points: UnprovenPoints = UnprovenPoints.WARN

    @property
    def backups(self) -> tuple[ScheduledRun, ...]:
        """The table of backup schedules with this environment's overrides."""
        return tuple(_overridden(row, self.schedules.get(row.name)) for row in BACKUPS)

    @property
    def expiries(self) -> tuple[ExpiryRun, ...]:
        """The table of expiries with this environment's overrides."""
        return tuple(_overridden(row, self.schedules.get(row.name)) for row in EXPIRIES)

    @property
    def sandbox(self) -> bool:
        """Whether this is the environment that is realised on one machine."""
        return self.environment == "local"


def load(stack: str, values: Mapping[str, str]) -> Settings:
    """Settings of a stack, typed; :func:`infra.validation.check` judges their values.

    Args:
        stack: the environment's name.
        values: the stack's configuration as Pulumi hands it to a program: ``aivo-backup:key`` to a string, JSON for
            whatever is not a string itself. Keys of other namespaces (providers) are left alone.

    Raises:
        ConfigurationError: a key is unknown, missing or mistyped; the message names it.
    """
    kinds = get_type_hints(Settings)
    data: dict[str, object] = {}
    for key, text in values.items():
        space, _, name = key.partition(":")
        if space == PROJECT:
            data[name] = text if kinds.get(name) is str else _parsed(text)
    holds(
        f"{PROJECT}.environment",
        data.get("environment", stack),
        data.get("environment", stack) == stack,
        bound=f"the stack is called {stack}; leave the key out",
    )
    return from_json(Settings, {**data, "environment": stack}, where=PROJECT)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # Left as text: the typed reader names the key, the value and what it should have been.
        return text


def _overridden(row: Row, override: ScheduleOverride | None) -> Row:
    if override is None:
        return row
    return replace(
        row,
        cron=row.cron if override.cron is None else override.cron,
        start_deadline_seconds=(
            row.start_deadline_seconds if override.start_deadline_seconds is None else override.start_deadline_seconds
        ),
        longest_run_seconds=(
            row.longest_run_seconds if override.longest_run_seconds is None else override.longest_run_seconds
        ),
    )
