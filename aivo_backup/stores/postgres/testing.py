"""The restore test: everything that a real recovery would do, in a folder that is thrown away.

It needs S3 and KMS alone, so it says whether the backups hold when the cluster is gone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import BackupError, VerificationError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.port import Progress, Stopwatch, TestedRestore
from aivo_backup.stores.postgres import looking
from aivo_backup.stores.postgres.archive import Archive
from aivo_backup.stores.postgres.failures import DATA_CODES, as_error, read_failure
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.server import ControlFile, OwnServer, read_control_file
from aivo_backup.stores.postgres.wal import Line, Segment, parse_lsn

_NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The way that WAL is replayed: along ``line`` to segment ``newest``; ``missing`` names what is not there."""

    line: Line
    newest: str
    missing: list[str]


@dataclass(frozen=True, kw_only=True)
class RestoreTest:
    """One restore test."""

    settings: PostgresSettings
    runners: Runners
    inventories: Inventories
    archive: Archive
    stopwatch: Stopwatch
    progress: Progress

    def hold(self, point: RecoveryPoint, info: StanzaInfo, scratch: Path) -> TestedRestore:
        """Restores, replays, looks, and leaves no server behind.

        Raises:
            VerificationError: the point cannot be restored; the message names the object that is damaged or gone.
            UnreachableError, AccessDeniedError, ConfigurationError: the test could not be held.
        """
        backup = info.find(point.id)
        if backup is None:
            raise VerificationError(
                f"the repository no longer holds backup set {point.id}",
                mend="register the store's points again and test one that is there",
            )
        data = scratch / "data"
        pgbackrest = self.runners.restorer(scratch / "pgbackrest", data=data)
        replay = self._replay(pgbackrest, info, backup)
        with self.stopwatch.phase("fetch"):
            self.progress(f"fetching {backup.label}: {backup.size_bytes:,} bytes")
            fetch(pgbackrest, backup, data, replay.line, inventories=self.inventories)
        control = read_control_file(Path(self.settings.bin_path), data)
        folder = scratch / "server"
        folder.mkdir(mode=0o700)
        server = OwnServer(
            bin_path=Path(self.settings.bin_path),
            data=data,
            folder=folder,
            secrets=self.runners.access.secrets(),
            database=self.settings.database,
        )
        try:
            return self._examine(point, backup, server, control, replay)
        finally:
            server.stop()

    def _replay(self, pgbackrest: PgBackRest, info: StanzaInfo, backup: BackupSet) -> Replay:
        line = self.archive.line(pgbackrest, info)
        if not line.holds(backup.timeline, backup.stop_position):
            # Taken on a timeline that a later recovery abandoned: it can only be replayed along its own.
            line = self.archive.line(pgbackrest, info, backup.timeline)
        newest = self.archive.newest(info, line)
        if newest is None:
            raise VerificationError(f"the repository holds no WAL for backup set {backup.label}")
        return Replay(line=line, newest=newest.name, missing=self.archive.missing(backup, line, newest.name))

    def _examine(
        self, point: RecoveryPoint, backup: BackupSet, server: OwnServer, control: ControlFile, replay: Replay
    ) -> TestedRestore:
        with self.stopwatch.phase("replay"):
            self.progress(f"replaying WAL from {backup.wal_start} to {replay.newest}")
            server.start(control)
            try:
                server.wait_until_recovered(timeout_seconds=self._patience(backup))
            except VerificationError as error:
                if replay.missing:
                    raise VerificationError(
                        f"WAL segments are missing in the repository: {_some(replay.missing)}"
                    ) from error
                raise
        with self.stopwatch.phase("checks"):
            with server.connect() as connection:
                heartbeat = looking.newest_heartbeat(connection)
                position, _ = looking.replayed_to(connection)
                checks = [
                    *_identity(point, backup, control),
                    _replayed(position, replay, control, self.archive, backup),
                    *looking.sentinels(connection, self.settings.sentinel_queries),
                ]
            self.progress("checking heaps and indexes")
            checks.append(looking.amcheck(server, jobs=self.settings.process_max))
        with self.stopwatch.phase("page_checksums"):
            server.stop()
            if control.checksums:
                checks.append(looking.page_checksums(server.bin_path, server.data))
            else:
                self.progress("this cluster has no page checksums; enable them with pg_checksums")
        with self.stopwatch.phase("inventory"):
            checks.extend(self._inventory(point, backup))
        return TestedRestore(checks=tuple(checks), newest_heartbeat=heartbeat)

    def _inventory(self, point: RecoveryPoint, backup: BackupSet) -> Iterator[Check]:
        artefacts = self.inventories.stored()
        if point.inventory is not None:
            artefacts[point.id] = point.inventory
        for label in (point.id, *backup.references):
            artefact = artefacts.get(label)
            name = "inventory" if label == point.id else f"inventory.{label}"
            if artefact is None:
                yield Check(name=name, passed=False, detail=f"backup set {label} has no inventory to compare with")
                continue
            try:
                inventory = self.inventories.read(artefact)
                wrong = self.inventories.differences(inventory)
            except VerificationError as error:
                yield Check(name=name, passed=False, detail=str(error))
                continue
            detail = _some(wrong) if wrong else f"{len(inventory.objects)} objects are there as they were"
            yield Check(name=name, passed=not wrong, detail=detail)

    def _patience(self, backup: BackupSet) -> float:
        return 600.0 + 10 * backup.size_bytes / self.settings.restore_bytes_per_second


