"""Rows that differ from a moment: found, brought back, saved before a restore would lose them, and put back after."""

import json
from collections.abc import Generator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, UsageError, VerificationError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import Difference, silent
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.difference import TableDifference, snapshots
from aivo_backup.stores.postgres.private_copy import PrivateCopy
from aivo_backup.stores.postgres.rescue import MANIFEST, import_bundle
from aivo_backup.stores.postgres.row_recovery import RowRecovery
from aivo_backup.stores.postgres.targets import Target, TargetKind
from tests.sandbox.postgres_lab import Lab

_TABLES = (
    "CREATE TABLE customers (id bigserial PRIMARY KEY, name text UNIQUE, seen timestamptz)",
    "CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, cents numeric(12,2),"
    " doubled numeric GENERATED ALWAYS AS (cents * 2) STORED)",
    'CREATE TABLE "Odd, name" (a varchar(20), "b""c" timestamp(3), v jsonb, PRIMARY KEY (a, "b""c"))',
    "CREATE TABLE events (what text, n int)",
    "CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)",
    "CREATE TABLE untouched (id int PRIMARY KEY, filler text)",
    "INSERT INTO customers SELECT i, 'customer ' || i, now() FROM generate_series(1, 25000) i",
    "INSERT INTO orders (id, customer, cents) SELECT i, i % 25000 + 1, i * 1.5 FROM generate_series(1, 30000) i",
    """INSERT INTO "Odd, name" SELECT 'k' || i % 3, '2026-01-01'::timestamp + i * interval '1 s',
       jsonb_build_object('i', i) FROM generate_series(1, 200) i""",
    "INSERT INTO events SELECT 'twice', i / 2 FROM generate_series(1, 100) i",
    "INSERT INTO untouched SELECT i, repeat('x', 50) FROM generate_series(1, 50000) i",
    "SELECT setval('customers_id_seq', 25000), setval('orders_id_seq', 30000)",
    "CREATE TABLE audit (what text)",
    "CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NEW; END $$",
    "CREATE TRIGGER audited AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION audited()",
)
_DAMAGE = (
    "DELETE FROM orders WHERE id BETWEEN 12001 AND 12100 OR customer = 77",
    "DELETE FROM customers WHERE id = 77",
    "UPDATE orders SET cents = 0 WHERE id IN (5, 29999)",
    "INSERT INTO orders (customer, cents) SELECT 1, 9 FROM generate_series(1, 40)",
    """DELETE FROM "Odd, name" WHERE a = 'k1'""",
    "DELETE FROM events WHERE n = 7",
    "INSERT INTO events VALUES ('new', 1), ('new', 1)",
    "CREATE TABLE later (id int PRIMARY KEY, said text)",
    "INSERT INTO later VALUES (1, NULL), (2, ''), (3, 'a,b\"c')",
)


@pytest.fixture(scope="module")
def moment(lab: Lab) -> Target:
    """Production at the moment, and the damage after it."""
    lab.sql(*_TABLES)
    lab.backup(BackupKind.FULL)
    lab.note("the moment")
    good = lab.now()
    lab.sql(*_DAMAGE)
    lab.archive_all()
    return Target(kind=TargetKind.TIME, time=good)


@pytest.fixture(scope="module")
def copy(lab: Lab, moment: Target) -> Generator[PrivateCopy]:
    with lab.private_copy(moment) as copied:
        yield copied


@pytest.fixture
def recovery(lab: Lab, copy: PrivateCopy) -> RowRecovery:
    return RowRecovery(copy=copy, connect=partial(connect, lab.login))


def by_unit(found: tuple[Difference, ...]) -> dict[str, tuple[int, int, int]]:
    return {each.unit: (each.lost, each.newer, each.changed) for each in found if not each.equal}


