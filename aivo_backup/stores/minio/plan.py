"""What can be asked of a restore, and what it would do with each key."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from aivo_backup.errors import UsageError

_GLOB_CHARACTERS = "*?["


class Change(StrEnum):
    """What a restore does with one key of the target."""

    CREATE = "create"
    """The target lacks it."""
    REPLACE = "replace"
    """The target has an older, different object."""
    REPLACE_NEWER = "replace-newer"
    """The target has a different object written after the point's; asked for by ``overwrite_newer``."""
    KEEP_NEWER = "keep-newer"
    """The same, and left alone; also one that was written while the restore ran."""
    KEEP_OTHER = "keep-other"
    """The target has a different object, older or newer; left alone, since only missing ones were asked for."""
    EQUAL = "equal"
    """The target has it already: content, content type and metadata."""
    REMOVE = "remove"
    """The point lacks it; asked for by ``exact``."""
    KEEP_EXTRA = "keep-extra"
    """The point lacks it; left alone."""
    GONE = "gone"
    """The target lacks it or has another, and so has the backup by now: the version was out of use for too long."""

    @property
    def writes(self) -> bool:
        """Whether the object's bytes are written."""
        return self in (Change.CREATE, Change.REPLACE, Change.REPLACE_NEWER)

    @property
    def loses_newer(self) -> bool:
        """Whether a write that came after the point is taken back."""
        return self in (Change.REPLACE_NEWER, Change.REMOVE)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which objects of one source bucket.

    Attributes:
        prefix: only keys that begin so.
        glob: only keys that match; ``*`` and ``?`` also match ``/``.
        key: only this one.
    """

    bucket: str
    prefix: str = ""
    glob: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.prefix, self.glob, self.key))) > 1:
            raise UsageError("a prefix, a glob and a key exclude each other", mend="give one of them")

    @property
    def common_prefix(self) -> str:
        """What every selected key begins with; narrows listings."""
        if self.glob:
            stop = min((self.glob.find(mark) for mark in _GLOB_CHARACTERS if mark in self.glob), default=len(self.glob))
            return self.glob[:stop]
        return self.key or self.prefix

    def takes(self, key: str) -> bool:
        """Whether this key is selected."""
        if self.key:
            return key == self.key
        if self.glob:
            return fnmatchcase(key, self.glob)
        return key.startswith(self.prefix)


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """What to restore, from which point, to where.

    Attributes:
        target_bucket: made when it is missing; the source bucket's own name when empty.
        only_missing: write what the target lacks, and leave every object that it has.
        overwrite_newer: also replace objects that were written after the point's.
        exact: also remove selected objects that the point lacks, so that the target becomes what the point holds.
            Where the target keeps versions they stay retrievable.
        partial: of a point past its retention, restore what is left.
    """

    point: str
    selection: Selection
    target_bucket: str = ""
    only_missing: bool = False
    overwrite_newer: bool = False
    exact: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        if self.only_missing and (self.overwrite_newer or self.exact):
            raise UsageError(
                "only missing objects, and newer ones overwritten or removed: these exclude each other",
                mend="give --only-missing alone, or without it --overwrite-newer and --exact",
            )

    @property
    def into(self) -> str:
        """The bucket that is written to."""
        return self.target_bucket or self.selection.bucket


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedChange:
    """One key and what is done with it.

    Attributes:
        size: bytes of the point's object, or of the extra one.
        present: bytes of the target's object; 0 where there is none.
    """

    change: Change
    key: str
    size: int
    present: int = 0


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do, or did.

    Attributes:
        changes: number of keys by what is done with them.
        bytes_written: of the objects that are written.
        examples: the first thousand keys that change.
        creates_bucket: the target bucket is missing.
        keeps_versions: whether what is replaced or removed stays retrievable as an older version.
    """

    request: RestoreRequest
    changes: Mapping[Change, int]
    bytes_written: int
    examples: tuple[PlannedChange, ...]
    creates_bucket: bool
    keeps_versions: bool

    @property
    def newer_lost(self) -> int:
        """Objects written after the point whose present content the target would not have any more."""
        return sum(self.changes.get(change, 0) for change in Change if change.loses_newer)

    @property
    def lost_for_good(self) -> int:
        """Objects whose present content nobody could bring back afterwards."""
        if self.keeps_versions:
            return 0
        return sum(self.changes.get(change, 0) for change in (Change.REPLACE, Change.REPLACE_NEWER, Change.REMOVE))
