"""Where a recovery may stop, and what it starts from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aivo_backup.errors import RefusedError, UsageError
from aivo_backup.stores.postgres.archive import ArchivedSegment
from aivo_backup.stores.postgres.targets import Target, TargetKind, Window, choose_set, usable_sets
from aivo_backup.stores.postgres.wal import Line, parse_lsn
from tests.unit.postgres.samples import backup_set

DAY = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD = backup_set("OLD", DAY, stop="0/3000050")
NEW = backup_set("NEW", DAY + 4 * HOUR, stop="0/9000050")
NEWEST = ArchivedSegment(
    name="00000001000000000000000C", sha1="", key="archive/x/15-1/0000000100000000/k", stored=DAY + 6 * HOUR
)
WINDOW = Window(line=Line(timeline=1), sets=(OLD, NEW), newest=NEWEST)


def at(moment: datetime, label: str = "") -> Target:
    return Target(kind=TargetKind.TIME, time=moment, label=label)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (Target(), "NEW"),
        (at(DAY + HOUR), "OLD"),
        (at(DAY + 5 * HOUR), "NEW"),
        (at(DAY), "OLD"),
        # Of a set's end only the whole second is known, so an older set is the safe choice where there is one.
        (at(DAY + 4 * HOUR + timedelta(milliseconds=500)), "OLD"),
        (at(DAY + 4 * HOUR + timedelta(seconds=1)), "NEW"),
        (at(DAY + 5 * HOUR, label="OLD"), "OLD"),
        (at(DAY + 6 * HOUR + timedelta(milliseconds=999)), "NEW"),
        (Target(kind=TargetKind.LSN, value="0/9000050"), "NEW"),
        (Target(kind=TargetKind.LSN, value="0/900004F"), "OLD"),
        (Target(kind=TargetKind.LSN, value="0/D000000"), "NEW"),
        (Target(kind=TargetKind.XID, value="744"), "OLD"),
        (Target(kind=TargetKind.NAME, value="before upgrade"), "OLD"),
        (Target(kind=TargetKind.XID, value="744", label="NEW"), "NEW"),
        (Target(kind=TargetKind.SET, label="OLD"), "OLD"),
    ],
)
def test_recovery_starts_from_the_newest_set_that_ends_before_the_target(target: Target, label: str) -> None:
    assert choose_set(target, WINDOW).label == label


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (at(DAY - timedelta(milliseconds=1)), "2026-11-22T01:00:00.000000Z to 2026-11-22T07:00:01.000000Z"),
        (at(DAY - HOUR), "outside the recovery window"),
        (at(DAY + 7 * HOUR), "outside the recovery window"),
        (Target(kind=TargetKind.LSN, value="0/300004F"), "0/3000050 to 0/D000000"),
        (Target(kind=TargetKind.LSN, value="0/D000001"), "outside the recovery window"),
        (Target(kind=TargetKind.SET, label="OTHER"), "choose one of OLD, NEW"),
        (at(DAY + HOUR, label="NEW"), "name an older set"),
        (Target(kind=TargetKind.LSN, value="0/4000000", label="NEW"), "name an older set"),
    ],
)
def test_what_lies_outside_is_refused_with_what_lies_inside(target: Target, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        choose_set(target, WINDOW)


def test_sets_of_an_abandoned_timeline_are_not_usable_on_the_new_one() -> None:
    line = Line(timeline=2, switches=((1, parse_lsn("0/5000000")),))
    on_two = backup_set("TWO", DAY + 5 * HOUR, stop="0/6000000", timeline=2)
    usable = usable_sets((on_two, NEW, OLD), line, "15-1")
    assert [backup.label for backup in usable] == ["OLD", "TWO"]
    with pytest.raises(RefusedError, match="no backup set"):
        usable_sets((NEW,), line, "15-1")


def test_damaged_sets_and_those_of_another_database_are_not_usable() -> None:
    sets = (replace(OLD, damaged=True), replace(NEW, archive_id="14-1"))
    with pytest.raises(RefusedError, match="take a backup first"):
        usable_sets(sets, Line(timeline=1), "15-1")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target(kind=TargetKind.TIME),
        lambda: Target(kind=TargetKind.TIME, time=DAY.replace(tzinfo=None)),
        lambda: Target(kind=TargetKind.LSN, value="12"),
        lambda: Target(kind=TargetKind.XID, value="-1"),
        lambda: Target(kind=TargetKind.NAME, value=""),
        lambda: Target(kind=TargetKind.NAME, value="x' --"),
        lambda: Target(kind=TargetKind.SET),
    ],
)
def test_a_malformed_target_is_a_usage_error(make: "type[Target]") -> None:
    with pytest.raises(UsageError):
        make()


def test_the_options_of_pgbackrest() -> None:
    line = Line(timeline=3)
    moment = datetime(2026, 8, 20, 14, 0, 0, 250, tzinfo=UTC)
    assert at(moment).options(line) == (
        "--type=time",
        "--target=2026-08-20 14:00:00.000250+00",
        "--target-action=promote",
        "--target-timeline=3",
    )
    assert Target().options(line) == ("--type=default", "--target-timeline=3")
    # pgBackRest 2.45 refuses --target-timeline with --type=immediate.
    assert "--target-timeline=3" not in Target(kind=TargetKind.SET, label="OLD").options(line)
    assert Target(kind=TargetKind.NAME, value="n").options(line)[:2] == ("--type=name", "--target=n")
