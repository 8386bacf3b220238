"""pgBackRest's failures in our words.

pgBackRest ends with ``ERROR: [NNN]: message`` and the code modulo 256 as exit status; a failure behind a connection
carries its class in brackets, ``[HostConnectError]``. The codes that need a mend of their own (numbers from its
source, stable since 1.0):

====  =====================  ===========================================================================
code  class                  what it means here
====  =====================  ===========================================================================
026   ChecksumError          a file in the repository is not what the manifest says
029   FormatError            a file cannot be decoded: damaged, or the cipher pass is wrong
037   OptionRequiredError    a secret was not handed over
039   ProtocolError          S3 answered with an error, or the two pgBackRest versions differ
049   HostConnectError       the sidecar or the S3 endpoint does not answer
050   LockAcquireError       another pgBackRest works on the stanza
051   BackupMismatchError    the stanza is of another cluster (system identifier differs)
055   FileMissingError       a file is not in the repository; before ``init``: no stanza
056   DbConnectError         PostgreSQL does not answer the sidecar
058   DbMismatchError        the same at stanza-create and check
062   StopError              ``pgbackrest stop`` is in force
063   TermError              ended by a signal
066   ProtocolTimeoutError   the other side went silent
068   ArchiveCommandInvalid  ``archive_command`` does not call pgBackRest
075   BackupSetInvalidError  no such backup set
082   ArchiveTimeoutError    WAL does not arrive in the repository
087   ArchiveDisabledError   ``archive_mode`` is off
095   CryptoError            a certificate is not trusted, or data cannot be deciphered
101   ServiceError           TLS failed
105   AccessError            the sidecar refuses this client's certificate
====  =====================  ===========================================================================
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError

_MESSAGE_CHARACTERS = 500

_CLASSES = {
    "ChecksumError": 26,
    "FormatError": 29,
    "OptionRequiredError": 37,
    "ProtocolError": 39,
    "HostConnectError": 49,
    "LockAcquireError": 50,
    "BackupMismatchError": 51,
    "FileMissingError": 55,
    "DbConnectError": 56,
    "DbMismatchError": 58,
    "StopError": 62,
    "ProtocolTimeoutError": 66,
    "CryptoError": 95,
    "ServiceError": 101,
    "AccessError": 105,
}

DATA_CODES = frozenset({26, 28, 29, 55, 75, 95})
"""Codes that, during a restore, mean that the repository's data is wrong or gone."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What pgBackRest said. ``text`` is one line, without its hints."""

    code: int
    text: str


def read_failure(exit_code: int, output: str) -> Failure:
    """Finds the cause in what a failed pgBackRest printed.

    A connection that failed behind the scenes is only a warning, followed by a general error (``unable to find
    primary cluster``); the warning is the cause then.
    """
    # Exit status and class of what failed at the other end come first: they are the cause, not the consequence.
    warned = re.search(r"WARN: (unable to check \S+: \[(\w+)\].*)", output)
    if warned:
        return Failure(code=_CLASSES.get(warned[2], exit_code), text=_one_line(warned[1]))
    error = re.search(r"ERROR: \[(\d+)\]: (.*(?:\n(?!\s*HINT)\s+.*)*)", output)
    if error:
        return Failure(code=int(error[1]), text=_one_line(error[2]))
    return Failure(code=exit_code, text=_one_line(output.strip().splitlines()[-1] if output.strip() else "no message"))


def read_status(message: str) -> Failure:
    """The cause in the status message of ``info``, which exits 0 all the same."""
    named = re.match(r"\[(\w+)\] (.*)", message, re.DOTALL)
    if named is None:
        return Failure(code=0, text=_one_line(message))
    return Failure(code=_CLASSES.get(named[1], 0), text=_one_line(named[2]))


