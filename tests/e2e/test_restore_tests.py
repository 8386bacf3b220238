"""Restore tests that outgrow a function: handed over by its own code, held as Jobs of the templates, and on record."""

from collections.abc import Generator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from aivo_backup.catalog.records import Purpose, Restore
from aivo_backup.composition import App
from aivo_backup.errors import AccessDeniedError
from aivo_backup.policy.environment import BackupKind, Component, Environment
from aivo_backup.policy.names import MINIO_DATA_PREFIX, restore_test_job
from aivo_backup.stores.eks import ClusterApi
from lambdas.verify_restore.handler import handler
from sandbox.cluster.provisioner import connect
from sandbox.plan import register
from tests.e2e.world import NAMESPACE, World
from tests.unit.test_handlers import Context

TERABYTE = 10**12
DISPATCH = ("Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
TEMPLATE = f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
INVALID = 422
RESTORING = {Component.POSTGRES: "fetch", Component.MINIO: "objects", Component.OPENSEARCH: "restore"}
"""The phase in which the data come back."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The function's app: an environment whose stores have outgrown it, its cluster, and no store."""

    environment: Environment
    cluster: ClusterApi

    def cluster_jobs(self) -> ClusterApi:
        return self.cluster


@dataclass(frozen=True, kw_only=True)
class Held:
    """A restore test that was handed over: its Job, how that ended, and what it left on record."""

    job: str
    outcome: str
    log: str
    records: list[Restore]


@pytest.fixture(scope="module")
def function(world: World) -> ClusterApi:
    """The API as the function sees it, with what the program registers where a cluster is named."""
    registered = register("local", overrides={"aivo-backup:cluster": {"name": "sandbox"}}).resources
    objects = [one.inputs for one in registered if one.type.startswith("kubernetes:") and "dispatch" in one.name]
    assert sorted(one["kind"] for one in objects) == sorted(DISPATCH)
    world.kubectl.apply(objects)
    return connect(world.kubectl.place.dispatch_kubeconfig)


@pytest.fixture(scope="module")
def points(world: World) -> None:
    """A recovery point of every component, taken now where there is none."""
    missing = set(Component) - {point.component for point in world.points()}
    full = [one for one in world.app.environment.backups if one.kind is not BackupKind.INCREMENTAL]
    jobs = [world.start(one.name) for one in full if one.component in missing]
    assert [world.ended(job) for job in jobs] == ["Complete"] * len(jobs)


def hand_over(world: World, function: ClusterApi, *components: Component) -> dict[Component, str]:
    """Calls the function's handler once for each component, and answers the Jobs that it made."""
    environment = world.app.environment
    outgrown = replace(
        environment,
        postgres=replace(environment.postgres, size_bytes=TERABYTE),
        minio=replace(environment.minio, size_bytes=TERABYTE),
        opensearch=replace(environment.opensearch, size_bytes=TERABYTE),
    )
    app = cast("App", Elsewhere(environment=outgrown, cluster=function))
    due = datetime.now(UTC).replace(microsecond=0).isoformat()

    def opened(_variables: object, *, outside: bool) -> App:
        assert outside
        return app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdas.invocation.open_environment", opened)
        answers = {each: handler({"component": each.value, "scheduled_for": due}, Context()) for each in components}
    assert all(answer["started"] for answer in answers.values())
    return {component: str(answer["name"]) for component, answer in answers.items()}


def on_record(world: World, component: Component, *, since: datetime) -> list[Restore]:
    """The restore tests of a component that began after a moment."""
    found = world.app.catalog.restores(component, since=since)
    return [record for record in found if record.purpose is Purpose.TEST]


@pytest.fixture(scope="module")
def held(world: World, function: ClusterApi, points: None) -> dict[Component, Held]:
    """One of each component, side by side."""
    _ = points
    begun = datetime.now(UTC)
    jobs = hand_over(world, function, *Component)
    return {
        component: Held(
            job=job,
            outcome=world.ended(job),
            log=world.logs(job),
            records=on_record(world, component, since=begun),
        )
        for component, job in jobs.items()
    }


@pytest.mark.parametrize("component", Component)
def test_a_restore_test_is_held_by_a_job_and_is_on_record(held: Mapping[Component, Held], component: Component) -> None:
    one = held[component]
    assert one.outcome == "Complete", one.log
    (record,) = one.records
    assert record.passed, record
    assert record.loss_seconds is not None
    measured = {phase.name: phase.seconds for phase in record.phases}
    assert measured[RESTORING[component]] > 0
    assert sum(measured.values()) <= record.seconds


def test_the_volume_of_a_restore_test_goes_with_its_job(world: World, held: Mapping[Component, Held]) -> None:
    job = held[Component.POSTGRES].job
    (pod,) = world.pods(job)
    (claim,) = (
        one
        for one in world.kubectl.get("persistentvolumeclaims", namespace=NAMESPACE)
        if one["metadata"]["name"] == f"{pod['metadata']['name']}-scratch"
    )
    volume = claim["spec"]["volumeName"]
    folder = world.kubectl.place.volumes / volume
    assert folder.is_dir()
    assert list(folder.iterdir()) == [], "the restored database is still there"
    patch = '{"spec": {"ttlSecondsAfterFinished": 0}}'
    world.kubectl("patch", "job", job, f"--namespace={NAMESPACE}", f"--patch={patch}")

    def gone() -> bool:
        volumes = {one["metadata"]["name"] for one in world.kubectl.get("persistentvolumes")}
        return volume not in volumes and not folder.exists()

    world.wait(f"volume {volume} removed", gone, seconds=60.0)
    assert not world.pods(job)


@pytest.fixture
def rotten(world: World) -> Generator[str]:
    """An object of MinIO's backup with one byte turned over at rest, while no drill reads it; it is turned back."""

    def no_drill() -> bool:
        jobs = world.kubectl.get("jobs", namespace=NAMESPACE)
        return not any(job["status"].get("active") and "drill" in job["metadata"]["name"] for job in jobs)

    world.wait("the end of the drills", no_drill)
    bucket = world.app.environment.bucket(Component.MINIO)
    pages = world.app.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=MINIO_DATA_PREFIX)
    key = next(entry.get("Key", "") for page in pages for entry in page.get("Contents", []) if entry.get("Size", 0) > 0)
    control = world.kubectl.place.sandbox.aws_control
    control.flip_byte(bucket, key)
    yield key
    control.flip_byte(bucket, key)


