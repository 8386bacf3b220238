"""What the values of an environment's settings may be. Each refusal names the key, the value and the bound."""

from aivo_backup.policy.bounds import holds, matching, within
from aivo_backup.policy.environment import LockMode
from aivo_backup.policy.names import DOCUMENTS, Function, bucket_name
from aivo_backup.policy.objectives import require_objectives
from aivo_backup.policy.pgbackrest import SAFE, Version
from aivo_backup.policy.retention import (
    COMPLIANCE_DAYS,
)
from aivo_backup.policy.schedules import backup_in_the_way, check_cron
from infra.alerting import least_daily_calls
from infra.settings import ClusterSettings, FunctionSettings, Settings
from infra.validation_network import check_network
from infra.validation_stores import check_stores
from infra.validation_words import DNS_LABEL, key

_ARN = r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:(?:\d{12})?:\S+"
_ACCOUNT = r"\d{12}"
_REGION = r"[a-z]{2}(?:-[a-z]+)+-\d"
_DIGEST = r"[^\s@]+@sha256:[0-9a-f]{64}"
_DIGEST_EXAMPLE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/aivo-backup@sha256:<64 hex digits>"
# An e-mail address, or a telephone number as E.164 writes it.
_CONTACT = r"[^@\s]+@[^@\s]+\.[^@\s]+|\+[1-9]\d{6,14}"
_BUCKET_LIMIT = 63
# The CronJob controller looks every 10 seconds; a shorter deadline can pass between two looks.
_SHORTEST_DEADLINE = 10
_LAMBDA = "what Lambda allows"
_DAY = 86400
# The steps that CloudWatch Logs accepts; below a year, an incident found late has no log any more.
_LOG_RETENTION_STEPS = (365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


def check(settings: Settings) -> None:
    """Refuses settings that cannot be used.

    Raises:
        ConfigurationError: the first setting out of its bounds, with key, value and bound.
    """
    _check_account(settings)
    _check_evidence(settings)
    _check_cluster(settings.cluster, pinned=settings.protect)
    _check_functions(settings.functions, sandbox=settings.sandbox)
    _check_alerts(settings)
    _check_replica(settings)
    check_stores(settings)
    _check_schedules(settings)
    check_network(settings)
    require_objectives(
        objectives=settings.objectives,
        backups=settings.backups,
        postgres=settings.postgres,
        minio=settings.minio,
        opensearch=settings.opensearch,
    )


def _check_account(settings: Settings) -> None:
    matching(key("environment"), settings.environment, pattern=r"[a-z][a-z0-9-]{1,15}", example="prod")
    matching(key("region"), settings.region, pattern=_REGION, example="us-east-1")
    matching(key("account_id"), settings.account_id, pattern=_ACCOUNT, example="123456789012")
    matching(
        key("bucket_suffix"), settings.bucket_suffix, pattern=r"|-[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", example="-prod-x"
    )
    longest = bucket_name(DOCUMENTS, f"{settings.bucket_suffix}-replica")
    holds(
        key("bucket_suffix"),
        settings.bucket_suffix,
        len(longest) <= _BUCKET_LIMIT,
        bound=f"{longest} has {len(longest)} characters, S3 allows {_BUCKET_LIMIT}",
    )
    holds(
        key("bucket_suffix"),
        settings.bucket_suffix,
        settings.sandbox or bool(settings.bucket_suffix),
        bound="bucket names are shared by all of AWS's customers: give a suffix such as -prod-123456789012",
    )
    within(key("key_deletion_days"), settings.key_deletion_days, low=7, high=30, why="what KMS allows")
    holds(
        key("key_deletion_days"),
        settings.key_deletion_days,
        not settings.production or settings.key_deletion_days == 30,
        bound="a production key waits the full 30 days, so that a deletion by mistake is noticed",
    )
    for name in ("administrators", "operators"):
        arns: tuple[str, ...] = getattr(settings, name)
        for arn in arns:
            matching(key(name), arn, pattern=_ARN, example=f"arn:aws:iam::{settings.account_id}:role/backup-{name}")
    holds(
        key("administrators"),
        settings.administrators,
        not settings.production or bool(settings.administrators),
        bound="a production environment names who administers its keys",
    )
    objectives = settings.objectives
    within(key("objectives", "rpo_seconds"), objectives.rpo_seconds, low=60, high=_DAY, why="seconds")
    within(key("objectives", "rto_seconds"), objectives.rto_seconds, low=60, high=7 * _DAY, why="seconds")
    for name in ("backup_success_rate", "verification_success_rate"):
        within(key("objectives", name), getattr(objectives, name), low=0.5, high=1, why="a share of 1")


def _check_evidence(settings: Settings) -> None:
    lock = settings.evidence
    within(
        key("evidence", "days"),
        lock.days,
        low=1,
        high=COMPLIANCE_DAYS,
        why="a lock may not outlive the seven years that are promised",
    )
    holds(
        key("evidence", "days"),
        lock.days,
        not settings.production or lock.days == COMPLIANCE_DAYS,
        bound=f"the compliance class is {COMPLIANCE_DAYS} days in production",
    )
    holds(
        key("evidence", "mode"),
        lock.mode.value,
        not settings.production or lock.mode is LockMode.COMPLIANCE,
        bound="a production lock is COMPLIANCE: nobody lifts it",
    )


def _check_cluster(cluster: ClusterSettings, *, pinned: bool) -> None:
    matching(
        key("cluster", "oidc_provider"),
        cluster.oidc_provider,
        pattern=r"[a-z0-9.-]+(?:/[A-Za-z0-9/_-]+)?",
        example="oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE (without https://)",
    )
    for name in ("namespace", "store_namespace", "postgres_service_account", "opensearch_service_account"):
        matching(key("cluster", name), getattr(cluster, name), pattern=DNS_LABEL, example="aivo-system")
    holds(key("cluster", "image"), cluster.image, bool(cluster.image.strip()), bound="name the job image")
    # What is worth protecting is worth knowing: a tag can be moved to an image that nobody tested.
    if pinned:
        matching(key("cluster", "image"), cluster.image, pattern=_DIGEST, example=_DIGEST_EXAMPLE)
    if pinned or cluster.pgbackrest_version:
        version = key("cluster", "pgbackrest_version")
        matching(version, cluster.pgbackrest_version, pattern=r"\d+\.\d+(?:\.\d+)?", example=str(SAFE))
        holds(
            version,
            cluster.pgbackrest_version,
            not pinned or Version.parse(cluster.pgbackrest_version) >= SAFE,
            bound=f"{SAFE} or newer: an older one's expire can remove a backup that is being taken",
        )
    holds(
        key("cluster", "image_pull_policy"),
        cluster.image_pull_policy,
        cluster.image_pull_policy in ("Always", "IfNotPresent", "Never"),
        bound="Always, IfNotPresent or Never",
    )


def _check_functions(functions: FunctionSettings, *, sandbox: bool) -> None:
    if sandbox:
        holds(key("functions", "image"), functions.image, bool(functions.image.strip()), bound="name the image")
    else:
        matching(key("functions", "image"), functions.image, pattern=_DIGEST, example=_DIGEST_EXAMPLE)
    holds(
        key("functions", "zipped"),
        functions.zipped,
        sandbox or not functions.zipped,
        bound="for the sandbox: pgBackRest and PostgreSQL are in the image, not in a zip",
    )
    within(key("functions", "memory_megabytes"), functions.memory_megabytes, low=512, high=10240, why=_LAMBDA)
    within(
        key("functions", "scratch_megabytes"),
        functions.scratch_megabytes,
        low=512,
        high=10240,
        why=_LAMBDA,
    )
    holds(
        key("functions", "log_retention_days"),
        functions.log_retention_days,
        functions.log_retention_days in _LOG_RETENTION_STEPS,
        bound=f"one of {', '.join(map(str, _LOG_RETENTION_STEPS))}",
    )
    if functions.reserved_concurrency is not None:
        within(
            key("functions", "reserved_concurrency"),
            functions.reserved_concurrency,
            low=1,
            high=100,
            why="per function",
        )
    for subnet in functions.subnets:
        matching(
            key("functions", "subnets"), subnet, pattern=r"subnet-[0-9a-f]{8,17}", example="subnet-0123456789abcdef0"
        )
    for group in functions.security_groups:
        matching(
            key("functions", "security_groups"), group, pattern=r"sg-[0-9a-f]{8,17}", example="sg-0123456789abcdef0"
        )
    holds(
        key("functions", "security_groups"),
        functions.security_groups,
        bool(functions.subnets) == bool(functions.security_groups),
        bound="subnets and security groups come together",
    )


def _check_alerts(settings: Settings) -> None:
    for level in ("level1", "level2", "level3", "security"):
        addresses: tuple[str, ...] = getattr(settings.alerts, level)
        for address in addresses:
            matching(key("alerts", level), address, pattern=_CONTACT, example="on-call@aivo.com or +15550123")
        holds(
            key("alerts", level),
            addresses,
            not settings.production or bool(addresses),
            bound="in production every level of the escalation path, and the Security team, reaches somebody",
        )


def _check_replica(settings: Settings) -> None:
    replica = settings.replica
    holds(
        key("replica", "region"),
        replica.region,
        not settings.production or bool(replica.region),
        bound="production has a second region",
    )
    if not replica.region:
        return
    matching(key("replica", "region"), replica.region, pattern=_REGION, example="us-west-2")
    holds(
        key("replica", "region"),
        replica.region,
        replica.region != settings.region,
        bound="another than the home region",
    )
    if replica.account_id:
        matching(key("replica", "account_id"), replica.account_id, pattern=_ACCOUNT, example="123456789012")
        matching(
            key("replica", "provisioning_role"),
            replica.provisioning_role,
            pattern=rf"arn:aws[a-z-]*:iam::{replica.account_id}:role/\S+",
            example=f"arn:aws:iam::{replica.account_id}:role/backup-vault",
        )


def _check_schedules(settings: Settings) -> None:
    rows = (*settings.backups, *settings.expiries)
    known = {row.name for row in rows}
    for name in settings.schedules:
        holds(key("schedules", name), name, name in known, bound=f"one of {', '.join(sorted(known))}")
    for row in rows:
        check_cron(row.cron, where=key("schedules", row.name, "cron"))
        within(
            key("schedules", row.name, "start_deadline_seconds"),
            row.start_deadline_seconds,
            low=_SHORTEST_DEADLINE,
            high=_DAY,
            why="the controller looks every 10 s",
        )
        within(
            key("schedules", row.name, "longest_run_seconds"),
            row.longest_run_seconds,
            low=60,
            high=_DAY,
            why="seconds",
        )
    for expiry in settings.expiries:
        blocked = backup_in_the_way(expiry, settings.backups)
        holds(
            key("schedules", expiry.name, "cron"),
            expiry.cron,
            blocked is None,
            bound=f"{blocked.name if blocked else ''} may become due while it runs, and would be superseded: choose "
            "an hour between two backups, or a shorter longest_run_seconds",
        )
    check_cron(settings.verification_cron, where=key("verification_cron"))
    holds(
        key("verification_cron"),
        settings.verification_cron,
        least_daily_calls(Function.VERIFY_RESTORE, settings.verification_cron) > 0,
        bound="a restore test is held every day",
    )
