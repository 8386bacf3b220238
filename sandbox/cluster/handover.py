"""The sandbox's database moves: into the cluster when it comes up, and back when it is gone."""

import os
from pathlib import Path

from aivo_backup.policy.environment import DatabasePod
from sandbox.servers.postgres import Postgres
from sandbox.state import Sandbox


def give(sandbox: Sandbox, pod: DatabasePod) -> Path:
    """Hands the data to the cluster's user, made first where there is none. Returns the volume's folder.

    PostgreSQL must not run.
    """
    Postgres(sandbox).prepare()
    volume = _volume(sandbox)
    _own(volume, pod.user_id, pod.group_id)
    return volume


def archives(sandbox: Sandbox) -> bool:
    """Whether the database was told to archive, in the cluster or here."""
    told = _volume(sandbox) / "pgdata" / "postgresql.auto.conf"
    return told.is_file() and "archive_command" in told.read_text(encoding="utf-8")


def take_back(sandbox: Sandbox) -> None:
    """Hands the data back to this machine's user; does nothing when it is theirs. No pod may run."""
    volume = _volume(sandbox)
    if volume.is_dir() and any(path.stat().st_uid != os.geteuid() for path in (volume, *volume.iterdir())):
        _own(volume, os.geteuid(), os.getegid())


def _volume(sandbox: Sandbox) -> Path:
    return sandbox.postgres_home / "volume"


def _own(folder: Path, user: int, group: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, group, follow_symlinks=False)
