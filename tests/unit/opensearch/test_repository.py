from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError
from aivo_backup.policy.environment import BackupKind, OpenSearchSettings, RepositoryType
from aivo_backup.stores.opensearch import BackupPlace, OpenSearchStore, connect
from aivo_backup.stores.opensearch.repository import repository_body
from aivo_backup.stores.opensearch.snapshots import PartialSnapshotError
from aivo_backup.stores.port import PartialBackupError, silent
from tests.unit.opensearch.stub import Answer, Stub, serving

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
SETTINGS = OpenSearchSettings(endpoint="http://unused")
PLACE = BackupPlace(bucket="aivo-backup-opensearch", region="us-east-1", kms_key=KEY, account_id="123456789012")


def body(
    settings: OpenSearchSettings = SETTINGS, place: BackupPlace = PLACE, *, readonly: bool = False
) -> dict[str, Any]:
    return repository_body(
        settings,
        bucket=place.bucket,
        region=place.region,
        kms_key=place.kms_key,
        account_id=place.account_id,
        readonly=readonly,
    )


def test_an_s3_repository_has_bucket_path_key_owner_and_rates() -> None:
    assert body() == {
        "type": "s3",
        "settings": {
            "bucket": "aivo-backup-opensearch",
            "base_path": "snapshots",
            "region": "us-east-1",
            "server_side_encryption_type": "aws:kms",
            "server_side_encryption_kms_key_id": KEY,
            "server_side_encryption_bucket_key_enabled": "true",
            "expected_bucket_owner": "123456789012",
            "max_snapshot_bytes_per_sec": "200000000b",
            "max_restore_bytes_per_sec": "200000000b",
            "shard_path_type": "FIXED",
        },
    }
    assert body(readonly=True)["settings"]["readonly"] == "true"
    assert body(replace(SETTINGS, base_path="/snapshots/"))["settings"]["base_path"] == "snapshots"


@pytest.mark.parametrize("lacking", ["bucket", "kms_key", "region"])
def test_an_s3_repository_without_its_place_is_refused(lacking: str) -> None:
    with pytest.raises(ConfigurationError, match="has no"):
        body(place=replace(PLACE, **{lacking: ""}))


def test_a_folder_repository_needs_its_folder() -> None:
    settings = replace(SETTINGS, repository_type=RepositoryType.FS, fs_location="/snapshots")
    assert body(settings)["settings"]["location"] == "/snapshots"
    assert "bucket" not in body(settings)["settings"]
    with pytest.raises(ConfigurationError, match="fs_location"):
        body(replace(settings, fs_location=""))


def answers(version: str, **rest: list[Answer]) -> dict[str, list[Answer]]:
    return {
        "GET /": [(200, {"version": {"number": version}})],
        "GET /_cluster/settings": [(200, {"persistent": {}})],
        "PUT /_cluster/settings": [(200, {})],
        "GET /_snapshot/aivo-snapshots": [(404, {"error": {"type": "repository_missing_exception", "reason": "x"}})],
        "PUT /_snapshot/aivo-snapshots": [(200, {"acknowledged": True})],
        "POST /_snapshot/aivo-snapshots/_verify": [(200, {"nodes": {}})],
        **rest,
    }


def store(stub: Stub) -> OpenSearchStore:
    return OpenSearchStore(client=connect(stub.url, "", "", ""), settings=SETTINGS, place=PLACE, sleep=lambda _s: None)


@pytest.mark.parametrize("version", ["2.19.1", "3.0.0"])
def test_a_cluster_that_would_drop_the_key_in_silence_is_refused_and_not_changed(version: str) -> None:
    with serving(answers(version)) as stub:
        with pytest.raises(RefusedError, match=r"cannot encrypt .* upgrade"):
            store(stub).register()
        assert [asked for asked, _ in stub.asked] == ["GET /"]


@pytest.mark.parametrize("version", ["3.1.0", "3.4.0", "4.0.0-SNAPSHOT"])
def test_an_s3_repository_is_registered_with_its_key_and_verified_by_the_nodes(version: str) -> None:
    with serving(answers(version)) as stub:
        assert store(stub).register() is True
        assert stub.sent("PUT /_snapshot/aivo-snapshots") == [body()]
        assert stub.sent("PUT /_cluster/settings") == [
            {"persistent": {"indices.recovery.max_bytes_per_sec": "200000000b"}}
        ]
        assert len(stub.sent("POST /_snapshot/aivo-snapshots/_verify")) == 1


def test_nodes_that_cannot_use_the_repository_are_told_of() -> None:
    refusal: list[Answer] = [
        (500, {"error": {"type": "repository_verification_exception", "reason": "not accessible on node [a]"}})
    ]
    with (
        serving({**answers("3.4.0"), "POST /_snapshot/aivo-snapshots/_verify": refusal}) as stub,
        pytest.raises(ConfigurationError, match=r"not accessible on node \[a\].*role of the nodes"),
    ):
        store(stub).register()


