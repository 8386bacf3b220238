"""The points that the backup bucket holds, and their contents as one ordered stream."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from heapq import merge

from aivo_backup.errors import BackupError, UsageError
from aivo_backup.policy.names import MINIO_MANIFEST_PREFIX
from aivo_backup.stores.minio.manifest import (
    SUMMARY_NAME,
    DamagedManifestError,
    Entry,
    Gone,
    Line,
    StoredSummary,
    Summary,
    read_abandoned,
    read_lines,
    summary_key,
)
from aivo_backup.stores.minio.objects import AbsentError, ObjectStore
from aivo_backup.stores.minio.reading import Patience, SteadyReading, steady

_POINT_FORMAT = "%Y%m%d_%H%M%S"
_READERS = 8
# A store that does not even answer with a summary is told to a person at once.
_FIRST_CONTACT = Patience(seconds=0.0)


def point_name(moment: datetime) -> str:
    """The name of the point of a run that began at ``moment``: ``YYYYMMDD_HHMMSS`` in UTC."""
    return moment.astimezone(UTC).strftime(_POINT_FORMAT)


def point_moment(name: str) -> datetime | None:
    """The inverse of :func:`point_name`, to the second; None for a name that is not a point's."""
    try:
        moment = datetime.strptime(name, _POINT_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    # strptime also takes fewer digits.
    return moment if point_name(moment) == name else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What a point says of one object.

    Attributes:
        entry: None when the point lacks an object that its full point has.
        in_full: the full point that it builds on (or is) has this object.
        from_full: ``entry`` is the full point's own.
    """

    bucket: str
    key: str
    entry: Entry | None
    in_full: bool
    from_full: bool


@dataclass(frozen=True, kw_only=True)
class Points:
    """The points below one bucket's ``metadata/minio/``."""

    store: ObjectStore
    bucket: str
    patience: Patience

    def names(self) -> tuple[str, ...]:
        """The names of all points that have a summary, damaged or not, oldest first."""
        found = self.store.objects(self.bucket, MINIO_MANIFEST_PREFIX)
        parts = (item.key.removeprefix(MINIO_MANIFEST_PREFIX).split("/") for item in found)
        return tuple(sorted(part[0] for part in parts if len(part) == 2 and part[1] == SUMMARY_NAME))

    def abandoned(self, after: str) -> Iterator[Entry]:
        """What runs copied that began after the point ``after`` and died, ordered; of two versions the newer one.

        Args:
            after: name of the newest point; empty when there is none.
        """
        parts: dict[str, list[str]] = {}
        finished: set[str] = set()
        for item in self.store.objects(self.bucket, MINIO_MANIFEST_PREFIX):
            run, _, name = item.key.removeprefix(MINIO_MANIFEST_PREFIX).partition("/")
            if name == SUMMARY_NAME:
                finished.add(run)
            elif run > after:
                parts.setdefault(run, []).append(item.key)
        # The newest first: a merge of equal places keeps this order.
        runs = [self._abandoned(parts[run]) for run in sorted(parts, reverse=True) if run not in finished]
        previous = ("", "")
        for entry in merge(*runs, key=_place):
            if _place(entry) != previous:
                previous = _place(entry)
                yield entry

    def load(self, point: str) -> StoredSummary:
        """A point's summary.

        Raises:
            UsageError: there is no such point.
            DamagedManifestError: its summary is not what was written.
        """
        key = summary_key(point)
        try:
            with steady(self.store, self.bucket, key, patience=_FIRST_CONTACT) as reading:
                return _read_summary(reading, key, f"{self.bucket}/{key}")
        except AbsentError as error:
            raise UsageError(
                f"MinIO has no recovery point {point}", mend="list them with: aivo-backup points minio"
            ) from error

    def load_all(self) -> tuple[StoredSummary, ...]:
        """Every undamaged summary, oldest first. One that is damaged restores nothing, so it is no point."""
        with ThreadPoolExecutor(_READERS) as pool:
            loaded = tuple(pool.map(self._load_or_none, self.names()))
        return tuple(stored for stored in loaded if stored is not None)

    def at(self, moment: datetime) -> StoredSummary:
        """The newest point that was begun at ``moment`` or before.

        Raises:
            UsageError: there is none.
        """
        names = [name for name in self.names() if name <= point_name(moment)]
        if not names:
            raise UsageError(
                f"MinIO has no recovery point at or before {moment.isoformat()}",
                mend="list them with: aivo-backup points minio",
            )
        return self.load(names[-1])

    def recorded(self, summary: Summary) -> Iterator[Recorded]:
        """What the point says of every object, ordered by bucket and key; also of those it lacks against its base.

        Raises:
            DamagedManifestError: a part of its manifest, or of its base's, is missing or damaged.
        """
        own = read_lines(self.store, self.bucket, summary, patience=self.patience)
        if not summary.base:
            for line in own:
                if isinstance(line, Gone):
                    raise DamagedManifestError(f"the full point {summary.point} names {line.key} as gone")
                yield _recorded(line, in_full=True, from_full=True)
            return
        yield from _overlaid(read_lines(self.store, self.bucket, self._base(summary), patience=self.patience), own)

    def entries(self, summary: Summary) -> Iterator[Entry]:
        """Every object of the point, ordered by bucket and key; counted against the summary at the end.

        Raises:
            DamagedManifestError: as :meth:`recorded`, or the count differs.
        """
        count = 0
        for recorded in self.recorded(summary):
            if recorded.entry is not None:
                count += 1
                yield recorded.entry
        if count != summary.objects:
            raise DamagedManifestError(
                f"the manifest of {summary.point} names {count} objects, its summary {summary.objects}",
                mend="use another point",
            )

    def _abandoned(self, keys: Iterable[str]) -> Iterator[Entry]:
        previous = ("", "")
        for key in sorted(keys):
            for entry in read_abandoned(self.store, self.bucket, key, patience=self.patience):
                if _place(entry) > previous:
                    previous = _place(entry)
                    yield entry

    def _base(self, summary: Summary) -> Summary:
        try:
            return self.load(summary.base).summary
        except UsageError as error:
            raise DamagedManifestError(
                f"the full point {summary.base} that {summary.point} builds on is missing", mend="use another point"
            ) from error

    def _load_or_none(self, point: str) -> StoredSummary | None:
        try:
            return self.load(point)
        except DamagedManifestError:
            return None


def _read_summary(reading: SteadyReading, key: str, where: str) -> StoredSummary:
    body = reading.take(reading.info.size)
    reading.finish()
    return StoredSummary(
        summary=Summary.decode(body, where=where),
        key=key,
        version_id=reading.info.version_id,
        size=len(body),
        sha256=sha256(body).hexdigest(),
    )


def _recorded(line: Line, *, in_full: bool, from_full: bool) -> Recorded:
    entry = line if isinstance(line, Entry) else None
    return Recorded(bucket=line.bucket, key=line.key, entry=entry, in_full=in_full, from_full=from_full)


def _overlaid(full: Iterator[Line], increment: Iterator[Line]) -> Iterator[Recorded]:
    """The lines of a full point with those of an increment laid over them."""
    below, above = next(full, None), next(increment, None)
    while below is not None or above is not None:
        if above is None or (below is not None and _place(below) < _place(above)):
            if below is None:
                raise BackupError("two manifests ended at once")
            yield _recorded(below, in_full=True, from_full=True)
            below = next(full, None)
            continue
        covered = below is not None and _place(below) == _place(above)
        yield _recorded(above, in_full=covered, from_full=False)
        above = next(increment, None)
        if covered:
            below = next(full, None)


def _place(line: Line) -> tuple[str, str]:
    return line.bucket, line.key
