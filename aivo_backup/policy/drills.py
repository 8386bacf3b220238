"""The recovery drills that the runbook asks for, and how long each may be overdue before somebody is told."""

from datetime import timedelta
from enum import StrEnum

# To mend what made one fail, and hold it again.
_TO_MEND = timedelta(days=2)


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
