"""Builds the compliance report from the catalog's records."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aivo_backup import __version__
from aivo_backup.catalog.records import BackupRun, Expiry, Purpose, RecoveryPoint, Registration, Restore, RunStatus
from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.evidence.gaps import PeriodRecords, find_gaps
from aivo_backup.evidence.judgement import durations, success_objective, success_rates
from aivo_backup.evidence.model import (
    ComplianceReport,
    JobTally,
    MissingRun,
    Promise,
    ReportedPoint,
    ReportedRestore,
    ReportedRun,
)
from aivo_backup.evidence.periods import YEAR, Period, window
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.policy.slo import (
    Attempt,
    Expectation,
    Outcome,
    Settlement,
    Slot,
    SlotState,
    settle,
    worst,
)

VERIFICATION_WINDOW_SECONDS = 3600
"""How late a restore test may start. The daily report comes one hour after the tests: a test that did not happen is
then missing in the report of the same day, and not pending until nobody looks any more."""

_OUTCOMES = {
    RunStatus.SUCCEEDED: Outcome.SUCCEEDED,
    RunStatus.FAILED: Outcome.FAILED,
    RunStatus.PARTIAL: Outcome.FAILED,
    RunStatus.SUPERSEDED: Outcome.SUPERSEDED,
}


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a report is made from, each oldest first.

    Attributes:
        runs: of the rolling year that ends with the period; ``restores`` likewise.
        points: of the period; ``registrations`` and ``expiries`` likewise.
    """

    runs: Sequence[BackupRun] = field(default_factory=tuple[BackupRun, ...])
    points: Sequence[RecoveryPoint] = field(default_factory=tuple[RecoveryPoint, ...])
    restores: Sequence[Restore] = field(default_factory=tuple[Restore, ...])
    registrations: Sequence[Registration] = field(default_factory=tuple[Registration, ...])
    expiries: Sequence[Expiry] = field(default_factory=tuple[Expiry, ...])


def report_id(period: Period, scheduled_for: datetime) -> str:
    """The report's id: the same for every attempt of one schedule."""
    return f"{period.value}-{scheduled_for.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def verification_job(component: Component) -> str:
    """What a restore test is called among the jobs, as its schedule is."""
    return f"verify-{component.value}"


def year_start(period: Period, scheduled_for: datetime) -> datetime:
    """Where the rolling year begins: 365 days before the period's end, or with the period where that is longer."""
    start, end = window(period, scheduled_for)
    return min(start, end - YEAR)


def build_report(
    records: Records, *, environment: Environment, period: Period, scheduled_for: datetime, now: datetime
) -> ComplianceReport:
    """The report of one period. Expected runs follow the schedule in force now, from the catalog's first record on.

    Args:
        records: what the catalog holds; entries outside the spans are ignored.
        now: when the report is made, UTC.
    """
    start, end = window(period, scheduled_for)
    year = year_start(period, scheduled_for)
    since = _in_service_since(records, year, end)
    counted_from = end if since is None else max(year, since.replace(second=0, microsecond=0))

    expected_backups = backup_expectations(environment)
    backups = settle(expected_backups, backup_attempts(records.runs), since=counted_from, until=end, now=now)
    tests = settle(_test_expectations(environment), _tests(records), since=counted_from, until=end, now=now)
    in_period = PeriodRecords(
        runs=[one for one in records.runs if start <= one.moment < end],
        points=[one for one in records.points if start <= one.moment < end],
        restores=[one for one in records.restores if start <= one.moment < end],
        registrations=[one for one in records.registrations if start <= one.moment < end],
        expiries=[one for one in records.expiries if start <= one.moment < end],
    )
    expiries = settle(
        _expiry_expectations(environment),
        _expiry_attempts(in_period.expiries),
        since=max(start, counted_from),
        until=end,
        now=now,
    )
    backup_slots, test_slots = _due_since(backups, start), _due_since(tests, start)
    objectives = environment.objectives
    backup_rates = success_rates(Promise.BACKUP_SUCCESS, backups.slots, backup_slots, objectives.backup_success_rate)
    test_rates = success_rates(
        Promise.VERIFICATION_SUCCESS, tests.slots, test_slots, objectives.verification_success_rate
    )
    rows = (
        *durations(in_period.restores, objectives),
        success_objective(
            backup_rates,
            off_schedule=len(backups.unscheduled),
            awaited=since is not None and bool(expected_backups),
        ),
        success_objective(test_rates, off_schedule=len(tests.unscheduled), awaited=since is not None),
    )
    slots = (*backup_slots, *test_slots, *expiries.slots)
    missing = _missing_runs(slots)
    settled = (*backups.slots, *tests.slots, *expiries.slots)
    due = {attempt: slot.due for slot in settled for attempt in slot.attempts}
    return ComplianceReport(
        id=report_id(period, scheduled_for),
        environment=environment.name,
        region=environment.region,
        account_id=environment.account_id,
        period=period,
        period_start=start,
        period_end=end,
        year_start=year,
        in_service_since=since,
        scheduled_for=scheduled_for,
        generated=now,
        software=__version__,
        verdict=worst(row.verdict for row in rows),
        objectives=rows,
        rates=(*backup_rates, *test_rates),
        tallies=_tallies(environment, in_period, slots, due),
        gaps=find_gaps(in_period, missing),
        restores=tuple(
            ReportedRestore(restore=one, due=due.get(one.id), passed=one.passed, seconds=one.seconds)
            for one in in_period.restores
        ),
        points=_points(in_period),
        runs=tuple(ReportedRun(run=run, due=due.get(run.id)) for run in in_period.runs),
        missing_runs=missing,
        registrations=tuple(in_period.registrations),
        expiries=tuple(in_period.expiries),
    )


