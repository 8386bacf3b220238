"""WAL arithmetic against what PostgreSQL and pgBackRest name things."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivo_backup.stores.postgres.wal import (
    Line,
    Segment,
    archived_segment,
    format_lsn,
    history_timeline,
    is_segment,
    parse_lsn,
)

MIB = 1024 * 1024
SIZES = st.sampled_from([MIB, 16 * MIB, 64 * MIB, 1024 * MIB])


@given(st.integers(0, 2**64 - 1))
def test_a_position_survives_its_text(position: int) -> None:
    assert parse_lsn(format_lsn(position)) == position


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**31), SIZES)
def test_a_segment_survives_its_name(timeline: int, number: int, size: int) -> None:
    segment = Segment(timeline, number)
    assert is_segment(segment.name(size))
    assert Segment.parse(segment.name(size), size) == segment


@given(st.integers(1, 1000), st.integers(0, 2**31), SIZES)
def test_names_order_as_segments_do(timeline: int, number: int, size: int) -> None:
    assert Segment(timeline, number).name(size) < Segment(timeline, number + 1).name(size)
    assert Segment(timeline, number + 1).name(size) < Segment(timeline + 1, number).name(size)


def test_names_that_postgres_gives() -> None:
    # pg_walfile_name('1/000000A0') with 16 MiB segments, and what pg_controldata calls a 64 MiB one.
    assert Segment(1, parse_lsn("1/A0") // (16 * MIB)).name() == "000000010000000100000000"
    assert Segment(2, parse_lsn("0/8000000") // (64 * MIB)).name(64 * MIB) == "000000020000000000000002"
    assert Segment.parse("0000000100000000000000FF").end() == parse_lsn("1/0")


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "1/2/3", "0/123456789"])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="WAL position"):
        parse_lsn(text)


@pytest.mark.parametrize("name", ["", "00000001000000000000000", "00000002.history", "0000000100000000000000zz"])
def test_what_is_no_segment(name: str) -> None:
    with pytest.raises(ValueError, match="WAL segment"):
        Segment.parse(name)


def test_keys_of_the_archive() -> None:
    folder = "archive/aivo-postgres/15-1/0000000100000000/"
    name, sha1 = "000000010000000000000003", "99250b3fcb1f3029e863435a59222cb2aa6cf23f"
    for suffix in ("", ".zst", ".gz"):
        assert archived_segment(f"{folder}{name}-{sha1}{suffix}") == (name, sha1)
    for other in (f"{name}.00000028.backup", f"{name}.partial-{sha1}.zst", "archive.info", "00000002.history"):
        assert archived_segment(folder + other) == ("", "")
    assert history_timeline("archive/aivo-postgres/15-1/0000000B.history") == 11
    assert history_timeline(f"{folder}{name}-{sha1}.zst") == 0


HISTORY = "1\t0/5000000\tno recovery target specified\n\n2\t0/6000A00\tbefore 2026-11-23 05:00:00+00\n"


def test_a_line_of_timelines() -> None:
    line = Line.parse(3, HISTORY)
    assert line == Line(timeline=3, switches=((1, parse_lsn("0/5000000")), (2, parse_lsn("0/6000A00"))))
    # What timeline 1 wrote up to the switch is part of the past, what it wrote afterwards is not.
    assert line.holds(1, parse_lsn("0/5000000"))
    assert not line.holds(1, parse_lsn("0/5000001"))
    assert line.holds(2, parse_lsn("0/6000000"))
    assert not line.holds(2, parse_lsn("0/7000000"))
    assert line.holds(3, parse_lsn("F/0"))
    assert not line.holds(4, 0)


def test_each_segment_is_read_from_the_timeline_that_recovery_takes_it_from() -> None:
    line = Line.parse(3, HISTORY)
    # The switch at 0/5000000 lies at the very start of segment 5: that segment is already timeline 2's.
    needed = [segment.name() for segment in line.needed(3, 7)]
    assert needed == [
        "000000010000000000000003",
        "000000010000000000000004",
        "000000020000000000000005",
        "000000030000000000000006",
        "000000030000000000000007",
    ]
