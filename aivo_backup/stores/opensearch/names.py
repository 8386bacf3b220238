"""Names of snapshots and indices: made, recognised, chosen, renamed. Pure."""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

_SNAPSHOT = re.compile(r"snapshot_(\d{8}_\d{6})(?:_\d+)?")
_VERIFICATION = re.compile(r"verify-(\d{8}-\d{6})-[0-9a-f]{6}-.+")
_BACKING_INDEX = re.compile(r"\.ds-(.+)-\d{6,}")
_JAVA_GROUP = re.compile(r"\\(.)|\$(\d)", re.DOTALL)

# A restore test that is still at work after a day has died: nothing restores for that long in one.
_ABANDONED_AFTER = timedelta(days=1)


def snapshot_name(now: datetime, taken: Collection[str]) -> str:
    """``snapshot_YYYYMMDD_HHMMSS`` in UTC; when that second is taken already, the first free of ``_2``, ``_3``, …

    Args:
        now: start of the run, UTC.
        taken: names that the repository holds.
    """
    name = f"snapshot_{now.astimezone(UTC):%Y%m%d_%H%M%S}"
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def snapshot_time(name: str) -> datetime | None:
    """The second, UTC, that a name of ours tells; None for a name that is not ours."""
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def chosen(names: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The indices or data streams that are snapshotted, sorted.

    System and security indices (leading dot) and what a restore test has put there are never chosen. They are named
    one by one to OpenSearch, because the pattern ``*,-.*`` fails there (HTTP 500) as soon as there is a data stream,
    whose indices begin with a dot.
    """
    return tuple(
        sorted(
            name
            for name in names
            if not name.startswith(".")
            and not is_verification_index(name)
            and any(fnmatchcase(name, pattern) for pattern in patterns)
        )
    )


def verification_prefix(now: datetime, token: str) -> str:
    """What a restore test puts before the name of every index that it restores.

    Args:
        now: start of the test, UTC.
        token: six hexadecimal digits, so that two tests of one second stay apart.
    """
    return f"verify-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{token}-"


def is_verification_index(name: str) -> bool:
    """True for an index that a restore test has made, and for nothing a user is likely to have named."""
    return _VERIFICATION.fullmatch(name) is not None


def abandoned(names: Iterable[str], now: datetime) -> tuple[str, ...]:
    """Indices of restore tests that were killed more than a day ago, sorted."""
    found: list[str] = []
    for name in names:
        match = _VERIFICATION.fullmatch(name)
        if match is None:
            continue
        begun = datetime.strptime(match[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        if now - begun > _ABANDONED_AFTER:
            found.append(name)
    return tuple(sorted(found))


def data_stream_of(index: str, streams: Collection[str]) -> str:
    """The data stream that an index belongs to by its name (``.ds-<stream>-000001``); empty when to none of them."""
    match = _BACKING_INDEX.fullmatch(index)
    return match[1] if match is not None and match[1] in streams else ""


def is_system(index: str, streams: Collection[str]) -> bool:
    """True for an index of OpenSearch itself or of a plugin; the indices of data streams begin with a dot too."""
    return index.startswith(".") and not data_stream_of(index, streams)


def set_aside(index: str, now: datetime) -> str:
    """The name under which the old state of an index is kept when it is restored in place."""
    return f"aside-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{index}"


def restored(index: str, now: datetime) -> str:
    """The name of an index that is restored beside the live one."""
    return f"restored-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{index}"


def renamed(index: str, pattern: str, replacement: str) -> str:
    """The name that OpenSearch's ``rename_pattern`` and ``rename_replacement`` give an index.

    The replacement is Java's: ``$1`` is the first group, a backslash takes the next character as it is.

    Raises:
        ValueError: the pattern is no regular expression, or the replacement names a group that it lacks.
    """

    def piece(match: re.Match[str]) -> str:
        if match[2] is None:
            return re.escape(match[1]) if match[1] == "\\" else match[1]
        return rf"\g<{match[2]}>"

    try:
        return re.sub(pattern, _JAVA_GROUP.sub(piece, replacement), index)
    except (re.error, IndexError) as error:
        raise ValueError(f"rename {pattern!r} to {replacement!r}: {error}") from error


def matching(wanted: Sequence[str], held: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which of ``held`` the names and wildcards of ``wanted`` mean, and which of ``wanted`` mean none.

    Returns:
        the names, sorted, and the unknown ones in the order asked for.
    """
    found: set[str] = set()
    unknown: list[str] = []
    for pattern in wanted:
        hits = [name for name in held if fnmatchcase(name, pattern)]
        found.update(hits)
        if not hits:
            unknown.append(pattern)
    return tuple(sorted(found)), tuple(unknown)
