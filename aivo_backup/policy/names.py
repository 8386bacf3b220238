"""Names that the Pulumi program gives and that jobs, functions, the CLI and the sandbox look up.

Each is written once, here. What differs by environment is a function of the environment's name.
"""

from enum import StrEnum

from aivo_backup.policy.environment import Component

PROJECT = "aivo-backup"
"""Name of the Pulumi project, of the label ``app.kubernetes.io/part-of`` and the prefix of every name in an account."""

SETTINGS_CONFIG_MAP = "aivo-backup-settings"
SETTINGS_KEY = "settings.json"
SETTINGS_MOUNT = "/etc/aivo-backup"
SECRETS_MOUNT = "/etc/aivo-backup-secrets"
STATE_MOUNT = "/var/lib/aivo-backup"
SCRATCH_MOUNT = "/tmp"  # noqa: S108 - the pod's own empty volume, not a shared folder

SETTINGS_VARIABLE = "AIVO_BACKUP_SETTINGS"
SECRETS_VARIABLE = "AIVO_BACKUP_SECRETS"
STATE_VARIABLE = "AIVO_BACKUP_STATE"
JOB_VARIABLE = "AIVO_BACKUP_JOB"

SECRET_MINIO_SOURCE = "minio-source"  # noqa: S105 - the name of a secret, not a secret
SECRET_OPENSEARCH = "opensearch"  # noqa: S105
SECRET_OPENSEARCH_EXPIRER = "opensearch-expirer"  # noqa: S105
"""The one login that may delete snapshots."""
SECRET_POSTGRES = "postgres"  # noqa: S105
SECRET_PGBACKREST_CLIENT = "pgbackrest-client"  # noqa: S105
SECRET_PGBACKREST_SERVER = "pgbackrest-server"  # noqa: S105
SECRET_PGBACKREST_HOST = "pgbackrest-host"  # noqa: S105

AGENT = "aivo-backup-agent"
AGENT_PORT = 9464
"""Where the agent serves its metrics; the number that OpenTelemetry's exporters of Prometheus metrics use."""
ALERT_RULES_CONFIG_MAP = "aivo-backup-prometheus-rules"
ALERT_RULES_KEY = "aivo-backup.rules.yaml"
SIDECAR = "aivo-backup-sidecar"

CIPHER_PREFIX = "envelope/"
"""Where the wrapped cipher pass of the pgBackRest repository is, in the PostgreSQL bucket."""
CIPHER_CONTEXT = {"aivo-backup": "pgbackrest-cipher-pass"}
"""KMS encryption context of that pass: keys let it be unwrapped under this context only."""
ARCHIVE_PREFIX = "archive/"
BACKUP_PREFIX = "backup/"
INVENTORY_PREFIX = "inventory/"
MINIO_DATA_PREFIX = "minio-data/"
MINIO_LONG_PREFIX = "minio-long/"
MINIO_MANIFEST_PREFIX = "metadata/minio/"
SNAPSHOTS_PREFIX = "snapshots/"
RECORDS_PREFIX = "records/"
REPORTS_PREFIX = "reports/"
LEASES_PREFIX = "leases/"
REVIEWS_PREFIX = "review/"
"""Where the yearly reviews are, among the recovery documents."""
ACCESS_LOGS_PREFIX = "access-logs/"
DRILL_BUCKETS = "aivo-drill-"
"""What the name of every bucket begins with that a drill restores into; no backup takes them."""

COMPLIANCE = "compliance"
AUDIT = "audit"
DOCUMENTS = "dr-documents"
VAULT = "vault"
LOGS = "logs"
SIGNING = "signing"
"""The asymmetric key that seals evidence."""
OPERATIONS = "operations"
"""The key of what is not backup data: log groups, queues, topics, the settings parameter and secrets."""


class Role(StrEnum):
    """Who acts. Each value is one IAM role; writing, expiring, testing, restoring and administering are apart."""

    POSTGRES_WRITER = "postgres-writer"
    POSTGRES_ARCHIVER = "postgres-archiver"
    MINIO_WRITER = "minio-writer"
    OPENSEARCH_WRITER = "opensearch-writer"
    OPENSEARCH_STORE = "opensearch-store"
    POSTGRES_EXPIRER = "postgres-expirer"
    MINIO_EXPIRER = "minio-expirer"
    OPENSEARCH_EXPIRER = "opensearch-expirer"
    AGENT = "agent"
    INITIALISER = "initialiser"
    VERIFIER = "verifier"
    REGISTRAR = "registrar"
    REPORTER = "reporter"
    RESTORER = "restorer"
    RESTORE_TESTER = "restore-tester"
    DRILLER = "driller"
    SCHEDULER = "scheduler"
    REPLICATOR = "replicator"
    SECURITY_FORWARDER = "security-forwarder"


