"""WAL arithmetic: positions, segments, and which segments a recovery needs. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_ARCHIVED = re.compile(r"([0-9A-F]{24})-([0-9a-f]{40})(?:\.\w+)?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


def is_segment(name: str) -> bool:
    """Whether ``name`` is that of a whole WAL segment (24 hexadecimal digits)."""
    return _SEGMENT.fullmatch(name) is not None


def archived_segment(key: str) -> tuple[str, str]:
    """Name and SHA-1 in the key of an archived whole segment (``<segment>-<sha1>.zst``); both empty for other keys."""
    found = _ARCHIVED.fullmatch(key.rpartition("/")[2])
    return (found[1], found[2]) if found else ("", "")


def history_timeline(key: str) -> int:
    """The timeline that a history file's key names; 0 for other keys."""
    found = _HISTORY.fullmatch(key.rpartition("/")[2])
    return int(found[1], 16) if found else 0


def parse_lsn(text: str) -> int:
    """A position such as ``0/3000050`` as a number of bytes.

    Raises:
        ValueError: it is not a position.
    """
    if _LSN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a WAL position: write it as 0/3000050")
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(position: int) -> str:
    """The inverse of :func:`parse_lsn`."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@dataclass(frozen=True, order=True)
class Segment:
    """A WAL segment: its timeline and its number from the start of the log."""

    timeline: int
    number: int

    @staticmethod
    def parse(name: str, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> "Segment":
        """Reads a segment's name.

        Raises:
            ValueError: it is not one.
        """
        if not is_segment(name):
            raise ValueError(f"{name!r} is not the name of a WAL segment")
        per_log = (1 << 32) // segment_bytes
        return Segment(int(name[:8], 16), int(name[8:16], 16) * per_log + int(name[16:], 16))

    def name(self, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> str:
        """The inverse of :meth:`parse`."""
        per_log = (1 << 32) // segment_bytes
        return f"{self.timeline:08X}{self.number // per_log:08X}{self.number % per_log:08X}"

    def end(self, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> int:
        """The first position after it."""
        return (self.number + 1) * segment_bytes


@dataclass(frozen=True, kw_only=True)
class Line:
    """The way from the first timeline to one of its descendants.

    Attributes:
        timeline: the newest one, where recovery ends.
        switches: for each ancestor, oldest first, its timeline and the position where its successor left it.
    """

    timeline: int
    switches: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def parse(timeline: int, history: str) -> "Line":
        """Reads a history file: lines of timeline, position, reason, separated by tabs."""
        switches: list[tuple[int, int]] = []
        for line in history.splitlines():
            words = line.split("\t")
            if len(words) >= 2 and words[0].strip().isdigit():
                switches.append((int(words[0]), parse_lsn(words[1].strip())))
        return Line(timeline=timeline, switches=tuple(switches))

    def holds(self, timeline: int, position: int) -> bool:
        """Whether what ``timeline`` wrote up to ``position`` is part of this line's past."""
        if timeline == self.timeline:
            return True
        return any(ancestor == timeline and position <= end for ancestor, end in self.switches)

    def timeline_of(self, number: int, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> int:
        """The timeline on which recovery along this line reads segment ``number``.

        The segment with a switch in it exists on both sides; recovery takes the newer one, which begins with a copy.
        """
        for ancestor, end in self.switches:
            if number < end // segment_bytes:
                return ancestor
        return self.timeline

    def needed(self, first: int, last: int, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> Iterable[Segment]:
        """The segments that recovery reads from number ``first`` to ``last``, both included."""
        return (Segment(self.timeline_of(number, segment_bytes), number) for number in range(first, last + 1))
