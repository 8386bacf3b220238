"""Part of the data is lost on real stores: rows, objects and documents, and what is gone as a whole."""

from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.catalog.lease import RESTORE
from aivo_backup.catalog.records import Purpose
from aivo_backup.policy.environment import Component
from aivo_backup.stores.process import run
from tests.sandbox.recovery_world import World, backed_up, chosen, new_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    yield from new_world(tmp_path_factory.mktemp("partial"))


PARTIAL = ("restore-staging", "find-scope", "extract-lost", "import-lost", "verify-consistency", "remove-staging")


@pytest.mark.parametrize(("step", "when"), chosen(PARTIAL, seed=9))
def test_what_is_lost_in_part_comes_back_and_nothing_else_changes(world: World, step: str, when: str) -> None:
    orders, receipts, documents = backed_up(world)
    moment = world.now()
    world.scale_shop(0)
    world.place(4)  # newer than the moment: production goes on
    gone = sorted(orders)[10:30]
    first, last, kept = gone[0], gone[-1], sorted(orders)[0]
    keys = [f"{order // 100:05d}/{order:08d}.txt" for order in gone]
    world.sql(f"DELETE FROM shop.orders WHERE id BETWEEN {first} AND {last}")  # noqa: S608 - numbers
    for key in keys[:7]:
        world.app.minio_source.delete_object(Bucket="receipts", Key=key)
    for order in gone[:5]:
        world.app.opensearch_cluster.delete("orders", "_doc", str(order), what="test")
    # Written since: each is in the way of what the moment had, and stays. It differs from what an earlier test wrote.
    total = 1000 + len(orders)
    world.sql(f"UPDATE shop.orders SET total = {total} WHERE id = {kept}")  # noqa: S608
    world.app.minio_source.put_object(Bucket="receipts", Key=keys[8], Body=f"a receipt over {total}".encode())
    world.app.opensearch_cluster.put("orders", "_doc", str(gone[9]), what="test", body={"total": total})
    left = world.orders(), world.receipts(), world.documents()
    arguments = ("recover", "partial-loss")
    world.killed_at(step, *arguments, "--target-time", world.at(moment), "--execute", "--yes", moment=when)
    finished = world.cli(*arguments, "--resume", "--yes")
    assert world.orders() == left[0] | set(gone)
    assert world.receipts() == {**left[1], **{key: receipts[key] for key in keys[:7]}}
    assert world.documents() == {**left[2], **{str(order): documents[str(order)] for order in gone[:5]}}
    assert world.sql(f"SELECT total FROM shop.orders WHERE id = {kept}") == [(total,)]  # noqa: S608
    recovery = finished.answer["recovery"]
    assert all(check["passed"] for check in recovery["checks"])
    listed = (world.app.state / "recoveries" / recovery["id"] / "left.csv").read_text().splitlines()
    assert sorted(listed[1:]) == sorted(
        [f"shop.orders,changed,id={kept}", f"receipts,changed,{keys[8]}", f"orders,changed,{gone[9]}"]
    )
    record = world.app.catalog.recoveries(Purpose.RECOVERY)[-1]
    assert (record.scenario, record.passed, record.resumed) == ("partial-loss", True, True)
    assert record.loss_seconds is not None
    assert record.loss_seconds < 60
    assert not [name for name in world.indices() if name.startswith("verify-")]
    assert not (world.app.state / "recoveries" / recovery["id"] / "copy").exists()
    assert world.journals().open_ones() == []


