"""The third chapter: damage, and restores to exactly the moment that was asked for."""

import time

import psycopg

from aivo_backup.policy.codec import format_time
from sandbox.data.opensearch import MAINTAINERS, PACKAGES
from sandbox.data.postgres import start_writer, stop_writer
from sandbox.demo.backups import ORDERS, Taken, write_orders
from sandbox.demo.world import World

_LATER = "after the moment that is restored"


def dropped_table(world: World) -> None:
    """A table dropped; point-in-time recovery in place to just before it."""
    tell = world.narrator
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        before = _counts(connection)
    with tell.step("the application loses a table: DROP TABLE reference.countries"):
        time.sleep(1.0)  # so that "just before" is a moment of its own
        moment = world.now()
        time.sleep(0.5)
        with psycopg.connect(world.dsn, autocommit=True) as connection:
            connection.execute("drop table reference.countries cascade")
        write_orders(world, _LATER, 50)
    stop_writer(world.sandbox.processes)
    target = format_time(moment)
    with tell.step("refused: a moment outside the recovery window, and nothing is changed"):
        world.cli("restore", "postgres", "--target-time", "2020-01-01T00:00:00Z", "--in-place", "--plan", expect=6)
    with tell.step(f"recover to {target}, in place"):
        answer = world.cli("restore", "postgres", "--target-time", target, "--in-place", "--stop", "--yes")
        record = world.restored(answer)
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        after = _counts(connection)
        later = connection.execute(f"select count(*) from {ORDERS} where note = %s", [_LATER]).fetchone()  # noqa: S608
    tell.expect(after["reference.countries"] == before["reference.countries"], "the table is back, with every row")
    tell.expect(after[ORDERS] == before[ORDERS], f"all {after[ORDERS]} orders are there, those in WAL alone included")
    tell.expect(later == (0,), "nothing that was written later is there")
    tell.expect(
        record.loss_seconds is not None and record.loss_seconds <= world.app.environment.objectives.rpo_seconds,
        f"measured loss: {record.loss_seconds:.1f} s" if record.loss_seconds is not None else "a loss was measured",
    )
    start_writer(
        world.sandbox.processes, world.dsn, postgres_bin=world.sandbox.tools.postgres_bin, log=world.log("writer")
    )


def deleted_objects(world: World, taken: Taken) -> None:
    """A prefix deleted and an object overwritten; one key back, then the bucket as of the first point."""
    tell, source = world.narrator, world.app.minio_source
    first = taken.minio[0]
    keys = sorted(taken.first_objects)
    overwritten = next(key for key in keys if key.startswith("usr/"))
    prefix = keys[len(keys) // 2].rsplit("/", 1)[0] + "/"
    with tell.step(f"somebody deletes documents/{prefix} and overwrites documents/{overwritten}"):
        gone = [key for key in world.objects("documents") if key.startswith(prefix)]
        for key in gone:
            source.delete_object(Bucket="documents", Key=key)
        source.put_object(Bucket="documents", Key=overwritten, Body=b"not what it was")
        tell.fact(f"{len(gone)} objects deleted, one overwritten")
    with tell.step("restore that one object, as of the first point"):
        answer = world.cli(
            "restore", "minio", "--point", first.id, "--bucket", "documents", "--key", overwritten,
            "--overwrite-newer", "--yes",
        )  # fmt: skip
        world.restored(answer)
    tell.expect(world.objects("documents").get(overwritten) == taken.first_objects[overwritten], "its content is back")
    with tell.step("restore the whole bucket to exactly the first point"):
        answer = world.cli(
            "restore", "minio", "--point", first.id, "--bucket", "documents", "--overwrite-newer", "--exact", "--yes"
        )
        world.restored(answer)
    tell.expect(
        world.objects("documents") == taken.first_objects,
        f"all {len(taken.first_objects):,} objects are as at {first.id}: keys, content, types and metadata",
    )


def deleted_indices(world: World, taken: Taken) -> None:
    """An index deleted and restored; another restored under a new name."""
    tell, client = world.narrator, world.opensearch_client
    second = taken.opensearch[1]
    counts = {index: world.documents(index) for index in (PACKAGES, MAINTAINERS)}
    with tell.step(f"somebody deletes the index {PACKAGES}"):
        client.indices.delete(index=PACKAGES)
    with tell.step("restore it"):
        world.restored(world.cli("restore", "opensearch", "--point", second.id, "--index", PACKAGES, "--yes"))
    tell.expect(world.documents(PACKAGES) == counts[PACKAGES], f"{counts[PACKAGES]:,} documents are back")
    with tell.step(f"restore {MAINTAINERS} under a new name"):
        answer = world.cli(
            "restore", "opensearch", "--point", second.id, "--index", MAINTAINERS,
            "--rename-pattern", "(.+)", "--rename-replacement", "restored-$1", "--yes",
        )  # fmt: skip
        world.restored(answer)
    tell.expect(
        world.documents(f"restored-{MAINTAINERS}") == counts[MAINTAINERS] == world.documents(MAINTAINERS),
        f"restored-{MAINTAINERS} holds {counts[MAINTAINERS]:,} documents, and {MAINTAINERS} is untouched",
    )


def _counts(connection: "psycopg.Connection[tuple[object, ...]]") -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in ("reference.countries", ORDERS):
        row = connection.execute(f"select count(*) from {table}").fetchone()  # noqa: S608 - constants
        counts[table] = int(str(row[0])) if row else 0
    return counts
