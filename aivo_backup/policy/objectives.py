"""What a configuration can promise at worst, and the refusal of one that promises less than its objectives.

The Pulumi program calls :func:`require_objectives` before it registers anything, so an environment that cannot meet
its RPO or RTO is refused at preview.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import (
    Component,
    MinioSettings,
    Objectives,
    OpenSearchSettings,
    PostgresSettings,
    ScheduledRun,
)
from aivo_backup.policy.schedules import expected_runs

# A Monday, so that weekly patterns are seen whole; any other start gives the same gaps.
_ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)
# Without days and months a schedule repeats every day: three show every interval across midnight.
_DAILY_HORIZON = timedelta(days=3)
# With days of the week, every week.
_WEEKLY_HORIZON = timedelta(days=15)
# With days of the month or months, with the leap years.
_CALENDAR_HORIZON = timedelta(days=4 * 366 + 31)


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """What one component can lose and how long it can take to come back, in seconds; ``how`` explains the sum."""

    component: Component
    seconds: float
    how: str


@dataclass(frozen=True, kw_only=True)
class _Start:
    """A scheduled start: when it must be complete at the latest, counted from itself, and how that is made up."""

    moment: datetime
    row: ScheduledRun

    @property
    def hold(self) -> timedelta:
        """A late start and a full-length run: until then it may hold the lease, and by then its point is there."""
        return timedelta(seconds=self.row.start_deadline_seconds + self.row.longest_run_seconds)


def worst_loss(component: Component, backups: Iterable[ScheduledRun], postgres: PostgresSettings) -> WorstCase:
    """The most that can be lost when every run succeeds, but as late and as slowly as its limits allow.

    PostgreSQL: a write waits at most for the archive timeout.

    The others: a point shows the store as it was when its run began, so it is the newest until the next run is
    complete: interval + start deadline + longest run. Where a run may still hold the lease when the next one is due,
    that one is superseded, and the interval is the one to the first that is not; likewise where another run may begin
    before one that starts late. A full run counts like any other: no newer point appears while it works.

    Raises:
        ConfigurationError: the component has no schedule, or one that starts less than twice.
    """
    if component is Component.POSTGRES:
        timeout = postgres.archive_timeout_seconds
        return WorstCase(component=component, seconds=timeout, how=f"archive timeout {timeout} s")
    rows = [row for row in backups if row.component is component]
    if not rows:
        raise ConfigurationError(f"{component.value} has no backup schedule", mend="add one under schedules")
    worst = max(_exposures(_starts(rows)), key=lambda exposure: exposure.seconds, default=None)
    if worst is None:
        raise ConfigurationError(f"{component.value} starts less than twice in years", mend="run it at least daily")
    return worst


def _starts(rows: list[ScheduledRun]) -> list[_Start]:
    until = _ORIGIN + max(_horizon(row.cron) for row in rows)
    starts = (_Start(moment=moment, row=row) for row in rows for moment in expected_runs(row.cron, _ORIGIN, until))
    # Of two at one moment, the one that may hold the lease for longer decides.
    longest: dict[datetime, _Start] = {}
    for start in starts:
        if start.moment not in longest or start.hold > longest[start.moment].hold:
            longest[start.moment] = start
    return [longest[moment] for moment in sorted(longest)]


def _horizon(cron: str) -> timedelta:
    day, month, weekday = cron.split()[2:]
    if (day, month) != ("*", "*"):
        return _CALENDAR_HORIZON
    return _DAILY_HORIZON if weekday == "*" else _WEEKLY_HORIZON


def _exposures(starts: list[_Start]) -> Iterator[WorstCase]:
    """For each start with a successor in the calendar, how long its point can stay the newest."""
    for position, start in enumerate(starts):
        free = start.moment + start.hold
        for number, following in enumerate(starts[position + 1 :], position + 1):
            late = following.row.start_deadline_seconds
            latest = following.moment + timedelta(seconds=late)
            yield _exposure(start, following, latest)
            if following.moment >= free:
                # The lease is free when this one is due, and its point is the newer one, unless it is so late that
                # another one comes before it: that one's point is waited for then.
                for other in starts[number + 1 :]:
                    if other.moment > latest:
                        break
                    yield _exposure(start, other, latest)
                break


def _exposure(start: _Start, following: _Start, latest: datetime) -> WorstCase:
    """The point of ``start`` is the newest until the run of ``following`` is complete, which begins by ``latest``."""
    row = following.row
    begun = min(following.moment + timedelta(seconds=row.start_deadline_seconds), latest)
    waited = (following.moment - start.moment).total_seconds()
    late, run = (begun - following.moment).total_seconds(), row.longest_run_seconds
    return WorstCase(
        component=start.row.component,
        seconds=waited + late + run,
        how=f"{waited:.0f} s to the next start that finds the lease free + {late:.0f} s start deadline"
        f" + {run} s longest run",
    )


def restore_time(settings: PostgresSettings | MinioSettings | OpenSearchSettings) -> WorstCase:
    """How long the stated size takes at the stated rate.

    OpenSearch restores no faster than the rate limit set on its repository.

    Raises:
        ConfigurationError: a rate is not positive.
    """
    component = _COMPONENT_OF[type(settings)]
    rate = settings.restore_bytes_per_second
    if isinstance(settings, OpenSearchSettings):
        rate = min(rate, settings.bytes_per_second)
    if rate <= 0:
        raise ConfigurationError(
            f"{component.value}.restore_bytes_per_second is {rate}", mend="measure it; it is above 0"
        )
    seconds = settings.size_bytes / rate
    return WorstCase(component=component, seconds=seconds, how=f"{settings.size_bytes} bytes at {rate} bytes/s")


_COMPONENT_OF = {
    PostgresSettings: Component.POSTGRES,
    MinioSettings: Component.MINIO,
    OpenSearchSettings: Component.OPENSEARCH,
}

_RPO_MEND = {
    Component.POSTGRES: "lower postgres.archive_timeout_seconds to at most {bound}",
    Component.MINIO: "run minio-backup-incr more often, or lower its deadlines",
    Component.OPENSEARCH: "run opensearch-snapshot-incr more often, or lower its deadlines",
}
_RTO_MEND = {
    Component.POSTGRES: "raise postgres.restore_bytes_per_second (process_max, faster volumes) and measure it",
    Component.MINIO: "raise minio.restore_bytes_per_second (transfers, shards) and measure it",
    Component.OPENSEARCH: "raise opensearch.bytes_per_second and restore_bytes_per_second and measure them",
}


def require_objectives(
    *,
    objectives: Objectives,
    backups: tuple[ScheduledRun, ...],
    postgres: PostgresSettings,
    minio: MinioSettings,
    opensearch: OpenSearchSettings,
) -> None:
    """Refuses what cannot meet its objectives.

    Raises:
        ConfigurationError: naming the first component that misses its RPO or RTO, by how much, and the mend.
    """
    for component in Component:
        loss = worst_loss(component, backups, postgres)
        bound = objectives.rpo_seconds
        if loss.seconds > bound:
            raise ConfigurationError(
                f"{component.value} can lose {loss.seconds:.0f} s at worst ({loss.how}), RPO is {bound} s",
                mend=_RPO_MEND[component].format(bound=bound),
            )
    for settings in (postgres, minio, opensearch):
        time = restore_time(settings)
        bound = objectives.rto_seconds
        if time.seconds > bound:
            raise ConfigurationError(
                f"{time.component.value} takes {time.seconds:.0f} s to restore ({time.how}), RTO is {bound} s",
                mend=_RTO_MEND[time.component],
            )
