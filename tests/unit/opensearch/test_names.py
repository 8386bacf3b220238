from datetime import UTC, datetime, timedelta, timezone

import pytest

from aivo_backup.stores.opensearch.names import (
    abandoned,
    chosen,
    data_stream_of,
    is_verification_index,
    matching,
    renamed,
    restored,
    set_aside,
    snapshot_name,
    snapshot_time,
    verification_prefix,
)

NOW = datetime(2024, 8, 20, 4, 0, 0, tzinfo=UTC)


def test_a_snapshot_is_named_after_its_second_in_utc() -> None:
    assert snapshot_name(NOW, ()) == "snapshot_20240820_040000"
    assert snapshot_name(NOW.astimezone(timezone(timedelta(hours=5))), ()) == "snapshot_20240820_040000"


def test_a_second_that_is_taken_gets_the_first_free_number() -> None:
    taken = {"snapshot_20240820_040000", "snapshot_20240820_040000_2", "snapshot_20240820_040000_4"}
    assert snapshot_name(NOW, taken) == "snapshot_20240820_040000_3"


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("snapshot_20240820_040000", NOW),
        ("snapshot_20240820_040000_12", NOW),
        ("snapshot_20241320_040000", None),
        ("snapshot_20240820", None),
        ("daily_20240820_040000", None),
    ],
)
def test_the_time_is_read_from_our_names_only(name: str, time: datetime | None) -> None:
    assert snapshot_time(name) == time


def test_system_indices_and_those_of_restore_tests_are_never_chosen() -> None:
    testing = f"{verification_prefix(NOW, 'abc123')}packages"
    names = ["packages", ".security", ".ds-logs-000001", testing, "logs-1", "verify-me"]
    assert chosen(names, ("*",)) == ("logs-1", "packages", "verify-me")
    assert chosen(names, ("logs-*", "pack?ges")) == ("logs-1", "packages")
    assert chosen(names, (".*", "verify-2*")) == ()


@pytest.mark.parametrize(
    "name",
    ["verify-20240820-040000-abc12-x", "verify-20240820-040000-abc123-", "verify-x", "aside-20240820-040000-x"],
)
def test_an_index_that_only_looks_like_one_of_a_restore_test_is_a_users(name: str) -> None:
    assert not is_verification_index(name)


def test_only_what_is_older_than_a_day_counts_as_abandoned() -> None:
    old, young = (f"{verification_prefix(NOW - timedelta(hours=h), 'abc123')}x" for h in (25, 23))
    assert abandoned([old, young, "packages"], NOW) == (old,)


def test_old_and_restored_states_are_told_apart_by_name() -> None:
    assert set_aside("packages", NOW) == "aside-20240820-040000-packages"
    assert restored("packages", NOW) == "restored-20240820-040000-packages"


@pytest.mark.parametrize(
    ("index", "streams", "stream"),
    [
        (".ds-logs-app-000001", {"logs-app"}, "logs-app"),
        (".ds-logs-app-000001", {"logs"}, ""),
        ("logs-app", {"logs-app"}, ""),
    ],
)
def test_an_index_tells_its_data_stream(index: str, streams: set[str], stream: str) -> None:
    assert data_stream_of(index, streams) == stream


@pytest.mark.parametrize(
    ("index", "pattern", "replacement", "name"),
    [
        ("logs-2024", "logs-(.+)", "restored-logs-$1", "restored-logs-2024"),  # the runbook's
        ("a-b", "(.)-(.)", "$2-$1", "b-a"),
        ("a-b", "-", r"\$", "a$b"),
        ("a-b", "-", r"\\", "a\\b"),
        ("a-b", "x", "y", "a-b"),
        ("abc", ".*", "x", "xx"),  # Java, too, finds the empty rest
    ],
)
def test_a_rename_is_foreseen_as_java_does_it(index: str, pattern: str, replacement: str, name: str) -> None:
    assert renamed(index, pattern, replacement) == name


@pytest.mark.parametrize(("pattern", "replacement"), [("(", "x"), ("a", "$1")])
def test_a_rename_that_java_would_refuse_is_an_error(pattern: str, replacement: str) -> None:
    with pytest.raises(ValueError, match="rename"):
        renamed("a", pattern, replacement)


def test_unknown_names_are_told_apart_from_matching_ones() -> None:
    assert matching(("logs-*", "nix", "a"), ("a", "logs-1", "logs-2")) == (("a", "logs-1", "logs-2"), ("nix",))
