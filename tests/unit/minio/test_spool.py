"""The list that goes on in a file."""

import errno
import tempfile
from typing import IO

import pytest

from aivo_backup.errors import BackupError
from aivo_backup.stores.minio.spool import Spool


def test_what_goes_in_comes_out_in_order_from_memory_and_file() -> None:
    with Spool[tuple[int, str]](in_memory=3) as spool:
        items = [(number, "\n\u00fc" * number) for number in range(10)]
        for item in items:
            spool.add(item)
        assert list(spool) == items


def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with Spool[int](in_memory=1) as spool:
        spool.add(1)
        with pytest.raises(BackupError, match="No space left on device: make room"):
            spool.add(2)
