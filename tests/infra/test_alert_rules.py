"""The provisioned Prometheus rules, judged by Prometheus's own promtool."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from aivo_backup.policy import metrics as named
from aivo_backup.policy.drills import Exercise
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import ALERT_RULES_CONFIG_MAP, ALERT_RULES_KEY
from sandbox.plan import register
from sandbox.setup import debian
from tests.infra.plans import Plan

RUNBOOKS_SUCCESS_RATE = 'rate(backup_jobs_total{status="success"}[24h]) / rate(backup_jobs_total[24h])'
_NOT_OURS = {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}


def rules_of(plan: Plan) -> str:
    (config,) = (
        entry for entry in plan.all(":ConfigMap") if entry.inputs["metadata"]["name"] == ALERT_RULES_CONFIG_MAP
    )
    return str(config.inputs["data"][ALERT_RULES_KEY])


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = debian.program("promtool")
    assert program is not None, "promtool is missing: run `make setup`"
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, cwd=folder)


Judge = Callable[..., str]


@pytest.fixture
def judge(prod: Plan, tmp_path: Path) -> Judge:
    """Runs tests of promtool over one of production's rules; answers what it found, empty when all is as expected."""

    def run(rule: str, *tests: dict[str, Any]) -> str:
        # Every rule is evaluated at every step: steps are as long as a test allows, and the others are left out.
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(only(rule, prod)), encoding="utf-8")
        step = tests[0]["interval"]
        content = {"rule_files": ["rules.yaml"], "evaluation_interval": step, "tests": list(tests)}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        done = promtool("test", "rules", "test.yaml", folder=tmp_path)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return run


def alerts_of(plan: Plan) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(rules_of(plan))["groups"] for rule in group["rules"] if "alert" in rule]


def only(name: str, plan: Plan) -> dict[str, Any]:
    """The rules of one name, and the recorded ones that they ask for."""
    groups = yaml.safe_load(rules_of(plan))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    wanted = [rule for rule in rules if name in (rule.get("alert"), rule.get("record"))]
    assert wanted, f"there is no rule {name}"
    asked = [rule for rule in rules if any(rule.get("record", "-") in other["expr"] for other in wanted)]
    return {"groups": [{"name": "tested", "interval": "1m", "rules": [*asked, *wanted]}]}


def given(series: dict[str, str], *, expression: str, at: str, answers: dict[str, float], step: str = "1m") -> Any:
    """One test of promtool: series with their values at each step, and what an expression must answer at a time."""
    samples = [{"labels": labels, "value": value} for labels, value in answers.items()]
    return {
        "interval": step,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": samples}],
    }


