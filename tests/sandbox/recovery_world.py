"""A whole environment of the tests' own that they may destroy: stores, provisioned, with an application and backups."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aivo_backup import composition
from aivo_backup.composition import App
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.journal import Journal, Journals, StepState
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.postgres.archive import connect
from sandbox import application, damage, lifecycle, pods, servers
from sandbox.applications import SHOP, SandboxApplications
from sandbox.state import HOME_VARIABLE, Sandbox

# The command, which kills itself at a step. Watched from outside, a step of a few milliseconds would be missed.
_DYING = """
import os, signal, sys, threading
from aivo_backup.cli import main
from aivo_backup.recovery.journal import Journal

step, moment, after = sys.argv.pop(1), sys.argv.pop(1), float(sys.argv.pop(1))
begin, finish = Journal.begin, Journal.finish

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying_begin(journal, name):
    begin(journal, name)
    if (name, moment) == (step, "begin"):
        threading.Timer(after, die).start() if after else die()

def dying_finish(journal, name, **how):
    if (name, moment) == (step, "finish"):
        die()
    finish(journal, name, **how)

Journal.begin, Journal.finish = dying_begin, dying_finish
main()
"""

FULL = os.environ.get("AIVO_BACKUP_TESTS") == "full"
CRONJOBS = ("postgresql-backup-full", "minio-backup", "opensearch-snapshot")


@dataclass(frozen=True, kw_only=True)
class Finished:
    code: int
    answer: Any
    err: str

    @property
    def line(self) -> str:
        return next((line for line in self.err.splitlines() if line.startswith("aivo-backup: ")), "")


class World:
    """The environment; ``home`` is its sandbox's folder."""

    def __init__(self, home: Path) -> None:
        self.sandbox = Sandbox(home=home)
        self.applications = SandboxApplications(self.sandbox)

    @property
    def app(self) -> App:
        """Opened anew each time: endpoints move."""
        return lifecycle.open_app()

    @cached_property
    def program(self) -> str:
        return str(Path(sys.executable).with_name("aivo-backup"))

    def cli(self, *arguments: str, expect: int = 0) -> Finished:
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err + out, err
        assert process.returncode == expect, err
        return Finished(code=process.returncode, answer=json.loads(out) if out.strip() else None, err=err)

    def begin(self, *arguments: str, program: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*(program or (self.program,)), *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def killed_at(self, step: str, *arguments: str, moment: str = "begin", after: float = 0.0) -> Journal:
        """Runs a recovery that dies as by ``kill -9`` in a step.

        Args:
            moment: ``begin``: when the step was noted as begun; ``finish``: when its work is done and not noted yet.
            after: seconds from that moment to the kill.
        """
        self.dies_in(step, *arguments, moment=moment, after=after)
        (journal,) = self.journals().open_ones()
        assert journal.step(step).state is StepState.BEGUN
        return journal

    def dies_in(self, step: str, *arguments: str, moment: str = "begin", after: float = 0.0) -> None:
        """Likewise of a drill, whose journal is nobody else's."""
        process = self.begin(*arguments, program=(sys.executable, "-c", _DYING, step, moment, str(after)))
        out, err = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, f"it never came to {step}: {out}{err}"

    def journals(self) -> Journals:
        return Journals(self.app.state / "recoveries")

    def orders(self) -> set[int]:
        return {int(str(row[0])) for row in self.sql("SELECT id FROM shop.orders")}

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with connect(self.app.postgres_login) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def receipts(self) -> dict[str, str]:
        """ETag by key."""
        return {item.key: item.etag for item in S3ObjectStore(self.app.minio_source).objects(application.BUCKET)}

    def documents(self, index: str = application.INDEX) -> dict[str, int]:
        """Total by id of every order's document."""
        cluster = self.app.opensearch_cluster
        cluster.post(index, "_refresh", what="test")
        hits = cluster.post(index, "_search", what="test", body={"size": 10_000})["hits"]["hits"]
        return {hit["_id"]: hit["_source"]["total"] for hit in hits}

    def indices(self) -> list[str]:
        rows = self.app.opensearch_cluster.get("_cat", "indices", what="test", params={"format": "json"})
        return [str(row["index"]) for row in rows]

    def back_up(self, *names: str) -> None:
        for name in names or CRONJOBS:
            done = pods.run_cronjob(self.sandbox, name)
            assert done.exit_code == 0, done.tail()

    def place(self, number: int) -> None:
        application.place_orders(self.app, number, now=composition.utc_now())

    def lose_storage(self) -> None:
        damage.lose_storage(self.sandbox)

    def lose_backups(self) -> None:
        """The primary backup buckets are gone, every version of them."""
        s3 = self.sandbox.aws().client("s3")
        for component in Component:
            bucket = self.app.environment.bucket(component)
            while True:
                page = s3.list_object_versions(Bucket=bucket)
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                if not found:
                    break
                for item in found:
                    s3.delete_object(
                        Bucket=bucket,
                        Key=item.get("Key", ""),
                        VersionId=item.get("VersionId", ""),
                        BypassGovernanceRetention=True,
                    )
            s3.delete_bucket(Bucket=bucket)

    def scale_shop(self, replicas: int) -> None:
        self.applications.scale(SHOP, replicas, print)

    def shop_runs(self) -> bool:
        return self.sandbox.processes.find("shop-0") is not None

    def now(self) -> datetime:
        time.sleep(0.05)
        return composition.utc_now()

    def at(self, moment: datetime) -> str:
        return format_time(moment)

    def tree(self) -> Mapping[str, object]:
        """What a refusal must not change: scales, journals, the database's directories, and what the stores hold."""
        volume = self.sandbox.postgres_home / "volume"
        return {
            "scales": self.applications.scales(),
            "open": [journal.entries.id for journal in self.journals().open_ones()],
            "volume": sorted(path.name for path in volume.iterdir()),
            "receipts": self.receipts(),
            "documents": self.documents(),
        }


def new_world(home: Path) -> Generator[World]:
    """Brings the environment up; its variables lead there while the tests of one module run."""
    patch = pytest.MonkeyPatch()
    patch.setenv(HOME_VARIABLE, str(home))
    patch.setenv("PGBACKREST_JOB_RETRY", "0")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_PROFILE"):
        # Set first, so that undoing removes what opening the environment in this process puts there.
        patch.setenv(name, "")
        patch.delenv(name)
    world = World(home)
    try:
        servers.up(world.sandbox)
        lifecycle.provision(world.sandbox, overrides={"aivo-backup:recovery": {"references": application.REFERENCES}})
        lifecycle.initialise(world.sandbox, progress=lambda _line: None)
        application.prepare(world.app)
        world.place(60)
        lifecycle.start_agent(world.sandbox, heartbeat_seconds=1.0)
        world.scale_shop(1)
        time.sleep(1.5)  # a heartbeat in every store
        world.back_up()
        yield world
    finally:
        servers.down(world.sandbox)
        patch.undo()


def garble(world: World) -> None:
    """Overwrites pages of the orders' table and of its index with garbage, as a failing disk does."""
    data = world.sandbox.postgres_home / "volume" / "pgdata"
    for relation in ("shop.orders", "shop.orders_pkey"):
        file = data / str(world.sql(f"SELECT pg_relation_filepath('{relation}')")[0][0])
        world.sql("CHECKPOINT")
        with file.open("r+b") as pages:
            pages.write(random.Random(20261125).randbytes(8192))  # noqa: S311 - garbage
    world.sandbox.processes.stop("postgres")  # what it had in its buffers is gone, too


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


def chosen(steps: tuple[str, ...], seed: int) -> Sequence[tuple[str, str]]:
    """Every step, killed as it begins and when it is done, in the full run; else one of them that the seed chooses."""
    kills = list(product(steps, ("begin", "finish")))
    return kills if FULL else [random.Random(seed).choice(kills)]  # noqa: S311 - a seed, no secret
