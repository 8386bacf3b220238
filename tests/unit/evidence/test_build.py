"""The report says what the records say, and says aloud what they do not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aivo_backup.catalog.records import Check, Purpose, RunStatus
from aivo_backup.evidence.build import Records, build_report
from aivo_backup.evidence.model import ComplianceReport, Objective, Promise
from aivo_backup.evidence.periods import Period, window
from aivo_backup.policy.environment import Component
from aivo_backup.policy.schedules import BACKUPS, EXPIRIES
from aivo_backup.policy.slo import Verdict
from tests.unit.evidence.generated import NOW, SCHEDULED, environment, expiries, flawless, restore, run


def made(records: Records, period: Period = Period.DAILY) -> ComplianceReport:
    return build_report(records, environment=environment(), period=period, scheduled_for=SCHEDULED, now=NOW)


def row(report: ComplianceReport, promise: Promise, component: Component | None = None) -> Objective:
    return next(one for one in report.objectives if (one.promise, one.component) == (promise, component))


def gaps(report: ComplianceReport) -> str:
    return "\n".join(f"{gap.what} {' '.join(gap.items)}" for gap in report.gaps)


def without(records: Records, component: Component) -> Records:
    return replace(records, restores=[one for one in records.restores if one.component is not component])


def test_three_flawless_days_are_measured_and_not_yet_proven() -> None:
    report = made(flawless(3))
    assert report.gaps == ()
    assert row(report, Promise.RECOVERY_POINT, Component.MINIO).measured == 1260
    assert row(report, Promise.RECOVERY_TIME, Component.POSTGRES).measured == pytest.approx(378.8)
    assert row(report, Promise.VERIFICATION_SUCCESS).verdict is Verdict.INSUFFICIENT
    assert (
        "9 of 9 expected restore tests succeeded; a proof needs 381"
        in row(report, Promise.VERIFICATION_SUCCESS).evidence
    )
    assert report.verdict is Verdict.INSUFFICIENT
    assert not report.objectives_met


def test_a_flawless_year_is_met() -> None:
    # The runbook's own rows: a year of half-hourly runs on top takes seconds to make up and proves nothing more.
    daily = tuple(row for row in BACKUPS if "/" not in row.cron)
    report = build_report(
        flawless(366, backups=daily),
        environment=replace(environment(), backups=daily),
        period=Period.DAILY,
        scheduled_for=SCHEDULED,
        now=NOW,
    )
    assert {one.verdict for one in report.objectives} == {Verdict.MET}
    assert report.objectives_met
    tests = next(one for one in report.rates if one.promise is Promise.VERIFICATION_SUCCESS and one.component is None)
    assert tests.year.expected == 1095
    assert tests.period.expected == 3


def test_no_restore_test_is_red_whatever_the_backups_did() -> None:
    report = made(without(flawless(3), Component.OPENSEARCH))
    for promise in (Promise.RECOVERY_POINT, Promise.RECOVERY_TIME):
        found = row(report, promise, Component.OPENSEARCH)
        assert (found.verdict, found.evidence) == (Verdict.ABSENT, "no restore test in the period")
    assert row(report, Promise.VERIFICATION_SUCCESS).verdict is Verdict.MISSED
    assert "nothing proves that OpenSearch can be restored" in gaps(report)
    assert "1 expected run of verify-opensearch never happened. 2026-11-23 06:00:00" in gaps(report)


def test_the_test_of_this_morning_is_missing_in_the_report_of_this_morning() -> None:
    missing = made(without(flawless(3), Component.MINIO)).missing_runs
    assert [(one.job, one.due) for one in missing] == [("verify-minio", datetime(2026, 11, 23, 6, tzinfo=UTC))]


def test_an_operators_recovery_proves_no_objective() -> None:
    records = without(flawless(3), Component.MINIO)
    recovery = replace(restore(Component.MINIO, SCHEDULED - timedelta(hours=3)), purpose=Purpose.RECOVERY)
    report = made(replace(records, restores=[*records.restores, recovery]))
    assert row(report, Promise.RECOVERY_POINT, Component.MINIO).verdict is Verdict.ABSENT
    assert any(one.restore.id == recovery.id for one in report.restores)


def test_a_loss_past_the_objective_is_missed() -> None:
    records = flawless(3)
    slow = replace(records.restores[-1], loss_seconds=3601.0)
    report = made(replace(records, restores=[*records.restores[:-1], slow]))
    assert row(report, Promise.RECOVERY_POINT, slow.component).verdict is Verdict.MISSED


def test_a_copy_without_heartbeat_is_missed_and_named() -> None:
    records = flawless(3)
    empty = replace(records.restores[-1], loss_seconds=None, newest_heartbeat=None)
    report = made(replace(records, restores=[*records.restores[:-1], empty]))
    found = row(report, Promise.RECOVERY_POINT, empty.component)
    assert found.verdict is Verdict.MISSED
    assert "1 of 1 restored copy without a heartbeat" in found.evidence
    assert empty.id in gaps(report)


def test_a_fast_restore_of_broken_data_proves_nothing() -> None:
    records = flawless(3)
    last = records.restores[-1]
    broken = replace(last, checks=(*last.checks, Check(name="content", passed=False, detail="differs")))
    report = made(replace(records, restores=[*records.restores[:-1], broken]))
    for promise in (Promise.RECOVERY_POINT, Promise.RECOVERY_TIME):
        assert row(report, promise, last.component).verdict is Verdict.ABSENT
    point = next(one for one in report.points if last.id in one.tests)
    assert point.proven is False


def test_a_restore_that_looked_at_nothing_did_not_pass() -> None:
    records = flawless(3)
    blind = replace(records.restores[-1], checks=())
    report = made(replace(records, restores=[*records.restores[:-1], blind]))
    assert report.restores[-1].passed is False
    assert row(report, Promise.VERIFICATION_SUCCESS).verdict is Verdict.MISSED


def test_partial_counts_as_failed_and_superseded_as_neither() -> None:
    records = flawless(3)
    runs = list(records.runs)
    at = [number for number, one in enumerate(runs) if one.job == "opensearch-snapshot-incr"]
    runs[at[-1]] = replace(runs[at[-1]], status=RunStatus.PARTIAL, recovery_point=None)
    runs[at[-2]] = replace(runs[at[-2]], status=RunStatus.SUPERSEDED, recovery_point=None)
    tally = next(one for one in made(replace(records, runs=runs)).tallies if one.job == "opensearch-snapshot-incr")
    assert (tally.expected, tally.succeeded, tally.failed, tally.superseded) == (48, 46, 1, 1)


def test_runs_by_hand_are_shown_and_never_counted() -> None:
    records = flawless(3)
    by_hand = run("manual", Component.POSTGRES, SCHEDULED - timedelta(hours=1), RunStatus.FAILED)
    before, after = made(records), made(replace(records, runs=[*records.runs, by_hand]))
    assert [one.year for one in after.rates] == [one.year for one in before.rates]
    assert next(one.due for one in after.runs if one.run.id == by_hand.id) is None
    shown = [one for one in after.tallies if not one.scheduled]
    assert [(one.job, one.failed, one.expected) for one in shown] == [("manual", 1, 0)]


def test_nothing_is_expected_before_the_first_record() -> None:
    report = made(flawless(0.5))
    assert report.missing_runs == ()
    assert report.in_service_since is not None
    assert report.in_service_since >= SCHEDULED - timedelta(hours=12)


def test_an_empty_catalog_is_all_red() -> None:
    report = made(Records())
    assert {one.verdict for one in report.objectives} == {Verdict.ABSENT}
    assert len(report.gaps) == 9


def test_an_environment_that_is_minutes_old_lacks_evidence_and_is_not_accused() -> None:
    start = datetime(2026, 11, 23, 6, 31, tzinfo=UTC)
    records = Records(
        runs=[run("minio-backup", Component.MINIO, start)],
        restores=[restore(component, start + timedelta(minutes=5)) for component in Component],
    )
    report = made(records)
    found = row(report, Promise.BACKUP_SUCCESS)
    assert (found.verdict, found.measured) == (Verdict.INSUFFICIENT, None)
    assert found.evidence == "no scheduled run was due yet; 1 run off schedule not counted"


def test_an_environment_without_a_schedule_has_no_evidence_of_backups() -> None:
    report = build_report(
        flawless(3),
        environment=replace(environment(), backups=()),
        period=Period.DAILY,
        scheduled_for=SCHEDULED,
        now=NOW,
    )
    assert row(report, Promise.BACKUP_SUCCESS).verdict is Verdict.ABSENT


def test_points_that_the_store_lost_and_late_records_are_named() -> None:
    records = flawless(3)
    newest = records.registrations[-1]
    point_id = next(one.id for one in reversed(records.points) if one.component is newest.component)
    late = replace(records.runs[-1], late=True)
    report = made(
        replace(
            records,
            registrations=[*records.registrations[:-1], replace(newest, missing=(point_id,))],
            runs=[*records.runs[:-1], late],
        )
    )
    assert f"are gone from the store. {point_id}" in gaps(report)
    assert f"1 record reached the catalog late, after waiting in a job's spool. {late.id}" in gaps(report)
    assert [one.point.id for one in report.points if one.gone] == [point_id]


def with_expiries(records: Records) -> ComplianceReport:
    return build_report(
        records,
        environment=replace(environment(), expiries=EXPIRIES),
        period=Period.DAILY,
        scheduled_for=SCHEDULED,
        now=NOW,
    )


def test_what_retention_removed_is_obsolete_and_not_lost() -> None:
    records = flawless(3)
    first = next(
        one for one in records.points if one.component is Component.MINIO and one.moment > SCHEDULED - timedelta(days=1)
    )
    report = with_expiries(replace(records, expiries=expiries(removed=(first.id,)), registrations=()))
    assert [one.point.id for one in report.points if one.obsolete] == [first.id]
    assert not any(one.gone for one in report.points)
    assert [one.job for one in report.expiries] == [row.name for row in EXPIRIES]
    assert [one.job for one in report.missing_runs] == []
    tally = next(one for one in report.tallies if one.job == "minio-prune")
    assert (tally.expected, tally.succeeded) == (1, 1)


def test_an_expiry_that_never_happened_or_failed_is_told_and_counts_as_no_backup() -> None:
    records = flawless(3)
    silent = with_expiries(records)
    assert "1 expected run of postgresql-expire never happened" in gaps(silent)
    failed = with_expiries(replace(records, expiries=expiries(status=RunStatus.FAILED)))
    assert "postgresql-expire" not in gaps(failed)
    assert [one.failed for one in failed.tallies if one.job == "postgresql-expire"] == [1]
    for report in (silent, failed):
        assert report.objectives == made(records).objectives


def test_each_period_covers_what_it_says() -> None:
    at = datetime(2026, 12, 1, 7, 30, tzinfo=UTC)
    assert window(Period.DAILY, at) == (at - timedelta(days=1), at)
    assert window(Period.MONTHLY, at) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert window(Period.QUARTERLY, at) == (datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
    assert window(Period.ANNUAL, at) == (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    new_year = datetime(2027, 1, 1, 7, 30, tzinfo=UTC)
    assert window(Period.MONTHLY, new_year) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def test_one_schedule_gives_one_id() -> None:
    assert made(Records()).id == "daily-20261123T070000Z"