def test_promtool_accepts_the_rules_of_every_stack(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules_of(plan), encoding="utf-8")
    done = promtool("check", "rules", "rules.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout, done.stdout  # a lint finding is not an error to it


def test_the_runbooks_success_rate_is_always_one_and_the_recorded_one_is_right(judge: Judge) -> None:
    """A tenth of the runs fail: the runbook's query answers 1, because it divides success by success."""
    labels = 'component="minio",job_name="minio-backup-incr"'
    series = {
        f'backup_jobs_total{{{labels},status="success"}}': "0+9x320",
        f'backup_jobs_total{{{labels},status="failed"}}': "0+1x320",
        f'backup_jobs_total{{{labels},status="superseded"}}': "0+5x320",
    }
    right = {'backup:success_ratio:24h{component="minio",environment="prod"}': 0.9}
    wrong = {f'{{{labels},status="success"}}': 1.0}
    recorded = "backup:success_ratio:24h"
    assert judge(recorded, given(series, expression=RUNBOOKS_SUCCESS_RATE, at="25h", answers=wrong, step="5m")) == ""
    assert judge(recorded, given(series, expression=recorded, at="25h", answers=right, step="5m")) == ""
    assert judge(recorded, given(series, expression=recorded, at="25h", answers=wrong, step="5m")) != ""


def test_a_run_that_never_happened_lowers_the_rate(judge: Judge) -> None:
    labels = 'component="postgres",job_name="postgresql-backup-incr"'
    series = {
        f'backup_jobs_total{{{labels},status="success"}}': "0+1x320",
        f'backup_jobs_total{{{labels},status="missed"}}': "0+1x320",
    }
    half = {'backup:success_ratio:24h{component="postgres",environment="prod"}': 0.5}
    expected = given(series, expression="backup:success_ratio:24h", at="25h", answers=half, step="5m")
    assert judge("backup:success_ratio:24h", expected) == ""


def test_the_95th_percentile_is_that_of_all_runs_of_a_kind(judge: Judge) -> None:
    labels = 'component="minio",kind="full"'
    series = {
        f'backup_duration_seconds_bucket{{{labels},le="60"}}': "0+90x80",
        f'backup_duration_seconds_bucket{{{labels},le="120"}}': "0+100x80",
        f'backup_duration_seconds_bucket{{{labels},le="+Inf"}}': "0+100x80",
    }
    answers = {f'backup:duration_seconds:p95{{{labels},environment="prod"}}': 90.0}
    expected = given(series, expression="backup:duration_seconds:p95", at="60m", answers=answers)
    assert judge("backup:duration_seconds:p95", expected) == ""


_JOB = 'backup_jobs_total{component="minio",job_name="minio-backup",status="%s"}'
_OLD = 'backup_newest_recovery_point_timestamp_seconds{component="%s"}'
_BUCKETS = 'backup_duration_seconds_bucket{component="minio",kind="full",le="%s"}'
_VOLUME = 'kubelet_volume_stats_%s_bytes{namespace="aivo-system",persistentvolumeclaim="a-state"}'
_TESTED = 'backup_newest_restore_test_timestamp_seconds{component="minio"}'
_EXPIRED = 'backup_newest_expiry_timestamp_seconds{component="minio"}'
_DRILLED = 'backup_newest_recovery_drill_timestamp_seconds{exercise="%s"}'
_PASSED = 'backup_last_restore_test_passed{component="minio"}'
_WAL = "backup_postgres_wal_archived_timestamp_seconds"


class Condition(NamedTuple):
    """Something that goes wrong.

    Attributes:
        wrong: the series then, a value for each step.
        at: when it is looked at.
        levels: whom the alert must have reached by then.
        well: the same series when all is well: nobody is told.
    """

    what: str
    alert: str
    wrong: dict[str, str]
    at: str
    levels: str
    well: dict[str, str]
    step: str = "1m"


CONDITIONS = [
    Condition("failed", "BackupFailed", {_JOB % "failed": "0x9 1x30"}, "20m", "1", {_JOB % "success": "0x9 1x30"}),
    Condition("missed", "BackupFailed", {_JOB % "missed": "0x9 1x30"}, "20m", "1", {_JOB % "missed": "0x40"}),
    Condition(
        "slow",
        "BackupSlow",
        {_BUCKETS % "900": "0x60", _BUCKETS % "1500": "0+1x60", _BUCKETS % "+Inf": "0+1x60"},
        "40m",
        "1",
        {_BUCKETS % "900": "0+1x60", _BUCKETS % "1500": "0+1x60", _BUCKETS % "+Inf": "0+1x60"},
    ),
    Condition("test failed", "RestoreTestFailed", {_PASSED: "0x5"}, "1m", "1", {_PASSED: "1x5"}),
    Condition("for hours", "RestoreTestFailed", {_PASSED: "0x80"}, "6h", "12", {_PASSED: "1x80"}, "5m"),
    Condition("for days", "RestoreTestFailed", {_PASSED: "0x310"}, "25h", "123", {_PASSED: "1x310"}, "5m"),
    Condition("not expired", "ExpiryMissing", {_EXPIRED: "0x310"}, "25h", "1", {_EXPIRED: "80000x310"}, "5m"),
    # Held before the time of these tests began: weeks of evaluations would take a minute.
    Condition(
        "no monthly drill",
        "DrillOverdue",
        {_DRILLED % "monthly": f"{-33 * 86400}x30", _DRILLED % "quarterly": f"{-93 * 86400}x30"},
        "10m",
        "1",
        {_DRILLED % "monthly": f"{-32 * 86400}x30", _DRILLED % "quarterly": f"{-93 * 86400}x30"},
    ),
    Condition(
        "no quarterly drill",
        "DrillOverdue",
        {_DRILLED % "monthly": "0x30", _DRILLED % "quarterly": f"{-94 * 86400}x30"},
        "10m",
        "1",
        {_DRILLED % "monthly": "0x30", _DRILLED % "quarterly": f"{-93 * 86400}x30"},
    ),
    Condition("not tested", "RestoreTestMissing", {_TESTED: "0x320"}, "26h", "1", {_TESTED: "80000x320"}, "5m"),
    Condition(
        "bucket grows",
        "BucketGrowing",
        {'s3_bucket_size_bytes{bucket="b"}': "100x2016 160x40"},
        "170h",
        "1",
        {'s3_bucket_size_bytes{bucket="b"}': "100x2016 140x40"},
        "5m",
    ),
    Condition(
        "volume",
        "SpoolVolumeFull",
        {_VOLUME % "available": "5x30", _VOLUME % "capacity": "100x30"},
        "20m",
        "1",
        {_VOLUME % "available": "50x30", _VOLUME % "capacity": "100x30"},
    ),
    Condition(
        "key",
        "KmsKeyUnusable",
        {'backup_kms_key_usable{key="minio"}': "0x80"},
        "6h",
        "12",
        {'backup_kms_key_usable{key="minio"}': "1x80"},
        "5m",
    ),
    Condition(
        "key granted",
        "KmsKeyGranted",
        {'backup_kms_key_grants{key="minio"}': "1x5"},
        "2m",
        "2",
        {'backup_kms_key_grants{key="minio"}': "0x5"},
    ),
    Condition("no point", "RecoveryPointTooOld", {_OLD % "minio": "0x80"}, "70m", "1", {_OLD % "minio": "3600x80"}),
    Condition("no WAL", "RecoveryPointTooOld", {_WAL: "0x80"}, "70m", "1", {_WAL: "3600x80"}),
    Condition(
        "no backup set, whatever WAL arrives",
        "PostgresBackupTooOld",
        {_OLD % "postgres": "0x400", _WAL: "0+300x400"},
        "29h",
        "1",
        {_OLD % "postgres": "86400x400", _WAL: "0x400"},
        "5m",
    ),
    Condition("no agent", "AgentAbsent", {"up": "1x30"}, "15m", "1", {'backup_source_up{source="x"}': "1x30"}),
    Condition(
        "source away",
        "SourceDown",
        {'backup_source_up{source="postgres"}': "0x30"},
        "20m",
        "1",
        {'backup_source_up{source="postgres"}': "1x30"},
    ),
    Condition(
        "no heartbeat",
        "HeartbeatMissing",
        {'backup_heartbeat_timestamp_seconds{component="minio"}': "0x30"},
        "20m",
        "1",
        {'backup_heartbeat_timestamp_seconds{component="minio"}': "0+60x30"},
    ),
    Condition(
        "WAL lost",
        "WalLost",
        {"backup_postgres_wal_segments_lost": "2x30"},
        "10m",
        "2",
        {"backup_postgres_wal_segments_lost": "0x30"},
    ),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.what)
def test_an_alert_goes_off_when_it_must_and_only_then(judge: Judge, condition: Condition) -> None:
    _, alert, wrong, at, levels, well, step = condition
    told = f'count by (escalation) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    expected = {f'{{escalation="{level}"}}': 1.0 for level in levels}
    said = judge(
        alert,
        given(wrong, expression=told, at=at, answers=expected, step=step),
        given(well, expression=told, at=at, answers={}, step=step),
    )
    assert said == ""


def test_nobody_is_told_before_those_below_them(prod: Plan) -> None:
    after: dict[tuple[str, str], dict[str, int]] = {}
    for rule in alerts_of(prod):
        same = (rule["alert"], rule["labels"].get("component", ""))
        after.setdefault(same, {})[rule["labels"]["escalation"]] = int(rule["for"].removesuffix("m"))
    assert any(len(levels) == 3 for levels in after.values())
    for levels in after.values():
        minutes = [levels[level] for level in sorted(levels)]
        assert minutes == sorted(set(minutes))


def test_whoever_is_told_is_in_the_settings(prod: Plan) -> None:
    told = {rule["labels"]["escalation"]: rule["annotations"]["notify"] for rule in alerts_of(prod)}
    first = {"1": "data-reliability@aivo.com", "2": "infrastructure-manager@aivo.com", "3": "cto@aivo.com"}
    assert {level: notify.split(", ")[0] for level, notify in told.items()} == first
    changed = register("prod", overrides={"aivo-backup:alerts": {"level2": ["a@b.example", "c@d.example"]}})
    notify = {
        rule["labels"]["escalation"]: rule["annotations"]["notify"] for rule in alerts_of(Plan.of("prod", changed))
    }
    assert notify["2"] == "a@b.example, c@d.example"


def test_thresholds_follow_objectives_and_schedule() -> None:
    overrides = {
        "aivo-backup:objectives": {"rpo_seconds": 3000},
        "aivo-backup:schedules": {
            "minio-backup-incr": {"cron": "*/15 * * * *", "longest_run_seconds": 600},
            "minio-backup": {"longest_run_seconds": 600},
            "opensearch-snapshot-incr": {"cron": "*/15 * * * *", "longest_run_seconds": 600},
            "opensearch-snapshot": {"longest_run_seconds": 600},
            # They must not meet a backup that is due every quarter of an hour.
            "minio-prune": {"cron": "1 8 * * *", "start_deadline_seconds": 60, "longest_run_seconds": 600},
            "opensearch-prune": {"cron": "1 9 * * *", "start_deadline_seconds": 60, "longest_run_seconds": 600},
        },
    }
    rules = {rule["alert"]: rule["expr"] for rule in alerts_of(Plan.of("prod", register("prod", overrides=overrides)))}
    assert rules["RecoveryPointTooOld"].endswith("> 3000")
    slow = [
        rule["expr"]
        for rule in alerts_of(Plan.of("prod", register("prod", overrides=overrides)))
        if rule["alert"] == "BackupSlow"
    ]
    assert any('component="minio",kind="incr"} > 480' in expression for expression in slow)


def test_rules_ask_for_published_metrics_only(prod: Plan) -> None:
    """A metric's name that nobody publishes would make a rule that never goes off."""
    recorded = {rule["record"] for group in yaml.safe_load(rules_of(prod))["groups"] for rule in group["rules"]
                if "record" in rule}  # fmt: skip
    asked = set(re.findall(r"\b(?:backup|s3|kubelet)_\w+", json.dumps(yaml.safe_load(rules_of(prod)))))
    known = {*named.METRICS, f"{named.DURATION}_bucket", *_NOT_OURS}
    assert asked - known == set()
    for recording in re.findall(r"\bbackup:\w+:\w+", rules_of(prod)):
        assert recording in recorded


def test_every_component_is_watched_for_absence(prod: Plan) -> None:
    absent = [
        rule["expr"] for rule in alerts_of(prod) if rule["alert"] in ("NoRecoveryPoint", "NoRestoreTest", "NoExpiry")
    ]
    for component in Component:
        for metric in (named.NEWEST_POINT, named.NEWEST_TEST, named.NEWEST_EXPIRY):
            assert f'absent({metric}{{component="{component.value}"}})' in absent
    never = [rule["expr"] for rule in alerts_of(prod) if rule["alert"] == "NoDrill"]
    assert set(never) == {f'absent({named.NEWEST_DRILL}{{exercise="{exercise.value}"}})' for exercise in Exercise}
