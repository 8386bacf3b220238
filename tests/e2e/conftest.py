"""One real cluster for all tests of this folder, in a sandbox of its own under ``build/e2e``."""

import json
import os
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aivo_backup.policy.environment import BackupKind, Component
from sandbox import servers
from sandbox.cluster import lifecycle
from sandbox.cluster.kubectl import Kubectl
from sandbox.state import CHECKOUT, HOME_VARIABLE, Sandbox
from tests.e2e.shop import an_application
from tests.e2e.stacks import applied
from tests.e2e.world import NAMESPACE, Evicted, Killed, Scheduled, World

# What one module leaves to be done in its own time, a later one looks at: nobody waits while there is work.
_ORDER = (
    "test_doctor",
    "test_local",
    "test_stacks",
    "test_restore_tests",
    "test_restorers",
    "test_drills",
    "test_restore_in_cluster",
    "test_late",
    "test_lost_storage",
)
_LAST = "test_up_and_down"

# A bucket, and an object in it.
_LARGE = "large"
_LARGE_BYTES = 300_000_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules of this folder in their order; those that it does not name come before the last."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    if item.path.parent != Path(__file__).parent:
        return -1
    name = item.path.stem
    return len(_ORDER) + (name == _LAST) if name not in _ORDER else _ORDER.index(name)


@pytest.fixture(scope="session")
def kubectl() -> Generator[Kubectl]:
    """The cluster, up from nothing with empty stores. AIVO_BACKUP_E2E_KEEP=1 takes one that is up, and leaves it up."""
    os.environ[HOME_VARIABLE] = str(CHECKOUT / "build" / "e2e")
    sandbox = Sandbox()
    keep = bool(os.environ.get("AIVO_BACKUP_E2E_KEEP"))
    if not (keep and lifecycle.is_up(sandbox)):
        lifecycle.down(sandbox)
        servers.reset(sandbox)
    try:
        yield lifecycle.up(sandbox, progress=print)
    finally:
        if not keep:
            lifecycle.down(sandbox)
            servers.down(sandbox)
        del os.environ[HOME_VARIABLE]


@pytest.fixture(scope="session")
def world(kubectl: Kubectl) -> World:
    """What the tests ask of the cluster and of the catalog."""
    return World(kubectl)


@pytest.fixture(scope="session")
def refused_restore_test(world: World) -> str:
    """A restore test's Job whose pod is not let in. The agent gives it a minute and looks once a minute: ask for it
    early, and look at what became of it late."""
    return world.start_spoilt("restore-test-minio", "e2e-refused-restore-test", pod={"hostNetwork": True})


@pytest.fixture(scope="session")
def refused(world: World) -> tuple[str, str]:
    """A CronJob, and a Job of it from when its template broke the namespace's policy, which it no longer does."""
    name = next(
        one.name
        for one in world.app.environment.backups
        if one.component is Component.OPENSEARCH and one.kind is BackupKind.INCREMENTAL
    )

    def patch(on_host: bool) -> None:
        spec = {"jobTemplate": {"spec": {"template": {"spec": {"hostNetwork": on_host or None}}}}}
        text = json.dumps({"spec": spec})
        world.kubectl("patch", "cronjob", name, f"--namespace={NAMESPACE}", f"--patch={text}")

    patch(on_host=True)
    try:
        job = world.start(name)
    finally:
        patch(on_host=False)
    return name, job


@pytest.fixture(scope="session")
def taken(kubectl: Kubectl) -> Generator[dict[str, "Future[None]"]]:
    """What becomes of the objects of the other stacks, while the first Jobs run."""
    with applied(kubectl) as stacks:
        yield stacks


