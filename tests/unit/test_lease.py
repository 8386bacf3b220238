"""One lease per component keeps runs apart, and nothing needs a delete."""

from typing import TYPE_CHECKING

import pytest

from aivo_backup.catalog.lease import TERM, Lease, LeaseHeldError
from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import Component
from tests.unit.conftest import SetClock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


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


def test_of_two_that_take_over_at_once_one_wins(lease: Lease, clock: SetClock) -> None:
    lease.held("killed").__enter__()
    clock.forward(TERM.total_seconds() + 1)
    stale = lease._current()  # pyright: ignore[reportPrivateUsage] -- both have read the same stale lease
    assert stale is not None
    with lease.held("winner"), pytest.raises(LeaseHeldError):
        lease._write("loser", clock() + TERM, if_match=stale[2])  # pyright: ignore[reportPrivateUsage] -- as above


def test_no_version_is_ever_deleted(lease: Lease, s3: "S3Client") -> None:
    s3.put_bucket_versioning(Bucket="aivo-backup-postgres", VersioningConfiguration={"Status": "Enabled"})
    with lease.held("a"):
        pass
    listing = s3.list_object_versions(Bucket="aivo-backup-postgres")
    assert "DeleteMarkers" not in listing
    assert len(listing.get("Versions", [])) == 2