def test_every_row_that_differs_is_counted_and_the_first_are_named(recovery: RowRecovery) -> None:
    said: list[str] = []
    found = recovery.compare(progress=said.append)
    assert by_unit(found) == {
        "public.orders": (102, 40, 2),
        "public.customers": (1, 0, 0),
        "public.Odd, name": (67, 0, 0),
        "public.events": (2, 2, 0),
        "public.later": (0, 3, 0),
        "public.audit": (0, 42, 0),
    }
    assert {"public.untouched", "public.notes"} <= {each.unit for each in found if each.equal}
    examples = {each.unit: each.examples for each in found}
    assert examples["public.customers"] == ("id=77",)
    assert examples["public.orders"][0].startswith("id=")
    assert any(said_line.startswith("public.cache is unlogged") for said_line in said)
    assert by_unit(recovery.compare(["customers"], progress=silent)) == {"public.customers": (1, 0, 0)}
    with pytest.raises(UsageError, match=r"there is no table public.order: known: "):
        recovery.compare(["order"], progress=silent)


def test_only_ranges_that_differ_are_fetched(recovery: RowRecovery) -> None:
    """Ten ranges of which two differ: the keys of two are fetched, and of an equal table none."""
    with (
        recovery.copy.server.connect() as ours,
        recovery.connect() as theirs,
        snapshots(ours, theirs) as pair,
    ):
        tables, _ = pair.tables()

        def parts(unit: str, rows: int) -> list[int]:
            found = TableDifference(pair=pair, table=tables[unit], range_rows=rows).parts()
            return [len(part.lost) + len(part.newer) + len(part.changed) for part in found]

        assert parts("public.untouched", 1000) == []
        assert sum(parts("public.orders", 3000)) == 144
        assert sum(parts("public.orders", 500)) == 144
        assert sum(parts("public.Odd, name", 10)) == 67
        assert sum(parts("public.events", 10)) == 4


def test_what_was_written_after_the_moment_is_saved_and_put_back(
    lab: Lab, recovery: RowRecovery, tmp_path: Path
) -> None:
    folder = tmp_path / "rescue"
    bundle = recovery.export_newer(folder, after="the moment", now=datetime.now(UTC), progress=silent)
    assert bundle.items == 42 + 2 + 3 + 42
    assert set(bundle.units) == {"public.orders", "public.events", "public.later", "public.audit"}
    assert bundle.bytes == sum(file.stat().st_size for file in folder.iterdir())
    with pytest.raises(RefusedError, match="is not empty"):
        recovery.export_newer(folder, after="the moment", now=datetime.now(UTC), progress=silent)
    # Into a database of the moment: the copy itself, which may be written to.
    with recovery.copy.server.connect() as target:
        with pytest.raises(RefusedError, match=r"production has no table public.later: create it"):
            import_bundle(folder, target, progress=silent)
        target.execute("CREATE TABLE later (id int PRIMARY KEY, said text)")
        done = {each.unit: each for each in import_bundle(folder, target, overwrite=True, progress=silent)}
        assert (done["public.orders"].rows, done["public.orders"].overwritten) == (40, 2)
        assert target.execute("SELECT cents FROM orders WHERE id = 5").fetchone() == (0,)
        assert target.execute("SELECT * FROM later ORDER BY id").fetchall() == [(1, None), (2, ""), (3, 'a,b"c')]
        assert target.execute("SELECT nextval('orders_id_seq') > 30040").fetchone() == (True,)
        # Back to the moment, for the tests after this one.
        target.execute("DROP TABLE later")
        target.execute("DELETE FROM orders WHERE id > 30000")
        target.execute("DELETE FROM events WHERE what = 'new'")
        target.execute("UPDATE orders SET cents = id * 1.5 WHERE id IN (5, 29999)")
        target.execute("DELETE FROM audit")
    file = next(folder.glob("*orders.csv"))
    file.write_bytes(file.read_bytes().replace(b"9.00", b"8.00", 1))
    with (
        lab.connect() as production,
        pytest.raises(VerificationError, match=r"orders.csv .* is not as it was exported"),
    ):
        import_bundle(folder, production, progress=silent)
    (folder / MANIFEST).unlink()
    with lab.connect() as production, pytest.raises(ConfigurationError, match="holds no rescued rows"):
        import_bundle(folder, production, progress=silent)


