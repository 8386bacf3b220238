"""Restores over the live database's place. Until the restored copy has recovered, every step can be taken back.

The set is fetched into a folder beside the data directory while the server may still run. Only then the server is
stopped, the old directory renamed, the new one put in its place and started. A failure before the end of recovery
renames the old directory back and starts it again if it ran. The old directory is never deleted.
"""

import shutil
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, UnreachableError, VerificationError
from aivo_backup.policy.pgbackrest import restore_command
from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.archiving import check_archiving
from aivo_backup.stores.postgres.copying import copy_cluster
from aivo_backup.stores.postgres.fetching import fetch
from aivo_backup.stores.postgres.own_replay import TO_THE_END, OwnReplay
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.recovered import Look, look, result
from aivo_backup.stores.postgres.recovery_conf import TARGET_NOT_REACHED, append_settings, drop_target
from aivo_backup.stores.postgres.replay import patience_seconds
from aivo_backup.stores.postgres.restore import (
    InPlace,
    Prepared,
    Restorer,
    RestoreResult,
    set_aside_path,
)
from aivo_backup.stores.postgres.server import read_control_file
from aivo_backup.stores.postgres.targets import Target, TargetKind

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_RECOVERED = "in production"


@dataclass(frozen=True, kw_only=True)
class RestoreInPlace:
    """Carries out one prepared restore."""

    restorer: Restorer
    place: InPlace
    target: Target
    prepared: Prepared
    stopwatch: Stopwatch
    progress: Progress

    def run(self, *, now: datetime) -> RestoreResult:
        """Restores.

        Raises:
            VerificationError: the repository's data is damaged, or recovery failed; the old directory is back.
            RefusedError: the server was started since the plan, and may not be stopped.
            BackupError: something else failed; a note says so if the old directory could not be put back.
        """
        data, stamp = self.place.data, self.prepared.stamp
        fresh = data.with_name(f"{data.name}.restoring-{stamp}")
        aside = set_aside_path(data, stamp) if data.exists() else None
        try:
            with self.stopwatch.phase("fetch"):
                self.progress(f"fetching {self.prepared.backup.label} into {fresh}")
                self._fetch(fresh)
            seen = self._replay_beforehand(fresh) if self._beforehand else None
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        ran = self.place.service.running()
        try:
            with self.stopwatch.phase("stop"):
                self._stop(ran)
            if aside is not None:
                data.rename(aside)
                self.progress(f"the present data directory is now {aside}")
            fresh.rename(data)
            with self.stopwatch.phase("start" if seen else "replay"):
                to_the_end = self._take_over() if seen else self._recover()
        except BaseException as error:
            self._take_back(fresh, aside, start=ran, because=error)
            raise
        archiving: tuple[Check, ...] = ()
        if seen is None:
            with self.stopwatch.phase("checks"):
                seen = self._look(to_the_end)
                archiving = (check_archiving(self.place.connect, seen.timeline, self.progress),)
        done = result(
            self.prepared,
            self.target,
            seen,
            now=now,
            data=data,
            port=self.restorer.settings.port,
            set_aside=str(aside or ""),
        )
        return replace(done, checks=(*done.checks, *archiving))

    @property
    def _beforehand(self) -> bool:
        """Whether it is recovered before the exchange: nobody here starts the server, or its sidecar cannot help."""
        return self.place.started_elsewhere or not self.restorer.runners.access.behind_sidecar

    def _replay_beforehand(self, fresh: Path) -> Look:
        """Recovers and looks before the server is stopped, by a server of our own that asks the repository itself.

        Whether it archives is not looked at: the database may come home to a region that has no stanza yet. `init`
        makes it, and checks with a real segment.
        """
        settings = self.restorer.settings
        folder = self._folder / "server"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_to_owner_of(fresh, folder)
        with self.stopwatch.phase("replay"):
            self.progress(f"recovering to {self.target}")
            replay = OwnReplay(
                restorer=self.restorer,
                data=fresh,
                folder=folder,
                target=self.target,
                prepared=self.prepared,
                progress=self.progress,
                archives_later=True,
            )
            control = read_control_file(Path(settings.bin_path), fresh)
            server, to_the_end = replay.run(control)
        try:
            with self.stopwatch.phase("checks"), server.connect() as connection:
                seen = self._look_through(connection, control.segment_bytes, to_the_end)
        finally:
            server.stop()
        append_settings(fresh, {"restore_command": restore_command(settings)})
        return seen

    def _take_over(self) -> bool:
        if self.place.started_elsewhere:
            return False
        self.place.service.start()
        self._wait()
        return False

    @property
    def _folder(self) -> Path:
        return self.restorer.runners.state / "pgbackrest" / f"restore-{self.prepared.stamp}"

    def _stop(self, running: bool) -> None:
        if not running:
            return
        if not self.place.stop:
            raise RefusedError(f"PostgreSQL was started on {self.place.data} meanwhile", mend="stop it and try again")
        self.progress("stopping PostgreSQL")
        self.place.service.stop()

    def _fetch(self, fresh: Path) -> None:
        settings, runners = self.restorer.settings, self.restorer.runners
        folder = self._folder
        pgbackrest = runners.restorer(folder, data=fresh)
        owner = self.place.data if self.place.data.exists() else self.place.data.parent
        give_to_owner_of(owner, folder)
        # Through the sidecar: the database's own container has no secret, also after this restart.
        through = (f"--recovery-option=restore_command={restore_command(settings)}",) if not self._beforehand else ()
        delta = ("--delta",) if self.place.delta else ()
        if delta:
            self.progress(f"copying the present files to {fresh}, to fetch only what differs")
            copy_cluster(self.place.data, fresh)
        fetch(
            pgbackrest,
            self.prepared.backup,
            fresh,
            *self.target.options(self.prepared.replay.line),
            *through,
            *delta,
            inventories=self.restorer.inventories,
            tablespaces=folder / "tablespaces",
        )
        found = read_control_file(Path(settings.bin_path), fresh).system_id
        if found != self.prepared.backup.system_id:
            raise VerificationError(f"backup set {self.prepared.backup.label} restores another cluster ({found})")

    def _recover(self) -> bool:
        """Starts the server and waits for the end of recovery; says whether it went to the end of all WAL instead of
        to a target time behind it."""
        service, data = self.place.service, self.place.data
        self.progress(f"recovering to {self.target}")
        service.start()
        try:
            self._wait()
        except VerificationError:
            if self.target.kind is not TargetKind.TIME or TARGET_NOT_REACHED not in service.complaint():
                raise
        else:
            return False
        self.progress(TO_THE_END)
        service.stop()
        drop_target(data)
        service.start()
        self._wait()
        return True

    def _wait(self) -> None:
        patience = patience_seconds(self.restorer.settings, self.prepared.backup)
        begun = time.monotonic()
        while True:
            if self._recovered() and self.place.service.running():
                return
            waited = time.monotonic() - begun
            if waited > _GRACE_SECONDS and not self.place.service.running():
                raise VerificationError(f"recovery failed: {self.place.service.complaint()}")
            if waited > patience:
                raise BackupError(f"recovery takes longer than {patience:.0f} s", mend="see PostgreSQL's log")
            time.sleep(_POLL_SECONDS)

    def _recovered(self) -> bool:
        """Whether recovery has ended, asked of the files: the restored database may know the login by another
        password. The restored control file says "in production" from the start; the signal file goes at the end."""
        data = self.place.data
        if (data / "recovery.signal").exists():
            return False
        try:
            return read_control_file(Path(self.restorer.settings.bin_path), data).state == _RECOVERED
        except ConfigurationError:
            return False  # read while the server wrote it

    def _take_back(self, fresh: Path, aside: Path | None, *, start: bool, because: BaseException) -> None:
        """Puts the old directory back. What it cannot do it adds to the failure that it was called for."""
        data = self.place.data
        try:
            swapped = aside is None or aside.exists()
            if swapped and data.exists():
                self.place.service.stop()
                data.rename(fresh)
            if aside is not None and aside.exists():
                aside.rename(data)
            shutil.rmtree(fresh, ignore_errors=True)
            if start and not self.place.service.running():
                self.place.service.start()
            self.progress("the former data directory is back" + (" and its server started" if start else ""))
        except (BackupError, OSError) as error:
            because.add_note(f"the former data directory is {aside}; putting it back failed: {error}")

    def _look(self, to_the_end: bool) -> Look:
        control = read_control_file(Path(self.restorer.settings.bin_path), self.place.data)
        try:
            with self.place.connect() as connection:
                return self._look_through(connection, control.segment_bytes, to_the_end)
        except (psycopg.Error, UnreachableError) as error:
            raise BackupError(
                f"PostgreSQL has recovered on {self.place.data}, but cannot be looked at: {error}",
                mend="it stays as restored; the login may be that of the time restored to",
            ) from error

    def _look_through(
        self, connection: "psycopg.Connection[tuple[object, ...]]", segment_bytes: int, to_the_end: bool
    ) -> Look:
        return look(
            connection,
            self.prepared,
            self.target,
            archive=self.restorer.archive,
            settings=self.restorer.settings,
            segment_bytes=segment_bytes,
            target_beyond_last_commit=to_the_end,
        )
