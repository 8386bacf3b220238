"""Drills that are overdue are told, the review says what the records say, and estimates come from what was measured."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aivo_backup.catalog.records import Check, Phase, Purpose, Recovery
from aivo_backup.policy.drills import Exercise
from aivo_backup.policy.environment import (
    Component,
    Environment,
    EvidenceSettings,
    LockMode,
    MinioSettings,
    Objectives,
    OpenSearchSettings,
    PostgresSettings,
)
from aivo_backup.recovery.drills import annual_review, standings
from aivo_backup.recovery.estimates import Estimator, assumed
from aivo_backup.recovery.plan import Basis, Scenario

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def drill(scenario: Scenario, exercise: Exercise, *, days: float, seconds: float = 100.0, error: str = "") -> Recovery:
    finished = NOW - timedelta(days=days)
    return Recovery(
        id=f"{scenario}-{days}-{seconds}",
        scenario=scenario.value,
        purpose=Purpose.DRILL,
        exercise=exercise.value,
        started=finished - timedelta(seconds=seconds),
        finished=finished,
        steps=(Phase(name="restore-stores", seconds=seconds),),
        checks=(Check(name="good", passed=True, detail=""),),
        predicted_seconds=100.0,
        loss_seconds=30.0,
        error=error,
    )


MONTHLY = drill(Scenario.STORAGE_FAILURE, Exercise.MONTHLY, days=10)
QUARTERLY = (
    drill(Scenario.DATABASE_CORRUPTION, Exercise.QUARTERLY, days=50),
    drill(Scenario.STORAGE_FAILURE, Exercise.QUARTERLY, days=50),
)


@pytest.mark.parametrize(
    ("records", "overdue"),
    [
        ((MONTHLY, *QUARTERLY), []),
        ((), ["monthly", "quarterly"]),
        (QUARTERLY, ["monthly"]),
        ((replace(MONTHLY, finished=NOW - timedelta(days=34)), *QUARTERLY), ["monthly"]),
        ((replace(MONTHLY, error="the disk is full"), *QUARTERLY), ["monthly"]),
        ((replace(MONTHLY, checks=()), *QUARTERLY), ["monthly"]),
        ((replace(MONTHLY, purpose=Purpose.RECOVERY), *QUARTERLY), ["monthly"]),
        ((MONTHLY, QUARTERLY[0]), ["quarterly"]),
        ((MONTHLY, replace(QUARTERLY[0], finished=NOW - timedelta(days=95)), QUARTERLY[1]), ["quarterly"]),
    ],
    ids=["all held", "none", "no monthly", "too old", "failed", "looked at nothing", "not a drill", "half", "half old"],
)
def test_a_drill_is_overdue_when_any_part_of_it_has_not_passed_in_time(
    records: tuple[Recovery, ...], overdue: list[str]
) -> None:
    assert [each.exercise.value for each in standings(records, NOW) if each.overdue] == overdue


def review(*records: Recovery, objectives: Objectives | None = None) -> str:
    return annual_review(
        environment="prod",
        objectives=objectives or Objectives(),
        recoveries=records,
        restores=(),
        since=NOW - timedelta(days=365),
        until=NOW,
    )


def test_the_review_counts_what_is_on_file_and_names_what_is_missing() -> None:
    text = review(MONTHLY, *QUARTERLY, drill(Scenario.STORAGE_FAILURE, Exercise.MONTHLY, days=3, seconds=400))
    assert "| drills | 4 | 4 | 100 s | 400 s |" in text
    assert "2 of 12 monthly drills passed" in text
    assert "1 of 4 quarterly drills passed" in text
    assert "1 drills took more than a quarter longer or shorter than expected" in text
    assert "No restore test is on record" in text
    assert "Largest loss measured: 30 s (objective 3600 s)" in text


def test_the_review_names_each_objective_that_was_missed() -> None:
    text = review(MONTHLY, objectives=Objectives(rpo_seconds=29, rto_seconds=99))
    assert "A loss of 30 s exceeds the RPO" in text
    assert "A recovery of 100 s exceeds the RTO" in text
    assert "exceeds" not in review(MONTHLY)


def estimator(*history: Recovery) -> Estimator:
    environment = Environment(
        name="local",
        region="us-east-1",
        account_id="123456789012",
        buckets={},
        keys={},
        evidence=EvidenceSettings(bucket="b", lock_mode=LockMode.GOVERNANCE, lock_days=1),
        postgres=PostgresSettings(host="h", sidecar_host="h", restore_bytes_per_second=1000),
        minio=MinioSettings(endpoint="https://minio"),
        opensearch=OpenSearchSettings(endpoint="https://opensearch"),
        backups=(),
    )
    return Estimator(environment=environment, history=history)


def test_an_estimate_is_the_median_of_the_last_three_measured_times() -> None:
    times = (900.0, 10.0, 30.0, 20.0)
    history = [drill(Scenario.STORAGE_FAILURE, Exercise.MONTHLY, days=9 - n, seconds=s) for n, s in enumerate(times)]
    found = estimator(*history).step(Scenario.STORAGE_FAILURE, "restore-stores", otherwise=assumed(5))
    assert (found.seconds, found.basis) == (20.0, Basis.MEASURED)


def test_times_from_the_same_region_count_before_others() -> None:
    at_home = drill(Scenario.STORAGE_FAILURE, Exercise.MONTHLY, days=3, seconds=10.0)
    far = replace(drill(Scenario.STORAGE_FAILURE, Exercise.QUARTERLY, days=2, seconds=90.0), from_replica=True)
    for from_replica, history, seconds in (
        (False, (at_home, far), 10.0),
        (True, (at_home, far), 90.0),
        (True, (at_home,), 10.0),
    ):
        one = replace(estimator(*history), from_replica=from_replica)
        assert one.step(Scenario.STORAGE_FAILURE, "restore-stores", otherwise=assumed(5)).seconds == seconds


@pytest.mark.parametrize(
    "changed",
    [{"error": "failed"}, {"resumed": True}, {"scenario": "partial-loss"}],
    ids=["failed", "resumed", "other"],
)
def test_what_tells_less_than_it_took_is_not_counted(changed: dict[str, object]) -> None:
    record = replace(drill(Scenario.STORAGE_FAILURE, Exercise.MONTHLY, days=1), **changed)  # pyright: ignore[reportArgumentType] -- fields by name
    found = estimator(record).step(Scenario.STORAGE_FAILURE, "restore-stores", otherwise=assumed(5))
    assert (found.seconds, found.basis) == (5, Basis.ASSUMED)


def test_without_a_measurement_size_over_rate_is_told_as_such() -> None:
    found = estimator().restore(Component.POSTGRES, 60_000)
    assert (found.seconds, found.basis, found.detail) == (60.0, Basis.RATE, "60,000 bytes at 1,000 bytes/s")
