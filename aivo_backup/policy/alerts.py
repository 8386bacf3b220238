"""What an alert is, and those on what has to happen every so often."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aivo_backup.policy import metrics as named
from aivo_backup.policy.drills import Exercise


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that somebody is told about.

    Attributes:
        lasting_minutes: how long it must be true before anybody is told.
        level: whom it goes to first.
        escalates: it goes to the levels above when it lasts.
        summary: what is wrong; may quote labels as ``{{ $labels.component }}``.
        mend: what to do first.
        labels: what tells rules of one name apart.
    """

    name: str
    expression: str
    lasting_minutes: int
    summary: str
    mend: str
    level: int = 1
    escalates: bool = False
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def drills() -> list[Alert]:
    """On each recovery drill that is due."""
    found: list[Alert] = []
    for exercise in Exercise:
        found += due(
            ("DrillOverdue", "NoDrill"),
            f'{named.NEWEST_DRILL}{{exercise="{exercise.value}"}}',
            age=int(exercise.overdue_after.total_seconds()),
            summary=f"no {exercise.value} recovery drill has passed when it was due: recovery is not rehearsed",
            mend=f"aivo-backup drill {exercise.value}; aivo-backup drill status tells when each passed last",
            labels={"exercise": exercise.value},
        )
    return found


def due(
    names: tuple[str, str], newest: str, *, age: int, summary: str, mend: str, labels: Mapping[str, str]
) -> list[Alert]:
    """Two alerts on what has to happen every so often: its newest moment is older than ``age`` seconds, or unknown for
    as long. Absence counts from the first day on: what never ran leaves no moment to grow old."""
    overdue, never = names
    return [
        Alert(
            name=name,
            expression=expression,
            lasting_minutes=lasting,
            summary=summary,
            mend=mend,
            escalates=name == overdue,
            labels=labels,
        )
        for name, expression, lasting in (
            (overdue, f"time() - {newest} > {age}", 5),
            (never, f"absent({newest})", math.ceil(age / 60)),
        )
    ]
