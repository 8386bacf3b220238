"""The runbook's scenarios on real stores: from injected damage to a verified service, killed on the way and resumed."""

import os
import random
from collections.abc import Generator

import pytest

from aivo_backup.catalog.records import Purpose
from aivo_backup.recovery.journal import StepState
from tests.sandbox.recovery_world import World, new_world

FULL = os.environ.get("AIVO_BACKUP_TESTS") == "full"
SEED = 20261125


def chosen(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Every step in the full run, else one that the seed chooses."""
    return steps if FULL else (random.Random(SEED).choice(steps),)  # noqa: S311 - a seed, no secret


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


@pytest.mark.parametrize("step", chosen(CORRUPTION[1:]))
def test_a_corrupted_database_is_recovered_although_the_command_is_killed(world: World, step: str) -> None:
    world.scale_shop(1)
    world.place(5)
    orders = world.orders()
    moment = world.now()
    world.place(3)
    garble(world)
    arguments = ("recover", "database-corruption")
    killed = world.killed_at(step, *arguments, "--execute", "--yes", "--target-time", world.at(moment))
    assert killed.step(step).state is StepState.BEGUN
    world.cli(*arguments, "--execute", "--yes", expect=6)  # it is open: nothing may begin beside it
    answer = world.cli(*arguments, "--resume", "--yes").answer["recovery"]
    assert orders <= world.orders()
    assert world.shop_runs()
    (record,) = [each for each in world.app.catalog.recoveries(Purpose.RECOVERY) if each.id.startswith(answer["id"])]
    assert record.passed
    assert record.loss_seconds is not None
    assert record.loss_seconds < 60
    assert world.journals().open_ones() == []
