"""The runbook's scenarios on real stores: from injected damage to a verified service, killed on the way and resumed."""

import os
import random
from collections.abc import Generator, Sequence
from itertools import product

import pytest

from aivo_backup.catalog.records import Purpose
from tests.sandbox.recovery_world import World, new_world

FULL = os.environ.get("AIVO_BACKUP_TESTS") == "full"
SEED = 20261125


def chosen(steps: tuple[str, ...], seed: int) -> Sequence[tuple[str, str]]:
    """Every step, killed as it begins and when it is done, in the full run; else one of them that the seed chooses."""
    kills = list(product(steps, ("begin", "finish")))
    return kills if FULL else [random.Random(seed).choice(kills)]  # noqa: S311 - a seed, no secret


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    yield from new_world(tmp_path_factory.mktemp("recovery"))


CORRUPTION = ("check-target", "stop-applications", "restore-database", "verify-database", "start-applications")


def garble(world: World) -> None:
    """Overwrites pages of the orders' table and of its index with garbage, as a failing disk does."""
    data = world.sandbox.postgres_home / "volume" / "pgdata"
    for relation in ("shop.orders", "shop.orders_pkey"):
        file = data / str(world.sql(f"SELECT pg_relation_filepath('{relation}')")[0][0])
        world.sql("CHECKPOINT")
        with file.open("r+b") as pages:
            pages.write(random.Random(SEED).randbytes(8192))  # noqa: S311 - garbage
    world.sandbox.processes.stop("postgres")  # what it had in its buffers is gone, too


@pytest.mark.parametrize(("step", "when"), chosen(CORRUPTION[1:], seed=1))
def test_a_corrupted_database_is_recovered_although_the_command_is_killed(world: World, step: str, when: str) -> None:
    world.scale_shop(1)
    world.place(5)
    orders = world.orders()
    moment = world.now()
    world.place(3)
    garble(world)
    arguments = ("recover", "database-corruption")
    world.killed_at(step, *arguments, "--execute", "--yes", "--target-time", world.at(moment), moment=when)
    world.cli(*arguments, "--execute", "--yes", expect=6)  # it is open: nothing may begin beside it
    answer = world.cli(*arguments, "--resume", "--yes").answer["recovery"]
    assert orders <= world.orders()
    assert world.shop_runs()
    (record,) = [each for each in world.app.catalog.recoveries(Purpose.RECOVERY) if each.id.startswith(answer["id"])]
    assert record.passed
    assert record.loss_seconds is not None
    assert record.loss_seconds < 60
    assert world.journals().open_ones() == []


STORAGE = (
    "stop-applications",
    "provision-storage",
    "restore-stores",
    "redirect-endpoints",
    "prepare-backups",
    "verify-stores",
    "start-applications",
)


def backed_up(world: World) -> tuple[set[int], dict[str, str], dict[str, int]]:
    """New points of a moment at which nobody writes; answers what the stores hold then."""
    world.scale_shop(0)
    world.place(3)
    world.sql("SELECT pg_switch_wal()")
    world.back_up("minio-backup-incr", "opensearch-snapshot-incr")
    state = world.orders(), world.receipts(), world.documents()
    world.scale_shop(1)
    return state


def same(world: World, state: tuple[set[int], dict[str, str], dict[str, int]]) -> None:
    """Everything that was backed up is there, and refers to what is there."""
    orders, receipts, documents = state
    assert orders <= world.orders()
    assert receipts.items() <= world.receipts().items()
    assert documents.items() <= world.documents().items()
    assert world.shop_runs()
    assert world.journals().open_ones() == []


@pytest.mark.parametrize(("step", "when"), chosen(STORAGE, seed=7))
def test_lost_storage_is_replaced_although_the_command_is_killed(world: World, step: str, when: str) -> None:
    state = backed_up(world)
    before = world.app.endpoints
    world.lose_storage()
    # Some way into the restores, which take a while; the other steps are over in no time.
    after = 0.5 if step == "restore-stores" else 0.0
    world.killed_at(step, "recover", "storage-failure", "--execute", "--yes", moment=when, after=after)
    answer = world.cli("recover", "storage-failure", "--resume", "--yes").answer
    same(world, state)
    after = world.app.endpoints
    assert (before.postgres != after.postgres, before.minio != after.minio, before.opensearch != after.opensearch) == (
        True,
        True,
        True,
    )
    assert answer["seconds"] < 180
    # Backups go on from what was restored.
    world.back_up("postgresql-backup-incr", "minio-backup-incr", "opensearch-snapshot-incr")


def test_all_is_restored_from_the_second_region_when_the_backups_are_gone_too(world: World) -> None:
    state = backed_up(world)
    world.sandbox.aws_control.replicate()
    world.lose_storage()
    world.lose_backups()
    answer = world.cli("recover", "storage-failure", "--from-replica", "--execute", "--yes").answer
    same(world, state)
    assert answer["seconds"] < 180
    record = world.app.catalog.recoveries(Purpose.RECOVERY)[-1]
    assert record.passed
    assert record.from_replica
    assert record.loss_seconds is not None
    world.back_up()


def test_refusals_change_nothing(world: World) -> None:
    world.scale_shop(0)
    before = world.tree()
    for arguments, code, said in (
        (
            ("database-corruption", "--target-time", "2020-01-01T00:00:00Z", "--execute"),
            6,
            "outside the recovery window",
        ),
        (("database-corruption", "--set", "20200101-000000F", "--execute"), 6, "no backup set 20200101-000000F"),
        (
            ("storage-failure", "--minio-point", "20200101_000000", "--execute"),
            2,
            "no recovery point '20200101_000000'",
        ),
        (
            (
                "storage-failure",
                "--resume",
            ),
            2,
            "no storage-failure recovery is open",
        ),
    ):
        finished = world.cli("recover", *arguments, *(() if "--resume" in arguments else ("--yes",)), expect=code)
        assert said in finished.line
        for journal in world.journals().open_ones():
            world.cli("recover", str(journal.entries.scenario), "--abandon")
        assert world.tree() == before
    assert "nobody is here to agree" in world.cli("recover", "database-corruption", "--execute", expect=6).line
    assert world.tree() == before
