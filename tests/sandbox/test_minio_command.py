"""`aivo-backup restore minio` as a person calls it, between the sandbox's MinIO and its S3; also over a bad network."""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials

from aivo_backup.errors import AccessDeniedError, ExitCode, UnreachableError
from aivo_backup.stores.minio import LeanS3ObjectStore
from aivo_backup.stores.minio.lean import connect
from aivo_backup.stores.minio.reading import Patience
from sandbox.state import REGION, Sandbox
from tests.sandbox.faulty import Fault, FaultyProxy, Way, faulty_proxy
from tests.sandbox.minio_world import LARGE, MIB, OBJECTS, PROGRAM, World, new_world
from tests.sandbox.test_minio import aws_store, minio_store


@pytest.fixture(scope="module")
def world(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    yield from new_world(sandbox, tmp_path_factory.mktemp("command"))


@pytest.fixture
def proxy(world: World) -> Generator[FaultyProxy]:
    """Before MinIO."""
    with faulty_proxy(world.sandbox.ports.minio) as proxy:
        yield proxy


def refusing_after(asks: int, sandbox: Sandbox) -> LeanS3ObjectStore:
    """MinIO with a login that is good for so many requests and is refused from then on, as one that has run out."""
    store = minio_store(sandbox)
    left = iter(range(asks))
    key, secret = (sandbox.secret("minio-source", name) for name in ("access-key", "secret-key"))

    class Running(boto3.Session):
        def get_credentials(self) -> Any:
            return Credentials(key, secret) if next(left, None) is not None else Credentials(f"{key}-gone", secret)

    return LeanS3ObjectStore(
        store.client, session=Running(region_name=REGION), ca_file=str(sandbox.ca_file), patience=Patience(seconds=0.0)
    )


def test_a_restore_killed_half_way_blocks_nobody_and_copies_nothing_again(world: World, proxy: FaultyProxy) -> None:
    target = world.target("killed")
    world.cli.edit("endpoints.json", minio=proxy.url)
    # After half a megabyte nothing passes any more: the restore hangs in the middle, whatever the machine's speed.
    fault = Fault(way=Way.TO_SERVER, after=MIB // 2, hole=True)
    proxy.break_with(fault)
    with subprocess.Popen(
        [PROGRAM, *world.restore("--target-bucket", target, "--yes")],
        env={**os.environ, **world.cli.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert fault.struck.wait(timeout=60)
        world.cli.edit("endpoints.json", minio=world.sandbox.minio_url)
        refused = world.cli.run(*world.restore("--target-bucket", target, "--yes"))
        assert refused.code == ExitCode.REFUSED, refused.err
        assert "another restore is under way" in refused.line
        running.send_signal(signal.SIGKILL)
        running.wait()
    before = world.contents(target)
    assert 0 < len(before) <= OBJECTS
    changes = world.changes("--target-bucket", target, "--yes")
    assert changes == {"equal": len(before), "create": OBJECTS + 1 - len(before)}
    after = world.contents(target)
    assert {key: after[key] for key in before} == before, "what was right already was written again"
    assert world.bodies(target) == world.bodies(world.bucket)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(way=Way.TO_SERVER, after=100_000),
        Fault(way=Way.TO_SERVER, after=4 * MIB),
        Fault(way=Way.TO_SERVER, after=100 * MIB, drip_seconds=0.002),
    ],
    ids=["reset-in-a-small-object", "reset-in-a-part", "slow-drip"],
)
def test_what_is_written_over_a_bad_network_is_whole(world: World, proxy: FaultyProxy, fault: Fault) -> None:
    target = world.target(f"w{secrets.token_hex(3)}")
    store = world.engine(
        backup=aws_store(world.sandbox), target=minio_store(world.sandbox, endpoint=proxy.url), seconds=30
    )
    proxy.break_with(fault)
    store.restore(world.request(target))
    assert fault.struck.is_set() or fault.drip_seconds, "the fault was not met"
    assert world.bodies(target) == world.bodies(world.bucket)


@pytest.mark.parametrize("after", [200_000, 5 * MIB], ids=["in-a-small-object", "in-the-large-one"])
def test_a_backup_whose_reading_breaks_is_read_on(world: World, after: int) -> None:
    target, session = world.target(f"r{secrets.token_hex(3)}"), world.sandbox.aws()
    login = session.get_credentials()
    assert login is not None
    with faulty_proxy(world.sandbox.ports.aws) as proxy:
        backup = connect(
            proxy.url,
            key=login.access_key,
            secret=login.secret_key,
            region=REGION,
            ca_file=str(world.sandbox.ca_file),
        )
        fault = Fault(way=Way.TO_CLIENT, after=after)
        store = world.engine(backup=backup, target=minio_store(world.sandbox), seconds=30)
        proxy.break_with(fault)
        store.restore(world.request(target))
    assert fault.struck.is_set(), "the fault was not met"
    assert world.bodies(target) == world.bodies(world.bucket)


def test_a_store_that_swallows_everything_ends_in_one_line_and_nothing_half(
    world: World, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("_CONNECT_SECONDS", "_READ_SECONDS"):
        monkeypatch.setattr(f"aivo_backup.stores.minio.lean.{limit}", 3.0)
    target = world.target("hole")
    store = world.engine(
        backup=aws_store(world.sandbox), target=minio_store(world.sandbox, endpoint=proxy.url), seconds=0.5
    )
    proxy.break_with(Fault(way=Way.TO_SERVER, after=MIB // 2, hole=True))
    with pytest.raises(UnreachableError, match="timed out") as raised:
        store.restore(world.request(target))
    assert raised.value.exit_code == ExitCode.UNREACHABLE
    assert "\n" not in str(raised.value)
    assert_some_and_whole(world, target)
    monkeypatch.undo()
    proxy.break_with(None)
    store = world.engine(
        backup=aws_store(world.sandbox), target=minio_store(world.sandbox, endpoint=proxy.url), seconds=30
    )
    store.restore(world.request(target))
    assert world.bodies(target) == world.bodies(world.bucket)


def test_a_login_that_ends_half_way_ends_in_one_line_and_nothing_half(world: World) -> None:
    target = world.target("login")
    store = world.engine(backup=aws_store(world.sandbox), target=refusing_after(20, world.sandbox), seconds=30)
    with pytest.raises(AccessDeniedError) as raised:
        store.restore(world.request(target))
    assert raised.value.exit_code == ExitCode.UNREACHABLE
    assert "\n" not in str(raised.value)
    assert_some_and_whole(world, target)
    assert "equal" in world.changes("--target-bucket", target, "--yes")
    assert world.bodies(target) == world.bodies(world.bucket)


def assert_some_and_whole(world: World, target: str) -> None:
    there, origin = world.bodies(target), world.bodies(world.bucket)
    assert 0 < len(there) < len(origin)
    assert there == {key: origin[key] for key in there}


def test_newer_objects_are_told_rescued_taken_back_and_brought_in_again(world: World, tmp_path: Path) -> None:
    target, folder = world.target("rescue"), tmp_path / "bundle"
    assert world.changes("--target-bucket", target, "--prefix", "folder-0/", "--yes") == {"create": OBJECTS // 3}
    world.source.put_object(Bucket=target, Key="folder-0/0000", Body=b"newer", ContentType="text/plain")
    world.source.put_object(Bucket=target, Key="folder-0/extra", Body=b"after the point", Metadata={"by": "somebody"})
    before = world.bodies(target)
    asked = ("--target-bucket", target, "--prefix", "folder-0/", "--overwrite-newer", "--exact")
    planned = world.cli.run(*world.restore(*asked, "--plan"))
    assert "2 objects written after the point would be lost; --rescue FOLDER exports them first" in planned.err
    assert "replace-newer  folder-0/0000" in planned.err
    assert world.bodies(target) == before, "a plan changes nothing"
    unread = world.cli.run(*world.restore(*asked))
    assert (unread.code, world.bodies(target)) == (ExitCode.REFUSED, before), unread.err
    done = world.cli.call(*world.restore(*asked, "--rescue", str(folder), "--yes"))
    assert done.returncode == 0, done.stderr
    assert f"2 objects written after the point: exported to {folder}" in done.stdout
    assert len(world.contents(target)) == OBJECTS // 3
    again = world.cli.run(*world.restore(*asked, "--rescue", str(folder), "--yes"))
    assert (again.code, "is not empty" in again.line) == (ExitCode.REFUSED, True), again.err
    back = world.answer("restore", "minio", "--import", str(folder), "--overwrite", "--yes")
    assert back["changes"] == {"create": 1, "replace": 1}
    assert world.bodies(target) == before
    assert world.source.head_object(Bucket=target, Key="folder-0/extra")["Metadata"] == {"by": "somebody"}


def test_a_point_by_time_into_another_store_by_its_login(world: World) -> None:
    target = world.target("elsewhere")
    to = ("--to-endpoint", world.sandbox.minio_url, "--to-login", "elsewhere")
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    chosen = ("--at", now, "--glob", "folder-1/*[02468]", "--target-bucket", target)
    assert world.changes(*chosen, *to, "--only-missing", "--yes") == {"create": OBJECTS // 6}
    wrong = world.cli.run(*world.restore("--to-endpoint", world.sandbox.minio_url, "--to-login", "nobody", "--yes"))
    assert wrong.code == ExitCode.CONFIGURATION, wrong.err


def test_an_unproven_point_is_refused_unless_told_and_nothing_is_changed(world: World) -> None:
    target = world.target("unproven")
    held = json.loads((world.cli.folder / "settings.json").read_text())
    world.cli.edit("settings.json", unproven_points="refuse")
    try:
        refused = world.cli.run(*world.restore("--key", LARGE, "--target-bucket", target, "--yes"))
        buckets = {each.get("Name") for each in world.source.list_buckets().get("Buckets", [])}
        told = world.changes("--key", LARGE, "--target-bucket", target, "--unproven", "--yes")
    finally:
        world.cli.edit("settings.json", unproven_points=held["unproven_points"])
    assert (refused.code, target in buckets) == (ExitCode.REFUSED, False), refused.err
    assert "has not passed a restore test yet" in refused.line
    assert told == {"create": 1}


@pytest.mark.parametrize(("bucket_typed", "code"), [(True, ExitCode.DONE), (False, ExitCode.REFUSED)])
def test_in_production_the_bucket_is_typed(world: World, bucket_typed: bool, code: ExitCode) -> None:
    target = world.target(f"typed-{code.value}")
    world.cli.edit("settings.json", production=True)
    person, terminal = os.openpty()
    try:
        os.write(person, f"{target if bucket_typed else 'local'}\n".encode())
        done = subprocess.run(
            [PROGRAM, *world.restore("--target-bucket", target, "--key", "folder-0/0000")],
            env={**os.environ, **world.cli.variables},
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(person)
        os.close(terminal)
        world.cli.edit("settings.json", production=False)
    assert done.returncode == code, done.stderr
    assert f"This changes {target} of local." in done.stdout + done.stderr
    assert (target in {each.get("Name") for each in world.source.list_buckets().get("Buckets", [])}) == bucket_typed


def test_a_point_past_its_retention_is_restored_as_far_as_its_versions_are_there(world: World) -> None:
    target, key = world.target("old"), "folder-2/0002"
    s3, held = world.sandbox.aws().client("s3"), json.loads((world.cli.folder / "settings.json").read_text())
    asked = ("--point", world.point, "--prefix", "folder-2/", "--target-bucket", target)
    former = world.source.get_object(Bucket=world.bucket, Key=key)["Body"].read()
    world.source.put_object(Bucket=world.bucket, Key=key, Body=b"newer")
    try:
        assert world.cli.run("backup", "minio").code == 0
        # What the bucket's lifecycle does thirty days after the newer backup: the retention is shortened to nothing.
        backup, stored = f"minio-{world.cli.folder.name}", f"minio-data/{world.bucket}/{key}"
        for version in s3.list_object_versions(Bucket=backup, Prefix=stored).get("Versions", []):
            if not version.get("IsLatest"):
                s3.delete_object(Bucket=backup, Key=stored, VersionId=version.get("VersionId", ""))
        world.cli.edit("settings.json", minio={**held["minio"], "retention_days": 0})
        listed = world.cli.call("points", "minio").stdout
        refused = world.cli.run(*world.restore(*asked, "--yes"))
        buckets = {each.get("Name") for each in world.source.list_buckets().get("Buckets", [])}
        partial = world.changes(*asked, "--partial", "--yes")
    finally:
        world.cli.edit("settings.json", minio=held["minio"])
        world.source.put_object(Bucket=world.bucket, Key=key, Body=former)
    assert f"minio {world.point} is kept past its retention" in listed
    assert (refused.code, target in buckets) == (ExitCode.REFUSED, False), refused.err
    assert f"1 objects of it have expired: {key}" in refused.line
    assert partial == {"create": OBJECTS // 3 - 1, "gone": 1}
