"""Numbers as people read them: the same in sentences, tables and plots. No rounding ever flatters a number."""

from datetime import UTC, datetime
from math import ceil, floor

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")

NAMES = {"postgres": "PostgreSQL", "minio": "MinIO", "opensearch": "OpenSearch"}
"""What people call the components."""


def name(component: str | None) -> str:
    """The component's name in a text; "All components" for None."""
    return "All components" if component is None else NAMES.get(component, component)


def duration(seconds: float | None) -> str:
    """For example ``0.4 s``, ``42 s``, ``4 min 12 s``, ``1 h 05 min``, rounded up; a dash for None."""
    if seconds is None:
        return "—"
    if seconds < 9.95:
        tenths = ceil(round(seconds * 10, 6)) / 10
        return f"{tenths:.1f} s" if tenths % 1 else f"{tenths:.0f} s"
    whole = ceil(round(seconds, 6))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    minutes = ceil(whole / 60)
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest:02} min" if rest else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def share(value: float | None) -> str:
    """A rate in percent, cut off after two decimals: 0.99999 is 99.99 %, and only everything is 100 %."""
    if value is None:
        return "—"
    # The inner rounding undoes binary noise (0.995 * 10,000 is 9,949.999…) before anything is cut off.
    return f"{floor(round(value * 10_000, 6)) / 100:.2f}".rstrip("0").rstrip(".") + " %"


def size(count: int) -> str:
    """Bytes in decimal units, for example ``1.3 GB``."""
    amount = float(count)
    for unit in _SIZES:
        if amount < 999.5 or unit == _SIZES[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable: the last unit takes everything")


def moment(at: datetime | None) -> str:
    """For example ``2026-11-23 04:00:07`` (UTC is said once, in the report's head); a dash for None."""
    return "—" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def count(number: int, singular: str, plural: str = "") -> str:
    """For example ``1 run``, ``1,095 runs``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
