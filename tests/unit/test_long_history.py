"""What is asked of the catalog for today costs the same after years: told by S3's requests, not by a clock."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import boto3
import pytest
from moto import mock_aws

from aivo_backup.catalog.catalog import Catalog, record_key
from aivo_backup.catalog.spool import Spool
from aivo_backup.catalog.standing import Standing
from aivo_backup.errors import UsageError
from aivo_backup.jobs.register import register
from aivo_backup.jobs.standing import not_obsolete
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component
from aivo_backup.stores.port import HeldPoint
from tests.unit.conftest import EVIDENCE, SetClock
from tests.unit.test_jobs import ToldStore
from tests.unit.test_standing import NOW, environment, point, reconciliation

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

T = TypeVar("T")
DAYS, A_DAY = 350, 6
# Every point of the last days is there, and one of long ago, which a restore test has passed.
HELD_DAYS = 40
ENVIRONMENT = environment(minio_days=HELD_DAYS)
VERIFIED = point(200, 0)


class Requests:
    """A client that counts what it is asked."""

    def __init__(self, s3: "S3Client") -> None:
        self.counted: Counter[str] = Counter()
        s3.meta.events.register("before-call.s3", self._count)

    def _count(self, model: object, **_: object) -> None:
        self.counted[getattr(model, "name", "")] += 1

    def of(self, ask: Callable[[], T]) -> tuple[T, Counter[str]]:
        """What it answers, and in how many requests of each kind."""
        self.counted.clear()
        return ask(), Counter(self.counted)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A catalog of ten months, of which most points were expired, with a reconciliation of last night."""

    catalog: Catalog
    requests: Requests


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket=EVIDENCE.bucket, ObjectLockEnabledForBucket=True)
        catalog = Catalog(s3=s3, evidence=EVIDENCE, kms_key="alias/aws/s3", spool=Spool(tmp_path_factory.mktemp("s")))
        points = [point(day, number) for day in range(DAYS) for number in range(A_DAY)]
        for each in points:
            s3.put_object(Bucket=EVIDENCE.bucket, Key=record_key(each), Body=json.dumps(to_json(each)))
        last_night = NOW - timedelta(hours=17)
        kept = [each for each in points if NOW - each.moment < timedelta(days=HELD_DAYS)]
        found = (VERIFIED.id, *(each.id for each in kept if each.moment < last_night))
        catalog.append(reconciliation(last_night, found=found))
        yield Asked(catalog=catalog, requests=Requests(s3))


def test_the_newest_point_takes_one_days_records(asked: Asked) -> None:
    catalog = asked.catalog
    newest, told = asked.requests.of(lambda: catalog.newest_point(Component.MINIO))
    assert newest == point(0, 0)
    assert told == {"ListObjectsV2": 2, "GetObject": A_DAY}


def test_a_point_by_name_is_one_record_and_few_listings(asked: Asked) -> None:
    catalog = asked.catalog
    found, told = asked.requests.of(lambda: catalog.point(Component.MINIO, VERIFIED.id))
    assert found == VERIFIED
    assert told["GetObject"] == 1
    assert told["ListObjectsV2"] < 12, "whole weeks at a time"


def test_a_name_that_nothing_has_reads_no_other_record(asked: Asked) -> None:
    def ask() -> None:
        with pytest.raises(UsageError, match=f"newest: {point(0, 0).id}"):
            asked.catalog.point(Component.MINIO, "20200101_000000")

    assert asked.requests.of(ask)[1]["GetObject"] == A_DAY, "those of the day of the newest, to name it"


def test_the_newest_at_or_before_a_moment_reads_that_day(asked: Asked) -> None:
    catalog = asked.catalog
    moment = point(100, 2).moment + timedelta(minutes=1)
    newest, told = asked.requests.of(lambda: catalog.point_at(Component.MINIO, moment))
    assert newest == point(100, 2)
    assert told == {"ListObjectsV2": 2, "GetObject": A_DAY}


def test_the_oldest_is_named_from_its_own_day(asked: Asked) -> None:
    oldest = point(DAYS - 1, A_DAY - 1)

    def ask() -> None:
        with pytest.raises(UsageError, match=f"before 2020-01-01.* the oldest, {oldest.id},"):
            asked.catalog.point_at(Component.MINIO, datetime(2020, 1, 1, tzinfo=UTC))

    assert asked.requests.of(ask)[1]["GetObject"] <= A_DAY


def test_what_can_be_restored_is_told_from_the_time_that_matters(asked: Asked) -> None:
    catalog = asked.catalog
    stood, told = asked.requests.of(lambda: not_obsolete(catalog, ENVIRONMENT, Component.MINIO, now=NOW))
    assert [each.point for each in stood if each.point.moment < NOW - timedelta(days=HELD_DAYS)] == [VERIFIED]
    assert len(stood) == 1 + HELD_DAYS * A_DAY
    assert {each.standing for each in stood} == {Standing.VALID}
    # A week more than retention, so that what was lost at its end is still shown; the registration; the verified one.
    assert told["GetObject"] <= (HELD_DAYS + 8) * A_DAY + 2
    assert told["ListObjectsV2"] < 16


def test_reconciliation_reads_no_more_than_what_is_held_or_should_be(asked: Asked, clock: SetClock) -> None:
    clock.now = NOW
    sets = [replace(point(day, 0), id=f"{day}F", component=Component.POSTGRES) for day in (6, 7, 8)]
    for each in sets:
        asked.catalog.append(each)
    store = ToldStore(clock)
    store.held = tuple(
        HeldPoint(point=each.id, kind=each.kind, started=each.moment, recoverable_at=each.moment, size_bytes=1)
        for each in sets[1:]
    )

    def ask() -> None:
        registration = register(
            store, scheduled_for=NOW, catalog=asked.catalog, clock=clock, kept_for=lambda _: timedelta(days=14)
        )
        assert (registration.recorded, registration.missing) == ((), (sets[0].id,))

    assert asked.requests.of(ask)[1]["GetObject"] <= (14 + 3) * A_DAY
