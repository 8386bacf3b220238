"""pgBackRest's failures, as version 2.45 printed them, in our words."""

import pytest

from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError
from aivo_backup.stores.postgres.failures import as_error, read_failure

SIDECAR_DOWN = """
WARN: unable to check pg1: [HostConnectError] unable to connect to 'localhost:18499': [111] Connection refused
ERROR: [056]: unable to find primary cluster - cannot proceed
       HINT: are all available clusters in recovery?
"""
STRANGER = """
WARN: unable to check pg1: [AccessError] raised from remote-0 tls protocol on 'localhost': access denied
ERROR: [056]: unable to find primary cluster - cannot proceed
"""
DATABASE_DOWN = """
WARN: unable to check pg1: [DbConnectError] raised from remote-0 tls protocol on 'localhost': unable to connect to 'd'
ERROR: [056]: unable to find primary cluster - cannot proceed
"""
KEY_MODE = """
WARN: unable to check pg1: [FileReadError] key file '/c/tls.key' must be owned by the 'backup' user or root
ERROR: [056]: unable to find primary cluster - cannot proceed
"""
NO_STANZA = """
ERROR: [055]: unable to load info file '/backup/other/backup.info' or '/backup/other/backup.info.copy':
       FileMissingError: unable to open missing file '/backup/other/backup.info' for read
       HINT: has a stanza-create been performed?
"""
FORBIDDEN = """
ERROR: [039]: HTTP request failed with 403 (Forbidden):
       *** Path/Query ***:
       GET /b/?list-type=2
       *** Request Headers ***:
       authorization: <redacted>
       *** Response Content ***:
       <?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>
"""
BUSY = """
ERROR: [039]: HTTP request failed with 503 (Service Unavailable):
       *** Response Content ***:
       <Error><Code>SlowDown</Code></Error>
"""
NO_PASS = "ERROR: [037]: info command requires option: repo1-cipher-pass"
LOCKED = """
ERROR: [050]: unable to acquire lock on file '/l/aivo-postgres-backup.lock': Resource temporarily unavailable
       HINT: is another pgBackRest process running?
"""
SLOW_WAL = "ERROR: [082]: WAL segment 000000010000000000000005 was not archived before the 60000ms timeout"
VERSIONS = "ERROR: [039]: expected value '2.59.1' for greeting key 'version' but got '2.45'"
UNTRUSTED = (
    "ERROR: [095]: unable to verify certificate presented by 'localhost:1': [20] unable to get local issuer certificate"
)


@pytest.mark.parametrize(
    ("output", "kind", "words", "mend"),
    [
        (SIDECAR_DOWN, UnreachableError, "Connection refused", "sidecar"),
        (STRANGER, AccessDeniedError, "access denied", "certificate"),
        (DATABASE_DOWN, UnreachableError, "unable to connect", "PostgreSQL runs"),
        (KEY_MODE, ConfigurationError, "/c/tls.key", "mode 600"),
        (NO_STANZA, ConfigurationError, "backup.info", "aivo-backup init postgres"),
        (FORBIDDEN, AccessDeniedError, "403 (Forbidden): AccessDenied", "policy"),
        (BUSY, UnreachableError, "503", "try again"),
        (NO_PASS, ConfigurationError, "repo1-cipher-pass", "init"),
        (LOCKED, BackupError, "unable to acquire lock", "wait"),
        (SLOW_WAL, BackupError, "was not archived", "WAL does not reach"),
        (VERSIONS, ConfigurationError, "2.59.1", "same pgBackRest version"),
        (UNTRUSTED, ConfigurationError, "certificate", "certificate authority"),
        ("", BackupError, "no message", ""),
    ],
)
def test_each_failure_has_its_kind_and_its_mend(output: str, kind: type[BackupError], words: str, mend: str) -> None:
    error = as_error("pgbackrest backup", read_failure(1, output))
    assert type(error) is kind
    assert words in str(error)
    assert mend in error.mend
    assert "\n" not in str(error)
    assert "HINT" not in str(error)


def test_headers_of_a_request_stay_out_of_the_line() -> None:
    text = str(as_error("pgbackrest info", read_failure(39, FORBIDDEN)))
    assert "authorization" not in text
    assert "xml" not in text


def test_an_unknown_code_is_shown() -> None:
    assert "[122]" in str(as_error("pgbackrest backup", read_failure(122, "ERROR: [122]: runtime trouble")))
