"""What should be there and is not. Silence is never taken for success."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aivo_backup.catalog.records import BackupRun, Expiry, RecoveryPoint, Registration, Restore
from aivo_backup.evidence.judgement import PROVING
from aivo_backup.evidence.model import Gap, MissingRun
from aivo_backup.evidence.wording import count, moment, name
from aivo_backup.policy.environment import Component


@dataclass(frozen=True, kw_only=True)
class PeriodRecords:
    """The records of the report's period, each oldest first."""

    runs: Sequence[BackupRun]
    points: Sequence[RecoveryPoint]
    restores: Sequence[Restore]
    registrations: Sequence[Registration]
    expiries: Sequence[Expiry]


def find_gaps(records: PeriodRecords, missing_runs: Sequence[MissingRun]) -> tuple[Gap, ...]:
    """Every gap, by component, the gravest kind first within each."""
    gaps: list[Gap] = []
    for component in Component:
        gaps.extend(_unproven(component, records))
        gaps.extend(_lost_points(component, records))
        gaps.extend(_missing(component, missing_runs))
    gaps.extend(_late(records))
    return tuple(gaps)


def _unproven(component: Component, records: PeriodRecords) -> Iterator[Gap]:
    tests = [one for one in records.restores if one.component is component and one.purpose in PROVING]
    if not tests:
        what = f"No restore test in the period: nothing proves that {name(component)} can be restored."
        yield Gap(component=component, what=what)
    elif not any(test.passed for test in tests):
        what = f"No restore test of {name(component)} passed in the period."
        yield Gap(component=component, what=what, items=tuple(test.id for test in tests))
    if not any(point.component is component for point in records.points):
        yield Gap(component=component, what=f"No new recovery point of {name(component)} in the period.")
    without = tuple(test.id for test in tests if not test.error and test.loss_seconds is None)
    if without:
        what = f"Restored data of {name(component)} held no heartbeat, so its loss is unknown."
        yield Gap(component=component, what=what, items=without)


def _lost_points(component: Component, records: PeriodRecords) -> Iterator[Gap]:
    own = [entry for entry in records.registrations if entry.component is component]
    if not own:
        what = f"The catalog was not compared with what {name(component)}'s backups really hold in the period."
        yield Gap(component=component, what=what)
    elif own[-1].missing:
        what = f"Recovery points of {name(component)} that the catalog names are gone from the store."
        yield Gap(component=component, what=what, items=own[-1].missing)


def _missing(component: Component, missing_runs: Sequence[MissingRun]) -> Iterator[Gap]:
    by_job: dict[str, list[MissingRun]] = {}
    for run in missing_runs:
        if run.component is component:
            by_job.setdefault(run.job, []).append(run)
    for job, runs in by_job.items():
        what = f"{count(len(runs), 'expected run')} of {job} never happened."
        yield Gap(component=component, what=what, items=tuple(moment(run.due) for run in runs))


def _late(records: PeriodRecords) -> Iterator[Gap]:
    everything = (*records.runs, *records.points, *records.restores, *records.registrations)
    late = tuple(record.id for record in everything if record.late)
    if late:
        what = f"{count(len(late), 'record')} reached the catalog late, after waiting in a job's spool."
        yield Gap(component=None, what=what, items=late)
