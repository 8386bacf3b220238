"""The CLI as a program of its own, against the shared servers, on an environment of the test's own."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.policy.environment import (
    Component,
    Environment,
    EvidenceSettings,
    LockMode,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
    RepositoryType,
)
from aivo_backup.policy.schedules import BACKUPS
from sandbox.state import ACCOUNT, REGION, Sandbox


@dataclass(frozen=True, kw_only=True)
class Finished:
    code: int
    line: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Cli:
    """`aivo-backup` on one environment. ``files`` are the settings' files, which a test may change."""

    folder: Path
    variables: Mapping[str, str]

    def call(self, *arguments: str, prefix: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Runs the program, whatever it answers."""
        program = str(Path(sys.executable).with_name("aivo-backup"))
        return subprocess.run(
            [*prefix, program, *arguments],
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run(self, *arguments: str, prefix: tuple[str, ...] = ()) -> Finished:
        """Runs the program, which says one line when it fails, and none when it does not."""
        done = self.call(*arguments, prefix=prefix)
        assert "Traceback" not in done.stderr + done.stdout
        told = [line for line in done.stderr.splitlines() if line.startswith("aivo-backup: ")]
        assert len(told) == (0 if done.returncode == 0 else 1), done.stderr
        return Finished(code=done.returncode, line="".join(told), err=done.stderr)

    def edit(self, file: str, **changes: object) -> None:
        path = self.folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def records(self, sandbox: Sandbox) -> list[str]:
        listing = sandbox.aws().client("s3").list_objects_v2(Bucket=f"compliance-{self.folder.name}")
        return [entry.get("Key", "") for entry in listing.get("Contents", [])]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    """The CLI on a new environment, with buckets and a key of its own, and the shared servers' endpoints."""
    s3, kms = sandbox.aws().client("s3"), sandbox.aws().client("kms")
    name = secrets.token_hex(6)
    folder = tmp_path / name
    folder.mkdir()
    buckets = {component.value: f"{component.value}-{name}" for component in Component}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.create_bucket(Bucket=f"compliance-{name}", ObjectLockEnabledForBucket=True)
    key = kms.create_key()["KeyMetadata"].get("Arn", "")
    environment = Environment(
        name="local",
        region=REGION,
        account_id=ACCOUNT,
        buckets=buckets,
        keys=dict.fromkeys([*buckets, "compliance"], key),
        evidence=EvidenceSettings(bucket=f"compliance-{name}", lock_mode=LockMode.GOVERNANCE, lock_days=1),
        postgres=PostgresSettings(host="postgres", sidecar_host="postgres"),
        minio=MinioSettings(endpoint="https://minio", buckets=("no-such-bucket",)),
        opensearch=OpenSearchSettings(
            endpoint="https://opensearch", repository_type=RepositoryType.FS, fs_location="/snapshots"
        ),
        backups=BACKUPS,
    )
    (folder / "settings.json").write_text(json.dumps(environment.to_json()))
    shutil.copy(sandbox.endpoints_file, folder / "endpoints.json")
    shutil.copytree(sandbox.secrets, folder / "secrets")
    variables = {
        "AIVO_BACKUP_SETTINGS": str(folder / "settings.json"),
        "AIVO_BACKUP_ENDPOINTS": str(folder / "endpoints.json"),
        "AIVO_BACKUP_SECRETS": str(folder / "secrets"),
        "AIVO_BACKUP_STATE": str(folder / "state"),
        **sandbox.aws_files,
    }
    return Cli(folder=folder, variables=variables)
