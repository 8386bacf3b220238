"""Prometheus's rules: what is recorded, and what somebody is told about.

Every threshold comes from the objectives and the schedule of the environment. An alert speaks of *absence* too: what
never ran has failed nothing, so a rule on failures alone would stay silent.

The runbook's success rate divides ``backup_jobs_total{status="success"}`` by ``backup_jobs_total``. Prometheus pairs
series whose labels are all equal, so success is divided by success and the answer is always 1. The recorded rate sums
the labels away first. A run that another one superseded is neither success nor failure; one that was missed is a
failure.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from aivo_backup.policy import metrics as named
from aivo_backup.policy.alerts import Alert, drills, due
from aivo_backup.policy.environment import Component, Environment, ExpiryRun, ScheduledRun
from aivo_backup.policy.schedules import expected_runs

SUCCESS_RATIO_DAY = "backup:success_ratio:24h"
SUCCESS_RATIO_MONTH = "backup:success_ratio:30d"
TEST_SUCCESS_RATIO_MONTH = "backup:restore_test_success_ratio:30d"
DURATION_P95 = "backup:duration_seconds:p95"
POINT_AGE = "backup:recovery_point_age:seconds"
TEST_AGE = "backup:restore_test_age:seconds"

LEVELS = (1, 2, 3)
# The engineer at once; the manager when it is not mended four hours later, the management after a day.
_ESCALATES_AFTER_MINUTES = {1: 0, 2: 4 * 60, 3: 24 * 60}
# Of what a run may take at most: there is time to look before it is ended.
_SLOW_SHARE = 0.8
# How late the daily restore test may be before it is missing; as the report counts it.
_TEST_LATE_SECONDS = 3600
_HEARTBEAT_SECONDS = 300
_GROWTH = 1.5
_VOLUME_LEFT = 0.1
# A Monday after which a fortnight holds every distance that a weekly schedule knows.
_ANY_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_FORTNIGHT = timedelta(days=15)

Contacts = Mapping[int, Sequence[str]]
"""Escalation level to those who are told."""
Rule = dict[str, Any]


def rule_file(environment: Environment, contacts: Contacts) -> dict[str, Any]:
    """The rules of an environment, as Prometheus reads them.

    Args:
        contacts: who is behind each level; a level without anybody is still labelled.
    """
    alerts = [
        *_runs(environment),
        *_retention(environment),
        *_proof(environment),
        *drills(),
        *_stores(environment),
        *_publishers(),
    ]
    told = [rule for alert in alerts for rule in _as_rules(alert, environment.name, contacts)]
    return {
        "groups": [
            {"name": "aivo-backup-recording", "interval": "1m", "rules": _recording(environment)},
            {"name": "aivo-backup-alerts", "interval": "1m", "rules": told},
        ]
    }


def _as_rules(alert: Alert, environment: str, contacts: Contacts) -> list[Rule]:
    levels = LEVELS[alert.level - 1 :] if alert.escalates else (alert.level,)
    told_after = _ESCALATES_AFTER_MINUTES[alert.level]
    return [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.lasting_minutes + _ESCALATES_AFTER_MINUTES[level] - told_after}m",
            "labels": {"product": "aivo-backup", "environment": environment, "escalation": str(level), **alert.labels},
            "annotations": {
                "summary": alert.summary,
                "mend": alert.mend,
                "notify": ", ".join(contacts.get(level, ())) or "nobody is named in the settings",
            },
        }
        for level in levels
    ]


def _recording(environment: Environment) -> list[Rule]:
    def ratio(metric: str, span: str) -> str:
        good = f'sum by (component) (increase({metric}{{status="{named.SUCCESS}"}}[{span}]))'
        counted = f'sum by (component) (increase({metric}{{status!="{named.SUPERSEDED}"}}[{span}]))'
        return f"{good} / ({counted} > 0)"

    buckets = f"sum by (component, kind, le) (increase({named.DURATION}_bucket[7d]))"
    # The database's newest moment is in its WAL; its backups may be a day old.
    wal = f'label_replace({named.ARCHIVED}, "component", "{Component.POSTGRES.value}", "", "")'
    points = f'{named.NEWEST_POINT}{{component!="{Component.POSTGRES.value}"}}'
    newest = f"max by (component) ({points} or {wal})"
    rules = {
        SUCCESS_RATIO_DAY: ratio(named.JOBS, "24h"),
        SUCCESS_RATIO_MONTH: ratio(named.JOBS, "30d"),
        TEST_SUCCESS_RATIO_MONTH: ratio(named.TESTS, "30d"),
        DURATION_P95: f"histogram_quantile(0.95, {buckets})",
        POINT_AGE: f"time() - {newest}",
        TEST_AGE: f"time() - max by (component) ({named.NEWEST_TEST})",
    }
    return [
        {"record": name, "expr": expression, "labels": {"environment": environment.name}}
        for name, expression in rules.items()
    ]


def _runs(environment: Environment) -> list[Alert]:
    objective = environment.objectives.backup_success_rate
    lost = "|".join((named.FAILED, named.PARTIAL, named.MISSED))
    found = [
        Alert(
            name="BackupFailed",
            expression=f'sum by (component, job_name, status) (increase({named.JOBS}{{status=~"{lost}"}}[1h])) > 0',
            lasting_minutes=0,
            summary="{{ $labels.job_name }} {{ $labels.status }} within the last hour",
            mend="aivo-backup status, then aivo-backup doctor {{ $labels.component }}",
        ),
        Alert(
            name="BackupSuccessRateMissed",
            expression=f"{SUCCESS_RATIO_MONTH} < {objective:g}",
            lasting_minutes=60,
            summary=f"{{{{ $labels.component }}}}: fewer than {objective:.1%} of a month's runs succeeded",
            mend="aivo-backup report monthly names the runs",
        ),
    ]
    slowest: dict[tuple[Component, str], int] = {}
    for run in environment.backups:
        key = (run.component, run.kind.value)
        slowest[key] = min(run.longest_run_seconds, slowest.get(key, run.longest_run_seconds))
    found += [
        Alert(
            name="BackupSlow",
            expression=f'{DURATION_P95}{{component="{component.value}",kind="{kind}"}} > {_SLOW_SHARE * seconds:g}',
            lasting_minutes=15,
            summary=f"{component.value} ({kind}): runs take more than {_SLOW_SHARE:.0%} of the {seconds} s they may",
            mend="see what grew; raise the limit only as far as the RPO allows",
            labels={"component": component.value, "kind": kind},
        )
        for (component, kind), seconds in sorted(slowest.items())
    ]
    return found


def _retention(environment: Environment) -> list[Alert]:
    """What retention no longer keeps stays when nothing expires it: longer than was promised, and at its cost."""
    found: list[Alert] = []
    for component in dict.fromkeys(run.component for run in environment.expiries):
        rows = [run for run in environment.expiries if run.component is component]
        age = _longest_gap([run.cron for run in rows]) + max(map(_may_take, rows))
        newest = f'{named.NEWEST_EXPIRY}{{component="{component.value}"}}'
        names = ", ".join(run.name for run in rows)
        found += due(
            ("ExpiryMissing", "NoExpiry"),
            newest,
            age=age,
            summary=f"{component.value}: {names} has not succeeded when it was due; nothing expires",
            mend=f"see the log of its last Job; aivo-backup {' '.join(rows[0].arguments)} --dry-run",
            labels={"component": component.value},
        )
    return found


def _proof(environment: Environment) -> list[Alert]:
    objectives = environment.objectives
    test_age = _longest_gap([environment.verification_cron]) + _TEST_LATE_SECONDS
    found = [
        Alert(
            name="RecoveryPointTooOld",
            expression=f"{POINT_AGE} > {objectives.rpo_seconds}",
            lasting_minutes=5,
            summary=f"{{{{ $labels.component }}}}: a loss now would exceed the RPO of {objectives.rpo_seconds} s",
            mend="aivo-backup doctor {{ $labels.component }}; aivo-backup backup {{ $labels.component }}",
            escalates=True,
        ),
        Alert(
            name="PostgresBackupTooOld",
            expression=(
                f'time() - {named.NEWEST_POINT}{{component="{Component.POSTGRES.value}"}}'
                f" > {_backup_age(environment, Component.POSTGRES)}"
            ),
            lasting_minutes=5,
            summary="no new backup set; a recovery has ever more WAL to replay",
            mend="aivo-backup doctor postgres",
            escalates=True,
        ),
        Alert(
            name="RestoreTestFailed",
            expression=f"{named.TEST_PASSED} == 0",
            lasting_minutes=0,
            summary="{{ $labels.component }}: what was restored is not what was backed up",
            mend="aivo-backup verify {{ $labels.component }} names what is damaged; restore from an older point",
            escalates=True,
        ),
        Alert(
            name="RestoreTestMissing",
            expression=f"{TEST_AGE} > {test_age}",
            lasting_minutes=5,
            summary="{{ $labels.component }}: no restore test has passed for more than a day: nothing is proven",
            mend="see the function's log and its queue of failed events; aivo-backup verify {{ $labels.component }}",
            escalates=True,
        ),
        Alert(
            name="RestoreTestRateMissed",
            expression=f"{TEST_SUCCESS_RATIO_MONTH} < {objectives.verification_success_rate:g}",
            lasting_minutes=60,
            summary="{{ $labels.component }}: too many of a month's restore tests failed",
            mend="aivo-backup report monthly names them",
        ),
        Alert(
            name="LossBeyondObjective",
            expression=f"{named.LOSS} > {objectives.rpo_seconds}",
            lasting_minutes=0,
            summary=f"{{{{ $labels.component }}}}: the restored data was older than {objectives.rpo_seconds} s",
            mend="compare the heartbeats with the schedule: aivo-backup status",
        ),
        Alert(
            name="RestoreSlowerThanObjective",
            expression=f"{named.RESTORE_TIME} > {objectives.rto_seconds}",
            lasting_minutes=0,
            summary=f"{{{{ $labels.component }}}}: the restore took more than {objectives.rto_seconds} s",
            mend="see the phases in the report; the store outgrew its restore rate",
        ),
    ]
    found += [
        Alert(
            name=name,
            expression=f'absent({metric}{{component="{component.value}"}})',
            lasting_minutes=25 * 60 if metric == named.NEWEST_TEST else 60,
            summary=f"{component.value}: {what} is known at all",
            mend=f"aivo-backup status; aivo-backup doctor {component.value}",
            escalates=True,
            labels={"component": component.value},
        )
        for component in Component
        for name, metric, what in (
            ("NoRecoveryPoint", named.NEWEST_POINT, "no recovery point"),
            ("NoRestoreTest", named.NEWEST_TEST, "no restore test"),
        )
    ]
    return found


def _stores(environment: Environment) -> list[Alert]:
    volumes = f'namespace="{environment.namespace}",persistentvolumeclaim=~".*-state"'
    return [
        Alert(
            name="WalLost",
            expression=f"{named.WAL_LOST} > 0",
            lasting_minutes=5,
            summary="PostgreSQL believes {{ $value }} segments archived that the repository does not hold",
            mend="take a full backup now: points in time after the gap cannot be reached without it",
            level=2,
        ),
        Alert(
            name="WalArchivingFailing",
            expression=f"{named.ARCHIVE_FAILING} == 1",
            lasting_minutes=10,
            summary="PostgreSQL cannot archive; its disk fills until it can",
            mend="aivo-backup doctor postgres; the sidecar's log says why",
            escalates=True,
        ),
        Alert(
            name="OpenSearchRed",
            expression=f'{named.CLUSTER_STATUS}{{status="red"}} == 1',
            lasting_minutes=10,
            summary="OpenSearch lacks primary shards: its snapshots are partial, and partial counts as failed",
            mend="aivo-backup doctor opensearch",
        ),
        Alert(
            name="KmsKeyUnusable",
            expression=f"{named.KEY_USABLE} == 0",
            lasting_minutes=2,
            summary="the KMS key of {{ $labels.key }} is disabled, about to be deleted, or closed to us",
            mend="cancel its deletion or enable it: without it, no backup can be read",
            escalates=True,
        ),
        Alert(
            name="KmsKeyGranted",
            expression=f"{named.KEY_GRANTS} > 0",
            lasting_minutes=0,
            summary="somebody made {{ $value }} grants on the KMS key of {{ $labels.key }}",
            mend="aws kms list-grants; revoke what nobody can explain",
            level=2,
        ),
        Alert(
            name="BucketGrowing",
            expression=f"{named.BUCKET_SIZE} > {_GROWTH:g} * ({named.BUCKET_SIZE} offset 7d)",
            lasting_minutes=60,
            summary="{{ $labels.bucket }} grew by more than half within a week",
            mend="see what grew: the store itself, or versions that no lifecycle ends",
        ),
        Alert(
            name="SpoolVolumeFull",
            expression=(
                f"kubelet_volume_stats_available_bytes{{{volumes}}}"
                f" / kubelet_volume_stats_capacity_bytes{{{volumes}}} < {_VOLUME_LEFT:g}"
            ),
            lasting_minutes=15,
            summary="{{ $labels.persistentvolumeclaim }} is nearly full",
            mend="records wait there for the catalog: see why they are not delivered",
        ),
    ]


def _publishers() -> list[Alert]:
    return [
        Alert(
            name="AgentAbsent",
            expression=f"absent({named.SOURCE_UP})",
            lasting_minutes=10,
            summary="the agent publishes nothing: no heartbeat, and no other alert can go off",
            mend="kubectl rollout status deployment/aivo-backup-agent; its log",
            escalates=True,
        ),
        Alert(
            name="SourceDown",
            expression=f"{named.SOURCE_UP} == 0",
            lasting_minutes=15,
            summary="{{ $labels.source }} does not answer the agent",
            mend="the agent's log names the reason; aivo-backup doctor",
        ),
        Alert(
            name="SourceStuck",
            expression=f'time() - {named.SOURCE_CHECKED}{{source!~"buckets|keys"}} > {3 * _HEARTBEAT_SECONDS}',
            lasting_minutes=5,
            summary="the agent has waited for {{ $labels.source }} for a quarter of an hour",
            mend="the store accepts connections and does not answer; aivo-backup doctor",
        ),
        Alert(
            name="HeartbeatMissing",
            expression=f"time() - {named.HEARTBEAT} > {_HEARTBEAT_SECONDS}",
            lasting_minutes=5,
            summary="no heartbeat in {{ $labels.component }}: the next restore cannot measure its loss",
            mend="aivo-backup agent --once names the reason",
        ),
    ]


def _backup_age(environment: Environment, component: Component) -> int:
    rows = [run for run in environment.backups if run.component is component]
    return _longest_gap([run.cron for run in rows]) + max(map(_may_take, rows))


def _may_take(run: ScheduledRun | ExpiryRun) -> int:
    return run.start_deadline_seconds + run.longest_run_seconds


def _longest_gap(crons: Sequence[str]) -> int:
    """The longest time between two moments at which any of the schedules is due, seconds."""
    moments = sorted(
        {moment for cron in crons for moment in expected_runs(cron, _ANY_MONDAY, _ANY_MONDAY + _FORTNIGHT)}
    )
    return max((int((later - sooner).total_seconds()) for sooner, later in pairwise(moments)), default=0)
