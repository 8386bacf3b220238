"""What must be true of retention, told by playing recoveries. Shares no code with the policy that it judges."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.unit.retention.histories import History, Set, number, path

# No multiple of a segment's hours, so that moments fall before, into and after backups.
_STEP = timedelta(hours=7)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The runbook's numbers, or others."""

    window: timedelta = timedelta(days=14)
    fulls: int = 7
    verified: int = 2


def restorable(history: History, entry: Set) -> bool:
    """Whether the set itself can be brought back: its chain, and the WAL that makes it consistent."""
    labels = {each.label for each in history.sets}
    way = path(history, entry.ended)
    own = [way(at) for at in range(number(entry.started), number(entry.ended) + 1)]
    return entry.label in labels and labels.issuperset(entry.references) and history.wal.issuperset(own)


def recoverable(history: History, moment: datetime) -> bool:
    """Whether a recovery to ``moment`` is possible: a sound set before it, and all WAL of the way from there."""
    return any(
        not entry.damaged and entry.ended < moment and restorable(history, entry)
        for entry in _leading_to(history, moment)
    )


def _leading_to(history: History, moment: datetime) -> list[Set]:
    """The sets from which all WAL up to ``moment`` can be replayed, oldest first."""
    way, at = path(history, moment), number(moment)
    while way(at) in history.wal:
        at -= 1
    # From ``at`` + 1 on there is no gap.
    return [
        entry
        for entry in history.sets
        if number(entry.started) > at and entry.ended <= moment and _on_the_way(history, entry, moment)
    ]


def _on_the_way(history: History, entry: Set, moment: datetime) -> bool:
    """Whether what the set holds is part of the past of what the live database held at ``moment``."""
    switch = history.switch
    if switch is None or moment < switch.at or entry.ended > switch.at:
        return True
    return entry.ended <= switch.back_to


def broken_promises(before: History, after: History, promise: Promise) -> Iterator[str]:
    """What an expiry took although it was promised.

    Args:
        before: the world in which nothing ever expired; ``after``: the same with everything that did.
    """
    moment = before.now - promise.window
    while moment < before.now:
        if recoverable(before, moment) and not recoverable(after, moment):
            yield f"the moment {moment} is lost"
        moment += _STEP
    for why, entry in _promised(before, promise):
        if restorable(before, entry) and not restorable(after, entry):
            yield f"{entry.label} is lost: {why}"


def _promised(history: History, promise: Promise) -> Iterator[tuple[str, Set]]:
    sound = sorted((entry for entry in history.sets if not entry.damaged), key=lambda entry: entry.ended)
    fulls = [entry for entry in sound if not entry.references]
    verified = [entry for entry in sound if entry.verified]
    yield from (("a full of the set number", entry) for entry in fulls[-promise.fulls :])
    yield from (("verified", entry) for entry in verified[-promise.verified :])
    yield from (("the newest", entry) for entry in sound[-1:])
    for entry in sound:
        if history.now - entry.ended < promise.window:
            yield "within the window", entry


def outlived(before: History, after: History, promise: Promise) -> Iterator[str]:
    """What stays although nothing that was promised needs it."""
    begins, on_the_way = _window_begins(after, promise), replayable(after)
    wanted = [entry for _, entry in _promised(before, promise)]
    wanted += [entry for entry in after.sets if before.now - entry.ended < promise.window]
    wanted += [
        entry
        for entry in after.sets
        if begins is None or (entry.label >= begins.label and (not entry.references or entry not in on_the_way))
    ]
    needed = {label for entry in wanted for label in (entry.label, *entry.references)}
    for entry in after.sets:
        if entry.label not in needed:
            yield f"{entry.label} outlives its retention"
    if begins is not None:
        for name in sorted(after.wal):
            if name < begins.first and not any(entry.first <= name <= entry.last for entry in after.sets):
                yield f"segment {name} outlives its retention"


def _window_begins(history: History, promise: Promise) -> Set | None:
    """The newest sound full before the window from which everything up to now can be replayed."""
    able = [
        entry
        for entry in replayable(history)
        if not entry.references and not entry.damaged and entry.ended < history.now - promise.window
    ]
    return able[-1] if able else None


def replayable(history: History) -> list[Set]:
    """The sets from which all WAL up to now can be replayed, oldest first."""
    return _leading_to(history, history.now - timedelta(minutes=1))