# What hangs on a table: keys of others, views, partitions, a schema with a type, a function and a sequence of its own.
SURROUNDINGS = """
CREATE TABLE shop.refunds (id int PRIMARY KEY, order_id bigint NOT NULL REFERENCES shop.orders);
CREATE TABLE shop."No Notes" (id serial PRIMARY KEY, note text);
CREATE VIEW shop.sums AS SELECT count(*) AS orders, sum(total) AS total FROM shop.orders;
CREATE MATERIALIZED VIEW shop.kept_sums AS SELECT * FROM shop.sums;
CREATE TABLE shop.events (id int, at date, order_id bigint REFERENCES shop.orders, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE shop.events_2025 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE shop.visits (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX visits_at ON shop.visits (at);
CREATE TABLE shop.visits_2025 PARTITION OF shop.visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop.visits_2026 PARTITION OF shop.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA billing;
CREATE TYPE billing.state AS ENUM ('open', 'paid');
CREATE SEQUENCE billing.numbers START 100;
CREATE FUNCTION billing.next() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('billing.numbers') $$;
CREATE TABLE billing.bills (id bigint PRIMARY KEY DEFAULT billing.next(), order_id bigint REFERENCES shop.orders,
  state billing.state NOT NULL);
CREATE VIEW shop.unpaid AS SELECT * FROM billing.bills WHERE state = 'open';
GRANT SELECT ON billing.bills TO pg_monitor;
INSERT INTO shop.events SELECT n, date '2025-12-30' + n, (SELECT min(id) FROM shop.orders) FROM generate_series(1, 5) n;
INSERT INTO shop.visits SELECT n, date '2025-12-30' + n FROM generate_series(1, 5) n;
INSERT INTO billing.bills (order_id, state) SELECT id, 'open' FROM shop.orders ORDER BY id LIMIT 3;
INSERT INTO shop.refunds SELECT n, (SELECT max(id) FROM shop.orders) FROM generate_series(1, 5) n;
"""
LOSS = """
DROP TABLE shop.orders CASCADE;
DROP TABLE shop."No Notes";
DROP TABLE shop.events;
DROP TABLE shop.visits_2026;
DROP SCHEMA billing CASCADE;
DELETE FROM shop.refunds WHERE id > 2;
"""
CLEARED = """
DROP SCHEMA billing CASCADE;
DROP TABLE shop.refunds, shop.events, shop.visits, shop."No Notes" CASCADE;
DROP MATERIALIZED VIEW shop.kept_sums;
DROP VIEW shop.sums;
"""
ROWS = {
    "shop.events": "SELECT * FROM shop.events ORDER BY id",
    "shop.visits": "SELECT * FROM shop.visits ORDER BY id",
    "shop.refunds": "SELECT * FROM shop.refunds ORDER BY id",
    "billing.bills": "SELECT id, order_id, state::text FROM billing.bills ORDER BY id",
}


def definitions(world: World) -> str:
    """Every definition of the database, as PostgreSQL's own program writes it, without its random guard."""
    login = world.app.postgres_login
    program = str(Path(world.app.environment.postgres.bin_path) / "pg_dump")
    done = run([program, *login.arguments(), "--schema-only"], environment=login.environment())
    assert done.exit_code == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if "restrict " not in line)


@pytest.mark.parametrize(
    ("step", "moment_of_it", "after"), [("extract-lost", "finish", 0.0), ("import-lost", "begin", 0.6)]
)
def test_what_is_gone_as_a_whole_comes_back_with_its_definition_and_all_that_went_along(
    world: World, step: str, moment_of_it: str, after: float
) -> None:
    world.scale_shop(0)
    world.sql(SURROUNDINGS)
    s3, cluster = world.app.minio_source, world.app.opensearch_cluster
    for bucket in ("papers", "empty-box"):
        s3.create_bucket(Bucket=bucket)
    for key in ("a", "b"):
        s3.put_object(Bucket="papers", Key=key, Body=key.encode())
    mapping = {"mappings": {"properties": {"name": {"type": "keyword"}}}}
    cluster.put("drafts", what="test", body=mapping)
    orders, _, documents = backed_up(world)
    world.scale_shop(0)
    moment = world.now()
    before, rows = definitions(world), {unit: world.sql(query) for unit, query in ROWS.items()}
    world.sql(LOSS)
    for key in ("a", "b"):
        s3.delete_object(Bucket="papers", Key=key)
    for bucket in ("papers", "empty-box"):
        s3.delete_bucket(Bucket=bucket)
    for index in ("orders", "drafts"):
        cluster.delete(index, what="test")
    arguments = ("recover", "partial-loss")
    world.killed_at(
        step, *arguments, "--target-time", world.at(moment), "--execute", "--yes", moment=moment_of_it, after=after
    )
    answer = world.cli(*arguments, "--resume", "--yes").answer["recovery"]
    checks = {check["name"]: check["passed"] for check in answer["checks"]}
    assert all(checks.values()), checks
    assert checks["views, partitions and foreign keys"]
    assert {f"nothing lost in {unit}" for unit in ("shop.No Notes", "billing.bills", "empty-box", "drafts")} <= set(
        checks
    )
    assert definitions(world) == before
    assert {unit: world.sql(query) for unit, query in ROWS.items()} == rows
    assert world.sql("SELECT orders FROM shop.kept_sums") == [(len(orders),)], "a materialized view is filled anew"
    assert world.orders() == orders
    assert world.documents() == documents
    assert {item.get("Key") for item in s3.list_objects_v2(Bucket="papers").get("Contents", [])} == {"a", "b"}
    assert "empty-box" in {bucket.get("Name") for bucket in s3.list_buckets()["Buckets"]}
    assert cluster.get("drafts", "_mapping", what="test")["drafts"] == mapping
    world.sql(CLEARED)
    cluster.delete("drafts", what="test")
    for key in ("a", "b"):
        s3.delete_object(Bucket="papers", Key=key)
    for bucket in ("papers", "empty-box"):
        s3.delete_bucket(Bucket=bucket)


