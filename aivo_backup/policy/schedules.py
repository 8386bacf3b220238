"""The table of schedules, and the runs that a cron expression makes happen.

Every row of the runbook's table is here. Two rows go past it: a daily MinIO sync and a daily OpenSearch snapshot
alone lose up to a day, while the objective allows one hour, so both are also taken every 30 minutes.

Times are UTC. Five-field cron as Kubernetes reads it: minute, hour, day of month, month, day of week.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import BackupKind, Component, ExpiryRun, ScheduledRun
from aivo_backup.policy.names import Function

MINUTE = 60
HOUR = 60 * MINUTE

# An increment every 30 minutes leaves 30 minutes of the objective's hour for a late start and the run itself.
INCREMENT_CRON = "*/30 * * * *"
INCREMENT_START_DEADLINE = 5 * MINUTE
INCREMENT_LONGEST_RUN = 25 * MINUTE

# A full sync holds the lease, so no newer point appears while it runs: it gets no more time than an increment.
FULL_SYNC_LONGEST_RUN = 25 * MINUTE

# PostgreSQL's loss is bounded by WAL, not by its backups: these may take hours, but end before the 06:00 test.
POSTGRES_START_DEADLINE = 10 * MINUTE
POSTGRES_FULL_LONGEST_RUN = 4 * HOUR
POSTGRES_INCREMENT_LONGEST_RUN = 3 * HOUR

BACKUPS: tuple[ScheduledRun, ...] = (
    ScheduledRun(
        name="postgresql-backup-full",
        component=Component.POSTGRES,
        kind=BackupKind.FULL,
        cron="0 1 * * 0",
        start_deadline_seconds=POSTGRES_START_DEADLINE,
        longest_run_seconds=POSTGRES_FULL_LONGEST_RUN,
    ),
    ScheduledRun(
        name="postgresql-backup-incr",
        component=Component.POSTGRES,
        kind=BackupKind.INCREMENTAL,
        cron="0 2 * * *",
        start_deadline_seconds=POSTGRES_START_DEADLINE,
        longest_run_seconds=POSTGRES_INCREMENT_LONGEST_RUN,
    ),
    ScheduledRun(
        name="minio-backup",
        component=Component.MINIO,
        kind=BackupKind.FULL,
        cron="0 3 * * *",
        start_deadline_seconds=INCREMENT_START_DEADLINE,
        longest_run_seconds=FULL_SYNC_LONGEST_RUN,
    ),
    ScheduledRun(
        name="minio-backup-incr",
        component=Component.MINIO,
        kind=BackupKind.INCREMENTAL,
        cron=INCREMENT_CRON,
        start_deadline_seconds=INCREMENT_START_DEADLINE,
        longest_run_seconds=INCREMENT_LONGEST_RUN,
    ),
    ScheduledRun(
        name="opensearch-snapshot",
        component=Component.OPENSEARCH,
        kind=BackupKind.FULL,
        cron="0 4 * * *",
        start_deadline_seconds=INCREMENT_START_DEADLINE,
        longest_run_seconds=FULL_SYNC_LONGEST_RUN,
    ),
    ScheduledRun(
        name="opensearch-snapshot-incr",
        component=Component.OPENSEARCH,
        kind=BackupKind.INCREMENTAL,
        cron=INCREMENT_CRON,
        start_deadline_seconds=INCREMENT_START_DEADLINE,
        longest_run_seconds=INCREMENT_LONGEST_RUN,
    ),
)

# After the restore tests and their report, so that the day's proofs count, and between two increments, which a lease
# that is held would supersede: even one that starts late and waits for a slow increment ends before the next is due.
EXPIRY_CRON = "10 8 * * *"
EXPIRY_START_DEADLINE = 5 * MINUTE
PRUNE_LONGEST_RUN = 12 * MINUTE
# A week of WAL is ten thousand segments, and nothing else of PostgreSQL's is due at this hour.
POSTGRES_EXPIRE_LONGEST_RUN = HOUR


EXPIRIES: tuple[ExpiryRun, ...] = (
    ExpiryRun(
        name="postgresql-expire",
        component=Component.POSTGRES,
        arguments=("expire", Component.POSTGRES.value),
        cron=EXPIRY_CRON,
        start_deadline_seconds=EXPIRY_START_DEADLINE,
        longest_run_seconds=POSTGRES_EXPIRE_LONGEST_RUN,
    ),
    ExpiryRun(
        name="minio-prune",
        component=Component.MINIO,
        arguments=("prune", Component.MINIO.value),
        cron=EXPIRY_CRON,
        start_deadline_seconds=EXPIRY_START_DEADLINE,
        longest_run_seconds=PRUNE_LONGEST_RUN,
    ),
    ExpiryRun(
        name="opensearch-prune",
        component=Component.OPENSEARCH,
        arguments=("prune", Component.OPENSEARCH.value),
        cron=EXPIRY_CRON,
        start_deadline_seconds=EXPIRY_START_DEADLINE,
        longest_run_seconds=PRUNE_LONGEST_RUN,
    ),
)

_LOOKED_AT = datetime(2024, 1, 1, tzinfo=UTC)
_LOOKED_AT_FOR = timedelta(days=35)

SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
"""EventBridge Scheduler puts the schedule's own time in its place; retries carry the same one."""

VERIFICATION_CRON = "0 6 * * *"
# After the longest snapshot that starts at 04:00 and before the test at 06:00, so that the test sees every point.
REGISTRATION_CRON = "0 5 * * *"
# A function lives at most 15 minutes, so by 07:00 every test of the day is filed.
DAILY_REPORT_CRON = "0 7 * * *"
MONTHLY_REPORT_CRON = "30 7 1 * *"


