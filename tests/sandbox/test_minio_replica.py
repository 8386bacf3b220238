"""MinIO's backups are gone at home: objects come back from the second region's copy, as a person asks for them."""

import json
import secrets
from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.errors import ExitCode
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, make_cli
from tests.sandbox.second_region import copy_to, wipe
from tests.sandbox.test_minio import erase, minio_store

THERE = "us-west-2"
COPIED = {"kept/one": b"one", "kept/large": bytes(6 * 1024 * 1024), "kept/changed": b"as copied"}


@pytest.fixture
def bucket(sandbox: Sandbox) -> Generator[str]:
    """A source bucket with objects in it, and one for heartbeats."""
    source = minio_store(sandbox).client
    name = f"r{secrets.token_hex(5)}"
    for each in (name, f"{name}-heartbeat"):
        source.create_bucket(Bucket=each)
    source.put_object(Bucket=f"{name}-heartbeat", Key="heartbeat.json", Body=b'{"at": "2026-01-01T00:00:00Z"}')
    for key, body in COPIED.items():
        source.put_object(Bucket=name, Key=key, Body=body)
    yield name
    for each in (name, f"{name}-heartbeat"):
        erase(source, each)


@pytest.fixture
def cli(sandbox: Sandbox, bucket: str, tmp_path: Path) -> Cli:
    """An environment with a second region: buckets and a key there, and replication of backups and records."""
    cli = make_cli(sandbox, tmp_path)
    held = json.loads((cli.folder / "settings.json").read_text())
    cli.edit("settings.json", minio={**held["minio"], "buckets": [bucket], "heartbeat_bucket": f"{bucket}-heartbeat"})
    there = sandbox.aws(THERE)
    key = there.client("kms").create_key()["KeyMetadata"].get("Arn", "")
    homes = {"minio": held["buckets"]["minio"], "compliance": held["evidence"]["bucket"]}
    for home in homes.values():
        copy_to(sandbox.aws().client("s3"), home, there=there, bucket=f"{home}-there", key=key)
    copies = {use: f"{home}-there" for use, home in homes.items()}
    cli.edit("settings.json", replica={"region": THERE, "buckets": copies, "keys": dict.fromkeys(copies, key)})
    return cli


def test_lost_objects_come_back_from_the_copy_alone(sandbox: Sandbox, cli: Cli, bucket: str) -> None:
    source, home = minio_store(sandbox).client, sandbox.aws().client("s3")
    settings = json.loads((cli.folder / "settings.json").read_text())
    assert cli.run("backup", "minio", "--type", "full").code == 0
    sandbox.aws_control.replicate()
    (copied,) = json.loads(cli.call("points", "minio", "--json").stdout)
    # What is backed up after the last replication is at home alone, and goes with it.
    source.put_object(Bucket=bucket, Key="kept/changed", Body=b"changed since")
    assert cli.run("backup", "minio", "--type", "full").code == 0
    for lost in (settings["buckets"]["minio"], settings["evidence"]["bucket"]):
        wipe(home, lost)
    for key in COPIED:
        source.delete_object(Bucket=bucket, Key=key)
    restore = ("restore", "minio", "--bucket", bucket)
    assert cli.run(*restore, "--yes").code != ExitCode.DONE

    plan = json.loads(cli.call(*restore, "--from-replica", "--plan", "--json").stdout)
    assert (plan["request"]["point"], plan["changes"]) == (copied["id"], {"create": len(COPIED)})
    assert "Contents" not in source.list_objects_v2(Bucket=bucket), "a plan changes nothing"
    done = cli.call(*restore, "--from-replica", "--yes", "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    answer = json.loads(done.stdout)
    assert answer["passed"]
    assert answer["restore"]["recovery_point"] == copied["id"]
    found = {key: source.get_object(Bucket=bucket, Key=key)["Body"].read() for key in COPIED}
    assert found == COPIED
    # Its record is filed at home, whose bucket is empty and there.
    assert any("/restore/" in key for key in cli.records(sandbox))
