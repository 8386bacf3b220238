"""What the agent publishes, from records that are known, and that a source which is away takes only its own along."""

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import (
    BackupRun,
    Check,
    Expiry,
    Phase,
    Purpose,
    Recovery,
    RecoveryPoint,
    Restore,
    RunStatus,
)
from aivo_backup.errors import UnreachableError
from aivo_backup.observability.facts import CatalogFacts, bucket_facts, key_facts
from aivo_backup.observability.loops import Loops, Source
from aivo_backup.observability.metrics import Board, Sample
from aivo_backup.observability.serving import application, serve
from aivo_backup.policy import metrics as named
from aivo_backup.policy.environment import (
    BackupKind,
    Component,
    Environment,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
)
from aivo_backup.policy.schedules import BACKUPS
from tests.unit.conftest import EVIDENCE

MONTH = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
ENVIRONMENT = Environment(
    name="test",
    region="us-east-1",
    account_id="1",
    buckets={},
    keys={},
    evidence=EVIDENCE,
    postgres=PostgresSettings(host="p", sidecar_host="p"),
    minio=MinioSettings(endpoint="https://m"),
    opensearch=OpenSearchSettings(endpoint="https://o"),
    backups=tuple(row for row in BACKUPS if row.name == "minio-backup-incr"),
)


def run(at: datetime, status: RunStatus = RunStatus.SUCCEEDED, *, seconds: float = 45) -> BackupRun:
    return BackupRun(
        id=f"minio-incr-{at:%Y%m%dT%H%M%SZ}",
        component=Component.MINIO,
        kind=BackupKind.INCREMENTAL,
        job="minio-backup-incr",
        started=at,
        finished=at + timedelta(seconds=seconds),
        status=status,
        version="1",
    )


def point(at: datetime, component: Component = Component.MINIO) -> RecoveryPoint:
    return RecoveryPoint(
        id=f"{component}-{at:%Y%m%d_%H%M%S}",
        component=component,
        kind=BackupKind.INCREMENTAL,
        run_id="",
        started=at,
        recoverable_at=at,
        size_bytes=1,
    )


def restored(at: datetime, *, passed: bool) -> Restore:
    return Restore(
        id=f"test-minio-{at:%Y%m%dT%H%M%SZ}",
        component=Component.MINIO,
        purpose=Purpose.TEST,
        recovery_point="x",
        started=at,
        finished=at,
        target_time=at,
        loss_seconds=30.0,
        phases=(Phase(name="restore", seconds=4.0), Phase(name="verify", seconds=2.5)),
        checks=(Check(name="bytes", passed=passed, detail=""),),
    )


def expired(at: datetime, status: RunStatus = RunStatus.SUCCEEDED) -> Expiry:
    return Expiry(
        id=f"expiry-minio-{at:%Y%m%dT%H%M%SZ}",
        component=Component.MINIO,
        job="minio-prune",
        started=at,
        finished=at,
        status=status,
        version="1",
    )


def values(samples: Iterable[Sample], metric: str, **labels: str) -> list[float]:
    return [one.value for one in samples if one.metric == metric and labels.items() <= dict(one.labels).items()]


def test_runs_are_counted_by_how_they_ended_and_missed_ones_too(catalog: Catalog) -> None:
    for record in (
        run(MONTH),
        run(MONTH + timedelta(minutes=30), RunStatus.FAILED),
        run(MONTH + timedelta(hours=1), seconds=700),
        run(MONTH + timedelta(hours=1, minutes=30), RunStatus.SUPERSEDED),
        run(MONTH - timedelta(minutes=30)),
    ):
        catalog.append(record)
    found = list(CatalogFacts(catalog, ENVIRONMENT)(MONTH + timedelta(hours=3, minutes=10)))
    counts = {status: values(found, named.JOBS, status=status) for status in ("success", "failed", "superseded")}
    # The run of last month is not this month's.
    assert counts == {"success": [2.0], "failed": [1.0], "superseded": [1.0]}
    # 02:00 and 02:30 never came; that of 03:00 still may.
    assert values(found, named.JOBS, status="missed") == [2.0]
    buckets = {dict(one.labels)["le"]: one.value for one in found if one.suffix == "_bucket"}
    assert (buckets["30"], buckets["60"], buckets["600"], buckets["900"], buckets["+Inf"]) == (0, 1, 1, 2, 2)
    assert [one.value for one in found if one.suffix == "_sum"] == [745.0]


