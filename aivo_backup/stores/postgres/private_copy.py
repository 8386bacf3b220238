"""The database as it was at a moment, on a server of our own that only this process reaches, thrown away afterwards.

What extracts a table, compares with production, or exports what a restore would lose reads from one.
"""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.info import StanzaInfo
from aivo_backup.stores.postgres.own_replay import OwnReplay, fetch_and_replay
from aivo_backup.stores.postgres.recovered import result
from aivo_backup.stores.postgres.restore import Restorer, RestoreRequest, RestoreResult, Staging
from aivo_backup.stores.postgres.server import OwnServer
from aivo_backup.stores.postgres.targets import Target


@dataclass(frozen=True, kw_only=True)
class PrivateCopy:
    """A running copy. It may be written to: nobody else sees it."""

    server: OwnServer
    result: RestoreResult


@contextmanager
def private_copy(
    restorer: Restorer,
    info: StanzaInfo,
    target: Target,
    folder: Path,
    *,
    now: datetime,
    stopwatch: Stopwatch,
    progress: Progress,
) -> Generator[PrivateCopy]:
    """Restores to ``target`` into ``folder``, which must not exist, and removes it in the end.

    Args:
        now: the start of the restore, UTC.

    Raises:
        RefusedError: the target lies outside the window, or the disk is too small; nothing was changed.
        VerificationError, BackupError: the restore failed.
    """
    place = Staging(data=folder / "data", port=0)
    with stopwatch.phase("plan"):
        prepared = restorer.prepare(RestoreRequest(target=target, destination=place), info=info, now=now)
    own = folder / "server"
    own.mkdir(mode=0o700, parents=True)
    server: OwnServer | None = None
    try:
        replay = OwnReplay(
            restorer=restorer,
            data=place.data,
            folder=own,
            target=target,
            prepared=prepared,
            progress=progress,
            durable=False,
        )
        server, seen = fetch_and_replay(replay, tablespaces=folder / "tablespaces", stopwatch=stopwatch)
        done = result(prepared, target, seen, now=now, data=place.data, port=0, set_aside="")
        yield PrivateCopy(server=server, result=done)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
