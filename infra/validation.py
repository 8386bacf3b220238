"""What the values of an environment's settings may be. Each refusal names the key, the value and the bound."""

from aivo_backup.policy.bounds import holds, matching, within
from aivo_backup.policy.environment import LockMode, RepositoryType
from aivo_backup.policy.names import DOCUMENTS, PROJECT, Function, bucket_name
from aivo_backup.policy.objectives import require_objectives
from aivo_backup.policy.pgbackrest import SAFE, Version
from aivo_backup.policy.retention import (
    COMPLIANCE_DAYS,
    MINIO_DAYS,
    OPENSEARCH_DAYS,
    POSTGRES_FULLS_KEPT,
    POSTGRES_RECOVERY_WINDOW_DAYS,
)
from aivo_backup.policy.schedules import backup_in_the_way, check_cron
from infra.alerting import least_daily_calls
from infra.settings import ClusterSettings, FunctionSettings, Settings
from infra.validation_network import check_network

_ARN = r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:(?:\d{12})?:\S+"
_ACCOUNT = r"\d{12}"
_REGION = r"[a-z]{2}(?:-[a-z]+)+-\d"
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DIGEST = r"[^\s@]+@sha256:[0-9a-f]{64}"
_DIGEST_EXAMPLE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/aivo-backup@sha256:<64 hex digits>"
_URL = r"https?://[^\s/]+"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
# An e-mail address, or a telephone number as E.164 writes it.
_CONTACT = r"[^@\s]+@[^@\s]+\.[^@\s]+|\+[1-9]\d{6,14}"
_BUCKET_LIMIT = 63
# The CronJob controller looks every 10 seconds; a shorter deadline can pass between two looks.
_SHORTEST_DEADLINE = 10
_LAMBDA = "what Lambda allows"
_DAY = 86400
_GIBIBYTE = 1024**3
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
    _check_postgres(settings)
    _check_minio(settings)
    _check_opensearch(settings)
    _check_schedules(settings)
    check_network(settings)
    require_objectives(
        objectives=settings.objectives,
        backups=settings.backups,
        postgres=settings.postgres,
        minio=settings.minio,
        opensearch=settings.opensearch,
    )


def _key(*path: str) -> str:
    return ".".join((PROJECT, *path))


def _check_account(settings: Settings) -> None:
    matching(_key("environment"), settings.environment, pattern=r"[a-z][a-z0-9-]{1,15}", example="prod")
    matching(_key("region"), settings.region, pattern=_REGION, example="us-east-1")
    matching(_key("account_id"), settings.account_id, pattern=_ACCOUNT, example="123456789012")
    matching(
        _key("bucket_suffix"), settings.bucket_suffix, pattern=r"|-[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", example="-prod-x"
    )
    longest = bucket_name(DOCUMENTS, f"{settings.bucket_suffix}-replica")
    holds(
        _key("bucket_suffix"),
        settings.bucket_suffix,
        len(longest) <= _BUCKET_LIMIT,
        bound=f"{longest} has {len(longest)} characters, S3 allows {_BUCKET_LIMIT}",
    )
    holds(
        _key("bucket_suffix"),
        settings.bucket_suffix,
        settings.sandbox or bool(settings.bucket_suffix),
        bound="bucket names are shared by all of AWS's customers: give a suffix such as -prod-123456789012",
    )
    within(_key("key_deletion_days"), settings.key_deletion_days, low=7, high=30, why="what KMS allows")
    holds(
        _key("key_deletion_days"),
        settings.key_deletion_days,
        not settings.production or settings.key_deletion_days == 30,
        bound="a production key waits the full 30 days, so that a deletion by mistake is noticed",
    )
    for name in ("administrators", "operators"):
        arns: tuple[str, ...] = getattr(settings, name)
        for arn in arns:
            matching(_key(name), arn, pattern=_ARN, example=f"arn:aws:iam::{settings.account_id}:role/backup-{name}")
    holds(
        _key("administrators"),
        settings.administrators,
        not settings.production or bool(settings.administrators),
        bound="a production environment names who administers its keys",
    )
    objectives = settings.objectives
    within(_key("objectives", "rpo_seconds"), objectives.rpo_seconds, low=60, high=_DAY, why="seconds")
    within(_key("objectives", "rto_seconds"), objectives.rto_seconds, low=60, high=7 * _DAY, why="seconds")
    for name in ("backup_success_rate", "verification_success_rate"):
        within(_key("objectives", name), getattr(objectives, name), low=0.5, high=1, why="a share of 1")


