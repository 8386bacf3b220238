"""One lease per component keeps runs apart, and nothing needs a delete."""

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aivo_backup.catalog.lease import RESTORE, TERM, Lease, LeaseHeldError
from aivo_backup.errors import ConfigurationError
from aivo_backup.liveness import this_process
from aivo_backup.policy.environment import Component
from tests.unit.conftest import SetClock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


_SAY_AND_WAIT = """
import sys
from aivo_backup.liveness import this_process

print(this_process(), flush=True)
sys.stdin.read()
"""


def _written_by(s3: "S3Client", process: str) -> None:
    """The lease as another process would have written it."""
    bucket, key = "aivo-backup-postgres", "leases/postgres"
    text = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps({**text, "process": process}).encode())


@pytest.fixture
def lease(s3: "S3Client", clock: SetClock) -> Lease:
    return Lease(
        s3=s3, bucket="aivo-backup-postgres", component=Component.POSTGRES, kms_key="alias/aws/s3", clock=clock
    )


def test_a_second_holder_is_refused_and_told_who_holds_it(lease: Lease) -> None:
    with (
        lease.held("first"),
        pytest.raises(LeaseHeldError, match="leases/postgres is held by first until 2026-11-22T01:02:00"),
        lease.held("second"),
    ):
        pass


def test_it_is_free_again_after_the_block_also_after_a_failure(lease: Lease) -> None:
    with pytest.raises(ValueError, match="boom"), lease.held("first"):
        raise ValueError("boom")
    with lease.held("second"):
        pass


def test_what_is_no_lease_is_named_and_left_as_it_is(lease: Lease, s3: "S3Client") -> None:
    with lease.held("first"):
        pass
    key = "leases/postgres"
    s3.put_object(Bucket="aivo-backup-postgres", Key=key, Body=b"x")
    with pytest.raises(ConfigurationError, match=f"{key} is not a lease"), lease.held("second"):
        pass
    assert s3.get_object(Bucket="aivo-backup-postgres", Key=key)["Body"].read() == b"x"


def test_a_killed_holder_is_taken_over_after_the_term_and_not_before(lease: Lease, clock: SetClock) -> None:
    killed = lease.held("killed")
    killed.__enter__()
    clock.forward(TERM.total_seconds() - 1)
    with pytest.raises(LeaseHeldError), lease.held("second"):
        pass
    clock.forward(2)
    with lease.held("second"):
        pass


def test_whoever_waits_takes_over_from_the_dead_and_not_from_one_at_work(lease: Lease, clock: SetClock) -> None:
    killed = lease.held("killed")
    killed.__enter__()
    begun = clock()
    with lease.held("retry", sleep=clock.forward):
        assert clock() - begun >= TERM
        looks: list[float] = []
        renewed: list[object] = []

        def the_holder_renews(seconds: float) -> None:
            clock.forward(seconds)
            looks.append(seconds)
            renewed.append(again := lease.held("retry"))
            again.__enter__()

        with pytest.raises(LeaseHeldError, match="held by retry"), lease.held("other", sleep=the_holder_renews):
            pass
        assert len(looks) == 1
        behind: list[float] = []
        with pytest.raises(LeaseHeldError), lease.held("other", sleep=behind.append):
            pass
        assert TERM.total_seconds() < sum(behind) < 3 * TERM.total_seconds(), "a clock that stands still"


def test_a_holder_killed_on_this_machine_is_taken_over_at_once(lease: Lease, s3: "S3Client") -> None:
    """A process of its own wrote the lease and died with it."""
    argv = [sys.executable, "-c", _SAY_AND_WAIT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        with lease.held("killed"):
            _written_by(s3, name)
            with pytest.raises(LeaseHeldError), lease.held("second"):
                pass
            other.kill()
            other.wait()
            with lease.held("second"):
                held = json.loads(s3.get_object(Bucket="aivo-backup-postgres", Key="leases/postgres")["Body"].read())
                assert (held["holder"], held["process"]) == ("second", this_process())


@pytest.mark.parametrize(
    "name", ["", "no-such-boot/pid:[1] 1 1", "?", f"{this_process().rsplit(' ', 2)[0]} x y", this_process()]
)
def test_whoever_is_not_known_to_be_dead_holds_on(lease: Lease, s3: "S3Client", name: str) -> None:
    with lease.held("first"):
        _written_by(s3, name)
        with pytest.raises(LeaseHeldError), lease.held("second"):
            pass


def test_restores_and_backups_do_not_keep_each_other_away(lease: Lease, s3: "S3Client", clock: SetClock) -> None:
    other = Lease(
        s3=s3,
        bucket="aivo-backup-postgres",
        component=Component.POSTGRES,
        kms_key="alias/aws/s3",
        clock=clock,
        purpose=RESTORE,
    )
    with lease.held("backup"), other.held("restore"):
        pass


def test_of_two_that_take_over_at_once_one_wins(lease: Lease, clock: SetClock) -> None:
    lease.held("killed").__enter__()
    clock.forward(TERM.total_seconds() + 1)
    stale = lease._current()  # pyright: ignore[reportPrivateUsage] -- both have read the same stale lease
    assert stale is not None
    with lease.held("winner"), pytest.raises(LeaseHeldError):
        lease._write("loser", clock() + TERM, if_match=stale.etag)  # pyright: ignore[reportPrivateUsage] -- as above


def test_no_version_is_ever_deleted(lease: Lease, s3: "S3Client") -> None:
    s3.put_bucket_versioning(Bucket="aivo-backup-postgres", VersioningConfiguration={"Status": "Enabled"})
    with lease.held("a"):
        pass
    listing = s3.list_object_versions(Bucket="aivo-backup-postgres")
    assert "DeleteMarkers" not in listing
    assert len(listing.get("Versions", [])) == 2
