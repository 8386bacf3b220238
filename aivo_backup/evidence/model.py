"""The compliance report as data. Its JSON form (``report.json``) is what machines read; HTML is drawn from it alone.

Times are UTC, durations seconds, sizes bytes, rates shares of one.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from aivo_backup.catalog.records import BackupRun, Expiry, RecoveryPoint, Registration, Restore
from aivo_backup.evidence.periods import Period
from aivo_backup.policy.environment import Component
from aivo_backup.policy.slo import Interval, Rate, Verdict

SCHEMA_VERSION = 1
"""Raised when a reader of older reports would misread a newer one."""


class Unit(StrEnum):
    """What an objective is measured in."""

    SECONDS = "seconds"
    SHARE = "share"


class Promise(StrEnum):
    """The four objectives of the runbook."""

    RECOVERY_POINT = "recovery point"
    RECOVERY_TIME = "recovery time"
    BACKUP_SUCCESS = "backup success"
    VERIFICATION_SUCCESS = "verification success"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One row of the summary.

    Attributes:
        component: None where it is judged over all components together.
        limit: at most (seconds) or at least (share).
        measured: None when there was nothing to measure.
        interval: of a success rate; None otherwise.
        evidence: what the measurement rests on, one sentence.
    """

    promise: Promise
    component: Component | None
    unit: Unit
    limit: float
    measured: float | None
    interval: Interval | None = None
    evidence: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class SuccessRate:
    """One success rate over the report's period and over the rolling year that ends with it."""

    promise: Promise
    component: Component | None
    period: Rate
    year: Rate


@dataclass(frozen=True, kw_only=True)
class JobTally:
    """What became of one job's runs in the period.

    Attributes:
        scheduled: False for runs that no schedule asked for: shown, never counted.
    """

    job: str
    component: Component
    scheduled: bool
    expected: int
    succeeded: int
    failed: int
    missing: int
    superseded: int
    pending: int


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A backup run of the period. ``due`` is None when no schedule asked for it."""

    run: BackupRun
    due: datetime | None


@dataclass(frozen=True, kw_only=True)
class MissingRun:
    """A run that the schedule expected and that never happened."""

    job: str
    component: Component
    due: datetime


@dataclass(frozen=True, kw_only=True)
class ReportedPoint:
    """A recovery point of the period.

    Attributes:
        tests: ids of the restores that brought it back in the period, oldest first.
        proven: True when the newest of them passed, False when it failed, None when none was tried.
        gone: the newest reconciliation no longer found it in the store.
        obsolete: retention removed it, in good order.
    """

    point: RecoveryPoint
    tests: tuple[str, ...]
    proven: bool | None
    gone: bool
    obsolete: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportedRestore:
    """A restore of the period, with what the record's reader would have to work out.

    Attributes:
        due: the scheduled test that it answers; None for one off schedule, a recovery or a drill.
    """

    restore: Restore
    due: datetime | None
    passed: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that should be there and is not: the absence of proof, said aloud.

    Attributes:
        what: one sentence.
        items: the things themselves by name or time, oldest first; empty when the sentence says it all.
    """

    component: Component | None
    what: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComplianceReport:
    """One environment over one period.

    Attributes:
        id: ``<period>-<scheduled time>``; the same schedule always gives the same id.
        year_start: where the rolling year begins.
        in_service_since: the first record of the catalog within the rolling year; no run is expected before it. None
            while the catalog is empty.
        verdict: the worst of the objectives'.
        software: the version of the program that made the report.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    environment: str
    region: str
    account_id: str
    period: Period
    period_start: datetime
    period_end: datetime
    year_start: datetime
    in_service_since: datetime | None
    scheduled_for: datetime
    generated: datetime
    software: str
    verdict: Verdict
    objectives: tuple[Objective, ...]
    rates: tuple[SuccessRate, ...]
    tallies: tuple[JobTally, ...]
    gaps: tuple[Gap, ...]
    restores: tuple[ReportedRestore, ...]
    points: tuple[ReportedPoint, ...]
    runs: tuple[ReportedRun, ...]
    missing_runs: tuple[MissingRun, ...]
    registrations: tuple[Registration, ...]
    expiries: tuple[Expiry, ...] = ()

    @property
    def objectives_met(self) -> bool:
        """True only when every objective is met, and none merely lacks a counter-example."""
        return self.verdict is Verdict.MET
