"""The time spans that reports cover."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

YEAR = timedelta(days=365)
"""The rolling span over which success rates are judged."""


class Period(StrEnum):
    """How much time one report covers."""

    DAILY = "daily"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    ANNUAL = "annual"


_MONTHS = {Period.MONTHLY: 1, Period.QUARTERLY: 3, Period.ANNUAL: 12}


def window(period: Period, scheduled_for: datetime) -> tuple[datetime, datetime]:
    """What the report of a period covers: ``[start, end)`` in UTC.

    A daily report covers the 24 hours up to its own scheduled time, so that the restore tests of the same morning are
    in it. The others cover the last month, quarter or year of the calendar that is over at that time.
    """
    end = scheduled_for.astimezone(UTC)
    if period is Period.DAILY:
        return end - timedelta(days=1), end
    months = _MONTHS[period]
    last = end.year * 12 + (end.month - 1) // months * months
    return _first_of_month(last - months), _first_of_month(last)


def _first_of_month(number: int) -> datetime:
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
