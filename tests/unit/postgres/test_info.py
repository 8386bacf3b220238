"""What ``pgbackrest info`` of version 2.45 prints, read."""

import json
from datetime import UTC, datetime

import pytest

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.postgres.failures import as_error, read_status
from aivo_backup.stores.postgres.info import parse_info
from tests.unit.postgres.samples import EMPTY, FULL, INCREMENTAL, stanza


def test_a_stanza_with_a_full_and_an_incremental() -> None:
    info = parse_info(json.dumps(stanza(FULL, INCREMENTAL)))
    assert info.exists
    assert (info.code, info.system_id, info.archive_id) == (0, "7711221918601462926", "15-1")
    assert info.newest_segment == "000000010000000000000006"
    full, incremental = info.sets
    assert (full.kind, incremental.kind) == (BackupKind.FULL, BackupKind.INCREMENTAL)
    assert full.stopped == datetime(2026, 11, 23, 4, 40, 35, tzinfo=UTC)
    assert (full.size_bytes, full.repository_bytes) == (22992599, 2840448)
    assert (incremental.size_bytes, incremental.repository_bytes) == (23000791, 154336)
    assert full.references == ()
    assert incremental.references == (full.label,)
    assert (incremental.wal_start, incremental.wal_stop, incremental.timeline) == (
        "000000010000000000000006",
        "000000010000000000000006",
        1,
    )
    assert info.find(full.label) is full
    assert info.find("nothing") is None


def test_an_empty_repository_is_a_state_and_not_a_failure() -> None:
    info = parse_info(json.dumps(EMPTY))
    assert not info.exists
    assert (info.code, info.sets, info.newest_segment) == (1, (), "")


def test_after_an_upgrade_the_newest_database_counts() -> None:
    data = stanza(FULL)
    data[0]["db"].append({"id": 2, "repo-key": 1, "system-id": 99, "version": "16"})
    data[0]["archive"].append({"database": {"id": 2, "repo-key": 1}, "id": "16-2", "max": None, "min": None})
    info = parse_info(json.dumps(data))
    assert (info.system_id, info.archive_id, info.newest_segment) == ("99", "16-2", "")
    assert info.sets[0].archive_id == "15-1"
    assert info.sets[0].system_id == "7711221918601462926"


def test_a_set_with_damaged_pages_says_so() -> None:
    (backup,) = parse_info(json.dumps(stanza({**FULL, "error": True}))).sets
    assert backup.damaged


def test_a_wrong_cipher_pass_leaves_control_characters() -> None:
    noise = "key/value found outside of section at line 1: \x01\x1b[31m\ufffd"
    data = json.loads(json.dumps(EMPTY))
    data[0]["status"] = {"code": 99, "message": "other", "lock": {"backup": {"held": False}}}
    message = f"[FormatError] unable to load info file '/backup/x/backup.info':\nFormatError: {noise}"
    data[0]["repo"][0]["status"] = {"code": 99, "message": message}
    # pgBackRest writes the characters as they are, which strict JSON does not have.
    text = json.dumps(data, ensure_ascii=False).replace("\\u0001", "\x01").replace("\\u001b", "\x1b")
    info = parse_info(text)
    assert info.code == 99
    error = as_error("pgbackrest info", read_status(info.message))
    assert isinstance(error, ConfigurationError)
    assert "envelope" in error.mend
    assert str(error).isprintable()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{}]", '[{"db": 1}]', "no JSON"])
def test_what_is_no_info(text: str) -> None:
    with pytest.raises(BackupError, match="cannot be read"):
        parse_info(text)
