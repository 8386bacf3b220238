"""Recovery by a server of our own on fetched files: it asks the repository itself and shows nobody its data."""

from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import VerificationError
from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.recovery_conf import TARGET_NOT_REACHED, drop_target
from aivo_backup.stores.postgres.replay import patience_seconds
from aivo_backup.stores.postgres.restore import Prepared, Restorer
from aivo_backup.stores.postgres.server import ControlFile, OwnServer
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
    """

    restorer: Restorer
    data: Path
    folder: Path
    target: Target
    prepared: Prepared
    progress: Progress
    archives_later: bool = False

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
            durable=True,
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
