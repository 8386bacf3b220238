"""Which pgBackRest backup sets go, and how much WAL is kept. Pure.

pgBackRest counts; what is promised is time. Three of its rules decide how the promise has to be put to it:

* ``expire --set`` takes everything that builds on the set, so a set goes only when all that builds on it goes;
* ``retention-archive`` is a number of *full* backups, damaged ones and those that somebody took by hand among them. So
  it is counted anew each time: the fulls from the newest back to the one that the recovery window begins with;
* of a full before that, only the WAL stays that makes it consistent: it can be restored, and not rolled forward.

The window begins with the newest sound full that ended before it and from which all WAL up to now is there. While
there is none (a young repository, a gap in the WAL, an abandoned timeline), nothing goes: what is there may be the only
way to some moment of the window. For the same reason a later set that is off that way (before a gap, on a timeline that
a recovery abandoned) stays until the window begins after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aivo_backup.policy.environment import BackupKind
from aivo_backup.policy.pruning import Because, Condition, PointState, newest_verified, with_needed


@dataclass(frozen=True, kw_only=True)
class SetState:
    """What is known of one backup set.

    Attributes:
        ended: the oldest moment, UTC, that a recovery from it can stop at.
        depends_on: sets whose files it uses, and the one that it was compared with.
        damaged: pgBackRest saw pages with wrong checksums; it is no recovery point.
        verified: the newest restore test of it passed.
        recovers: it lies on the newest timeline's way, and all WAL from it up to now is there.
        wal: archive id, first and last segment that make it consistent.
    """

    label: str
    kind: BackupKind
    ended: datetime
    depends_on: tuple[str, ...]
    damaged: bool
    verified: bool
    recovers: bool
    wal: tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class NeededWal:
    """Segments that must stay: from ``first`` to ``last``, by name; ``last`` empty: all from ``first`` on."""

    archive_id: str
    first: str
    last: str = ""

    def meets(self, first: str, last: str) -> bool:
        """Whether any segment of the range ``first`` to ``last`` is among them."""
        return last >= self.first and (not self.last or first <= self.last)


@dataclass(frozen=True, kw_only=True)
class ExpiryPlan:
    """What an expiry removes.

    Attributes:
        goes: labels, oldest first; ``kept`` the others with the reason.
        heads: labels to name to pgBackRest, which takes what builds on them along.
        archive_fulls: ``repo1-retention-archive``; 0 when there is no full at all.
        window_start: the full that the recovery window begins with; empty when there is none yet.
        wal: what must stay of the archive.
    """

    goes: tuple[str, ...]
    kept: Mapping[str, Because]
    heads: tuple[str, ...]
    archive_fulls: int
    window_start: str
    wal: tuple[NeededWal, ...]


def plan_expiry(
    sets: Iterable[SetState], *, now: datetime, window: timedelta, fulls_kept: int, verified_kept: int
) -> ExpiryPlan:
    """What an expiry at ``now`` removes.

    Args:
        window: every moment of this last span can be recovered, and increments are kept for as long.
        fulls_kept: so many sound fulls stay, however old.
        verified_kept: so many verified sets stay, however old.
    """
    ordered = sorted(sets, key=lambda entry: entry.label)
    fulls = [entry for entry in ordered if entry.kind is BackupKind.FULL]
    start = _window_start(fulls, now - window)
    reasons = _reasons(ordered, fulls, start, now - window, fulls_kept)
    verified = newest_verified(
        [_as_point(entry) for entry in sorted(ordered, key=lambda entry: entry.ended)], verified_kept
    )
    for label in verified:
        reasons.setdefault(label, Because.VERIFIED)
    kept = with_needed(reasons, {entry.label: entry.depends_on for entry in ordered})
    goes = [entry for entry in ordered if entry.label not in kept]
    return ExpiryPlan(
        goes=tuple(entry.label for entry in goes),
        kept={entry.label: kept[entry.label] for entry in ordered if entry.label in kept},
        heads=_heads(goes),
        archive_fulls=sum(start is None or entry.label >= start.label for entry in fulls),
        window_start=start.label if start else "",
        wal=_needed_wal([entry for entry in ordered if entry.label in kept], start),
    )


def _window_start(fulls: Sequence[SetState], cutoff: datetime) -> SetState | None:
    able = [entry for entry in fulls if not entry.damaged and entry.recovers and entry.ended <= cutoff]
    return able[-1] if able else None


def _reasons(
    ordered: Sequence[SetState],
    fulls: Sequence[SetState],
    start: SetState | None,
    cutoff: datetime,
    fulls_kept: int,
) -> dict[str, Because]:
    sound = [entry for entry in ordered if not entry.damaged]
    counted = [entry for entry in fulls if not entry.damaged][-fulls_kept:]
    reasons = {entry.label: Because.RETENTION for entry in ordered if entry.ended > cutoff}
    for entry in ordered:
        if start is None or (entry.label >= start.label and _carries_window(entry)):
            reasons.setdefault(entry.label, Because.WINDOW)
    for entry in counted:
        reasons.setdefault(entry.label, Because.COUNT)
    if sound:
        reasons.setdefault(max(sound, key=lambda entry: entry.ended).label, Because.NEWEST)
    return reasons


def _carries_window(entry: SetState) -> bool:
    # Fulls also when damaged: pgBackRest would count one that is there, and the window would begin a full later.
    return entry.kind is BackupKind.FULL or not entry.recovers


def _as_point(entry: SetState) -> PointState:
    condition = Condition.BROKEN if entry.damaged else Condition.WHOLE
    return PointState(id=entry.label, kind=entry.kind, taken=entry.ended, condition=condition, verified=entry.verified)


def _heads(goes: Sequence[SetState]) -> tuple[str, ...]:
    going = {entry.label for entry in goes}
    return tuple(entry.label for entry in goes if going.isdisjoint(entry.depends_on))


def _needed_wal(kept: Sequence[SetState], start: SetState | None) -> tuple[NeededWal, ...]:
    needed: list[NeededWal] = []
    for entry in kept:
        archive, first, last = entry.wal
        rolls_forward = start is None or entry.label >= start.label
        needed.append(NeededWal(archive_id=archive, first=first, last="" if rolls_forward else last))
    return tuple(needed)