def test_a_lost_row_without_its_parent_brings_nothing_back(lab: Lab, recovery: RowRecovery) -> None:
    before = lab.sql("SELECT count(*) FROM orders")
    with pytest.raises(BackupError, match=r"production refused the rows.*foreign key"):
        recovery.bring_back(["orders"], progress=silent)
    assert lab.sql("SELECT count(*) FROM orders") == before


def test_lost_rows_come_back_and_newer_ones_stay(lab: Lab, recovery: RowRecovery) -> None:
    quiet = lab.sql("SELECT count(*) FROM audit")
    done = {each.unit: each for each in recovery.bring_back(progress=silent) if each.rows}
    assert {unit: each.rows for unit, each in done.items()} == {
        "public.orders": 102,
        "public.customers": 1,
        "public.Odd, name": 67,
        "public.events": 2,
    }
    left = by_unit(recovery.compare(progress=silent))
    assert left == {
        "public.orders": (0, 40, 2),
        "public.events": (0, 2, 0),
        "public.later": (0, 3, 0),
        "public.audit": (0, 42, 0),
    }
    assert lab.sql("SELECT count(*) FROM audit") == quiet, "what has happened already does not happen again"
    assert lab.sql("SELECT tgenabled FROM pg_trigger WHERE tgname = 'audited'") == [("O",)]
    assert lab.sql("SELECT count(*) FROM orders WHERE doubled = cents * 2") == lab.sql("SELECT count(*) FROM orders")
    recovery.bring_back(["orders"], overwrite_changed=True, progress=silent)
    assert by_unit(recovery.compare(["orders"], progress=silent)) == {"public.orders": (0, 40, 0)}
    # A number that came back is not given out again.
    lab.sql("INSERT INTO orders (customer, cents) VALUES (1, 1)")


def test_a_lost_row_whose_unique_value_is_taken_is_told(lab: Lab, recovery: RowRecovery) -> None:
    lab.sql(
        "DELETE FROM orders WHERE customer = 99",
        "DELETE FROM customers WHERE id = 99",
        "UPDATE customers SET name = 'customer 99' WHERE id = 98",
    )
    (done,) = recovery.bring_back(["customers"], progress=silent)
    assert (done.rows, done.conflicting) == (0, 1)


def test_a_dropped_table_is_not_brought_back_row_by_row(lab: Lab, recovery: RowRecovery) -> None:
    lab.sql("DROP TABLE untouched")
    with pytest.raises(
        RefusedError, match=r"extract it whole: `aivo-backup restore postgres --table public.untouched`"
    ):
        recovery.bring_back(["untouched"], progress=silent)
    (found,) = recovery.compare(["untouched"], progress=silent)
    assert (found.lost, found.examples) == (50000, ("the whole table",))


def test_the_manifest_of_a_bundle_says_what_it_is(recovery: RowRecovery, tmp_path: Path) -> None:
    recovery.export_newer(tmp_path / "b", ["later"], after="a moment", now=datetime.now(UTC), progress=silent)
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    assert manifest["after"] == "a moment"
    assert manifest["tables"][0]["columns"] == ["id", "said"]
    assert (tmp_path / "b" / manifest["tables"][0]["file"]).read_text().splitlines()[0] == '"id","said"'


def test_a_side_that_fails_is_one_line(recovery: RowRecovery) -> None:
    def away() -> "psycopg.Connection[tuple[object, ...]]":
        connection = recovery.connect()
        connection.close()
        return connection

    with pytest.raises(BackupError, match="comparing rows: the connection is closed"):
        RowRecovery(copy=recovery.copy, connect=away).compare(progress=silent)
