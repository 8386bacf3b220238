"""The runbook's scenarios on real stores: from injected damage to a verified service, killed on the way and resumed."""

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from aivo_backup.catalog.records import Purpose
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import DOCUMENTS, DRILL_BUCKETS, MINIO_DATA_PREFIX
from aivo_backup.recovery.consistency import reconcile
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.postgres.archive import connect
from sandbox.servers.postgres import Postgres
from tests.sandbox.recovery_world import World, backed_up, chosen, garble, new_world, same


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    yield from new_world(tmp_path_factory.mktemp("recovery"))


CORRUPTION = ("check-target", "stop-applications", "restore-database", "verify-database", "start-applications")


def followed(world: World) -> dict[str, tuple[int, tuple[str, ...]]]:
    """How many references of each kind lead to nothing, and which."""
    app = world.app
    with connect(app.postgres_login) as connection:
        found = reconcile(
            app.environment.recovery.references,
            connection=connection,
            objects=S3ObjectStore(app.minio_source),
            cluster=app.opensearch_cluster,
        )
    return {each.name: (each.missing, each.examples) for each in found}


def test_references_that_lead_to_nothing_are_told_by_name(world: World) -> None:
    world.scale_shop(0)
    assert followed(world) == {"receipts": (0, ()), "orders": (0, ())}
    first, second = sorted(world.orders())[:2]
    key = f"{first // 100:05d}/{first:08d}.txt"
    kept, document = (
        world.app.minio_source.get_object(Bucket="receipts", Key=key)["Body"].read(),
        world.documents()[str(second)],
    )
    world.app.minio_source.delete_object(Bucket="receipts", Key=key)
    world.app.opensearch_cluster.delete("orders", "_doc", str(second), what="test")
    assert followed(world) == {"receipts": (1, (key,)), "orders": (1, (str(second),))}
    world.app.minio_source.put_object(Bucket="receipts", Key=key, Body=kept)
    world.app.opensearch_cluster.put("orders", "_doc", str(second), what="test", body={"total": document})
    assert followed(world) == {"receipts": (0, ()), "orders": (0, ())}


@pytest.mark.parametrize(("step", "when"), chosen(CORRUPTION[1:], seed=1))
def test_a_corrupted_database_is_recovered_although_the_command_is_killed(world: World, step: str, when: str) -> None:
    world.scale_shop(1)
    world.place(5)
    orders = world.orders()
    moment = world.now()
    world.place(3)
    garble(world)
    arguments = ("recover", "database-corruption")
    world.killed_at(step, *arguments, "--execute", "--yes", "--target-time", world.at(moment), moment=when)
    world.cli(*arguments, "--execute", "--yes", expect=6)  # it is open: nothing may begin beside it
    answer = world.cli(*arguments, "--resume", "--yes").answer["recovery"]
    assert orders <= world.orders()
    assert world.shop_runs()
    (record,) = [each for each in world.app.catalog.recoveries(Purpose.RECOVERY) if each.id.startswith(answer["id"])]
    assert record.passed
    assert record.loss_seconds is not None
    assert record.loss_seconds < 60
    assert world.journals().open_ones() == []


def test_what_a_recovery_would_lose_is_exported_first(world: World, tmp_path: Path) -> None:
    world.scale_shop(0)
    world.place(3)
    kept, moment = world.orders(), world.now()
    world.place(2)
    every = world.orders()
    folder = tmp_path / "newer"
    arguments = ("recover", "database-corruption")
    asked = ("--target-time", world.at(moment), "--rescue", str(folder))
    told = " ".join(world.cli(*arguments, "--plan", *asked).answer["plan"]["summary"])
    assert f"it is exported to {folder} first" in told
    # Killed while the copy is made, which the next attempt removes.
    world.dies_in("rescue-newer", *arguments, "--execute", "--yes", *asked, after=1.5)
    answer = world.cli(*arguments, "--resume", "--yes").answer["recovery"]
    assert "rescue-newer" in [step["name"] for step in answer["steps"]]
    assert list((world.app.state / "copies").iterdir()) == [], "no copy, of the killed one neither"
    assert world.orders() == kept
    world.cli("restore", "postgres", "--import", str(folder), "--yes")
    assert world.orders() == every
    world.sandbox.processes.stop("postgres")
    before = world.tree()
    refused = world.cli(*arguments, "--execute", "--yes", "--rescue", str(tmp_path / "another"), expect=6)
    assert "cannot be asked what it holds any more" in refused.err
    assert world.tree() == before
    Postgres(world.sandbox).up()


