"""The table of schedules, cron expansion against an oracle of its own, and EventBridge's spelling."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import BackupKind, Component, ExpiryRun
from aivo_backup.policy.names import Function
from aivo_backup.policy.schedules import (
    BACKUPS,
    EXPIRIES,
    SCHEDULED_TIME,
    backup_in_the_way,
    check_cron,
    eventbridge_cron,
    expected_runs,
    function_runs,
)

EXAMPLES = 2000 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 40


def test_every_row_of_the_runbook_is_there() -> None:
    rows = {row.name: (row.component, row.kind, row.cron) for row in BACKUPS}
    assert rows["postgresql-backup-full"] == (Component.POSTGRES, BackupKind.FULL, "0 1 * * 0")
    assert rows["postgresql-backup-incr"] == (Component.POSTGRES, BackupKind.INCREMENTAL, "0 2 * * *")
    assert rows["minio-backup"] == (Component.MINIO, BackupKind.FULL, "0 3 * * *")
    assert rows["opensearch-snapshot"] == (Component.OPENSEARCH, BackupKind.FULL, "0 4 * * *")
    assert rows["minio-backup-incr"] == (Component.MINIO, BackupKind.INCREMENTAL, "*/30 * * * *")
    assert rows["opensearch-snapshot-incr"] == (Component.OPENSEARCH, BackupKind.INCREMENTAL, "*/30 * * * *")


def test_verification_is_daily_at_six_for_each_component() -> None:
    tests = [run for run in function_runs() if run.function is Function.VERIFY_RESTORE]
    assert [run.event for run in tests] == [
        {"component": component.value, "scheduled_for": SCHEDULED_TIME} for component in Component
    ]
    assert {run.cron for run in tests} == {"0 6 * * *"}


def test_registration_comes_after_the_longest_snapshot_and_before_the_test() -> None:
    day = datetime(2026, 11, 23, tzinfo=UTC)
    crons = {run.function: run.cron for run in function_runs()}
    registration, test = (
        next(expected_runs(crons[function], day, day + timedelta(days=1)))
        for function in (Function.REGISTER_SNAPSHOT, Function.VERIFY_RESTORE)
    )
    snapshot = next(row for row in BACKUPS if row.name == "opensearch-snapshot")
    (start,) = expected_runs(snapshot.cron, day, day + timedelta(days=1))
    latest_end = start + timedelta(seconds=snapshot.start_deadline_seconds + snapshot.longest_run_seconds)
    assert latest_end <= registration < test


@pytest.mark.parametrize("expiry", EXPIRIES, ids=lambda row: row.name)
def test_no_backup_becomes_due_while_an_expiry_holds_the_lease(expiry: ExpiryRun) -> None:
    assert backup_in_the_way(expiry, BACKUPS) is None


@pytest.mark.parametrize(
    ("component", "changes", "name"),
    [
        (Component.MINIO, {"cron": "20 8 * * *"}, "minio-backup-incr"),
        (Component.MINIO, {"cron": "30 8 * * *", "longest_run_seconds": 60}, "minio-backup-incr"),
        (Component.MINIO, {"longest_run_seconds": 16 * 60}, "minio-backup-incr"),
        (Component.OPENSEARCH, {"start_deadline_seconds": 9 * 60}, "opensearch-snapshot-incr"),
        (Component.POSTGRES, {"cron": "30 0 * * 0"}, "postgresql-backup-full"),
        (Component.POSTGRES, {"cron": "30 1 * * 2"}, "postgresql-backup-incr"),
    ],
)
def test_a_backup_in_the_way_of_an_expiry_is_named(component: Component, changes: dict[str, Any], name: str) -> None:
    expiry = next(row for row in EXPIRIES if row.component is component)
    found = backup_in_the_way(replace(expiry, **changes), BACKUPS)
    assert found is not None
    assert found.name == name


def test_expiries_come_after_the_proofs_of_the_day() -> None:
    day = datetime(2026, 11, 23, tzinfo=UTC)
    reports = next(run for run in function_runs() if run.name == "report-daily")
    (report,) = expected_runs(reports.cron, day, day + timedelta(days=1))
    for expiry in EXPIRIES:
        (start,) = expected_runs(expiry.cron, day, day + timedelta(days=1))
        assert start > report


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("0 2 * *", "four fields"),
        ("0 0 2 * * *", "seconds"),
        ("61 * * * *", "no such minute"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 1 * 1", "two kinds of day"),
        ("0 0 * * 7", "Sunday as 7"),
        ("0 0 * * 5-7", "Sunday as 7, in a range"),
        ("0 0 * * MON", "a name"),
        ("0 0 L * *", "the last day"),
        ("*/0 * * * *", "a step of nothing"),
        ("5/10 * * * *", "a step without a range"),
        ("5-5/10 * * * *", "a step over one value"),
        ("", "nothing"),
    ],
)
def test_bad_cron_is_refused_with_key_and_value(cron: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_cron(cron, where="schedules.minio-backup.cron")
    assert "schedules.minio-backup.cron" in str(refused.value), why
    assert repr(cron) in str(refused.value)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    spans = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.integers(1, high).map(str)
    stepped = st.tuples(st.one_of(st.just("*"), spans), steps).map("/".join)
    terms = st.one_of(numbers.map(str), spans, stepped)
    return st.one_of(st.just("*"), st.lists(terms, min_size=1, max_size=3).map(",".join))


# Neither field of days is restricted together with the other, as check_cron demands.
_DAYS = st.one_of(
    st.tuples(st.just("*"), _field(1, 12), _field(0, 6)), st.tuples(_field(1, 28), _field(1, 12), st.just("*"))
)
CRONS = st.tuples(_field(0, 59), _field(0, 23), _DAYS).map(lambda parts: " ".join((parts[0], parts[1], *parts[2])))
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 12, 31))  # noqa: DTZ001 - zones are added by the test
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def _matches(field: str, value: int, low: int, high: int) -> bool:
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        if value in range(start, end + 1, int(step or 1)):
            return True
    return False


def _due(cron: str, moment: datetime) -> bool:
    minute, hour, day, month, weekday = cron.split()
    return (
        _matches(minute, moment.minute, 0, 59)
        and _matches(hour, moment.hour, 0, 23)
        and _matches(day, moment.day, 1, 31)
        and _matches(month, moment.month, 1, 12)
        and _matches(weekday, moment.isoweekday() % 7, 0, 6)
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(cron=CRONS, start=MOMENTS, zone=OFFSETS, hours=st.integers(1, 36))
def test_expansion_equals_looking_at_every_minute(cron: str, start: datetime, zone: timezone, hours: int) -> None:
    since = start.replace(tzinfo=zone)
    until = since + timedelta(hours=hours)
    first = since.astimezone(UTC).replace(second=0, microsecond=0)
    minutes = (first + timedelta(minutes=number) for number in range(hours * 60 + 2))
    wanted = [minute for minute in minutes if since <= minute < until and _due(cron, minute)]
    assert list(expected_runs(cron, since, until)) == wanted


@settings(max_examples=EXAMPLES, deadline=None)
@given(cron=CRONS)
def test_eventbridge_spells_the_same_days(cron: str) -> None:
    inner = eventbridge_cron(cron).removeprefix("cron(").removesuffix(")")
    minute, hour, day, month, weekday, year = inner.split()
    five = cron.split()
    assert (minute, hour, month, year) == (five[0], five[1], five[3], "*")
    assert "?" in (day, weekday), "EventBridge wants one of the two days left open"
    if weekday == "?":
        assert day == five[2]
    else:
        # EventBridge counts days of the week from 1, Sunday; a step counts from there as well.
        meant = {number - 1 for number in range(1, 8) if _matches(weekday, number, 1, 7)}
        assert meant == {number for number in range(7) if _matches(five[4], number, 0, 6)}


def test_a_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        expected_runs("* * * * *", datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001 - that is the case
