"""What each source says: the stores as only the cluster sees them, the catalog, and AWS."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.records import BackupRun, Expiry, Purpose, Recovery, RecoveryPoint, Restore, RunStatus
from aivo_backup.catalog.stand_ins import told_once
from aivo_backup.errors import AccessDeniedError
from aivo_backup.evidence.build import backup_attempts, backup_expectations
from aivo_backup.observability.metrics import Sample
from aivo_backup.policy import metrics as named
from aivo_backup.policy.drills import Exercise
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.policy.slo import SlotState, settle
from aivo_backup.recovery.drills import passed_at
from aivo_backup.stores.aws import translated
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.postgres.archive import Archive, Login, archive_lag, connect

if TYPE_CHECKING:
    from types_boto3_cloudwatch.client import CloudWatchClient
    from types_boto3_kms.client import KMSClient

_R = TypeVar("_R", BackupRun, RecoveryPoint, Restore, Expiry, Recovery)

_STATUSES = {
    RunStatus.SUCCEEDED: named.SUCCESS,
    RunStatus.FAILED: named.FAILED,
    RunStatus.PARTIAL: named.PARTIAL,
    RunStatus.SUPERSEDED: named.SUPERSEDED,
}
_CLUSTER_STATUSES = ("green", "yellow", "red")
# A record that had to wait in a spool is filed under its own day; later than this it is told by the reports alone.
_LATE = timedelta(days=3)
# At a month's first hour, the newest point and test are still those of the days before.
_LOOK_BACK = timedelta(days=3)
# Before every record. Recoveries are a few a year, and a drill that was held long ago must stay known: were it
# forgotten, what is overdue would look like what has never been due.
_EVER = datetime(2000, 1, 1, tzinfo=UTC)
_STORAGE_CLASSES = ("StandardStorage", "StandardIAStorage")
_DAY_SECONDS = 86400


def postgres_facts(login: Callable[[], Login], archive: Archive) -> Callable[[datetime], Iterator[Sample]]:
    """The archiver of the live database against the newest WAL in the repository.

    Asynchronous archiving reports success when the segment is in its spool; only the comparison shows what is lost.
    """

    def gather(_now: datetime) -> Iterator[Sample]:
        with connect(login()) as connection:
            # The repository first: a segment that arrives in between must not look lost.
            claimed_first = archive_lag(connection, None).claimed
            newest = archive.newest_listed()
            lag = archive_lag(connection, newest)
        lost = lag.behind if lag.held < claimed_first else 0
        yield Sample(metric=named.WAL_LOST, value=lost)
        yield Sample(metric=named.WAL_WAITING, value=lag.waiting)
        yield Sample(metric=named.ARCHIVE_FAILING, value=float(lag.failed_since is not None))
        if lag.held_at is not None:
            yield Sample(metric=named.ARCHIVED, value=lag.held_at.timestamp())

    return gather


def opensearch_facts(cluster: Callable[[], Cluster]) -> Callable[[datetime], Iterator[Sample]]:
    """The cluster's health."""

    def gather(_now: datetime) -> Iterator[Sample]:
        health = cluster().get("_cluster", "health", what="reading OpenSearch's health")
        for status in _CLUSTER_STATUSES:
            is_it = float(health["status"] == status)
            yield Sample(metric=named.CLUSTER_STATUS, value=is_it, labels={"status": status})
        yield Sample(metric=named.CLUSTER_NODES, value=float(health["number_of_nodes"]))
        yield Sample(metric=named.UNASSIGNED_SHARDS, value=float(health["unassigned_shards"]))

    return gather