STORAGE = (
    "stop-applications",
    "provision-storage",
    "restore-stores",
    "redirect-endpoints",
    "prepare-backups",
    "verify-stores",
    "start-applications",
)


@pytest.mark.parametrize(("step", "when"), chosen(STORAGE, seed=7))
def test_lost_storage_is_replaced_although_the_command_is_killed(world: World, step: str, when: str) -> None:
    state = backed_up(world)
    before = world.app.endpoints
    world.lose_storage()
    # Some way into the restores, which take a while; the other steps are over in no time.
    after = 0.5 if step == "restore-stores" else 0.0
    world.killed_at(step, "recover", "storage-failure", "--execute", "--yes", moment=when, after=after)
    answer = world.cli("recover", "storage-failure", "--resume", "--yes").answer
    same(world, state)
    after = world.app.endpoints
    assert (before.postgres != after.postgres, before.minio != after.minio, before.opensearch != after.opensearch) == (
        True,
        True,
        True,
    )
    assert answer["seconds"] < 180
    # Backups go on from what was restored.
    world.back_up("postgresql-backup-incr", "minio-backup-incr", "opensearch-snapshot-incr")


def test_all_is_restored_from_the_second_region_when_the_backups_are_gone_too(world: World) -> None:
    state = backed_up(world)
    world.sandbox.aws_control.replicate()
    world.lose_storage()
    world.lose_backups()
    answer = world.cli("recover", "storage-failure", "--from-replica", "--execute", "--yes").answer
    same(world, state)
    assert answer["seconds"] < 180
    record = world.app.catalog.recoveries(Purpose.RECOVERY)[-1]
    assert record.passed
    assert record.from_replica
    assert record.loss_seconds is not None
    world.back_up()


def test_the_runbook_is_filed_in_the_bucket_that_keeps_it_under_a_lock(world: World) -> None:
    answer = world.cli("runbook", "--publish").answer
    assert len(answer["published"]) == len(answer["pages"])
    s3, bucket = world.sandbox.aws().client("s3"), world.app.environment.buckets[DOCUMENTS]
    for place in answer["published"]:
        key = place.removeprefix(f"s3://{bucket}/")
        kept = s3.get_object(Bucket=bucket, Key=key)
        assert kept["Body"].read().decode() == answer["pages"][key.rsplit("/", 1)[-1]]
        assert kept.get("ObjectLockMode") == "GOVERNANCE"
        assert kept.get("SSEKMSKeyId") == world.app.environment.key("compliance")


def test_refusals_change_nothing(world: World) -> None:
    world.scale_shop(0)
    before = world.tree()
    for arguments, code, said in (
        (
            ("database-corruption", "--target-time", "2020-01-01T00:00:00Z", "--execute"),
            6,
            "outside the recovery window",
        ),
        (("database-corruption", "--set", "20200101-000000F", "--execute"), 6, "no backup set 20200101-000000F"),
        (
            ("storage-failure", "--minio-point", "20200101_000000", "--execute"),
            2,
            "no recovery point '20200101_000000'",
        ),
        (("partial-loss", "--execute"), 2, "say what to compare with"),
        (("partial-loss", "--target-time", "2020-01-01T00:00:00Z", "--execute"), 2, "no recovery point"),
        (
            ("partial-loss", "--target-time", world.at(world.now()), "--bucket", "no-such", "--execute"),
            2,
            "holds no bucket no-such",
        ),
        (
            ("partial-loss", "--target-time", world.at(world.now()), "--index", "no-such", "--execute"),
            2,
            "holds no index no-such",
        ),
        (
            (
                "storage-failure",
                "--resume",
            ),
            2,
            "no storage-failure recovery is open",
        ),
    ):
        finished = world.cli("recover", *arguments, *(() if "--resume" in arguments else ("--yes",)), expect=code)
        assert said in finished.line
        for journal in world.journals().open_ones():
            world.cli("recover", str(journal.entries.scenario), "--abandon")
        assert world.tree() == before
    assert "nobody is here to agree" in world.cli("recover", "database-corruption", "--execute", expect=6).line
    assert world.tree() == before


