"""The error tree. Every error carries one line for the person who reads it and the exit code that the CLI gives.

::

    BackupError                1  failed
    ├── UsageError             2  the call is wrong: an unknown component, a malformed time
    ├── ConfigurationError     3  settings, secrets or set-up are wrong
    ├── UnreachableError       4  a store or AWS does not answer
    │   └── AccessDeniedError  4  it answers, and refuses these credentials
    ├── VerificationError      5  what was restored is not what was backed up
    └── RefusedError           6  a guard stopped it before anything changed

Adapters translate their library's exceptions into these with ``raise … from``; nothing above an adapter catches a
library's own exception.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process answers; part of the public contract (README, "Exit codes")."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    VERIFICATION_FAILED = 5
    REFUSED = 6


class BackupError(Exception):
    """Something failed. ``str(error)`` is one line: what, where, and the mend."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, what: str, *, mend: str = "") -> None:
        self.what = " ".join(what.split())
        self.mend = " ".join(mend.split())
        super().__init__(f"{self.what}: {self.mend}" if self.mend else self.what)


class UsageError(BackupError):
    """The call itself is wrong."""

    exit_code = ExitCode.USAGE


class ConfigurationError(BackupError):
    """Settings, secrets or the machine's set-up are wrong; nothing was tried."""

    exit_code = ExitCode.CONFIGURATION


class UnreachableError(BackupError):
    """A store, the repository or AWS does not answer."""

    exit_code = ExitCode.UNREACHABLE


class AccessDeniedError(UnreachableError):
    """The other side answers and refuses the credentials or the permission."""


class VerificationError(BackupError):
    """Restored data differs from what the recovery point says."""

    exit_code = ExitCode.VERIFICATION_FAILED


class RefusedError(BackupError):
    """A guard stopped the work before anything was changed."""

    exit_code = ExitCode.REFUSED