def entry(state: str, *, failures: list[dict[str, Any]] | None = None) -> Answer:
    failed = len(failures or ())
    return 200, {
        "snapshots": [
            {
                "snapshot": "snapshot_20240820_040000",
                "uuid": "u",
                "state": state,
                "indices": ["packages"],
                "shards": {"total": 1, "failed": failed, "successful": 1 - failed},
                "failures": failures or [],
                "start_time_in_millis": 1724126400000,
            }
        ]
    }


STATUS = {
    "snapshots": [
        {
            "shards_stats": {"done": 0, "total": 1},
            "stats": {"incremental": {"size_in_bytes": 2_000_000}, "total": {"size_in_bytes": 3_000_000}},
        }
    ]
}


def backup_answers(*states: Answer) -> dict[str, list[Answer]]:
    snapshot = "/_snapshot/aivo-snapshots/snapshot_20240820_040000"
    stats = {
        "_all": {"primaries": {"store": {"size_in_bytes": 3_000_000}}},
        "indices": {"packages": {"shards": {"0": [{"routing": {"primary": True}, "seq_no": {"max_seq_no": 4}}]}}},
    }
    hits = {"hits": {"hits": [{"_id": "a", "_seq_no": 1, "_source": {"n": 1}}]}}
    return {
        "GET /_resolve/index/*": [(200, {"indices": [{"name": "packages", "attributes": ["open"]}]})],
        "GET /_cluster/health": [(200, {"indices": {"packages": {"status": "green"}}})],
        "GET /packages/_stats/docs": [(200, stats)],
        "GET /packages/_stats/store": [(200, stats)],
        "POST /packages/_refresh": [(200, {})],
        "GET /packages/_count": [(200, {"count": 5})],
        "POST /packages/_search": [(200, hits)],
        "GET /_snapshot/aivo-snapshots/_all": [(200, {"snapshots": []})],
        f"PUT {snapshot}": [(200, {"accepted": True})],
        f"GET {snapshot}": list(states),
        f"GET {snapshot}/_status": [(200, STATUS)],
    }


NOW = datetime(2024, 8, 20, 4, 0, tzinfo=UTC)


def test_a_cluster_that_is_away_for_a_minute_does_not_cost_the_snapshot() -> None:
    away: list[Answer] = [(503, {})] * 20
    lines: list[str] = []
    with serving(backup_answers(entry("IN_PROGRESS"), *away, entry("SUCCESS"))) as stub:
        taken = store(stub).backup(BackupKind.FULL, now=NOW, progress=lines.append)
        asked = stub.sent("PUT /_snapshot/aivo-snapshots/snapshot_20240820_040000")
    assert (taken.point, taken.recoverable_at, taken.size_bytes) == ("snapshot_20240820_040000", NOW, 3_000_000)
    assert len(asked) == 1
    assert asked[0]["include_global_state"] is False
    assert asked[0]["indices"] == ["packages"]
    assert (asked[0]["metadata"]["kind"], asked[0]["metadata"]["total_documents"]) == ("full", 5)
    assert lines[-1] == "snapshot snapshot_20240820_040000: 0 of 1 shards, 0.0 of 2.0 MB"


@pytest.mark.parametrize(
    ("state", "kind"), [("PARTIAL", PartialSnapshotError), ("SUCCESS", PartialSnapshotError), ("FAILED", BackupError)]
)
def test_a_snapshot_that_lacks_a_shard_fails_the_run_and_names_it(state: str, kind: type[BackupError]) -> None:
    failures = [{"index": "packages", "shard_id": 0, "reason": "node left"}]
    with (
        serving(backup_answers(entry(state, failures=failures))) as stub,
        pytest.raises(kind, match=r"packages\[0\]: node left") as caught,
    ):
        store(stub).backup(BackupKind.FULL, now=NOW, progress=silent)
    assert isinstance(caught.value, PartialBackupError) is (state != "FAILED")


def test_a_snapshot_that_vanished_while_it_ran_fails_the_run() -> None:
    gone: Answer = (404, {"error": {"type": "snapshot_missing_exception", "reason": "is missing"}})
    with (
        serving(backup_answers(entry("IN_PROGRESS"), gone)) as stub,
        pytest.raises(BackupError, match="is gone"),
    ):
        store(stub).backup(BackupKind.FULL, now=NOW, progress=silent)


def test_a_name_that_somebody_took_meanwhile_gives_the_next_one() -> None:
    taken: Answer = (
        400,
        {"error": {"type": "invalid_snapshot_name_exception", "reason": "snapshot with the same name already exists"}},
    )
    second = "/_snapshot/aivo-snapshots/snapshot_20240820_040000_2"
    prepared = backup_answers(entry("SUCCESS"))
    prepared["PUT /_snapshot/aivo-snapshots/snapshot_20240820_040000"] = [taken]
    prepared |= {f"PUT {second}": [(200, {})], f"GET {second}": [entry("SUCCESS")]}
    with serving(prepared) as stub:
        store(stub).backup(BackupKind.FULL, now=NOW, progress=silent)
        assert len(stub.sent(f"PUT {second}")) == 1