def key_facts(kms: "KMSClient", keys: Mapping[str, str]) -> Callable[[datetime], Iterator[Sample]]:
    """Whether each key (use to ARN) is enabled, and how many grants it has. A key that may not be looked at counts as
    one that cannot be used."""

    def gather(_now: datetime) -> Iterator[Sample]:
        for use, arn in sorted(keys.items()):
            labels = {"key": use}
            try:
                with translated(f"KMS key {arn}"):
                    state = kms.describe_key(KeyId=arn)["KeyMetadata"].get("KeyState")
                    grants = len(kms.list_grants(KeyId=arn)["Grants"])
            except AccessDeniedError:
                yield Sample(metric=named.KEY_USABLE, value=0.0, labels=labels)
                continue
            yield Sample(metric=named.KEY_USABLE, value=float(state == "Enabled"), labels=labels)
            yield Sample(metric=named.KEY_GRANTS, value=grants, labels=labels)

    return gather


def bucket_facts(cloudwatch: "CloudWatchClient", buckets: Iterable[str]) -> Callable[[datetime], Iterator[Sample]]:
    """What AWS measured of each bucket last; listing every version ourselves would cost more than it tells."""
    names = sorted(set(buckets))

    def size(bucket: str, now: datetime) -> float | None:
        total: float | None = None
        for storage in _STORAGE_CLASSES:
            with translated(f"CloudWatch: size of {bucket}"):
                points = cloudwatch.get_metric_statistics(
                    Namespace="AWS/S3",
                    MetricName="BucketSizeBytes",
                    Dimensions=[{"Name": "BucketName", "Value": bucket}, {"Name": "StorageType", "Value": storage}],
                    StartTime=now - timedelta(days=3),
                    EndTime=now,
                    Period=_DAY_SECONDS,
                    Statistics=["Average"],
                )["Datapoints"]
            measured = [(point.get("Timestamp", now), point.get("Average", 0.0)) for point in points]
            if measured:
                total = (total or 0.0) + max(measured)[1]
        return total

    def gather(now: datetime) -> Iterator[Sample]:
        for bucket in names:
            found = size(bucket, now)
            if found is not None:
                yield Sample(metric=named.BUCKET_SIZE, value=found, labels={"bucket": bucket})

    return gather


class CatalogFacts:
    """What the catalog says of this month (UTC). Reads each record once.

    Counters start at zero with the month, not with the process: an agent that starts again counts to the same number,
    so Prometheus takes neither its restart for new runs, nor what happened meanwhile for nothing.
    """

    def __init__(self, catalog: Catalog, environment: Environment) -> None:
        self._catalog = catalog
        self._environment = environment
        self._month: datetime | None = None
        self._runs: dict[str, BackupRun] = {}
        self._points: dict[str, RecoveryPoint] = {}
        self._restores: dict[str, Restore] = {}
        self._expiries: dict[str, Expiry] = {}
        self._recoveries: dict[str, Recovery] = {}

    def __call__(self, now: datetime) -> Iterator[Sample]:
        """The samples as of ``now``."""
        month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        turned = month != self._month
        since = month - _LOOK_BACK if turned else now - _LATE
        self._read(since, forget_before=month - _LOOK_BACK)
        self._take(Recovery, self._recoveries, _EVER if turned else since, forget_before=_EVER)
        self._month = month
        runs = [run for run in told_once(self._runs.values()) if run.started >= month]
        tests = [test for test in told_once(self._restores.values()) if test.purpose is Purpose.TEST]
        yield from self._jobs(runs, month, now)
        yield from _durations(runs)
        yield from self._freshness(tests)
        yield from _test_counts([test for test in tests if test.started >= month])
        yield from _drills(self._recoveries.values())

    def _read(self, since: datetime, *, forget_before: datetime) -> None:
        self._take(BackupRun, self._runs, since, forget_before)
        self._take(RecoveryPoint, self._points, since, forget_before)
        self._take(Restore, self._restores, since, forget_before)
        self._take(Expiry, self._expiries, since, forget_before)

    def _take(self, kind: type[_R], kept: dict[str, _R], since: datetime, forget_before: datetime) -> None:
        for name in [name for name, record in kept.items() if record.moment < forget_before]:
            del kept[name]
        for record in self._catalog.news(kind, since=since, known=kept.keys()):
            kept[record.id] = record

    def _jobs(self, runs: Sequence[BackupRun], month: datetime, now: datetime) -> Iterator[Sample]:
        counts = Counter((run.component, run.job, _STATUSES[run.status]) for run in runs)
        # Before the first record, nothing was provisioned yet, so nothing was missed.
        moments = [record.moment for record in (*self._runs.values(), *self._points.values())]
        in_service = min(moments, default=now)
        settled = settle(
            backup_expectations(self._environment),
            backup_attempts(runs),
            since=max(month, in_service),
            until=now,
            now=now,
        )
        missed = Counter(slot.job for slot in settled.slots if slot.state is SlotState.MISSING)
        for row in self._environment.backups:
            for status in (named.SUCCESS, named.FAILED, named.PARTIAL, named.SUPERSEDED):
                counts.setdefault((row.component, row.name, status), 0)
            counts[row.component, row.name, named.MISSED] = missed[row.name]
        for (component, job, status), count in sorted(counts.items()):
            labels = {"component": component.value, "job_name": job, "status": status}
            yield Sample(metric=named.JOBS, value=count, labels=labels)

    def _freshness(self, tests: Sequence[Restore]) -> Iterator[Sample]:
        for component in Component:
            labels = {"component": component.value}
            points = [point.recoverable_at for point in self._points.values() if point.component is component]
            if points:
                yield Sample(metric=named.NEWEST_POINT, value=max(points).timestamp(), labels=labels)
            expiries = [entry.started for entry in self._expiries.values() if _succeeded(entry, component)]
            if expiries:
                yield Sample(metric=named.NEWEST_EXPIRY, value=max(expiries).timestamp(), labels=labels)
            own = sorted((test for test in tests if test.component is component), key=lambda test: test.started)
            passed = [test for test in own if test.passed]
            if passed:
                yield Sample(metric=named.NEWEST_TEST, value=passed[-1].started.timestamp(), labels=labels)
            if own:
                yield Sample(metric=named.TEST_PASSED, value=float(own[-1].passed), labels=labels)
                yield Sample(metric=named.RESTORE_TIME, value=own[-1].seconds, labels=labels)
            if own and own[-1].loss_seconds is not None:
                yield Sample(metric=named.LOSS, value=own[-1].loss_seconds, labels=labels)