def _check_evidence(settings: Settings) -> None:
    lock = settings.evidence
    within(
        _key("evidence", "days"),
        lock.days,
        low=1,
        high=COMPLIANCE_DAYS,
        why="a lock may not outlive the seven years that are promised",
    )
    holds(
        _key("evidence", "days"),
        lock.days,
        not settings.production or lock.days == COMPLIANCE_DAYS,
        bound=f"the compliance class is {COMPLIANCE_DAYS} days in production",
    )
    holds(
        _key("evidence", "mode"),
        lock.mode.value,
        not settings.production or lock.mode is LockMode.COMPLIANCE,
        bound="a production lock is COMPLIANCE: nobody lifts it",
    )


def _check_cluster(cluster: ClusterSettings, *, pinned: bool) -> None:
    matching(
        _key("cluster", "oidc_provider"),
        cluster.oidc_provider,
        pattern=r"[a-z0-9.-]+(?:/[A-Za-z0-9/_-]+)?",
        example="oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE (without https://)",
    )
    for name in ("namespace", "store_namespace", "postgres_service_account", "opensearch_service_account"):
        matching(_key("cluster", name), getattr(cluster, name), pattern=_DNS_LABEL, example="aivo-system")
    holds(_key("cluster", "image"), cluster.image, bool(cluster.image.strip()), bound="name the job image")
    # What is worth protecting is worth knowing: a tag can be moved to an image that nobody tested.
    if pinned:
        matching(_key("cluster", "image"), cluster.image, pattern=_DIGEST, example=_DIGEST_EXAMPLE)
    if pinned or cluster.pgbackrest_version:
        version = _key("cluster", "pgbackrest_version")
        matching(version, cluster.pgbackrest_version, pattern=r"\d+\.\d+(?:\.\d+)?", example=str(SAFE))
        holds(
            version,
            cluster.pgbackrest_version,
            not pinned or Version.parse(cluster.pgbackrest_version) >= SAFE,
            bound=f"{SAFE} or newer: an older one's expire can remove a backup that is being taken",
        )
    holds(
        _key("cluster", "image_pull_policy"),
        cluster.image_pull_policy,
        cluster.image_pull_policy in ("Always", "IfNotPresent", "Never"),
        bound="Always, IfNotPresent or Never",
    )


def _check_functions(functions: FunctionSettings, *, sandbox: bool) -> None:
    if sandbox:
        holds(_key("functions", "image"), functions.image, bool(functions.image.strip()), bound="name the image")
    else:
        matching(_key("functions", "image"), functions.image, pattern=_DIGEST, example=_DIGEST_EXAMPLE)
    holds(
        _key("functions", "zipped"),
        functions.zipped,
        sandbox or not functions.zipped,
        bound="for the sandbox: pgBackRest and PostgreSQL are in the image, not in a zip",
    )
    within(_key("functions", "memory_megabytes"), functions.memory_megabytes, low=512, high=10240, why=_LAMBDA)
    within(
        _key("functions", "scratch_megabytes"),
        functions.scratch_megabytes,
        low=512,
        high=10240,
        why=_LAMBDA,
    )
    holds(
        _key("functions", "log_retention_days"),
        functions.log_retention_days,
        functions.log_retention_days in _LOG_RETENTION_STEPS,
        bound=f"one of {', '.join(map(str, _LOG_RETENTION_STEPS))}",
    )
    if functions.reserved_concurrency is not None:
        within(
            _key("functions", "reserved_concurrency"),
            functions.reserved_concurrency,
            low=1,
            high=100,
            why="per function",
        )
    for subnet in functions.subnets:
        matching(
            _key("functions", "subnets"), subnet, pattern=r"subnet-[0-9a-f]{8,17}", example="subnet-0123456789abcdef0"
        )
    for group in functions.security_groups:
        matching(
            _key("functions", "security_groups"), group, pattern=r"sg-[0-9a-f]{8,17}", example="sg-0123456789abcdef0"
        )
    holds(
        _key("functions", "security_groups"),
        functions.security_groups,
        bool(functions.subnets) == bool(functions.security_groups),
        bound="subnets and security groups come together",
    )