def fetch(
    pgbackrest: PgBackRest,
    backup: BackupSet,
    data: Path,
    line: Line,
    *options: str,
    inventories: Inventories,
) -> None:
    """Restores a set's files into ``data``, which is made, and sets up the replay of WAL along ``line``.

    Raises:
        VerificationError: the repository's data is damaged or gone; the message names the object.
        UnreachableError, AccessDeniedError, ConfigurationError, BackupError: something else failed.
    """
    data.mkdir(mode=0o700, exist_ok=True)
    done = pgbackrest.try_run(
        "restore",
        f"--set={backup.label}",
        # Not "latest": a timeline that comes into being meanwhile is not the one that was planned.
        f"--target-timeline={line.timeline}",
        f"--tablespace-map-all={data.parent / 'tablespaces'}",
        *options,
    )
    if done.exit_code == 0:
        return
    failure = read_failure(done.exit_code, f"{done.stdout}\n{done.stderr}")
    if failure.code not in DATA_CODES or "certificate" in failure.text:
        raise as_error("pgbackrest restore", failure)
    named = damaged_objects(pgbackrest, backup, inventories)
    raise VerificationError(f"backup set {backup.label} cannot be restored: {named or failure.text}")


def damaged_objects(pgbackrest: PgBackRest, backup: BackupSet, inventories: Inventories) -> str:
    """Names what is wrong with a set that does not restore, as objects of the bucket; empty when nothing is found.

    pgBackRest's own words name the file only sometimes, so its ``verify`` reads everything once more, and what is
    wrong inside a bundle is led back to the bundle.
    """
    said = pgbackrest.try_run("verify", "--log-level-console=info", "--log-level-stderr=warn")
    wrong: list[str] = []
    for label, path in re.findall(r"(?:invalid checksum|missing file|invalid size) '([^'/]+)/([^']+)'", said.stdout):
        key = f"backup/{pgbackrest.stanza}/{label}/{path}"
        bundle = _bundle_of(pgbackrest, label, path)
        wrong.append(f"{key} is damaged" if not bundle else f"{bundle} is damaged ({path})")
    stored = inventories.stored()
    for label in (backup.label, *backup.references):
        if label in stored:
            wrong += inventories.differences(inventories.read(stored[label]))
    return _some(list(dict.fromkeys(wrong)))


def _bundle_of(pgbackrest: PgBackRest, label: str, path: str) -> str:
    file = re.sub(r"\.(?:zst|gz|lz4|bz2)$", "", path)
    try:
        manifest = pgbackrest.read_file(f"backup/{pgbackrest.stanza}/{label}/backup.manifest")
    except BackupError:
        return ""
    entry = re.search(rf'^{re.escape(file)}=\{{"bni":(\d+)', manifest, re.MULTILINE)
    return f"backup/{pgbackrest.stanza}/{label}/bundle/{entry[1]}" if entry else ""


def _identity(point: RecoveryPoint, backup: BackupSet, control: ControlFile) -> Iterator[Check]:
    expected = str(point.facts.get("system_id", backup.system_id))
    yield Check(
        name="system_id",
        passed=control.system_id == expected,
        detail=f"{control.system_id}, recorded {expected}",
    )


def _replayed(position: str, replay: Replay, control: ControlFile, archive: Archive, backup: BackupSet) -> Check:
    name = "wal_replayed"
    if replay.missing:
        return Check(name=name, passed=False, detail=f"missing in the repository: {_some(replay.missing)}")
    size = control.segment_bytes
    wanted = Segment.parse(replay.newest, size)
    reached = parse_lsn(position) if position else 0
    # A position at the very start of a segment is the end of the one before.
    if max(reached - 1, 0) // size >= wanted.number:
        return Check(name=name, passed=True, detail=f"up to {position}, segment {replay.newest}")
    stopped = Segment(replay.line.timeline_of(reached // size, size), reached // size).name(size)
    keys = [entry.key for entry in archive.segments(backup.archive_id, since=stopped) if entry.name == stopped]
    return Check(
        name=name,
        passed=False,
        detail=f"stopped at {position} although the repository holds WAL up to {replay.newest}: "
        f"{keys[0] if keys else stopped} cannot be read",
    )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return "; ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
