"""The recovery drills that the runbook asks for: when each is held, and how long it may be overdue before somebody is
told."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# To mend what made one fail, and hold it again.
_TO_MEND = timedelta(days=2)

DRILL_START_DEADLINE_SECONDS = 6 * 3600
"""One that starts some hours late proves the same; a cluster that was down for a day is looked at by a person."""


class Exercise(StrEnum):
    """The drills that the runbook asks for (runbook, "Backup Verification")."""

    MONTHLY = "monthly"
    """A full system restore."""
    QUARTERLY = "quarterly"
    """A disaster recovery exercise: every scenario that can be isolated, from the second region where there is one."""

    @property
    def overdue_after(self) -> timedelta:
        """How old the newest drill that passed may be: the longest interval between two, and some days to mend one
        that failed."""
        return (timedelta(days=31) if self is Exercise.MONTHLY else timedelta(days=92)) + _TO_MEND


@dataclass(frozen=True, kw_only=True)
class DrillRun:
    """One CronJob of the drills.

    Attributes:
        arguments: what ``aivo-backup`` is called with.
        cron: in UTC; after the day's tests and expiries (the last of those begins at 08:10), when people are at work.
        restores: how many whole recoveries it carries out, one after the other.
    """

    name: str
    arguments: tuple[str, ...]
    cron: str
    restores: int


DRILLS: tuple[DrillRun, ...] = (
    # Not the first of a month, which has the monthly report.
    DrillRun(name="drill-monthly", arguments=("drill", Exercise.MONTHLY.value), cron="0 9 2 * *", restores=1),
    DrillRun(
        name="drill-quarterly", arguments=("drill", Exercise.QUARTERLY.value), cron="0 9 3 1,4,7,10 *", restores=2
    ),
    # After the last drill of the year's window.
    DrillRun(name="drill-annual", arguments=("drill", "annual"), cron="0 9 4 1 *", restores=0),
)
