"""What a recovery of the database would lose of its newer rows, exported before it does."""

import shutil
from pathlib import Path

from aivo_backup.errors import RefusedError, UnreachableError
from aivo_backup.recovery.executor import Work
from aivo_backup.recovery.parts import Parts
from aivo_backup.stores.bundle import require_fresh
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.rescue import MANIFEST
from aivo_backup.stores.postgres.row_recovery import RowRecovery
from aivo_backup.stores.postgres.targets import Target

_FOLDER = "folder"


def check_rescue(parts: Parts, folder: Path) -> None:
    """Looks whether the database still says what it holds, and whether the folder is free; changes nothing.

    Raises:
        RefusedError: one of the two is not so.
        ConfigurationError: the folder cannot be made.
    """
    try:
        connect(parts.login()).close()
    except UnreachableError as error:
        raise RefusedError(
            f"the database cannot be asked what it holds any more ({error}), so nothing can be exported",
            mend="recover without --rescue: the old data directory is kept",
        ) from error
    require_fresh(folder)


def rescue_newer(work: Work, parts: Parts, target: Target, folder: Path) -> None:
    """Exports every row that production has and its state of the target lacks, or has with other content.

    Begun again after a kill, it begins anew: what an earlier attempt wrote into the folder is its own.

    Raises:
        RefusedError: the folder is taken.
        BackupError: the copy cannot be restored, or a side does not answer.
    """
    if _FOLDER in work.notes and folder.exists():
        if (folder / MANIFEST).exists():
            work.progress(f"an earlier attempt has exported everything into {folder}")
            return
        shutil.rmtree(folder)
    require_fresh(folder)
    work.note(**{_FOLDER: str(folder)})
    now = parts.clock()
    work.progress(f"restoring a copy to {target}, to see what was written after it")
    with parts.postgres.private_copy(target, now=now, stopwatch=Stopwatch(), progress=work.progress) as copy:
        recovery = RowRecovery(copy=copy, connect=lambda: connect(parts.login()))
        bundle = recovery.export_newer(folder, after=str(target), now=now, progress=work.progress)
    work.note(rows=bundle.items, tables=len(bundle.units))
    work.progress(
        f"{bundle.items} rows of {len(bundle.units)} tables written after {target} are in {folder}; put them back with "
        f"`aivo-backup restore postgres --import {folder}`"
    )