def test_an_agent_that_starts_again_counts_to_the_same_number(catalog: Catalog) -> None:
    facts = CatalogFacts(catalog, ENVIRONMENT)
    for hour in range(4):
        catalog.append(run(MONTH + timedelta(hours=hour)))
        once = values(facts(MONTH + timedelta(hours=hour, minutes=20)), named.JOBS, status="success")
        afresh = CatalogFacts(catalog, ENVIRONMENT)(MONTH + timedelta(hours=hour, minutes=20))
        assert once == values(afresh, named.JOBS, status="success") == [hour + 1.0]


def test_each_record_is_read_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = CatalogFacts(catalog, ENVIRONMENT)
    catalog.append(run(MONTH))
    list(facts(NOW))
    known: list[int] = []
    news = Catalog.news

    def counted(self: Catalog, kind: type[BackupRun], **more: object) -> list[BackupRun]:
        read = news(self, kind, **more)  # pyright: ignore[reportArgumentType] -- handed on as it came
        known.append(len(read))
        return read

    monkeypatch.setattr(Catalog, "news", counted)
    list(facts(NOW + timedelta(minutes=1)))
    assert known == [0, 0, 0, 0, 0]


def test_the_newest_point_and_test_are_known_also_in_the_months_first_hour(catalog: Catalog) -> None:
    before = MONTH - timedelta(hours=2)
    catalog.append(point(before))
    catalog.append(restored(before - timedelta(hours=1), passed=True))
    catalog.append(restored(before, passed=False))
    found = list(CatalogFacts(catalog, ENVIRONMENT)(MONTH + timedelta(minutes=1)))
    assert values(found, named.NEWEST_POINT, component="minio") == [before.timestamp()]
    # The newest that passed, and the result of the newest: not the same test.
    assert values(found, named.NEWEST_TEST, component="minio") == [(before - timedelta(hours=1)).timestamp()]
    assert values(found, named.TEST_PASSED, component="minio") == [0.0]
    assert values(found, named.LOSS, component="minio") == [30.0]
    assert values(found, named.RESTORE_TIME, component="minio") == [6.5]
    assert values(found, named.NEWEST_POINT, component="opensearch") == []


def test_an_expiry_counts_only_when_it_succeeded(catalog: Catalog) -> None:
    good = MONTH - timedelta(hours=2)
    for record in (expired(good - timedelta(hours=1)), expired(good), expired(MONTH, RunStatus.FAILED)):
        catalog.append(record)
    found = list(CatalogFacts(catalog, ENVIRONMENT)(MONTH + timedelta(minutes=10)))
    assert values(found, named.NEWEST_EXPIRY) == [good.timestamp()]


def drilled(at: datetime, scenario: str, *, exercise: str = "quarterly", error: str = "") -> Recovery:
    return Recovery(
        id=f"{scenario}-{at:%Y%m%dT%H%M%SZ}",
        scenario=scenario,
        purpose=Purpose.DRILL,
        exercise=exercise,
        started=at,
        finished=at,
        steps=(),
        checks=(Check(name="rows", passed=True, detail=""),),
        predicted_seconds=1.0,
        error=error,
    )


def test_a_drill_counts_when_all_of_it_passed_however_long_ago(catalog: Catalog) -> None:
    long_ago = MONTH - timedelta(days=400)
    for record in (
        drilled(long_ago, "database-corruption"),
        drilled(long_ago + timedelta(hours=1), "storage-failure"),
        drilled(MONTH, "storage-failure"),
        drilled(MONTH, "database-corruption", error="the disk is full"),
        drilled(MONTH, "storage-failure", exercise="monthly", error="the disk is full"),
    ):
        catalog.append(record)
    facts = CatalogFacts(catalog, ENVIRONMENT)
    found = list(facts(NOW))
    assert values(found, named.NEWEST_DRILL, exercise="quarterly") == [long_ago.timestamp()]
    assert values(found, named.NEWEST_DRILL, exercise="monthly") == []
    catalog.append(drilled(NOW, "storage-failure", exercise="monthly"))
    again = list(facts(NOW + timedelta(minutes=1)))
    assert values(again, named.NEWEST_DRILL, exercise="monthly") == [NOW.timestamp()]
    assert values(again, named.NEWEST_DRILL, exercise="quarterly") == [long_ago.timestamp()]


