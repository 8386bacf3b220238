"""Judges each objective on the records, and says in one sentence what the judgement rests on."""

from collections.abc import Mapping, Sequence

from aivo_backup.catalog.records import Purpose, Restore
from aivo_backup.evidence.model import Objective, Promise, SuccessRate, Unit
from aivo_backup.evidence.wording import count, name, share
from aivo_backup.policy.environment import Component, Objectives
from aivo_backup.policy.slo import Rate, Slot, Verdict, Worst, judge_together, judge_worst, rate

PROVING = frozenset({Purpose.TEST, Purpose.DRILL})
"""Restores that prove: in a recovery an operator chooses what to lose, so its loss says nothing about the RPO."""


def durations(restores: Sequence[Restore], objectives: Objectives) -> list[Objective]:
    """The RPO and the RTO of each component, from the restore tests and drills of the period."""
    proving = [restore for restore in restores if restore.purpose in PROVING]
    by_component = {
        component: [restore for restore in proving if restore.component is component] for component in Component
    }
    return [
        *(_recovery_point(component, tests, objectives.rpo_seconds) for component, tests in by_component.items()),
        *(_recovery_time(component, tests, objectives.rto_seconds) for component, tests in by_component.items()),
    ]


def _recovery_point(component: Component, tests: Sequence[Restore], limit: int) -> Objective:
    complete = [test for test in tests if not test.error]
    judged = judge_worst([test.loss_seconds for test in complete], limit)
    evidence = _nothing_proven(tests, judged)
    if not evidence and judged.unmeasured:
        copies = count(len(complete), "restored copy", "restored copies")
        evidence = f"{judged.unmeasured} of {copies} without a heartbeat: the loss is unknown"
    return _duration_row(
        Promise.RECOVERY_POINT,
        component,
        judged,
        verdict=_proven(tests, judged),
        evidence=evidence or f"{_of('worst', judged.measured, 'restored copy', 'restored copies')}, by its heartbeat",
    )


def _recovery_time(component: Component, tests: Sequence[Restore], limit: int) -> Objective:
    complete = [test for test in tests if not test.error and test.phases]
    judged = judge_worst([test.seconds for test in complete], limit)
    slowest = max(complete, key=lambda test: test.seconds, default=None)
    evidence = _nothing_proven(tests, judged)
    if not evidence and slowest is not None:
        longest = max(slowest.phases, key=lambda phase: phase.seconds)
        evidence = f"{_of('slowest', judged.measured, 'restore', 'restores')}; its longest phase: {longest.name}"
    return _duration_row(Promise.RECOVERY_TIME, component, judged, verdict=_proven(tests, judged), evidence=evidence)


def _of(extreme: str, number: int, singular: str, plural: str) -> str:
    return f"one {singular}" if number == 1 else f"{extreme} of {number:,} {plural}"


def _proven(tests: Sequence[Restore], judged: Worst) -> Verdict:
    """A measurement on copies none of which passed its checks proves nothing good, though it may prove a miss."""
    if judged.verdict is Verdict.MET and not any(test.passed for test in tests):
        return Verdict.ABSENT
    return judged.verdict


def _nothing_proven(tests: Sequence[Restore], judged: Worst) -> str:
    if not tests:
        return "no restore test in the period"
    if not any(test.passed for test in tests) and judged.verdict is not Verdict.MISSED:
        return f"no restore test passed in the period ({count(len(tests), 'test')} failed)"
    return ""


def _duration_row(
    promise: Promise, component: Component, judged: Worst, *, verdict: Verdict, evidence: str
) -> Objective:
    return Objective(
        promise=promise,
        component=component,
        unit=Unit.SECONDS,
        limit=judged.limit_seconds,
        measured=judged.seconds,
        evidence=evidence,
        verdict=verdict,
    )


def success_rates(
    promise: Promise, year: Sequence[Slot], period: Sequence[Slot], objective: float
) -> tuple[SuccessRate, ...]:
    """The rate of all components together, then of each one.

    Args:
        year: what became of the runs that were due in the rolling year.
        period: those of them that were due in the report's period.
    """
    overall = SuccessRate(promise=promise, component=None, period=rate(period, objective), year=rate(year, objective))
    return (
        overall,
        *(
            SuccessRate(
                promise=promise,
                component=component,
                period=rate([slot for slot in period if slot.group == component.value], objective),
                year=rate([slot for slot in year if slot.group == component.value], objective),
            )
            for component in Component
        ),
    )


_NOUNS: Mapping[Promise, str] = {Promise.BACKUP_SUCCESS: "run", Promise.VERIFICATION_SUCCESS: "restore test"}


def success_objective(rates: Sequence[SuccessRate], *, off_schedule: int, awaited: bool) -> Objective:
    """The row of a success rate, judged over the rolling year and all components together.

    Args:
        off_schedule: runs of the year that no schedule asked for; told, not counted.
        awaited: the schedule has such runs and the environment is in service. Then a rate without any expected run
            only has too little evidence yet; otherwise there is none and will be none.
    """
    overall, *parts = rates
    verdict = judge_together(overall.year, [part.year for part in parts])
    if verdict is Verdict.ABSENT and awaited:
        verdict = Verdict.INSUFFICIENT
    noun = _NOUNS[overall.promise]
    evidence = _rate_evidence(overall.year, parts, noun, awaited=awaited)
    if off_schedule:
        evidence += f"; {count(off_schedule, noun)} off schedule not counted"
    return Objective(
        promise=overall.promise,
        component=None,
        unit=Unit.SHARE,
        limit=overall.year.objective,
        measured=overall.year.measured,
        interval=overall.year.interval if overall.year.expected else None,
        evidence=evidence,
        verdict=verdict,
    )


def _rate_evidence(year: Rate, parts: Sequence[SuccessRate], noun: str, *, awaited: bool) -> str:
    if not year.expected:
        return f"no scheduled {noun} was due yet" if awaited else "nothing is on record"
    words = [f"{year.succeeded:,} of {count(year.expected, f'expected {noun}')} succeeded"]
    if year.failed or year.missing:
        words.append(f"{year.failed:,} failed, {year.missing:,} never happened")
    if year.verdict is Verdict.INSUFFICIENT:
        words.append(f"a proof needs {year.needed:,}")
    below = [
        f"{name(part.component)} ({share(part.year.measured)})"
        for part in parts
        if part.year.expected and part.year.interval.high < part.year.objective
    ]
    if below:
        words.append(f"below the objective: {', '.join(below)}")
    return "; ".join(words)