@pytest.fixture(scope="session")
def outcomes(world: World, refused: tuple[str, str], taken: dict[str, "Future[None]"]) -> dict[str, str]:
    """Every CronJob that is registered, run once by hand: those of one store in turn, stores side by side."""
    assert refused[1]
    assert taken
    # As PostgreSQL's own image makes them: whatever restores in a container reads this one too.
    world.psql("DROP DATABASE IF EXISTS english")
    world.psql("CREATE DATABASE english TEMPLATE template0 LOCALE 'en_US.utf8'")
    by_store: dict[str, list[str]] = {}
    for cronjob in world.cronjobs():
        # By the name and not by the label, which is the role's: who expires a store's points wants its lease too.
        by_store.setdefault(cronjob.partition("-")[0], []).append(cronjob)

    def run(names: list[str]) -> dict[str, str]:
        # By name, which puts a full backup before its increments.
        return {name: world.ended(world.start(name)) for name in sorted(names)}

    with ThreadPoolExecutor(len(by_store)) as pool:
        return {name: how for part in pool.map(run, by_store.values()) for name, how in part.items()}


@pytest.fixture(scope="session")
def long_backup(world: World, outcomes: dict[str, str]) -> str:
    """A CronJob whose backup takes long enough to be ended in the middle of it. It is MinIO's: the other tests stop and
    restore the database meanwhile."""
    assert outcomes
    s3 = world.app.minio_source
    s3.create_bucket(Bucket=_LARGE)
    s3.put_object(Bucket=_LARGE, Key=_LARGE, Body=bytes(_LARGE_BYTES))
    return next(
        one.name
        for one in world.app.environment.backups
        if one.component is Component.MINIO and one.kind is BackupKind.FULL
    )


@pytest.fixture(scope="session")
def evicted(world: World, long_backup: str) -> Evicted:
    """A backup that was told to go half way, as by a drained node, and is on record."""
    before = len(world.runs(long_backup))
    job = world.start_at_work(long_backup)
    begun = time.monotonic()
    world.kubectl("delete", "job", job, f"--namespace={NAMESPACE}", "--wait=false")
    world.wait(f"{job} on record", lambda: len(world.runs(long_backup)) > before)
    return Evicted(seconds=time.monotonic() - begun, runs=world.runs(long_backup)[before:])


@pytest.fixture(scope="session")
def killed(world: World, long_backup: str, evicted: Evicted) -> Killed:
    """A backup that was killed half way; its Job makes a second attempt, which the other tests do not wait for."""
    assert evicted
    before = len(world.runs(long_backup))
    job = world.start_at_work(long_backup)
    world.kill(job)
    s3 = world.app.minio_source
    s3.delete_object(Bucket=_LARGE, Key=_LARGE)
    s3.delete_bucket(Bucket=_LARGE)
    return Killed(cronjob=long_backup, job=job, before=before)


@pytest.fixture(scope="session")
def scheduled(world: World, outcomes: dict[str, str]) -> Scheduled:
    """A CronJob that is due once, by its own schedule, in a minute or two."""
    assert outcomes
    name = next(one.name for one in world.app.environment.backups if one.component is Component.OPENSEARCH)
    own = world.kubectl.get("cronjob", name, namespace=NAMESPACE)["spec"]["schedule"]
    before = len(world.runs(name))
    # The controller counts from when it sees the schedule: the minute must not be over by then.
    due = datetime.now(UTC) + timedelta(seconds=75)
    world.schedule(name, f"{due.minute} {due.hour} * * *")
    return Scheduled(cronjob=name, schedule=own, before=before)


@pytest.fixture(scope="session")
def drills(world: World, outcomes: dict[str, str]) -> dict[str, str]:
    """The Jobs of the drills, by CronJob: all at once, beside the other tests, since none may be in another's way."""
    assert outcomes, "they restore what the backups left"
    world.replicate()  # the quarterly one reads the second region
    return {name: world.start(name) for name in world.cronjobs(drills=True)}


@pytest.fixture(scope="module")
def database(world: World) -> None:
    """A database with a full backup, and a table that is worth it."""
    world.full_backup()
    world.psql("CREATE TABLE IF NOT EXISTS kept (name text PRIMARY KEY)")


@pytest.fixture(scope="module")
def shop(world: World) -> Generator[None]:
    """An application that uses the stores, by its label, with a scale of its own."""
    with an_application(world):
        yield