def _one_line(text: str) -> str:
    # A failed HTTP request is followed by its headers; only the status line and S3's own code tell something.
    s3_code = re.search(r"<Code>(\w+)</Code>", text)
    head = text.split("*** ", 1)[0]
    # What was deciphered with a wrong pass is noise, and would end up in a terminal.
    line = "".join(char if char.isprintable() and char != "\ufffd" else " " for char in " ".join(head.split()))
    line = re.sub(r"(key/value found outside of section at line \d+):.*", r"\1", line)
    return f"{line} {s3_code[1]}".strip() if s3_code else line[:_MESSAGE_CHARACTERS].strip(" :")


_INIT = "run `aivo-backup init postgres`"
_Maker = Callable[[str], BackupError]

_MEANINGS: dict[int, _Maker] = {
    37: lambda text: ConfigurationError(text, mend=f"the cipher pass or a credential is missing: {_INIT}"),
    49: lambda text: UnreachableError(text, mend="check that the sidecar and the S3 endpoint run and can be reached"),
    50: lambda text: BackupError(text, mend="another pgBackRest run holds the stanza: wait for it to end"),
    51: lambda text: ConfigurationError(
        text, mend="the stanza belongs to another cluster: check pg1-path and the bucket"
    ),
    56: lambda text: UnreachableError(text, mend="check that PostgreSQL runs beside the sidecar"),
    58: lambda text: ConfigurationError(text, mend="the stanza belongs to another cluster or version"),
    62: lambda text: BackupError(text, mend="run `pgbackrest start` where it was stopped"),
    66: lambda text: UnreachableError(text, mend="the other side went silent: check the network and try again"),
    68: lambda text: ConfigurationError(text, mend="set PostgreSQL's archive_command as the sidecar's patch says"),
    75: lambda text: BackupError(text, mend="list the sets with `aivo-backup points postgres`"),
    82: lambda text: BackupError(
        text, mend="WAL does not reach the repository: see PostgreSQL's log and the sidecar's"
    ),
    87: lambda text: ConfigurationError(text, mend="set archive_mode = on and restart PostgreSQL"),
    101: lambda text: UnreachableError(text, mend="check the certificates and the ports"),
    105: lambda text: AccessDeniedError(text, mend="the sidecar does not know this client certificate"),
}


def as_error(what: str, failure: Failure) -> BackupError:
    """The error of ours that a failure means.

    Args:
        what: what was being done, for example ``pgbackrest backup``.
    """
    text = f"{what}: {failure.text}"
    special = _special(text, failure)
    if special is not None:
        return special
    maker = _MEANINGS.get(failure.code)
    return maker(text) if maker else BackupError(f"{text} [{failure.code:03}]")


def _special(text: str, failure: Failure) -> BackupError | None:
    said = failure.text
    if "key file" in said:
        return ConfigurationError(text, mend="mode 600 and its reader's own, or root's and no more than 640")
    if failure.code == 39:
        return _protocol(text, said)
    if failure.code in (29, 95) and ("info file" in said or "unable to flush" in said or "cipher header" in said):
        return ConfigurationError(text, mend="the cipher pass does not fit this repository: check the KMS envelope")
    if failure.code == 95:
        return ConfigurationError(text, mend="check the certificate authority (ca_file) and the host name")
    if failure.code == 55 and ("info file" in said or "missing stanza" in said):
        return ConfigurationError(text, mend=f"the repository has no such stanza: {_INIT}")
    if "access denied" in said.lower():
        return AccessDeniedError(text, mend="the sidecar does not know this client certificate")
    return None


def _protocol(text: str, said: str) -> BackupError:
    if " 403" in said or "InvalidAccessKeyId" in said or "SignatureDoesNotMatch" in said:
        return AccessDeniedError(text, mend="check the role's policy, the key's policy and the credentials")
    if "NoSuchBucket" in said:
        return ConfigurationError(text, mend="provision the environment: the bucket is not there")
    if "expected" in said and "version" in said:
        return ConfigurationError(text, mend="run the same pgBackRest version on both sides")
    return UnreachableError(text, mend="S3 or the sidecar is failing: try again")
