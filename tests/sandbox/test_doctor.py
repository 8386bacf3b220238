"""`aivo-backup doctor` finds what is really broken, names it with its evidence and the mend, and nothing else."""

import json
import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aivo_backup.observability.doctor import Finding, examine, opensearch_checks, shared_checks
from aivo_backup.policy.names import SECRET_OPENSEARCH_EXPIRER
from aivo_backup.stores.opensearch.client import ClusterError
from aivo_backup.stores.opensearch.cluster import Cluster
from sandbox.state import Sandbox
from tests.sandbox.cli import Cli, closed_port
from tests.sandbox.opensearch_world import login
from tests.sandbox.opensearch_world import made as made_indices

MINIO = {"reachability", "permissions"}
BACKUP = {"backup bucket", "key state", "key grants"}


def failures(cli: Cli, *arguments: str) -> dict[str, dict[str, Any]]:
    """The failed checks by name. The exit code says whether there are any; each failure has evidence and a mend."""
    done = cli.call("doctor", *arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    failed = {entry["check"]: entry for entry in report["findings"] if not entry["passed"]}
    assert (done.returncode == 0) is (not failed) is report["healthy"]
    assert all(entry["evidence"] and entry["mend"] and entry["finding"] != "ok" for entry in failed.values())
    assert "Traceback" not in done.stderr
    return failed


def edit(cli: Cli, component: str, **changes: object) -> None:
    """Changes a component's settings of the environment."""
    held = json.loads((cli.folder / "settings.json").read_text())[component]
    cli.edit("settings.json", **{component: {**held, **changes}})


@pytest.fixture
def minio(cli: Cli) -> Cli:
    """An environment whose MinIO has nothing wrong."""
    edit(cli, "minio", buckets=[])
    return cli


def key_of(cli: Cli) -> str:
    return str(json.loads((cli.folder / "settings.json").read_text())["keys"]["minio"]).rpartition("/")[2]


def test_nothing_is_found_where_nothing_is_wrong(minio: Cli) -> None:
    assert failures(minio, "minio") == {}
    done = minio.call("doctor", "minio")
    assert done.returncode == 0
    assert "0 failed" in done.stdout


def test_a_source_that_is_away_or_refuses_or_lacks_a_bucket(minio: Cli, sandbox: Sandbox) -> None:
    edit(minio, "minio", buckets=["no-such-bucket"])
    found = failures(minio, "minio")
    assert set(found) == {"permissions"}
    assert "no-such-bucket" in found["permissions"]["evidence"]
    (minio.folder / "secrets" / "minio-source" / "secret-key").write_text("wrong")
    found = failures(minio, "minio")
    assert set(found) == MINIO
    assert "access denied" in found["reachability"]["evidence"]
    port = closed_port()
    minio.edit("endpoints.json", minio=f"https://localhost:{port}")
    found = failures(minio, "minio")
    assert set(found) == MINIO
    assert str(port) in found["reachability"]["evidence"]
    assert sandbox.secret("minio-source", "secret-key") not in json.dumps(found)


def test_a_key_that_is_disabled_or_dying_or_granted(minio: Cli, sandbox: Sandbox) -> None:
    kms, key = sandbox.aws().client("kms"), key_of(minio)
    kms.disable_key(KeyId=key)
    found = failures(minio, "minio")
    assert set(found) == {"key state"}
    assert "is Disabled" in found["key state"]["evidence"]
    assert "enable-key" in found["key state"]["mend"]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert "cancel-key-deletion" in failures(minio, "minio")["key state"]["mend"]
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    stranger = "arn:aws:iam::999999999999:root"
    kms.create_grant(KeyId=key, GranteePrincipal=stranger, Operations=["Decrypt"])
    found = failures(minio, "minio")
    assert set(found) == {"key grants"}
    assert stranger in found["key grants"]["evidence"]


def test_a_backup_bucket_that_is_gone_or_forgets_versions(minio: Cli, sandbox: Sandbox) -> None:
    s3, bucket = sandbox.aws().client("s3"), f"minio-{minio.folder.name}"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert "suspended" in failures(minio, "minio")["backup bucket"]["evidence"]
    s3.delete_bucket(Bucket=bucket)
    assert bucket in failures(minio, "minio")["backup bucket"]["evidence"]


def test_aws_away_is_found_by_every_check_that_needs_it(minio: Cli) -> None:
    minio.edit("endpoints.json", aws=f"https://localhost:{closed_port()}")
    assert set(failures(minio, "minio")) == {"clock", "catalog", *BACKUP}


@pytest.fixture
def opensearch(cli: Cli, sandbox: Sandbox) -> Generator[tuple[Cli, Cluster]]:
    """An environment with a snapshot repository of its own."""
    name = f"doctor-{cli.folder.name}"
    folder = sandbox.home / "opensearch" / "snapshots" / name
    edit(cli, "opensearch", repository=name, fs_location=str(folder), index_patterns=[f"{name}*"])
    cluster = Cluster(login(sandbox))
    yield cli, cluster
    for path in (("_snapshot", name), (f"{name}-red",)):
        with suppress(ClusterError):  # what the test did not get to make
            cluster.delete(*path, what="tidying up")
    shutil.rmtree(folder, ignore_errors=True)


def test_a_repository_that_is_not_registered_or_has_other_settings(opensearch: tuple[Cli, Cluster]) -> None:
    cli, cluster = opensearch
    name = f"doctor-{cli.folder.name}"
    found = failures(cli, "opensearch")
    assert set(found) == {"repository settings", "repository access", "snapshot status"}
    assert "not registered" in found["repository settings"]["evidence"]
    assert "init opensearch" in found["repository settings"]["mend"]
    assert cli.run("init", "opensearch").code == 0
    assert set(failures(cli, "opensearch")) == {"snapshot status"}
    held = cluster.get("_snapshot", name, what="reading")[name]
    slow = {**held["settings"], "max_snapshot_bytes_per_sec": "1b"}
    cluster.put("_snapshot", name, what="slowing", body={"type": held["type"], "settings": slow})
    found = failures(cli, "opensearch")
    assert set(found) == {"repository settings", "snapshot status"}
    assert "max_snapshot_bytes_per_sec is '1b'" in found["repository settings"]["evidence"]


def test_a_red_cluster_and_the_newest_snapshot(opensearch: tuple[Cli, Cluster]) -> None:
    cli, cluster = opensearch
    name = f"doctor-{cli.folder.name}"
    assert cli.run("init", "opensearch").code == 0
    cluster.put("_snapshot", name, "good", what="a snapshot", params={"wait_for_completion": "true"})
    assert failures(cli, "opensearch") == {}
    cluster.put(
        f"{name}-red",
        what="an index that no node may hold",
        body={"settings": {"index.routing.allocation.require.box": "none", "number_of_replicas": 0}},
        params={"wait_for_active_shards": "0"},
    )
    cluster.put(
        "_snapshot",
        name,
        "partial",
        what="a snapshot without it",
        body={"indices": f"{name}-red", "partial": True},
        params={"wait_for_completion": "true"},
    )
    found = failures(cli, "opensearch")
    assert set(found) == {"cluster health", "snapshot status"}
    assert found["cluster health"]["evidence"].startswith("red, ")
    assert "partial" in found["snapshot status"]["evidence"]


def test_an_index_that_a_full_disk_made_read_only_and_a_snapshot_that_hangs(sandbox: Sandbox) -> None:
    # OpenSearch's own doing takes a full disk and half a minute: the block is the one that it sets.
    flooded = {"index.blocks.read_only_allow_delete": "true"}
    with made_indices(sandbox) as world:
        repository = world.store.repository

        def found(after: timedelta) -> dict[str, Finding]:
            checks = opensearch_checks(
                lambda: repository, longest_run_seconds=60, clock=lambda: datetime.now(UTC) + after
            )
            return made(examine(checks))

        world.backup()
        assert found(timedelta(0)) == {}
        world.cluster.put(world.people, "_settings", what="test", body=flooded)
        assert set(found(timedelta(0))) == {"cluster writes"}
        (finding,) = found(timedelta(0)).values()
        assert finding.evidence == f"1 refuse writes: {world.people} (index.blocks.read_only_allow_delete)"
        world.cluster.put(world.people, "_settings", what="test", body=dict.fromkeys(flooded))

        name = world.settings.repository
        body = world.cluster.get("_snapshot", name, what="test")[name]
        slow = {**body, "settings": {**body["settings"], "max_snapshot_bytes_per_sec": "10kb"}}
        world.cluster.put("_snapshot", name, what="test", body=slow)
        world.fill(world.packages, 5000, 1000)
        world.cluster.put("_snapshot", name, "hangs", what="test", body={"indices": world.packages})
        try:
            hung = found(timedelta(seconds=600))
            assert set(hung) == {"repository settings", "snapshot status"}
            assert re.match(r"hangs has run for 6\d\d s, it may take 60 s", hung["snapshot status"].evidence)
            assert f"GET _snapshot/{name}/hangs/_status" in hung["snapshot status"].mend
            assert set(found(timedelta(0))) == {"repository settings"}
        finally:
            Cluster(login(sandbox, SECRET_OPENSEARCH_EXPIRER)).delete("_snapshot", name, "hangs", what="test")


def test_a_cluster_that_is_away(opensearch: tuple[Cli, Cluster]) -> None:
    cli, _ = opensearch
    cli.edit("endpoints.json", opensearch=f"https://localhost:{closed_port()}")
    wanted = {"cluster health", "cluster writes", "repository settings", "repository access", "snapshot status"}
    assert set(failures(cli, "opensearch")) == wanted


def test_a_database_that_is_away_and_a_sidecar_that_does_not_run(cli: Cli) -> None:
    found = failures(cli, "postgres")
    # Nothing was initialised in this environment: no sidecar, no envelope, no stanza.
    assert {"stanza", "repository"} <= set(found)
    assert "database" not in found
    cli.edit("endpoints.json", postgres=f"localhost:{closed_port()}")
    assert {"database", "archive lag"} <= set(failures(cli, "postgres"))
    (cli.folder / "secrets" / "postgres" / "password").unlink()
    assert "postgres" in failures(cli, "postgres")["database"]["evidence"]


def made(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if not finding.passed}


def test_a_clock_that_is_wrong(sandbox: Sandbox, tmp_path: Path) -> None:
    s3 = sandbox.aws().client("s3")
    bucket = f"clock-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)

    def found(offset: timedelta) -> dict[str, Finding]:
        checks = shared_checks(
            s3, bucket=bucket, state=tmp_path, scratch=tmp_path, clock=lambda: datetime.now(UTC) + offset
        )
        return made(examine([check for check in checks if not check.name.startswith("disk")]))

    assert found(timedelta(0)) == {}
    assert "ahead of AWS" in found(timedelta(days=1))["clock"].evidence
    assert "behind AWS" in found(timedelta(days=-1))["clock"].evidence


def test_a_disk_that_is_full(minio: Cli) -> None:
    state = minio.folder / "state"
    state.mkdir()
    mounted = (
        "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
        'mount -t tmpfs -o size=64k tiny "$0" && head -c 61440 /dev/zero > "$0/full"; exec "$@"', str(state),
    )  # fmt: skip
    done = minio.call("doctor", "minio", "--json", prefix=mounted)
    failed = [entry for entry in json.loads(done.stdout)["findings"] if not entry["passed"]]
    assert (done.returncode, [entry["check"] for entry in failed]) == (1, [f"disk {state}"])
    assert f"make room on the file system of {state}" in failed[0]["mend"]
