"""A database whose locale this machine lacks: PostgreSQL's own image has en_US.utf8, a bare Debian C.UTF-8 alone."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.errors import ConfigurationError
from aivo_backup.stores.postgres.server import OwnServer, read_control_file
from aivo_backup.stores.process import as_owner
from tests.sandbox.postgres_lab import BIN

# Nowhere installed; its rules are those of en_US.
LOCALE = "tlh_AQ.utf8"
PATIENCE_SECONDS = 120.0


@pytest.fixture
def home() -> Generator[Path]:
    """A short folder, since a socket lives in it."""
    folder = Path(tempfile.mkdtemp(prefix="pglocale-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cluster(home: Path) -> Path:
    """Its data directory, made where the locale is."""
    known = home / "locales"
    known.mkdir()
    subprocess.run(["/usr/bin/localedef", "-i", "en_US", "-f", "UTF-8", str(known / LOCALE)], check=True)
    argv = [*as_owner(home), f"{BIN}/initdb", "-D", str(home / "data"), "-U", "postgres", f"--locale={LOCALE}"]
    subprocess.run(argv, check=True, env={**os.environ, "LOCPATH": str(known)}, stdout=subprocess.DEVNULL)
    return home / "data"


def test_a_locale_that_is_missing_here_is_named_at_once(home: Path, cluster: Path) -> None:
    folder = home / "server"
    folder.mkdir(mode=0o700)
    server = OwnServer(bin_path=Path(BIN), data=cluster, folder=folder, secrets={}, database="postgres")
    begun = time.monotonic()
    try:
        server.start(read_control_file(Path(BIN), cluster))
        with pytest.raises(
            ConfigurationError, match=f"the database has the locale {LOCALE}, which is not here"
        ) as told:
            server.wait_until_recovered(timeout_seconds=PATIENCE_SECONDS)
    finally:
        server.stop()
    assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    assert "make image LOCALES" in str(told.value)
