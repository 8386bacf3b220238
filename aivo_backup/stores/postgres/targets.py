"""Where a recovery may stop, and which backup set it starts from. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.policy.codec import format_time
from aivo_backup.stores.postgres.archive import ArchivedSegment
from aivo_backup.stores.postgres.info import BackupSet
from aivo_backup.stores.postgres.wal import Line, Segment, format_lsn, parse_lsn

_POINTS = "list the points with `aivo-backup points postgres`"


class TargetKind(StrEnum):
    """What stops a recovery."""

    LATEST = "latest"
    TIME = "time"
    LSN = "lsn"
    XID = "xid"
    NAME = "name"
    SET = "set"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a recovery stops.

    Attributes:
        value: position, transaction id, or the restore point's name; unused by the other kinds.
        time: UTC; of :attr:`TargetKind.TIME` only. Everything committed up to and at it comes back.
        label: the backup set to start from; chosen when empty. :attr:`TargetKind.SET` stops where that set ends.
        timeline: the timeline to end on; None for the newest.

    Raises:
        UsageError: at construction, when what the kind needs is missing or malformed.
    """

    kind: TargetKind = TargetKind.LATEST
    value: str = ""
    time: datetime | None = None
    label: str = ""
    timeline: int | None = None

    def __post_init__(self) -> None:
        match self.kind:
            case TargetKind.TIME:
                if self.time is None or self.time.tzinfo is None:
                    raise UsageError("a recovery to a time needs a time with its zone", mend="2026-01-31T12:00:00Z")
            case TargetKind.LSN:
                try:
                    parse_lsn(self.value)
                except ValueError as error:
                    raise UsageError(str(error)) from error
            case TargetKind.XID:
                if not self.value.isdigit():
                    raise UsageError(f"{self.value!r} is not a transaction id", mend="give its number")
            case TargetKind.NAME:
                if not self.value or "'" in self.value or "\n" in self.value:
                    raise UsageError(f"{self.value!r} is not the name of a restore point", mend="give its name")
            case TargetKind.SET:
                if not self.label:
                    raise UsageError("a recovery to a set needs its label", mend=_POINTS)
            case TargetKind.LATEST:
                pass

    def __str__(self) -> str:
        match self.kind:
            case TargetKind.LATEST:
                return "the newest archived WAL"
            case TargetKind.TIME:
                return format_time(self.time) if self.time else ""
            case TargetKind.SET:
                return f"the end of backup set {self.label}"
            case _:
                return f"{self.kind.value} {self.value}"

    def options(self, line: Line) -> tuple[str, ...]:
        """The options of ``pgbackrest restore`` for a recovery along ``line``.

        The timeline is always named: PostgreSQL's "latest" could be one that comes into being after the plan.
        """
        on_line = f"--target-timeline={line.timeline}"
        match self.kind:
            case TargetKind.LATEST:
                return ("--type=default", on_line)
            case TargetKind.SET:
                # pgBackRest refuses its own option here, although PostgreSQL needs it.
                on_line = f"--recovery-option=recovery_target_timeline={line.timeline}"
                return ("--type=immediate", "--target-action=promote", on_line)
            case TargetKind.TIME:
                moment = self.time.astimezone(UTC) if self.time else datetime.fromtimestamp(0, UTC)
                value = moment.strftime("%Y-%m-%d %H:%M:%S.%f+00")
                return ("--type=time", f"--target={value}", "--target-action=promote", on_line)
            case _:
                return (f"--type={self.kind.value}", f"--target={self.value}", "--target-action=promote", on_line)


@dataclass(frozen=True, kw_only=True)
class Window:
    """What can be recovered along one line of timelines.

    Attributes:
        sets: the usable sets, oldest first, at least one.
        newest: the last WAL segment. A commit can be brought back when its segment is in the repository, so the
            window ends when S3 took that segment, of which S3 tells the whole second only.
    """

    line: Line
    sets: Sequence[BackupSet]
    newest: ArchivedSegment

    @property
    def earliest(self) -> datetime:
        """The oldest moment, UTC. In its first second it depends: the end of a set is known to the second only, and
        PostgreSQL itself refuses a moment that lies before."""
        return self.sets[0].stopped

    @property
    def latest(self) -> datetime:
        """The newest moment, UTC."""
        return max(self.newest.stored + timedelta(seconds=1), self.sets[-1].usable_from)

    def __str__(self) -> str:
        return f"{format_time(self.earliest)} to {format_time(self.latest)}"


def usable_sets(sets: Sequence[BackupSet], line: Line, archive_id: str) -> tuple[BackupSet, ...]:
    """The undamaged sets that are part of a line's past, oldest first.

    Raises:
        RefusedError: there is none.
    """
    usable = [
        backup
        for backup in sets
        if backup.archive_id == archive_id and not backup.damaged and line.holds(backup.timeline, backup.stop_position)
    ]
    if not usable:
        raise RefusedError("the repository holds no backup set to start from", mend="take a backup first")
    return tuple(sorted(usable, key=lambda backup: backup.stopped))


def choose_set(target: Target, window: Window) -> BackupSet:
    """The set to start from: the newest that ends before the target.

    For a transaction id and a name nothing says when they were, so recovery starts from the oldest set and replays
    all WAL after it, unless a set is named.

    Raises:
        RefusedError: the target lies outside the window, or the named set is unknown or too new.
    """
    _check_bounds(target, window)
    if target.label:
        return _named(target, window)
    candidates = [backup for backup in window.sets if _ends_before(backup, target)]
    if target.kind in (TargetKind.XID, TargetKind.NAME):
        return candidates[0]
    return candidates[-1] if candidates else window.sets[0]


def _check_bounds(target: Target, window: Window) -> None:
    if target.kind is TargetKind.TIME and target.time and not window.earliest <= target.time <= window.latest:
        raise RefusedError(f"{target} lies outside the recovery window", mend=f"choose a time from {window}")
    if target.kind is TargetKind.LSN:
        first = min(backup.stop_position for backup in window.sets)
        last = Segment.parse(window.newest.name).end()
        if not first <= parse_lsn(target.value) <= last:
            raise RefusedError(
                f"position {target.value} lies outside the recovery window",
                mend=f"choose one from {format_lsn(first)} to {format_lsn(last)}",
            )


def _named(target: Target, window: Window) -> BackupSet:
    found = next((backup for backup in window.sets if backup.label == target.label), None)
    if found is None:
        raise RefusedError(
            f"there is no backup set {target.label} on timeline {window.line.timeline}",
            mend=f"choose one of {', '.join(backup.label for backup in window.sets)}",
        )
    if not _ends_before(found, target):
        raise RefusedError(
            f"backup set {found.label} ended at {format_time(found.stopped)}, after {target}",
            mend="name an older set, or none",
        )
    return found


def _ends_before(backup: BackupSet, target: Target) -> bool:
    if target.kind is TargetKind.TIME and target.time:
        return backup.usable_from <= target.time
    if target.kind is TargetKind.LSN:
        return backup.stop_position <= parse_lsn(target.value)
    return True