def test_a_corrupt_backup_is_a_failed_job_and_a_failed_test_on_record(
    world: World, function: ClusterApi, held: Mapping[Component, Held], rotten: str
) -> None:
    assert held
    begun = datetime.now(UTC)
    job = hand_over(world, function, Component.MINIO)[Component.MINIO]
    assert world.ended(job) == "Failed"
    (record,) = on_record(world, Component.MINIO, since=begun)
    assert not record.passed
    told = " ".join([record.error, *(check.detail for check in record.checks if not check.passed)])
    assert rotten.removeprefix(MINIO_DATA_PREFIX).rpartition("/")[2] in told, told


def test_who_hands_over_restore_tests_makes_no_other_job(world: World, function: ClusterApi) -> None:
    backup = world.app.environment.backups[0].name
    with pytest.raises(AccessDeniedError):
        function.start_job(NAMESPACE, backup, name="a-backup")
    status, template = function.ask("GET", f"{TEMPLATE}/{restore_test_job(Component.MINIO)}")
    assert status == 200
    attempts: dict[str, tuple[Any, ...]] = {
        "a dispatched Job runs as": ("serviceAccountName", "aivo-backup-minio-expirer"),
        "a dispatched Job runs `aivo-backup verify": ("containers", 0, "args", ["prune", "minio"]),
    }

    def refused(words: str, path: tuple[Any, ...]) -> bool:
        spec = deepcopy(template["spec"]["jobTemplate"]["spec"])
        inner = spec["template"]["spec"]
        *way, last, value = path
        for step in way:
            inner = inner[step]
        inner[last] = value
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "x-"}, "spec": spec}
        status, answer = function.ask("POST", f"{JOBS}?dryRun=All", job)
        return status == INVALID and words in answer["message"]

    for words, path in attempts.items():
        # The API server takes a moment to judge by a policy that is new to it.
        world.wait(f"the refusal: {words}", lambda words=words, path=path: refused(words, path), seconds=30.0)
