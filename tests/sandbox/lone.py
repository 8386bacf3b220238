"""A provisioned sandbox of a test's own: the AWS API with IAM enforced, MinIO, and no other server."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sandbox.provision import Provisioner, Summary
from sandbox.servers.aws_api import AwsApi
from sandbox.servers.credentials import generate
from sandbox.servers.minio import Minio
from sandbox.state import Sandbox

JOB = "probe"
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """The sandbox, and what its first provisioning came to."""

    sandbox: Sandbox
    first: Summary


def provision_lone(home: Path) -> Provisioned:
    """Starts the two servers in ``home`` and provisions them. The caller ends them with ``processes.stop_all``."""
    sandbox = start_lone(home)
    return Provisioned(sandbox=sandbox, first=Provisioner(sandbox).provision(NOW))


def start_lone(home: Path) -> Sandbox:
    """Starts the two servers in ``home``, with nothing in them. The caller ends them likewise."""
    sandbox = Sandbox(home=home)
    generate(sandbox, now=datetime.now(UTC))
    sandbox.choose_ports(keep=frozenset())
    for server in (AwsApi(sandbox), Minio(sandbox)):
        server.up()
    endpoints = {
        "aws": sandbox.aws_url,
        "minio": sandbox.minio_url,
        "agent": f"localhost:{sandbox.ports.agent}",
        "ca_file": str(sandbox.ca_file),
    }
    sandbox.endpoints_file.write_text(json.dumps(endpoints), encoding="utf-8")
    return sandbox


def write_job(
    sandbox: Sandbox, script: str, *, deadline: int = 60, template: str = "minio-backup", **changes: Any
) -> None:
    """A CronJob like the provisioned ones, which runs a shell script. ``changes`` go into its pod's spec."""
    manifest: dict[str, Any] = yaml.safe_load(
        (sandbox.home / "kubernetes" / f"cronjob-{template}.yaml").read_text(encoding="utf-8")
    )
    manifest["metadata"]["name"] = JOB
    job: dict[str, Any] = manifest["spec"]["jobTemplate"]["spec"]
    job["activeDeadlineSeconds"] = deadline
    pod: dict[str, Any] = job["template"]["spec"]
    container: dict[str, Any] = pod["containers"][0]
    container |= {"command": ["sh", "-c"], "args": [script]}
    container |= changes.pop("container", {})
    pod |= changes
    (sandbox.home / "kubernetes" / f"cronjob-{JOB}.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