def _check_alerts(settings: Settings) -> None:
    for level in ("level1", "level2", "level3", "security"):
        addresses: tuple[str, ...] = getattr(settings.alerts, level)
        for address in addresses:
            matching(_key("alerts", level), address, pattern=_CONTACT, example="on-call@aivo.com or +15550123")
        holds(
            _key("alerts", level),
            addresses,
            not settings.production or bool(addresses),
            bound="in production every level of the escalation path, and the Security team, reaches somebody",
        )


def _check_replica(settings: Settings) -> None:
    replica = settings.replica
    holds(
        _key("replica", "region"),
        replica.region,
        not settings.production or bool(replica.region),
        bound="production has a second region",
    )
    if not replica.region:
        return
    matching(_key("replica", "region"), replica.region, pattern=_REGION, example="us-west-2")
    holds(
        _key("replica", "region"),
        replica.region,
        replica.region != settings.region,
        bound="another than the home region",
    )
    if replica.account_id:
        matching(_key("replica", "account_id"), replica.account_id, pattern=_ACCOUNT, example="123456789012")
        matching(
            _key("replica", "provisioning_role"),
            replica.provisioning_role,
            pattern=rf"arn:aws[a-z-]*:iam::{replica.account_id}:role/\S+",
            example=f"arn:aws:iam::{replica.account_id}:role/backup-vault",
        )


def _check_postgres(settings: Settings) -> None:
    postgres = settings.postgres
    for name in ("host", "sidecar_host"):
        matching(
            _key("postgres", name), getattr(postgres, name), pattern=_HOST, example="postgresql.aivo.svc.cluster.local"
        )
    for name in ("port", "sidecar_port"):
        within(_key("postgres", name), getattr(postgres, name), low=1, high=65535, why="a TCP port")
    matching(_key("postgres", "stanza"), postgres.stanza, pattern=_DNS_LABEL, example="aivo-postgres")
    within(
        _key("postgres", "archive_timeout_seconds"),
        postgres.archive_timeout_seconds,
        low=1,
        high=settings.objectives.rpo_seconds,
        why="every write waits at most this long for the archive",
    )
    within(
        _key("postgres", "full_backups_kept"),
        postgres.full_backups_kept,
        low=POSTGRES_FULLS_KEPT,
        high=60,
        why="the runbook keeps 7 weekly fulls",
    )
    within(
        _key("postgres", "recovery_window_days"),
        postgres.recovery_window_days,
        low=POSTGRES_RECOVERY_WINDOW_DAYS,
        high=postgres.full_backups_kept * 7,
        why="the runbook's 14 days, and no more than the weekly fulls cover",
    )
    _check_verified_kept("postgres", postgres.verified_points_kept)
    within(_key("postgres", "process_max"), postgres.process_max, low=1, high=64, why="parallel processes")
    within(_key("postgres", "size_bytes"), postgres.size_bytes, low=0, high=2**60, why="bytes")


