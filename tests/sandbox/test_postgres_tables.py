"""One table or schema of a moment: beside the live one, swapped with it, merged into it, or refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aivo_backup.errors import BackupError, RefusedError, UsageError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.port import Stopwatch, silent
from aivo_backup.stores.postgres.extraction import Wanted
from aivo_backup.stores.postgres.table_restore import TablePlan, TableRequest, TableRestore, TableResult, Then
from aivo_backup.stores.postgres.targets import Target, TargetKind
from tests.sandbox.postgres_lab import Lab

_BEFORE = (
    "CREATE TABLE customers (id bigserial PRIMARY KEY, name text UNIQUE)",
    "CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint REFERENCES customers, cents int CHECK (cents > 0))",
    "CREATE TABLE viewed (id int PRIMARY KEY)",
    "CREATE VIEW views AS SELECT * FROM viewed",
    "CREATE TABLE plain (what text)",
    'CREATE SCHEMA "Shop, 2"',
    "CREATE TYPE \"Shop, 2\".mood AS ENUM ('good', 'bad')",
    'CREATE TABLE "Shop, 2".items (id int PRIMARY KEY, mood "Shop, 2".mood)',
    'CREATE VIEW "Shop, 2".good AS SELECT * FROM "Shop, 2".items',
    'CREATE TABLE "Shop, 2".parts (item int REFERENCES "Shop, 2".items, PRIMARY KEY (item))',
    "CREATE TABLE measured (at date, v int, PRIMARY KEY (at, v)) PARTITION BY RANGE (at)",
    "CREATE TABLE measured_26 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 100) i",
    "INSERT INTO orders SELECT i, i % 100 + 1, i FROM generate_series(1, 1000) i",
    "INSERT INTO viewed VALUES (1)",
    "INSERT INTO \"Shop, 2\".items SELECT i, 'good' FROM generate_series(1, 50) i",
    'INSERT INTO "Shop, 2".parts SELECT i FROM generate_series(1, 50) i',
    "SELECT setval('orders_id_seq', 1000), setval('customers_id_seq', 100)",
)
_AFTER = (
    "DELETE FROM orders WHERE id <= 300",
    "UPDATE orders SET cents = 77 WHERE id = 500",
    "INSERT INTO orders (customer, cents) SELECT 1, 5 FROM generate_series(1, 10)",
    'DELETE FROM "Shop, 2".parts',
    "UPDATE \"Shop, 2\".items SET mood = 'bad'",
)


@pytest.fixture(scope="module")
def target(lab: Lab) -> Target:
    lab.sql(*_BEFORE)
    lab.backup(BackupKind.FULL)
    lab.note("the moment")
    good = lab.now()
    lab.sql(*_AFTER)
    lab.archive_all()
    return Target(kind=TargetKind.TIME, time=good)


@pytest.fixture
def work(lab: Lab) -> TableRestore:
    return TableRestore(store=lab.store(), login=lab.login)


def plan(work: TableRestore, request: TableRequest) -> TablePlan:
    return work.plan(request, now=datetime.now(UTC))


def run(work: TableRestore, request: TableRequest) -> TableResult:
    return work.run(request, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=silent)


def schemas(lab: Lab) -> set[str]:
    return {str(row[0]) for row in lab.sql("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")}


def test_a_table_comes_beside_the_live_one_and_is_swapped_on_a_second_call(
    lab: Lab, work: TableRestore, target: Target
) -> None:
    request = TableRequest(target=target, wanted=Wanted(tables=("orders",)))
    assert target.time is not None
    schema = f"restored_{target.time:%Y%m%d_%H%M%S}"
    planned = plan(work, request)
    assert (planned.schema, planned.extracted, planned.then) == (schema, False, Then.BESIDE)
    assert planned.size_bytes > 0
    live = lab.sql("SELECT count(*), sum(cents) FROM orders")
    result = run(work, request)
    assert result.rows == {f"{schema}.orders": 1000}
    assert all(check.passed for check in result.checks), result.checks
    assert lab.sql(f"SELECT count(*), sum(cents) FROM {schema}.orders") == [(1000, 500500)]  # noqa: S608 - our own name
    assert lab.sql("SELECT count(*), sum(cents) FROM orders") == live
    with pytest.raises(RefusedError, match=rf"production has a schema {schema} already.*--into"):
        plan(work, request)
    with pytest.raises(RefusedError, match=rf"a schema {schema}, and public.customers is not in it"):
        plan(work, replace(request, wanted=Wanted(tables=("customers",))))

    swapping = replace(request, then=Then.SWAP)
    assert plan(work, swapping).extracted
    swapped = run(work, swapping)
    assert lab.sql("SELECT count(*), sum(cents) FROM orders") == [(1000, 500500)]
    assert lab.sql(f"SELECT count(*), sum(cents) FROM {swapped.set_aside}.orders") == live  # noqa: S608
    assert schema not in schemas(lab)
    # It is a whole table: its key, its check, its foreign key, and a sequence that gives out no number twice.
    constraints = lab.sql("SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass ORDER BY 1")
    assert constraints == [("orders_cents_check",), ("orders_customer_fkey",), ("orders_pkey",)]
    lab.sql("INSERT INTO orders (customer, cents) VALUES (1, 1)")
    assert lab.sql("SELECT max(id) > 1010 FROM orders") == [(True,)]


def test_lost_rows_are_merged_and_live_ones_stay(lab: Lab, work: TableRestore, target: Target) -> None:
    lab.sql("DELETE FROM orders WHERE id BETWEEN 401 AND 450", "UPDATE orders SET cents = 88 WHERE id = 600")
    request = TableRequest(target=target, wanted=Wanted(tables=("public.orders",)), into="side", then=Then.MERGE)
    result = run(work, request)
    assert result.merged == {"public.orders": 50}
    assert lab.sql("SELECT cents FROM orders WHERE id IN (420, 600) ORDER BY id") == [(420,), (88,)]
    assert lab.sql("SELECT count(*) FROM side.orders") == [(1000,)]
    lab.sql("DROP SCHEMA side CASCADE")


def test_a_schema_is_swapped_whole(lab: Lab, work: TableRestore, target: Target) -> None:
    wanted = Wanted(schema="Shop, 2")
    result = run(work, TableRequest(target=target, wanted=wanted, into="Beside; it", then=Then.SWAP))
    assert result.rows == {"Beside; it.items": 50, "Beside; it.parts": 50}
    assert lab.sql('SELECT count(*), min(mood::text) FROM "Shop, 2".items') == [(50, "good")]
    assert lab.sql('SELECT count(*) FROM "Shop, 2".parts') == [(50,)]
    assert lab.sql(f"SELECT min(mood::text) FROM {result.set_aside}.items") == [("bad",)]  # noqa: S608
    assert "Beside; it" not in schemas(lab)


def test_what_holds_on_to_a_live_table_is_named_and_nothing_is_done(
    lab: Lab, work: TableRestore, target: Target
) -> None:
    before = schemas(lab)
    cases = {
        "customers": r"held by foreign key orders_customer_fkey of .*orders.*--merge",
        "viewed": r"held by view views",
        "measured_26": r"held by inheritance between measured_26 and measured",
    }
    for name, message in cases.items():
        request = TableRequest(target=target, wanted=Wanted(tables=(name,)), then=Then.SWAP)
        with pytest.raises(RefusedError, match=message):
            run(work, request)
    assert schemas(lab) == before


def test_unknown_and_unsuitable_names_are_told(lab: Lab, work: TableRestore, target: Target) -> None:
    before = schemas(lab)
    cases = {
        "no_such": r"there was no table public.no_such then: known: ",
        "nowhere.orders": r"there was no schema nowhere with a table then: known: .*public",
        "measured": r"public.measured is partitioned: extract its schema",
    }
    for name, message in cases.items():
        with pytest.raises(UsageError, match=message):
            run(work, TableRequest(target=target, wanted=Wanted(tables=(name,))))
    late = Target(kind=TargetKind.TIME, time=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(RefusedError, match="outside the recovery window"):
        plan(work, TableRequest(target=late, wanted=Wanted(tables=("orders",))))
    with pytest.raises(UsageError, match="of several schemas"):
        Wanted(tables=("a.x", "b.y"))
    with pytest.raises(UsageError, match="give either --table"):
        Wanted()
    assert schemas(lab) == before
    assert not list((lab.home / "state" / "copies").iterdir())


def test_a_merge_without_a_key_or_a_live_table_is_refused(lab: Lab, work: TableRestore, target: Target) -> None:
    request = TableRequest(target=target, wanted=Wanted(tables=("plain",)), into="side", then=Then.MERGE)
    with pytest.raises(RefusedError, match=r"public.plain has no primary key"):
        run(work, request)
    lab.sql("DROP TABLE plain")
    with pytest.raises(RefusedError, match=r"no table public.plain to merge into: --swap puts it in its place"):
        run(work, request)
    run(work, replace(request, then=Then.SWAP))
    assert lab.sql("SELECT count(*) FROM plain") == [(0,)]


def test_a_failed_import_or_swap_changes_nothing(lab: Lab, work: TableRestore, target: Target) -> None:
    # A parent is gone that rows of the moment name: the swap gives its foreign key back, and is taken back itself.
    lab.sql("DELETE FROM orders WHERE customer = 7", "DELETE FROM customers WHERE id = 7")
    live = lab.sql("SELECT count(*) FROM orders")
    before = schemas(lab)
    request = TableRequest(target=target, wanted=Wanted(tables=("orders",)), into="kept", then=Then.SWAP)
    with pytest.raises(BackupError, match=r"was not swapped: .*orders_customer_fkey.*what was extracted is in kept"):
        run(work, request)
    assert lab.sql("SELECT count(*) FROM orders") == live
    assert schemas(lab) == before | {"kept"}
    # psql stops at the first error, and pg_dump that ends early is not taken for a whole one.
    broken = replace(work, store=lab.store(replace(lab.settings, bin_path=str(truncating(lab)))))
    with pytest.raises(BackupError, match="pg_dump of cut: it broke: nothing was imported"):
        run(broken, TableRequest(target=target, wanted=Wanted(tables=("orders",)), into="cut"))
    assert "cut" not in schemas(lab)


def truncating(lab: Lab) -> Path:
    """PostgreSQL's programs, with a pg_dump that writes half of a dump and fails."""
    folder = lab.home / "programs"
    folder.mkdir()
    for program in Path(lab.settings.bin_path).iterdir():
        (folder / program.name).symlink_to(program)
    dump = folder / "pg_dump"
    dump.unlink()
    dump.write_text(
        "#!/bin/sh\necho 'CREATE SCHEMA cut; CREATE TABLE cut.orders (id int);'\necho it broke >&2\nexit 1\n"
    )
    dump.chmod(0o755)
    return folder
