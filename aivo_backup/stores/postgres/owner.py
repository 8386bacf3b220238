"""Whose files are whose: what root makes for PostgreSQL must belong to PostgreSQL's user."""

import os
from pathlib import Path


def give_to_owner_of(like: Path, *paths: Path) -> None:
    """Gives ``paths``, and what is in them, to the owner of ``like``. Only root can, and only root needs to."""
    if os.geteuid() != 0:
        return
    owner = like.stat()
    for path in paths:
        for entry in (path, *path.rglob("*")):
            os.chown(entry, owner.st_uid, owner.st_gid, follow_symlinks=False)
