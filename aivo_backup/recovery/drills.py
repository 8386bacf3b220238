"""Drills: the recovery plans carried out in isolation, timed and filed; and the yearly review of what they showed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from aivo_backup.catalog.records import Purpose, Recovery, Restore
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.drills import Exercise
from aivo_backup.policy.environment import Objectives
from aivo_backup.recovery.plan import Scenario

SCENARIOS: Mapping[Exercise, tuple[Scenario, ...]] = {
    Exercise.MONTHLY: (Scenario.STORAGE_FAILURE,),
    Exercise.QUARTERLY: (Scenario.DATABASE_CORRUPTION, Scenario.STORAGE_FAILURE),
}
"""What each drill carries out."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one drill stands. ``passed_at`` is of the newest that passed; None when none ever did. Times are UTC."""

    exercise: Exercise
    passed_at: datetime | None
    overdue: bool


def passed_at(records: Iterable[Recovery], exercise: Exercise) -> datetime | None:
    """When a drill passed last as a whole: the oldest of its scenarios' newest; None when one never passed."""
    newest: dict[str, datetime] = {}
    for record in records:
        if record.purpose is Purpose.DRILL and record.exercise == exercise.value and record.passed:
            newest[record.scenario] = max(record.finished, newest.get(record.scenario, record.finished))
    wanted = SCENARIOS[exercise]
    if any(scenario.value not in newest for scenario in wanted):
        return None
    return min(newest[scenario.value] for scenario in wanted)


def standings(records: Sequence[Recovery], now: datetime) -> tuple[Standing, ...]:
    """How every drill stands: overdue when one of its scenarios has not passed for too long, or never."""
    found: list[Standing] = []
    for exercise in Exercise:
        moment = passed_at(records, exercise)
        overdue = moment is None or now - moment > exercise.overdue_after
        found.append(Standing(exercise=exercise, passed_at=moment, overdue=overdue))
    return tuple(found)


def annual_review(
    *,
    environment: str,
    objectives: Objectives,
    recoveries: Sequence[Recovery],
    restores: Sequence[Restore],
    since: datetime,
    until: datetime,
) -> str:
    """The review of the backup strategy as Markdown, from the records of ``[since, until)`` alone."""
    drills = [record for record in recoveries if record.purpose is Purpose.DRILL]
    real = [record for record in recoveries if record.purpose is Purpose.RECOVERY]
    tests = [record for record in restores if record.purpose is Purpose.TEST]
    losses = [record.loss_seconds for record in (*recoveries, *restores) if record.loss_seconds is not None]
    times = [record.seconds for record in recoveries if record.passed]
    findings = _findings(objectives, drills, tests, losses, times, since, until)
    lines = [
        f"# Backup strategy review: {environment}",
        "",
        f"{format_time(since)} to {format_time(until)}; written {format_time(until)} from the records on file.",
        "",
        "| what | number | passed | median | longest |",
        "| --- | --- | --- | --- | --- |",
        _row("drills", drills),
        _row("recoveries", real),
        f"| restore tests | {len(tests)} | {sum(test.passed for test in tests)} | "
        f"{_seconds([test.seconds for test in tests], longest=False)} | "
        f"{_seconds([test.seconds for test in tests], longest=True)} |",
        "",
        f"- Largest loss measured: {f'{max(losses):.0f} s' if losses else 'none measured'} "
        f"(objective {objectives.rpo_seconds} s).",
        f"- Longest recovery: {f'{max(times):.0f} s' if times else 'none held'} "
        f"(objective {objectives.rto_seconds} s).",
        "",
        "## To be decided",
        "",
        *(f"- {finding}" for finding in findings),
        "",
        "## Recoveries and drills",
        "",
        "| when | what | scenario | took | expected | lost | result |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(record) for record in recoveries),
        "",
    ]
    return "\n".join(lines)


def _findings(
    objectives: Objectives,
    drills: Sequence[Recovery],
    tests: Sequence[Restore],
    losses: Sequence[float],
    times: Sequence[float],
    since: datetime,
    until: datetime,
) -> list[str]:
    found: list[str] = []
    months = max(1, round((until - since).days / 30.4))
    for exercise, due in ((Exercise.MONTHLY, months), (Exercise.QUARTERLY, max(1, months // 3))):
        held = len({record.started.date() for record in drills if record.exercise == exercise.value and record.passed})
        if held < due:
            found.append(f"{held} of {due} {exercise} drills passed: find out why the others did not happen or failed.")
    if losses and max(losses) > objectives.rpo_seconds:
        found.append(f"A loss of {max(losses):.0f} s exceeds the RPO: shorten the intervals between backups.")
    if times and max(times) > objectives.rto_seconds:
        found.append(f"A recovery of {max(times):.0f} s exceeds the RTO: raise restore rates, or split the stores.")
    failed = [test for test in tests if not test.passed]
    if failed:
        components = ", ".join(sorted({test.component.value for test in failed}))
        found.append(f"{len(failed)} restore tests failed ({components}): each needs a cause on file.")
    if not tests:
        found.append("No restore test is on record: nothing was proven in this period.")
    off = [record for record in drills if record.passed and _off(record) > _WELL_PREDICTED]
    if off:
        found.append(f"{len(off)} drills took more than a quarter longer or shorter than expected.")
    return found or ["Nothing: every objective was met by what was measured."]


_WELL_PREDICTED = 0.25


def _off(record: Recovery) -> float:
    return abs(record.seconds - record.predicted_seconds) / record.seconds if record.seconds else 0.0


def _row(name: str, records: Sequence[Recovery]) -> str:
    times = [record.seconds for record in records if record.passed]
    passed = sum(record.passed for record in records)
    return (
        f"| {name} | {len(records)} | {passed} | {_seconds(times, longest=False)} | {_seconds(times, longest=True)} |"
    )


def _seconds(values: Sequence[float], *, longest: bool) -> str:
    if not values:
        return "-"
    return f"{max(values) if longest else median(values):.0f} s"


def _line(record: Recovery) -> str:
    lost = f"{record.loss_seconds:.0f} s" if record.loss_seconds is not None else "not measured"
    result = "passed" if record.passed else f"FAILED {record.error}"
    what = record.exercise or "recovery"
    return (
        f"| {format_time(record.started)} | {what} | {record.scenario} | {record.seconds:.0f} s "
        f"| {record.predicted_seconds:.0f} s | {lost} | {result} |"
    )