def test_a_tie_that_cannot_be_put_back_fails_the_recovery_until_a_person_has_mended_it(world: World) -> None:
    world.scale_shop(0)
    world.sql("CREATE TABLE shop.refunds (id int PRIMARY KEY, order_id bigint NOT NULL REFERENCES shop.orders)")
    world.sql("INSERT INTO shop.refunds SELECT 1, max(id) FROM shop.orders")
    world.sql("CREATE VIEW shop.refunded AS SELECT * FROM shop.refunds")
    moment = world.now()
    world.sql("DROP TABLE shop.refunds CASCADE")
    world.sql("DELETE FROM shop.orders WHERE id = (SELECT max(id) FROM shop.orders)")
    asked = ("recover", "partial-loss", "--target-time", world.at(moment), "--table", "shop.refunds")
    held = world.app.lease(Component.POSTGRES, purpose=RESTORE)
    with held.held("a restore on another machine"):
        refused = world.cli(*asked, "--execute", "--yes", expect=6)
    assert "restore" in refused.line
    # Given up half way, it leaves nothing, and production as it was.
    before = definitions(world)
    world.killed_at("extract-lost", *asked, "--execute", "--yes", moment="finish")
    world.cli("recover", "partial-loss", "--abandon", "--yes")
    assert definitions(world) == before
    # Only the refunds were asked for: the order that they speak of stays away, and with it their foreign key.
    failed = world.cli(*asked, "--execute", "--yes", expect=5)
    assert "shop.refunds has no foreign key refunds_order_id_fkey again" in failed.line
    assert "violates foreign key constraint" in failed.err, "PostgreSQL's reason"
    assert world.sql("SELECT count(*) FROM shop.refunded") == [(1,)]
    world.sql("DELETE FROM shop.refunds")
    world.sql(
        "ALTER TABLE shop.refunds ADD CONSTRAINT refunds_order_id_fkey FOREIGN KEY (order_id) REFERENCES shop.orders"
    )
    still = world.cli("recover", "partial-loss", "--resume", "--yes", expect=5)
    assert "1 are missing" in still.line
    world.cli("recover", "partial-loss", "--abandon", "--yes")
    world.sql("DROP TABLE shop.refunds CASCADE")


def test_a_table_that_somebody_has_made_anew_meanwhile_is_not_written_over(world: World) -> None:
    world.scale_shop(0)
    world.sql("CREATE TABLE shop.first (id int PRIMARY KEY); CREATE TABLE shop.second (id int PRIMARY KEY)")
    moment = world.now()
    world.sql("DROP TABLE shop.first, shop.second")
    tables = ("--table", "shop.first", "--table", "shop.second")
    asked = ("recover", "partial-loss", "--target-time", world.at(moment), *tables)
    world.killed_at("import-lost", *asked, "--execute", "--yes")
    world.sql("CREATE TABLE shop.first (another int)")
    refused = world.cli("recover", "partial-loss", "--resume", "--yes", expect=6)
    assert "shop.first was gone as a whole and is there again, alone" in refused.line
    assert world.sql("SELECT to_regclass('shop.second')::text") == [(None,)]
    world.cli("recover", "partial-loss", "--abandon", "--yes")
    world.sql("DROP TABLE shop.first")


def test_a_table_is_named_with_its_schema_and_must_have_been_there(world: World) -> None:
    before = world.tree()
    moment = world.at(world.now())
    asked = ("recover", "partial-loss", "--target-time", moment, "--execute", "--yes")
    assert "--table orders names no schema" in world.cli(*asked, "--table", "orders", expect=2).line
    unknown = world.cli(*asked, "--table", "shop.no_such", expect=2)
    assert "production has no table shop.no_such" in unknown.err
    assert "no table is called shop.no_such" in unknown.line
    world.cli("recover", "partial-loss", "--abandon", "--yes")
    assert world.tree() == before
