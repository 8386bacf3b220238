"""A pgBackRest repository that never saw a database: its files are written as pgBackRest would have left them.

``expire`` reads names and the two info files and nothing else, so a history of months is made in milliseconds and
judged by the real program. It refuses an info file whose checksum is wrong, so what is written here is what it reads.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from tests.unit.retention.histories import STANZA, History, Set, position

_DATABASE = {"db-system-id": 7711221918601462926, "db-version": "15"}
_CATALOG = {"db-catalog-version": 202209061, "db-control-version": 1300}
_VERSION = {"backrest-format": 5, "backrest-version": "2.45"}
ARCHIVE_ID = "15-1"
_SHA1 = "0123456789" * 4


def info_files(history: History, *, cipher_pass: str = "") -> dict[str, str]:
    """Content by path of the info files, and of the history file of a new timeline.

    Args:
        cipher_pass: what manifests and WAL would be encrypted with; empty for a repository in clear.
    """
    cipher = {"cipher": {"cipher-pass": cipher_pass}} if cipher_pass else {}
    backups = _info(
        {
            **cipher,
            "backup:current": {entry.label: _described(entry) for entry in history.sets},
            "db": {**_DATABASE, **_CATALOG, "db-id": 1},
            "db:history": {"1": {**_DATABASE, **_CATALOG}},
        }
    )
    archive = _info(
        {
            **cipher,
            "db": {**_DATABASE, "db-id": 1},
            "db:history": {"1": {"db-id": _DATABASE["db-system-id"], "db-version": "15"}},
        }
    )
    files = {f"backup/{STANZA}/backup.info": backups, f"archive/{STANZA}/archive.info": archive}
    files |= {f"{path}.copy": text for path, text in files.items()}
    if history.switch:
        moved = f"1\t{position(history.switch.back_to)}\tby a person\n"
        files[f"archive/{STANZA}/{ARCHIVE_ID}/00000002.history"] = moved
    return files


def data_files(history: History) -> list[str]:
    """Paths of what ``expire`` only looks for by name: manifests and WAL segments."""
    manifests = [f"backup/{STANZA}/{entry.label}/backup.manifest" for entry in history.sets]
    segments = [f"archive/{STANZA}/{ARCHIVE_ID}/{name[:16]}/{name}-{_SHA1}.zst" for name in sorted(history.wal)]
    return manifests + segments


def left_of(history: History, paths: Iterable[str]) -> History:
    """The history that a listing of the repository still shows."""
    labels: set[str] = set()
    segments: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == "backup.manifest":
            labels.add(folder.rpartition("/")[2])
        elif path.startswith("archive/") and "-" in name:
            segments.add(name.partition("-")[0])
    return replace(
        history,
        sets=tuple(entry for entry in history.sets if entry.label in labels),
        wal=frozenset(segments),
    )


@dataclass(frozen=True, kw_only=True)
class ForgedRepository:
    """One repository in a folder and what runs pgBackRest on it. ``home`` is emptied at construction."""

    home: Path
    history: History

    def __post_init__(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        for path, text in (*info_files(self.history).items(), *((path, "") for path in data_files(self.history))):
            file = self.home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for folder in ("log", "lock", "spool"):
            (self.home / folder).mkdir()
        options = {
            "repo1-path": self.home,
            "log-path": self.home / "log",
            "lock-path": self.home / "lock",
            "spool-path": self.home / "spool",
            "log-level-file": "off",
            "log-level-console": "info",
            "repo1-retention-full": 9999999,
        }
        lines = [f"{name}={value}\n" for name, value in options.items()]
        (self.home / "pgbackrest.conf").write_text(f"[global]\n{''.join(lines)}[{STANZA}]\npg1-path=/nowhere\n")

    @property
    def pgbackrest(self) -> PgBackRest:
        """The real program on this repository."""
        return PgBackRest(
            config=self.home / "pgbackrest.conf", stanza=STANZA, owner=self.home, environment=dict[str, str]
        )

    def left(self) -> History:
        """What is there."""
        found = (path for path in self.home.rglob("*") if path.is_file())
        return left_of(self.history, (str(path.relative_to(self.home)) for path in found))


def _described(entry: Set) -> dict[str, Any]:
    described: dict[str, Any] = {
        **_VERSION,
        "backup-archive-start": entry.first,
        "backup-archive-stop": entry.last,
        "backup-error": entry.damaged,
        "backup-info-repo-size": 100,
        "backup-info-repo-size-delta": 100,
        "backup-info-size": 1000,
        "backup-info-size-delta": 1000,
        "backup-lsn-start": position(entry.started),
        "backup-lsn-stop": position(entry.ended),
        "backup-timestamp-start": int(entry.started.timestamp()),
        "backup-timestamp-stop": int(entry.ended.timestamp()),
        "backup-type": "incr" if entry.prior else "full",
        "db-id": 1,
        "option-archive-check": True,
        "option-archive-copy": False,
        "option-backup-standby": False,
        "option-checksum-page": True,
        "option-compress": True,
        "option-hardlink": False,
        "option-online": True,
    }
    if entry.prior:
        described |= {"backup-prior": entry.prior, "backup-reference": list(entry.references)}
    return described


def _info(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """An info file, sealed as pgBackRest seals them: SHA-1 over all of it as one JSON object."""
    everything: dict[str, dict[str, Any]] = {
        "backrest": dict(_VERSION),
        **{name: dict(section) for name, section in sections.items() if section},
    }
    digest = hashlib.sha1(_dump(everything).encode(), usedforsecurity=False).hexdigest()
    everything["backrest"]["backrest-checksum"] = digest
    lines = [
        line
        for name, section in sorted(everything.items())
        for line in (f"[{name}]", *(f"{key}={_dump(value)}" for key, value in sorted(section.items())), "")
    ]
    return "\n".join(lines)


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