def test_a_key_that_is_disabled_or_granted_shows(s3: object) -> None:
    kms = boto3.client("kms", region_name="us-east-1")
    arns = {use: kms.create_key()["KeyMetadata"].get("Arn", "") for use in ("minio", "postgres")}
    kms.disable_key(KeyId=arns["minio"].rpartition("/")[2])
    kms.create_grant(KeyId=arns["postgres"], GranteePrincipal="arn:aws:iam::123456789012:root", Operations=["Decrypt"])
    found = list(key_facts(kms, arns)(NOW))
    assert values(found, named.KEY_USABLE, key="minio") == [0.0]
    assert values(found, named.KEY_USABLE, key="postgres") == [1.0]
    assert values(found, named.KEY_GRANTS, key="postgres") == [1.0]


def test_a_buckets_size_is_what_aws_measured(s3: object) -> None:
    cloudwatch = boto3.client("cloudwatch", region_name="us-east-1")
    now = datetime.now(UTC)
    for storage, days, size in (
        ("StandardStorage", 2, 5.0),
        ("StandardStorage", 1, 700.0),
        ("StandardIAStorage", 1, 50.0),
    ):
        dimensions: Any = [{"Name": "BucketName", "Value": "b"}, {"Name": "StorageType", "Value": storage}]
        measured: Any = {
            "MetricName": "BucketSizeBytes",
            "Dimensions": dimensions,
            "Timestamp": now - timedelta(days=days),
            "Value": size,
        }
        cloudwatch.put_metric_data(Namespace="AWS/S3", MetricData=[measured])
    # The newest of each storage class, together; a bucket that AWS has not measured yet has no value.
    found = list(bucket_facts(cloudwatch, ["b", "new"])(now))
    assert [(dict(one.labels), one.value) for one in found] == [({"bucket": "b"}, 750.0)]


def away(_now: datetime) -> list[Sample]:
    raise UnreachableError("OpenSearch is away")


def beat(now: datetime) -> list[Sample]:
    return [Sample(metric=named.HEARTBEAT, value=now.timestamp(), labels={"component": "minio"})]


def test_a_source_that_fails_takes_its_own_values_away_and_no_others() -> None:
    board = Board()
    assert board.look("a", beat, NOW) is None
    assert board.look("b", beat, NOW) is None
    assert str(board.look("b", away, NOW)) == "OpenSearch is away"
    families = {family.name: family for family in text_string_to_metric_families(board.exposition().decode())}
    assert [sample.value for sample in families[named.HEARTBEAT].samples] == [NOW.timestamp()]
    up = {sample.labels["source"]: sample.value for sample in families[named.SOURCE_UP].samples}
    assert up == {"a": 1.0, "b": 0.0}


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_a_store_that_hangs_delays_no_other_and_the_agent_is_ready_when_all_were_asked(port: int) -> None:
    let_go = threading.Event()
    beats: list[datetime] = []
    told: list[str] = []

    def hang(_now: datetime) -> list[Sample]:
        let_go.wait(20)
        raise UnreachableError("no answer for minutes")

    def count(now: datetime) -> list[Sample]:
        beats.append(now)
        return beat(now)

    board = Board()
    loops = Loops(
        board,
        [
            Source(name="postgres", gather=hang, every_seconds=0.01),
            Source(name="minio", gather=count, every_seconds=0.01),
        ],
        clock=lambda: datetime.now(UTC),
        tell=lambda source, error: told.append(f"{source}: {error}"),
    )
    stop = serve(application(board, alive=loops.alive, ready=loops.ready), host="127.0.0.1", port=port)
    try:
        assert fetch(port, "/healthz")[0] == 503, "not started yet"
        loops.start()
        until(lambda: len(beats) > 5)
        assert fetch(port, "/healthz") == (200, "ok\n")
        assert fetch(port, "/readyz")[0] == 503
        assert named.HEARTBEAT in fetch(port, "/metrics")[1]
        let_go.set()
        until(loops.ready)
        assert fetch(port, "/readyz") == (200, "ok\n")
        assert fetch(port, "/")[0] == 404
        assert told[0] == "postgres: no answer for minutes"
    finally:
        let_go.set()
        loops.end()
        stop()


def test_a_loop_that_dies_of_a_defect_is_not_alive(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_arguments: threading.ExceptHookArgs) -> None:
        pass  # pytest would warn of what is meant to happen

    monkeypatch.setattr(threading, "excepthook", silent)

    def broken(_now: datetime) -> list[Sample]:
        raise ValueError("a defect")

    loops = Loops(
        Board(),
        [Source(name="x", gather=broken, every_seconds=1)],
        clock=lambda: NOW,
        tell=lambda _source, _error: None,
    )
    loops.start()
    until(lambda: not loops.alive())