@dataclass(frozen=True, kw_only=True)
class FunctionRun:
    """One schedule that calls a function.

    Attributes:
        subject: the event's fields besides ``scheduled_for``.
    """

    name: str
    function: Function
    cron: str
    subject: tuple[tuple[str, str], ...]

    @property
    def event(self) -> dict[str, str]:
        """What the function is called with, before the scheduler fills in the time."""
        return {**dict(self.subject), "scheduled_for": SCHEDULED_TIME}


def function_runs(verification_cron: str = VERIFICATION_CRON) -> tuple[FunctionRun, ...]:
    """Every schedule that calls a function: registration, restore test and reports."""
    per_component = tuple(
        FunctionRun(
            name=f"{verb}-{component.value}", function=function, cron=cron, subject=(("component", component.value),)
        )
        for verb, function, cron in (
            ("register", Function.REGISTER_SNAPSHOT, REGISTRATION_CRON),
            ("verify", Function.VERIFY_RESTORE, verification_cron),
        )
        for component in Component
    )
    reports = tuple(
        FunctionRun(
            name=f"report-{period}", function=Function.COMPLIANCE_REPORT, cron=cron, subject=(("period", period),)
        )
        for period, cron in (("daily", DAILY_REPORT_CRON), ("monthly", MONTHLY_REPORT_CRON))
    )
    return per_component + reports


def backup_in_the_way(expiry: ExpiryRun, backups: Iterable[ScheduledRun]) -> ScheduledRun | None:
    """A backup of the same component that may become due while the expiry holds the lease, and would be superseded.

    Five weeks are looked at, which hold every day of the week and of a month.

    Raises:
        ConfigurationError: a cron expression is malformed.
    """
    span = timedelta(seconds=expiry.start_deadline_seconds + expiry.longest_run_seconds)
    starts = tuple(expected_runs(expiry.cron, _LOOKED_AT, _LOOKED_AT + _LOOKED_AT_FOR))
    for backup in backups:
        if backup.component is not expiry.component:
            continue
        # From start to start: a calendar of every half-hourly run would take preview a good part of its seconds.
        if any(next(expected_runs(backup.cron, start, start + span), None) for start in starts):
            return backup
    return None


_TERM = re.compile(r"(?:\*|\d+-\d+)(?:/[1-9]\d*)?|\d+")
# The cron library reads 5-5/10 as 5-59/10, Kubernetes as 5.
_STEP_OVER_ONE = re.compile(r"(\d+)-\1/")
_MEND = "write five fields of numbers, for example '0 2 * * *' (minute, hour, day of month, month, day of week 0-6)"
_EVERY = "*"


def check_cron(cron: str, *, where: str) -> None:
    """Refuses an expression that is malformed, never fires, or that its readers understand differently.

    Kubernetes, EventBridge and the cron library disagree about names, seconds, ``L``, ``W``, ``#``, Sunday as 7 and
    about a day of the month together with a day of the week; none of them is let in.

    Args:
        where: how to name the source of the expression in an error.

    Raises:
        ConfigurationError: naming ``where``, the expression, and the mend.
    """
    fields = cron.split()
    terms = [term for entry in fields for term in entry.split(",")]
    if len(fields) != 5 or any(not _TERM.fullmatch(term) or _STEP_OVER_ONE.match(term) for term in terms):
        raise ConfigurationError(f"{where} is {cron!r}, not cron that every reader understands", mend=_MEND)
    if any("7" in term.partition("/")[0] for term in fields[4].split(",")):
        raise ConfigurationError(f"{where} is {cron!r}: Kubernetes knows Sunday as 0 only", mend=_MEND)
    if fields[2] != _EVERY and fields[4] != _EVERY:
        raise ConfigurationError(
            f"{where} is {cron!r}: with both a day of the month and a day of the week, readers disagree",
            mend="use one of the two, and '*' for the other",
        )
    try:
        fires = next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ConfigurationError(f"{where} is {cron!r}: {error}", mend=_MEND) from error
    if fires is None:
        raise ConfigurationError(f"{where} is {cron!r}, which never fires", mend=_MEND)


def expected_runs(cron: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """The moments in ``[since, until)`` at which a run is due, in UTC, oldest first.

    Args:
        cron: five fields, read in UTC whatever the offset of ``since``.

    Raises:
        ConfigurationError: ``cron`` is malformed.
        ValueError: ``since`` or ``until`` carries no time zone.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("since and until need a time zone")
    # The library answers what comes after the minute it is given; the step back lets ``since`` itself count.
    start = since.astimezone(UTC) - timedelta(microseconds=1)
    try:
        runs = CronSim(cron, start)
    except CronSimError as error:
        raise ConfigurationError(f"{cron!r} is not a cron expression: {error}", mend=_MEND) from error
    return itertools.takewhile(lambda moment: moment < until, runs)


def eventbridge_cron(cron: str) -> str:
    """The same schedule as EventBridge Scheduler writes it: six fields, days of the week from 1, ``?`` for either day.

    Raises:
        ConfigurationError: as :func:`check_cron`.
    """
    check_cron(cron, where="schedule")
    minute, hour, day, month, weekday = cron.split()
    if weekday == _EVERY:
        return f"cron({minute} {hour} {day} {month} ? *)"
    counted_from_one = ",".join(_from_one(term) for term in weekday.split(","))
    return f"cron({minute} {hour} ? {month} {counted_from_one} *)"


def _from_one(weekdays: str) -> str:
    span, slash, step = weekdays.partition("/")
    return re.sub(r"\d+", lambda day: str(int(day.group()) + 1), span) + slash + step