class Function(StrEnum):
    """The Lambda functions; the value is also the package under ``lambdas/``."""

    VERIFY_RESTORE = "verify_restore"
    REGISTER_SNAPSHOT = "register_snapshot"
    COMPLIANCE_REPORT = "compliance_report"

    @property
    def handler(self) -> str:
        """What the runtime imports and calls."""
        return f"lambdas.{self.value}.handler.handler"


WRITERS = {
    Component.POSTGRES: Role.POSTGRES_WRITER,
    Component.MINIO: Role.MINIO_WRITER,
    Component.OPENSEARCH: Role.OPENSEARCH_WRITER,
}


def restore_test_job(component: Component) -> str:
    """The suspended CronJob whose template a restore test is started from that outgrows a function."""
    return f"restore-test-{component.value}"


DISPATCH_GROUP = f"{PROJECT}:restore-test-dispatch"
"""The Kubernetes group that the role of the function that starts them is taken into by its access entry."""


RESTORERS_GROUP = f"{PROJECT}:restorers"
"""The Kubernetes group of those who restore in the cluster; an access entry takes the restorer's role into it."""


EXPIRERS = {
    Component.POSTGRES: Role.POSTGRES_EXPIRER,
    Component.MINIO: Role.MINIO_EXPIRER,
    Component.OPENSEARCH: Role.OPENSEARCH_EXPIRER,
}


def key_of(use: str) -> str:
    """The use of the key that a bucket is encrypted with: every locked bucket has that of ``compliance``."""
    return COMPLIANCE if use in (COMPLIANCE, AUDIT, DOCUMENTS, VAULT) else use


def bucket_name(use: str, suffix: str) -> str:
    """The bucket of a component, of ``compliance`` or of ``logs``.

    Args:
        suffix: what makes the name unique among all of AWS's customers; empty in the sandbox, where the runbook's
            names are used as they are.
    """
    return f"{PROJECT}-{use}{suffix}"


def key_alias(environment: str, use: str) -> str:
    """The alias of the KMS key of a component or of ``compliance``."""
    return f"alias/{PROJECT}/{environment}/{use}"


def role_name(environment: str, role: Role) -> str:
    """The name of an IAM role; a function of the environment only, so that ARNs are known before the role exists."""
    return f"{PROJECT}-{environment}-{role.value}"


def role_arn(account_id: str, environment: str, role: Role) -> str:
    """The ARN of an IAM role."""
    return f"arn:aws:iam::{account_id}:role/{role_name(environment, role)}"


def service_account(role: Role) -> str:
    """The Kubernetes service account whose pods take on a role."""
    return f"{PROJECT}-{role.value}"


def function_name(environment: str, function: Function) -> str:
    """The name of a Lambda function."""
    return f"{PROJECT}-{environment}-{function.value.replace('_', '-')}"


def failed_events_queue(environment: str) -> str:
    """The queue of events that a function or the scheduler failed on."""
    return f"{PROJECT}-{environment}-failed-events"


def alert_topic(environment: str, level: int) -> str:
    """The SNS topic of an escalation level (1 to 3)."""
    return f"{PROJECT}-{environment}-level{level}"


SECURITY_TOPIC = "security"


def security_topic(environment: str) -> str:
    """The SNS topic of the Security team."""
    return f"{PROJECT}-{environment}-{SECURITY_TOPIC}"


class SecurityEvent(StrEnum):
    """What the Security team is told of as it happens. Each value is one EventBridge rule."""

    KEY_AT_RISK = "key-at-risk"
    BUCKET_CHANGED = "bucket-changed"
    LOCK_CHANGED = "lock-changed"
    VERSION_DELETED = "version-deleted"
    BUCKET_ACCESS_DENIED = "bucket-access-denied"
    KEY_ACCESS_DENIED = "key-access-denied"
    TRAIL_CHANGED = "trail-changed"


def security_rule(environment: str, event: SecurityEvent) -> str:
    """The EventBridge rule of a security event."""
    return f"{PROJECT}-{environment}-{event.value}"


def trail_name(environment: str) -> str:
    """The CloudTrail trail of an environment."""
    return f"{PROJECT}-{environment}"


def schedule_group(environment: str) -> str:
    """The EventBridge Scheduler group of an environment."""
    return f"{PROJECT}-{environment}"


def settings_parameter(environment: str) -> str:
    """The SSM parameter that holds the settings."""
    return f"/{PROJECT}/{environment}/settings"


def secret_name(environment: str, secret: str) -> str:
    """The Secrets Manager name of a secret that functions read."""
    return f"{PROJECT}/{environment}/{secret}"


def state_claim(job: str) -> str:
    """The volume claim that keeps one CronJob's spool between its pods."""
    return f"{job}-state"
