"""`aivo-backup restore opensearch` as an operator gives it: the plan, the guards, and one index from loss to rescue."""

import json
from collections.abc import Generator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aivo_backup.errors import ExitCode
from aivo_backup.stores.opensearch import Cluster, ClusterError, documents
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli
from tests.sandbox.opensearch_world import login


@pytest.fixture
def backed_up(cli: Cli, sandbox: Sandbox) -> Generator[tuple[Cli, Cluster, str]]:
    """An environment with one index of five documents, and one point of it."""
    index = f"cli-{cli.folder.name}"
    held = json.loads((cli.folder / "settings.json").read_text())
    folder = sandbox.home / "opensearch" / "snapshots" / index
    own = {"repository": index, "fs_location": str(folder), "index_patterns": [f"{index}*"]}
    cli.edit("settings.json", opensearch={**held["opensearch"], **own}, unproven_points="refuse")
    cluster = Cluster(login(sandbox))
    cluster.put(index, what="test", body={"settings": {"number_of_replicas": 0}})
    documents.put(cluster, index, [documents.Document(id=str(n), source={"n": n}) for n in range(5)])
    assert cli.run("init", "opensearch").code == 0
    assert cli.run("backup", "opensearch").code == 0
    yield cli, cluster, index
    names = cluster.get("_cat", "indices", f"*{index}*", what="tidying", params={"format": "json", "h": "index"})
    for path in (("_snapshot", index), *((row["index"],) for row in names)):
        with suppress(ClusterError):
            cluster.delete(*path, what="tidying up")


def answer(cli: Cli, *arguments: str) -> Any:
    done = cli.call("restore", "opensearch", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def holds_the_lease(cli: Cli, sandbox: Sandbox, *, years: int) -> None:
    """Another restore is under way; with a moment in the past, it was."""
    until = f"{datetime.now(UTC).replace(year=datetime.now(UTC).year + years):%Y-%m-%dT%H:%M:%S.%fZ}"
    sandbox.aws().client("s3").put_object(
        Bucket=f"opensearch-{cli.folder.name}",
        Key="leases/restore-opensearch",
        Body=json.dumps({"holder": "another", "until": until}).encode(),
    )


def test_the_plan_tells_what_would_be_lost_and_the_restore_rescues_it(
    backed_up: tuple[Cli, Cluster, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    cli, cluster, index = backed_up
    documents.put(cluster, index, [documents.Document(id="new", source={"n": 7})])
    unproven = cli.run("restore", "opensearch", "--yes")
    assert unproven.code == ExitCode.REFUSED
    assert "has not passed a restore test yet" in unproven.line
    nobody = cli.run("restore", "opensearch", "--unproven")
    assert nobody.code == ExitCode.REFUSED
    assert f"{index}: 1 of its 6 documents were written since the point" in nobody.err
    assert "nobody is here to agree to the plan" in nobody.line
    (newer,) = answer(cli, "--unproven", "--plan")["newer"]
    assert (newer["written"], newer["present"], newer["held"]) == (1, 6, 5)
    for wrong, code in (
        (("--rename-pattern", "^", "--rename-replacement", "x-", "--rescue", str(tmp_path / "r")), ExitCode.USAGE),
        (("--at", "2020-01-01T00:00:00Z"), ExitCode.USAGE),
        (("--import", str(tmp_path)), ExitCode.CONFIGURATION),
    ):
        assert cli.run("restore", "opensearch", "--unproven", "--yes", *wrong).code == code, wrong
    holds_the_lease(cli, sandbox, years=1)
    twice = cli.run("restore", "opensearch", "--unproven", "--yes")
    assert (twice.code, "another restore is under way" in twice.line) == (ExitCode.REFUSED, True)
    assert documents.number_of(cluster, index) == 6
    assert not cluster.exists(f"*-{index}")  # neither a copy nor anything set aside
    holds_the_lease(cli, sandbox, years=-1)

    folder = tmp_path / "rescue"
    done = answer(cli, "--unproven", "--yes", "--rescue", str(folder))
    assert done["passed"]
    assert documents.number_of(cluster, index) == 5
    assert documents.number_of(cluster, done["detail"]["indices"][0]["set_aside"]) == 6
    assert {phase["name"] for phase in done["restore"]["phases"]} == {
        "rescue",
        "plan",
        "set aside",
        "restore",
        "finish",
    }
    assert answer(cli, "--import", str(folder), "--yes") == [{"index": index, "written": 1, "kept": 0}]
    assert documents.number_of(cluster, index) == 6
