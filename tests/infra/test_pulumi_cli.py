"""The program under Pulumi's own engine, where its command is on PATH: what no run in process can show.

It is the one test that a machine may lack the means for: neither the command nor the provider plug-ins are in a package
registry. Where they are missing, it is skipped by name with the reason, and `make plan` and the sandbox stand in.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from sandbox import packages
from sandbox.plan import ROOT
from sandbox.state import Sandbox
from tests.sandbox.lone import start_lone

MISSING = shutil.which("pulumi") is None
REASON = "pulumi is not on PATH (https://www.pulumi.com/docs/iac/download-install/): its engine was not run"
SECONDS = 600
# There is no cluster here: what Kubernetes would get is rendered, as `make plan` does.
KUBERNETES = "kubernetes:renderYamlToDirectory"


class Cli:
    """`pulumi` on a file backend of its own, against the sandbox's AWS API."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self._variables = {
            **os.environ,
            **sandbox.aws_files,
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "for this test alone",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "AWS_ENDPOINT_URL": sandbox.aws_url,
            "AWS_CA_BUNDLE": str(sandbox.ca_file),
        }

    def __call__(self, *arguments: str) -> str:
        argv = ["pulumi", "--non-interactive", "--cwd", str(ROOT), *arguments]
        done = subprocess.run(
            argv, env=self._variables, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=ROOT
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def changes(self, *arguments: str) -> dict[str, int]:
        """What a command would do, by operation; untouched resources left out."""
        summary: dict[str, Any] = json.loads(self(*arguments, "--json"))["changeSummary"]
        return {operation: count for operation, count in summary.items() if operation != "same" and count}


@pytest.fixture
def cli(tmp_path: Path) -> Generator[Cli]:
    packages.ensure()
    sandbox = start_lone(tmp_path / "sandbox")
    (tmp_path / "state").mkdir()
    pulumi = Cli(tmp_path / "state", sandbox)
    file = ROOT / "stacks" / "Pulumi.local.yaml"
    before = file.read_bytes()
    try:
        # A copy of the stack under its own name would be another environment; the file backend keeps this one apart.
        pulumi("stack", "init", "local")
        pulumi("config", "set", "--stack", "local", KUBERNETES, str(tmp_path / "manifests"))
        yield pulumi
    finally:
        file.write_bytes(before)
        sandbox.processes.stop_all()


@pytest.mark.skipif(MISSING, reason=REASON)
def test_the_engine_previews_creates_changes_nothing_again_refreshes_and_destroys(cli: Cli) -> None:
    assert set(cli.changes("preview", "--stack", "local")) == {"create"}
    cli("up", "--stack", "local", "--yes")
    assert cli.changes("preview", "--stack", "local") == {}
    cli("refresh", "--stack", "local", "--yes")
    assert cli.changes("preview", "--stack", "local") == {}
    outputs = json.loads(cli("stack", "output", "--stack", "local", "--json"))
    assert json.loads(outputs["settings"])["name"] == "local"
    cli("destroy", "--stack", "local", "--yes")
    left = json.loads(cli("stack", "export", "--stack", "local"))["deployment"].get("resources", [])
    assert [resource["type"] for resource in left if resource["type"] != "pulumi:pulumi:Stack"] == []