def _drills(records: Iterable[Recovery]) -> Iterator[Sample]:
    known = tuple(records)
    for exercise in Exercise:
        moment = passed_at(known, exercise)
        if moment is not None:
            yield Sample(metric=named.NEWEST_DRILL, value=moment.timestamp(), labels={"exercise": exercise.value})


def _succeeded(entry: Expiry, component: Component) -> bool:
    return entry.component is component and entry.status is RunStatus.SUCCEEDED


def _durations(runs: Iterable[BackupRun]) -> Iterator[Sample]:
    taken: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run.status is RunStatus.SUCCEEDED:
            key = (run.component.value, run.kind.value)
            taken.setdefault(key, []).append((run.finished - run.started).total_seconds())
    for (component, kind), seconds in sorted(taken.items()):
        labels = {"component": component, "kind": kind}
        counts = [0] * (len(named.DURATION_BUCKETS) + 1)
        for one in seconds:
            counts[bisect_left(named.DURATION_BUCKETS, one)] += 1
        below = 0
        for bound, count in zip((*named.DURATION_BUCKETS, None), counts, strict=True):
            below += count
            at_most = "+Inf" if bound is None else f"{bound:g}"
            yield Sample(metric=named.DURATION, suffix="_bucket", value=below, labels={**labels, "le": at_most})
        yield Sample(metric=named.DURATION, suffix="_sum", value=sum(seconds), labels=labels)
        yield Sample(metric=named.DURATION, suffix="_count", value=len(seconds), labels=labels)


def _test_counts(tests: Iterable[Restore]) -> Iterator[Sample]:
    counts = Counter((test.component.value, test.passed) for test in tests)
    for component in Component:
        for passed, status in ((True, named.SUCCESS), (False, named.FAILED)):
            labels = {"component": component.value, "status": status}
            yield Sample(metric=named.TESTS, value=counts[component.value, passed], labels=labels)