def _in_service_since(records: Records, year: datetime, end: datetime) -> datetime | None:
    made = (*records.runs, *records.points, *records.restores)
    everything = (*made, *records.registrations, *records.expiries)
    return min((record.moment for record in everything if year <= record.moment < end), default=None)


def backup_expectations(environment: Environment) -> list[Expectation]:
    """The backup runs that the schedule starts."""
    return [
        Expectation(
            job=run.name,
            group=run.component.value,
            cron=run.cron,
            window_seconds=run.start_deadline_seconds + run.longest_run_seconds,
            retry_heals=True,
        )
        for run in environment.backups
    ]


def _test_expectations(environment: Environment) -> list[Expectation]:
    return [
        Expectation(
            job=verification_job(component),
            group=component.value,
            cron=environment.verification_cron,
            window_seconds=VERIFICATION_WINDOW_SECONDS,
            retry_heals=False,
        )
        for component in Component
    ]


def backup_attempts(runs: Sequence[BackupRun]) -> list[Attempt]:
    """The runs that happened, as the objective counts them."""
    return [Attempt(id=run.id, job=run.job, started=run.started, outcome=_OUTCOMES[run.status]) for run in runs]


def _expiry_expectations(environment: Environment) -> list[Expectation]:
    return [
        Expectation(
            job=run.name,
            group=run.component.value,
            cron=run.cron,
            window_seconds=run.start_deadline_seconds + run.longest_run_seconds,
            retry_heals=True,
        )
        for run in environment.expiries
    ]


def _expiry_attempts(expiries: Sequence[Expiry]) -> list[Attempt]:
    return [Attempt(id=one.id, job=one.job, started=one.started, outcome=_OUTCOMES[one.status]) for one in expiries]


def _tests(records: Records) -> list[Attempt]:
    return [
        Attempt(id=test.id, job=verification_job(test.component), started=test.started, outcome=_test_outcome(test))
        for test in records.restores
        if test.purpose is Purpose.TEST
    ]


def _test_outcome(test: Restore) -> Outcome:
    return Outcome.SUCCEEDED if test.passed else Outcome.FAILED


def _due_since(settlement: Settlement, start: datetime) -> list[Slot]:
    return [slot for slot in settlement.slots if slot.due >= start]


def _missing_runs(slots: Sequence[Slot]) -> tuple[MissingRun, ...]:
    return tuple(
        MissingRun(job=slot.job, component=Component(slot.group), due=slot.due)
        for slot in slots
        if slot.state is SlotState.MISSING
    )


def _tallies(
    environment: Environment, records: PeriodRecords, slots: Sequence[Slot], due: dict[str, datetime]
) -> tuple[JobTally, ...]:
    jobs = [(run.name, run.component) for run in environment.backups]
    jobs += [(verification_job(component), component) for component in Component]
    jobs += [(run.name, run.component) for run in environment.expiries]
    states = {job: [SlotState(slot.state) for slot in slots if slot.job == job] for job, _ in jobs}
    scheduled = [_tally(job, component, states[job], scheduled=True) for job, component in jobs]

    off_schedule: dict[tuple[str, Component], list[SlotState]] = {}
    for run in (*records.runs, *records.expiries):
        if run.id not in due:
            off_schedule.setdefault((run.job, run.component), []).append(SlotState(_OUTCOMES[run.status].value))
    for test in records.restores:
        if test.id not in due and test.purpose is Purpose.TEST:
            job = (verification_job(test.component), test.component)
            off_schedule.setdefault(job, []).append(SlotState(_test_outcome(test).value))
    unscheduled = [_tally(job, component, found, scheduled=False) for (job, component), found in off_schedule.items()]
    return (*scheduled, *unscheduled)


def _tally(job: str, component: Component, states: Sequence[SlotState], *, scheduled: bool) -> JobTally:
    return JobTally(
        job=job,
        component=component,
        scheduled=scheduled,
        expected=len(states) if scheduled else 0,
        succeeded=states.count(SlotState.SUCCEEDED),
        failed=states.count(SlotState.FAILED),
        missing=states.count(SlotState.MISSING),
        superseded=states.count(SlotState.SUPERSEDED),
        pending=states.count(SlotState.PENDING),
    )


def _points(records: PeriodRecords) -> tuple[ReportedPoint, ...]:
    newest = {entry.component: entry.missing for entry in records.registrations}
    standing = standings(records.points, records.expiries, records.registrations)
    reported: list[ReportedPoint] = []
    for point in records.points:
        tests = [one for one in records.restores if one.component is point.component and one.recovery_point == point.id]
        reported.append(
            ReportedPoint(
                point=point,
                tests=tuple(test.id for test in tests),
                proven=tests[-1].passed if tests else None,
                gone=point.id in newest.get(point.component, ()),
                obsolete=standing[point.component, point.id] is Standing.OBSOLETE,
            )
        )
    return tuple(reported)
