"""Recovery by a server of our own on fetched files: it asks the repository itself and shows nobody its data."""

from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import VerificationError
from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.fetching import fetch
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.recovered import Look, look
from aivo_backup.stores.postgres.recovery_conf import TARGET_NOT_REACHED, drop_target
from aivo_backup.stores.postgres.replay import patience_seconds
from aivo_backup.stores.postgres.restore import Prepared, Restorer
from aivo_backup.stores.postgres.server import ControlFile, OwnServer, read_control_file
from aivo_backup.stores.postgres.targets import Target, TargetKind

TO_THE_END = "no commit lies between the end of the archived WAL and the target: recovering to that end"
"""Said when a target time lies behind the last commit: the end of WAL is the state of that moment."""


@dataclass(frozen=True, kw_only=True)
class OwnReplay:
    """One recovery.

    Attributes:
        data: the fetched files.
        folder: an existing folder for the server's configuration, log and socket.
        archives_later: what it writes on its new timeline is kept for the server that takes over, to be archived.
        durable: the copy is to be kept.
    """

    restorer: Restorer
    data: Path
    folder: Path
    target: Target
    prepared: Prepared
    progress: Progress
    archives_later: bool = False
    durable: bool = True

    def run(self, control: ControlFile) -> tuple[OwnServer, bool]:
        """Recovers.

        Returns:
            the running server, for the caller to stop; and whether it went to the end of all WAL instead of to a
            target time behind it.

        Raises:
            VerificationError: recovery failed; no server runs.
            BackupError: it takes too long, or the server cannot be started.
        """
        server = OwnServer(
            bin_path=Path(self.restorer.settings.bin_path),
            data=self.data,
            folder=self.folder,
            secrets=self.restorer.runners.access.secrets(),
            database=self.restorer.settings.database,
            durable=self.durable,
            archives_later=self.archives_later,
        )
        patience = patience_seconds(self.restorer.settings, self.prepared.backup)
        try:
            server.start(control)
            try:
                server.wait_until_recovered(timeout_seconds=patience)
            except VerificationError as error:
                if self.target.kind is not TargetKind.TIME or TARGET_NOT_REACHED not in str(error):
                    raise
            else:
                return server, False
            self.progress(TO_THE_END)
            server.stop()
            drop_target(self.data)
            server.start(control)
            server.wait_until_recovered(timeout_seconds=patience)
        except BaseException:
            server.stop()
            raise
        return server, True


def fetch_and_replay(replay: OwnReplay, *, tablespaces: Path, stopwatch: Stopwatch) -> tuple[OwnServer, Look]:
    """Fetches a set into ``replay.data``, which is made, recovers it, and looks at it.

    Args:
        tablespaces: takes the tablespaces, if the database has any.

    Returns:
        the running server, for the caller to stop, and what it says of itself.

    Raises:
        VerificationError: the repository's data is damaged, or recovery failed; no server runs.
        BackupError: something else failed.
    """
    restorer, prepared, folder = replay.restorer, replay.prepared, replay.folder
    pgbackrest = restorer.runners.restorer(folder / "pgbackrest", data=replay.data)
    give_to_owner_of(replay.data.parent, folder)
    with stopwatch.phase("fetch"):
        replay.progress(f"fetching {prepared.backup.label} into {replay.data}")
        fetch(
            pgbackrest,
            prepared.backup,
            replay.data,
            *replay.target.options(prepared.replay.line),
            "--archive-mode=off",
            inventories=restorer.inventories,
            tablespaces=tablespaces,
        )
    control = read_control_file(Path(restorer.settings.bin_path), replay.data)
    with stopwatch.phase("replay"):
        replay.progress(f"recovering to {replay.target}")
        server, to_the_end = replay.run(control)
    try:
        with stopwatch.phase("checks"), server.connect() as connection:
            seen = look(
                connection,
                prepared,
                replay.target,
                archive=restorer.archive,
                settings=restorer.settings,
                segment_bytes=control.segment_bytes,
                target_beyond_last_commit=to_the_end,
            )
    except BaseException:
        server.stop()
        raise
    return server, seen
