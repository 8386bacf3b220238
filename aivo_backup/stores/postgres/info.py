"""What ``pgbackrest info --output=json`` says, typed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.postgres.wal import Segment, parse_lsn


@dataclass(frozen=True, kw_only=True)
class BackupSet:
    """One backup set in the repository.

    Attributes:
        stopped: end of the backup, UTC, to the second; it cannot bring back anything older.
        size_bytes: size of the database; ``repository_bytes`` of this set alone, compressed.
        references: labels of the sets whose files it uses.
        prior: label of the set that it was compared with; empty for a full.
        damaged: pgBackRest saw pages with a wrong checksum while it read the database.
        wal_start: first segment that makes it consistent; ``wal_stop`` the last.
        archive_id: the part of the WAL archive it belongs to, for example ``15-1``.
        tool: version of the pgBackRest that took it.
    """

    label: str
    kind: BackupKind
    started: datetime
    stopped: datetime
    size_bytes: int
    repository_bytes: int
    references: tuple[str, ...]
    prior: str
    damaged: bool
    wal_start: str
    wal_stop: str
    lsn_start: str
    lsn_stop: str
    archive_id: str
    system_id: str
    tool: str = ""

    @property
    def timeline(self) -> int:
        """The timeline that it was taken on."""
        return Segment.parse(self.wal_stop).timeline

    @property
    def usable_from(self) -> datetime:
        """The oldest moment that a recovery from it can stop at: its end, of which only the whole second is known."""
        return self.stopped + timedelta(seconds=1)

    @property
    def stop_position(self) -> int:
        """The position from which on it is consistent."""
        return parse_lsn(self.lsn_stop)


@dataclass(frozen=True, kw_only=True)
class StanzaInfo:
    """The stanza as the repository holds it.

    Attributes:
        code: 0 ok; 1 missing stanza path; 2 no valid backups; 3 missing stanza data; anything else is an error.
        system_id: of the newest database that the stanza knows; empty before ``stanza-create``.
        archive_id: the part of the archive that this database writes to.
        newest_segment: the newest WAL segment in the archive of this database; empty when there is none.
    """

    code: int
    message: str
    system_id: str
    archive_id: str
    newest_segment: str
    sets: tuple[BackupSet, ...]

    @property
    def exists(self) -> bool:
        """Whether the stanza has been created."""
        return bool(self.system_id)

    def find(self, label: str) -> BackupSet | None:
        """The set with this label."""
        return next((backup for backup in self.sets if backup.label == label), None)


def parse_info(text: str) -> StanzaInfo:
    """Reads the JSON of one stanza.

    Raises:
        BackupError: it is not what pgBackRest is known to print.
    """
    try:
        # Not strict: what a wrong cipher pass makes of a file ends up in the message, control characters and all.
        (stanza,) = json.loads(text, strict=False)
        return _stanza(stanza)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BackupError(
            f"pgBackRest info cannot be read ({type(error).__name__}: {error})",
            mend="check that the installed pgBackRest is a supported version",
        ) from error


def _stanza(stanza: dict[str, Any]) -> StanzaInfo:
    databases = {entry["id"]: entry for entry in stanza["db"]}
    archive_ids = {entry["database"]["id"]: entry["id"] for entry in stanza["archive"]}
    newest = max(databases, default=0)
    segments = [entry["max"] for entry in stanza["archive"] if entry["database"]["id"] == newest and entry["max"]]

    def archive_id(database: int) -> str:
        return archive_ids.get(database) or (f"{databases[database]['version']}-{database}" if database else "")

    return StanzaInfo(
        code=int(stanza["status"]["code"]),
        # The stanza's own message is only "other" where the repository's tells what is wrong.
        message=str(stanza["repo"][0]["status"]["message"] if stanza["repo"] else stanza["status"]["message"]),
        system_id=str(databases[newest]["system-id"]) if newest else "",
        archive_id=archive_id(newest),
        newest_segment=max(segments, default=""),
        sets=tuple(
            _set(entry, archive_id(entry["database"]["id"]), databases[entry["database"]["id"]])
            for entry in stanza["backup"]
        ),
    )


def _set(entry: dict[str, Any], archive_id: str, database: dict[str, Any]) -> BackupSet:
    return BackupSet(
        label=str(entry["label"]),
        kind=BackupKind.FULL if entry["type"] == "full" else BackupKind.INCREMENTAL,
        started=datetime.fromtimestamp(entry["timestamp"]["start"], UTC),
        stopped=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        size_bytes=int(entry["info"]["size"]),
        repository_bytes=int(entry["info"]["repository"]["delta"]),
        references=tuple(entry["reference"] or ()),
        prior=str(entry["prior"] or ""),
        damaged=bool(entry["error"]),
        wal_start=str(entry["archive"]["start"]),
        wal_stop=str(entry["archive"]["stop"]),
        lsn_start=str(entry["lsn"]["start"]),
        lsn_stop=str(entry["lsn"]["stop"]),
        archive_id=archive_id,
        system_id=str(database["system-id"]),
        tool=str(entry["backrest"]["version"]),
    )