def _check_minio(settings: Settings) -> None:
    minio = settings.minio
    matching(
        _key("minio", "endpoint"), minio.endpoint, pattern=_URL, example="http://minio.aivo.svc.cluster.local:9000"
    )
    within(
        _key("minio", "retention_days"),
        minio.retention_days,
        low=MINIO_DAYS,
        high=365,
        why="the operational class is 30",
    )
    within(
        _key("minio", "increment_retention_hours"), minio.increment_retention_hours, low=24, high=24 * 30, why="hours"
    )
    _check_verified_kept("minio", minio.verified_points_kept)
    within(_key("minio", "deletion_guard_share"), minio.deletion_guard_share, low=0, high=1, why="a share of 1")
    within(_key("minio", "verify_share"), minio.verify_share, low=0.01, high=1, why="a share of 1")
    within(_key("minio", "transfers"), minio.transfers, low=1, high=256, why="objects at once")
    within(_key("minio", "part_bytes"), minio.part_bytes, low=5 * 1024**2, high=5 * _GIBIBYTE, why="what S3 allows")
    within(
        _key("minio", "bytes_in_flight"),
        minio.bytes_in_flight,
        low=minio.part_bytes,
        high=64 * _GIBIBYTE,
        why="one part",
    )
    within(_key("minio", "size_bytes"), minio.size_bytes, low=0, high=2**60, why="bytes")


def _check_opensearch(settings: Settings) -> None:
    search = settings.opensearch
    matching(_key("opensearch", "endpoint"), search.endpoint, pattern=_URL, example="https://opensearch.aivo.svc:9200")
    within(
        _key("opensearch", "retention_days"),
        search.retention_days,
        low=OPENSEARCH_DAYS,
        high=365,
        why="the operational class is 30",
    )
    within(
        _key("opensearch", "increment_retention_hours"),
        search.increment_retention_hours,
        low=24,
        high=96,
        why="hours; more than 200 snapshots slow a repository down",
    )
    _check_verified_kept("opensearch", search.verified_points_kept)
    within(_key("opensearch", "bytes_per_second"), search.bytes_per_second, low=1, high=2**40, why="bytes per second")
    within(_key("opensearch", "size_bytes"), search.size_bytes, low=0, high=2**60, why="bytes")
    holds(
        _key("opensearch", "repository_type"),
        search.repository_type.value,
        settings.sandbox or search.repository_type is RepositoryType.S3,
        bound="fs is for the sandbox: a folder of the cluster dies with the cluster",
    )
    holds(
        _key("opensearch", "fs_location"),
        search.fs_location,
        (search.repository_type is RepositoryType.FS) == bool(search.fs_location),
        bound="set it for a repository of type fs, and only then",
    )


def _check_verified_kept(component: str, number: int) -> None:
    within(
        _key(component, "verified_points_kept"),
        number,
        low=1,
        high=30,
        why="without one, backups that fail for a month cost the last good point",
    )


def _check_schedules(settings: Settings) -> None:
    rows = (*settings.backups, *settings.expiries)
    known = {row.name for row in rows}
    for name in settings.schedules:
        holds(_key("schedules", name), name, name in known, bound=f"one of {', '.join(sorted(known))}")
    for row in rows:
        check_cron(row.cron, where=_key("schedules", row.name, "cron"))
        within(
            _key("schedules", row.name, "start_deadline_seconds"),
            row.start_deadline_seconds,
            low=_SHORTEST_DEADLINE,
            high=_DAY,
            why="the controller looks every 10 s",
        )
        within(
            _key("schedules", row.name, "longest_run_seconds"),
            row.longest_run_seconds,
            low=60,
            high=_DAY,
            why="seconds",
        )
    for expiry in settings.expiries:
        blocked = backup_in_the_way(expiry, settings.backups)
        holds(
            _key("schedules", expiry.name, "cron"),
            expiry.cron,
            blocked is None,
            bound=f"{blocked.name if blocked else ''} may become due while it runs, and would be superseded: choose "
            "an hour between two backups, or a shorter longest_run_seconds",
        )
    check_cron(settings.verification_cron, where=_key("verification_cron"))
    holds(
        _key("verification_cron"),
        settings.verification_cron,
        least_daily_calls(Function.VERIFY_RESTORE, settings.verification_cron) > 0,
        bound="a restore test is held every day",
    )