def drilled(world: World) -> tuple[list[str], list[str], list[str]]:
    """What drills may leave behind: buckets, indices, folders."""
    buckets = S3ObjectStore(world.app.minio_source).buckets()
    return (
        [name for name in buckets if name.startswith(DRILL_BUCKETS)],
        [name for name in world.indices() if name.startswith("verify-")],
        [path.name for path in Path(tempfile.gettempdir()).glob("drill-*")],
    )


def test_a_quarterly_drill_restores_beside_production_from_the_second_region_and_leaves_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backed_up(world)
    world.scale_shop(0)
    world.sandbox.aws_control.replicate()
    before = world.tree()
    answer = world.cli("drill", "quarterly").answer
    assert [each["scenario"] for each in answer] == ["database-corruption", "storage-failure"]
    assert world.tree() == before
    assert drilled(world) == ([], [], [])
    records = world.app.catalog.recoveries(Purpose.DRILL)
    assert [(each.scenario, each.exercise, each.passed, each.from_replica) for each in records] == [
        ("database-corruption", "quarterly", True, True),
        ("storage-failure", "quarterly", True, True),
    ]
    assert {step.name for step in records[1].steps} == {"check-points", "restore-stores", "verify-stores"}
    assert [each.seconds for each in records] == pytest.approx([each["seconds"] for each in answer])
    assert all(each.loss_seconds is not None for each in records)
    standing = {each["exercise"]: each["overdue"] for each in world.cli("drill", "status", expect=5).answer}
    assert standing == {"monthly": True, "quarterly": False}


def test_the_next_drill_removes_what_a_killed_one_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backed_up(world)
    world.scale_shop(0)
    before = world.tree()
    world.dies_in("verify-stores", "drill", "monthly")
    buckets, indices, folders = drilled(world)
    assert buckets
    assert indices
    assert folders, "the folder of a drill, with a server that still runs in it"
    finished = world.cli("drill", "monthly")
    assert f"removing what a drill left that was killed, or could not tidy up: {DRILL_BUCKETS}" in finished.err
    assert drilled(world) == ([], [], [])
    assert world.tree() == before


def test_a_drill_that_fails_is_filed_and_removed_as_well(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world.scale_shop(0)
    before = world.tree()
    # The bytes of one receipt are gone from the backup, every version of them.
    s3, bucket = world.sandbox.aws().client("s3"), world.app.environment.bucket(Component.MINIO)
    versions = s3.list_object_versions(Bucket=bucket, Prefix=MINIO_DATA_PREFIX).get("Versions", [])
    lost = min(item.get("Key", "") for item in versions if "/receipts/" in item.get("Key", ""))
    for item in versions:
        if item.get("Key") == lost:
            s3.delete_object(
                Bucket=bucket, Key=lost, VersionId=item.get("VersionId", ""), BypassGovernanceRetention=True
            )
    finished = world.cli("drill", "monthly", expect=5)
    assert "it was a drill: production was not touched" in finished.err
    assert "--resume" not in finished.err
    assert world.tree() == before
    assert drilled(world) == ([], [], [])
    record = world.app.catalog.recoveries(Purpose.DRILL)[-1]
    assert (record.exercise, record.passed) == ("monthly", False)
    assert record.error
    assert [step.name for step in record.steps] == ["check-points", "restore-stores"]
    assert record.seconds > 0, "also of one that failed, it is told how long it took"


def test_the_annual_review_of_the_records_is_filed(world: World) -> None:
    answer = world.cli("drill", "annual").answer
    assert "Backup strategy review" in answer["review"]
    assert "| quarterly | storage-failure |" in answer["review"]
    (place,) = answer["filed"]
    s3, bucket = world.sandbox.aws().client("s3"), world.app.environment.buckets[DOCUMENTS]
    kept = s3.get_object(Bucket=bucket, Key=place.removeprefix(f"s3://{bucket}/"))
    assert kept["Body"].read().decode() == answer["review"]
    assert kept.get("ObjectLockMode") == "GOVERNANCE"
