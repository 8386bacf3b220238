"""The WAL archive: what is in it, whether it is whole, and how far it lags behind the database."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from aivo_backup.errors import BackupError, UnreachableError
from aivo_backup.stores.aws import translated
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.wal import DEFAULT_SEGMENT_BYTES, Line, Segment, archived_segment, history_timeline

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


@dataclass(frozen=True, kw_only=True)
class ArchivedSegment:
    """One WAL segment in the repository. ``stored`` is when S3 took it, UTC; ``sha1`` that of its plain content."""

    name: str
    sha1: str
    key: str
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The archive of one stanza."""

    s3: "S3Client"
    bucket: str
    stanza: str

    def segments(self, archive_id: str, *, since: str = "", folder: str = "") -> Iterator[ArchivedSegment]:
        """The whole segments, by name, from segment ``since`` on.

        Args:
            folder: the beginning of the names that are listed: a timeline (8 digits), or one of pgBackRest's folders
                (16 digits).
        """
        prefix = f"archive/{self.stanza}/{archive_id}/{folder}"
        start = f"archive/{self.stanza}/{archive_id}/{since[:16]}/{since}" if since else prefix
        with translated(f"WAL archive {prefix} in {self.bucket}"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=start
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    key = entry.get("Key", "")
                    name, sha1 = archived_segment(key)
                    if name:
                        stored = entry.get("LastModified", datetime.fromtimestamp(0, UTC)).astimezone(UTC)
                        yield ArchivedSegment(name=name, sha1=sha1, key=key, stored=stored)

    def line(self, pgbackrest: PgBackRest, info: StanzaInfo, timeline: int | None = None) -> Line:
        """The way to a timeline, or to the newest, which a recovery follows unless told otherwise.

        Raises:
            BackupError: its history file cannot be read.
        """
        wanted = self._newest_timeline(info) if timeline is None else timeline
        if wanted == 1:
            return Line(timeline=1)
        history = pgbackrest.read_file(f"archive/{self.stanza}/{info.archive_id}/{wanted:08X}.history")
        return Line.parse(wanted, history)

    def newest(self, info: StanzaInfo, line: Line) -> ArchivedSegment | None:
        """The newest segment on a line; None when there is none.

        It is not always the newest by name: what an abandoned timeline wrote after the switch is not on the line, and
        a new timeline has a history before it has its first segment.
        """
        for timeline in (line.timeline, *(ancestor for ancestor, _ in reversed(line.switches))):
            # The archive's newest by name spares the listing of the usual, long timeline.
            usual = timeline == line.timeline and info.newest_segment.startswith(f"{timeline:08X}")
            since = info.newest_segment if usual else ""
            on_line = [
                segment
                for segment in self.segments(info.archive_id, since=since, folder=f"{timeline:08X}")
                if line.timeline_of(Segment.parse(segment.name).number) == timeline
            ]
            if on_line:
                return on_line[-1]
        return None

    def newest_listed(self) -> ArchivedSegment | None:
        """The newest segment by name, from S3's listing alone: for whoever may not open the repository's cipher.

        Right after a recovery, until the new timeline has its first segment, it is one of the timeline before.
        """
        archives = self._folders(f"archive/{self.stanza}/")
        # "15-1/": the database's version, and its number in the stanza, which grows with each upgrade.
        for archive in sorted(archives, key=lambda name: int(name.rpartition("-")[2].strip("/") or 0), reverse=True):
            for folder in sorted(self._folders(f"archive/{self.stanza}/{archive}"), reverse=True):
                held = list(self.segments(archive.strip("/"), folder=folder.strip("/")))
                if held:
                    return held[-1]
        return None

    def _folders(self, prefix: str) -> list[str]:
        with translated(f"WAL archive {prefix} in {self.bucket}"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            found = [entry.get("Prefix", "") for page in pages for entry in page.get("CommonPrefixes", [])]
        return [entry.removeprefix(prefix) for entry in found]

    def _newest_timeline(self, info: StanzaInfo) -> int:
        prefix = f"archive/{self.stanza}/{info.archive_id}/"
        with translated(f"WAL archive {prefix} in {self.bucket}"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            keys = [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]
        return max(filter(None, (history_timeline(key) for key in keys)), default=1)

    def missing(
        self, backup: BackupSet, line: Line, newest: str, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> list[str]:
        """The segments that a recovery from ``backup`` to ``newest`` needs and the repository lacks, by name."""
        held = {segment.name for segment in self.segments(backup.archive_id, since=backup.wal_start)}
        first = Segment.parse(backup.wal_start, segment_bytes).number
        last = Segment.parse(newest, segment_bytes).number
        needed = (segment.name(segment_bytes) for segment in line.needed(first, last, segment_bytes))
        return [name for name in needed if name not in held]


@dataclass(frozen=True, kw_only=True)
class ArchiveLag:
    """How the repository compares with what PostgreSQL says it archived.

    Attributes:
        claimed: the segment that PostgreSQL archived last, by its own word; empty before the first.
        claimed_at: when, UTC.
        held: the newest segment in the repository; ``held_at`` when S3 took it, UTC.
        behind: segments that PostgreSQL claims and the repository lacks; anything but 0 is lost WAL.
        waiting: segments that PostgreSQL has written and not archived.
        failed_since: time of the last failure, when it came after the last success, UTC.
    """

    claimed: str
    claimed_at: datetime | None
    held: str
    held_at: datetime | None
    behind: int
    waiting: int
    failed_since: datetime | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Login:
    """How to reach the live database. ``ca_file`` empty: TLS is used where offered, unverified."""

    host: str
    port: int
    database: str
    user: str
    password: str
    ca_file: str = ""

    def arguments(self) -> list[str]:
        """The options by which a program of PostgreSQL finds it."""
        return [
            f"--host={self.host}", f"--port={self.port}", f"--username={self.user}", f"--dbname={self.database}",
            "--no-password",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The variables that go with them; the password is in no argument."""
        return {
            "PGPASSWORD": self.password,
            "PGSSLMODE": "verify-full" if self.ca_file else "prefer",
            **({"PGSSLROOTCERT": self.ca_file} if self.ca_file else {}),
        }


def connect(login: Login) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection to the live database.

    Raises:
        UnreachableError: it does not answer, or refuses the login.
    """
    try:
        return psycopg.connect(
            host=login.host, port=login.port, dbname=login.database, user=login.user, password=login.password,
            sslmode="verify-full" if login.ca_file else "prefer", sslrootcert=login.ca_file or None,
            autocommit=True, connect_timeout=10,
        )  # fmt: skip
    except psycopg.OperationalError as error:
        raise UnreachableError(
            f"PostgreSQL at {login.host}:{login.port}: {error}", mend="check that it runs and the secret `postgres`"
        ) from error


_HURRY_POLL_SECONDS = 0.2

_ARCHIVER = """
SELECT coalesce(last_archived_wal, ''), last_archived_time, last_failed_time,
       pg_walfile_name(pg_current_wal_lsn()),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size')
  FROM pg_stat_archiver
"""


def hurry(connection: "psycopg.Connection[tuple[object, ...]]", *, timeout_seconds: float) -> bool:
    """Has the live server finish its WAL segment and archive it, so that what was written until now can be recovered.

    Without it the last moments, up to ``archive_timeout``, lie outside the recovery window.

    Returns:
        whether the segment was archived in time; False also when the server cannot be asked.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        switched = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        while switched is not None:
            row = connection.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchone()
            if row is not None and str(row[0]) >= str(switched[0]):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_HURRY_POLL_SECONDS)
    except psycopg.Error:
        return False
    return False


def archive_lag(connection: "psycopg.Connection[tuple[object, ...]]", newest: ArchivedSegment | None) -> ArchiveLag:
    """Compares ``pg_stat_archiver`` of the live primary with the repository.

    Raises:
        BackupError: the server is not a primary.
    """
    try:
        row = connection.execute(_ARCHIVER).fetchone()
    except psycopg.Error as error:
        raise BackupError(f"pg_stat_archiver: {error}", mend="connect to the primary") from error
    if row is None:
        raise BackupError("pg_stat_archiver is empty", mend="check the server")
    claimed, claimed_at, failed_at, writing, segment_bytes = row
    size = int(str(segment_bytes))
    last = archived_name(str(claimed))
    held = newest.name if newest else ""
    behind = _distance(held, last, size) if last else 0
    return ArchiveLag(
        claimed=last,
        claimed_at=_utc(claimed_at),
        held=held,
        held_at=newest.stored if newest else None,
        behind=max(0, behind),
        waiting=max(0, _distance(last, str(writing), size) - 1) if last else 0,
        failed_since=_utc(failed_at) if _later(failed_at, claimed_at) else None,
    )


def archived_name(claimed: str) -> str:
    """The segment in ``last_archived_wal``, which may also name a history or backup label file (answers empty)."""
    return claimed[:24] if len(claimed) >= 24 and all(char in "0123456789ABCDEF" for char in claimed[:24]) else ""


def _distance(older: str, newer: str, segment_bytes: int) -> int:
    if not older:
        return 1
    return Segment.parse(newer, segment_bytes).number - Segment.parse(older, segment_bytes).number


def _utc(value: object) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _later(first: object, second: object) -> bool:
    first_at, second_at = _utc(first), _utc(second)
    return first_at is not None and (second_at is None or first_at > second_at)
