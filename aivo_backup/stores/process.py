"""Runs other programs: argv in, output out, one place. Never a shell, never a secret in argv."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import BackupError, ConfigurationError

_ERROR_TAIL_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ran to its end."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    def tail(self) -> str:
        """The end of what it said, for an error line."""
        return (self.stderr.strip() or self.stdout.strip())[-_ERROR_TAIL_CHARACTERS:]


def as_owner(path: Path) -> tuple[str, ...]:
    """The argv prefix that runs a program as the owner of ``path``.

    PostgreSQL and pgBackRest must run as the owner of the data directory, and refuse root. When root owns the folder
    (a checkout in root's home), the program runs in a user namespace where that owner is UID 1000: it is then an
    ordinary user to every check, with no capability, and no file changes hands.
    """
    if os.geteuid() != 0:
        return ()
    owner = path.stat()
    if owner.st_uid == 0:
        return ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    return ("setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--init-groups", "--")


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    stdin: str | None = None,
) -> Finished:
    """Runs a program and waits for it; a non-zero exit is the caller's to judge.

    Args:
        argv: program and arguments.
        environment: variables added to this process's own; the place for secrets.
        timeout_seconds: after it the program is killed.

    Raises:
        ConfigurationError: the program is not installed.
        BackupError: it took longer than ``timeout_seconds``.
    """
    if shutil.which(argv[0]) is None:
        raise ConfigurationError(f"the program {argv[0]} is missing", mend="install it or put it on PATH")
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **(environment or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackupError(f"{argv[0]} did not end within {timeout_seconds:.0f} s", mend="see its log") from error
    return Finished(argv=tuple(argv), exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)
