"""The restore test: everything that a real recovery would do, in a folder that is thrown away.

It needs S3 and KMS alone, so it says whether the backups hold when the cluster is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.errors import VerificationError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.port import Progress, Stopwatch, TestedRestore
from aivo_backup.stores.postgres import looking
from aivo_backup.stores.postgres.archive import Archive
from aivo_backup.stores.postgres.checked_wal import checked_restore_command
from aivo_backup.stores.postgres.fetching import fetch, some
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.replay import Replay, amounts, patience_seconds, plan_replay, replayed_check
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.server import ControlFile, OwnServer, read_control_file
from aivo_backup.stores.postgres.targets import Target


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
        replay = plan_replay(self.archive, pgbackrest, info, backup)
        segments = self.archive.segments(backup.archive_id, since=backup.wal_start)
        wal = checked_restore_command(pgbackrest, segments, pgbackrest.config.parent)
        with self.stopwatch.phase("fetch"):
            self.progress(f"fetching {backup.label}: {backup.size_bytes:,} bytes")
            fetch(
                pgbackrest,
                backup,
                data,
                *Target().options(replay.line),
                f"--recovery-option=restore_command={wal}",
                inventories=self.inventories,
                tablespaces=scratch / "tablespaces",
            )
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

    def _examine(
        self, point: RecoveryPoint, backup: BackupSet, server: OwnServer, control: ControlFile, replay: Replay
    ) -> TestedRestore:
        with self.stopwatch.phase("replay"):
            self.progress(f"replaying WAL from {backup.wal_start} to {replay.newest.name}")
            server.start(control)
            try:
                server.wait_until_recovered(timeout_seconds=patience_seconds(self.settings, backup))
            except VerificationError as error:
                if replay.missing:
                    raise VerificationError(
                        f"WAL segments are missing in the repository: {some(replay.missing)}"
                    ) from error
                raise
        with self.stopwatch.phase("checks"):
            with server.connect() as connection:
                heartbeat = looking.newest_heartbeat(connection)
                position, _ = looking.replayed_to(connection)
                checks = [
                    *_identity(point, backup, control),
                    replayed_check(position, replay, self.archive, backup, segment_bytes=control.segment_bytes),
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
        return TestedRestore(
            checks=tuple(checks), newest_heartbeat=heartbeat, amounts=amounts(backup, replay.newest.name)
        )

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
            detail = some(wrong) if wrong else f"{len(inventory.objects)} objects are there as they were"
            yield Check(name=name, passed=not wrong, detail=detail)


def _identity(point: RecoveryPoint, backup: BackupSet, control: ControlFile) -> Iterator[Check]:
    expected = str(point.facts.get("system_id", backup.system_id))
    yield Check(
        name="system_id",
        passed=control.system_id == expected,
        detail=f"{control.system_id}, recorded {expected}",
    )
