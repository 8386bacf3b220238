"""What a configuration can promise at worst, and the refusal of one that promises less than its objectives.

The Pulumi program calls :func:`require_objectives` before it registers anything, so an environment that cannot meet
its RPO or RTO is refused at preview.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import pairwise

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
# Without a day of the month or a month, a schedule repeats every week: two of them show every gap.
_WEEKLY_HORIZON = timedelta(days=15)
# With either, it repeats with the leap years.
_CALENDAR_HORIZON = timedelta(days=4 * 366 + 31)


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """What one component can lose and how long it can take to come back, in seconds; ``how`` explains the sum."""

    component: Component
    seconds: float
    how: str


def longest_gap(crons: Iterable[str], *, stop_at: timedelta | None = None) -> timedelta:
    """The longest time between two neighbouring starts of several schedules taken together.

    Args:
        stop_at: a gap longer than this is answered as soon as it is seen; the whole calendar need not be walked.

    Raises:
        ConfigurationError: an expression is malformed, or nothing starts twice in the calendar.
    """
    expressions = tuple(crons)
    calendar = any(cron.split()[2:4] != ["*", "*"] for cron in expressions)
    until = _ORIGIN + (_CALENDAR_HORIZON if calendar else _WEEKLY_HORIZON)
    starts = merge(*(expected_runs(cron, _ORIGIN, until) for cron in expressions))
    longest = timedelta(0)
    for earlier, later in pairwise(starts):
        longest = max(longest, later - earlier)
        if stop_at is not None and longest > stop_at:
            return longest
    if not longest:
        raise ConfigurationError(
            f"schedule {', '.join(expressions) or '(none)'} starts less than twice in {(until - _ORIGIN).days} days",
            mend="run it at least daily",
        )
    return longest


def worst_loss(component: Component, backups: Iterable[ScheduledRun], postgres: PostgresSettings) -> WorstCase:
    """The most that can be lost when every run succeeds, but as late and as slowly as its limits allow.

    PostgreSQL: a write waits at most for the archive timeout. The others: a point shows the store as it was when its
    run began, so just before the next point is complete the loss is interval + start deadline + longest run. The
    longest run of any kind counts, a full one included: while it holds the lease no newer point appears.

    Raises:
        ConfigurationError: the component has no schedule.
    """
    if component is Component.POSTGRES:
        timeout = postgres.archive_timeout_seconds
        return WorstCase(component=component, seconds=timeout, how=f"archive timeout {timeout} s")
    rows = [row for row in backups if row.component is component]
    if not rows:
        raise ConfigurationError(f"{component.value} has no backup schedule", mend="add one under schedules")
    late = max(row.start_deadline_seconds for row in rows)
    run = max(row.longest_run_seconds for row in rows)
    # No gap beyond a day needs to be known exactly: it is far past any objective.
    gap = longest_gap((row.cron for row in rows), stop_at=timedelta(days=1)).total_seconds()
    return WorstCase(
        component=component,
        seconds=gap + late + run,
        how=f"{gap:.0f} s between starts + {late} s start deadline + {run} s longest run",
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
