"""What ``aivo-backup init postgres`` does: cipher envelope, stanza, and a check that archiving works."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from aivo_backup.stores.port import Progress
from aivo_backup.stores.postgres.envelope import RegionKey, seal_new_pass
from aivo_backup.stores.postgres.reach import wait_for_sidecar
from aivo_backup.stores.postgres.runners import Runners

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


def make_envelope(
    s3: "S3Client", *, bucket: str, keys: Mapping[str, RegionKey], now: datetime, progress: Progress
) -> None:
    """Makes the cipher envelope, unless it is there. The sidecar starts only after this.

    Raises:
        RefusedError: the bucket holds a repository and no envelope.
        AccessDeniedError, UnreachableError: S3 or KMS.
    """
    made = seal_new_pass(s3, bucket=bucket, keys=keys, now=now)
    progress(f"cipher envelope in {bucket}: {'made' if made else 'there'}, wrapped for {', '.join(keys)}")


def make_stanza(runners: Runners, *, sidecar_timeout_seconds: float, progress: Progress) -> None:
    """Creates the stanza (again: changes nothing) and proves with a real segment that archiving works.

    Args:
        sidecar_timeout_seconds: how long to wait for the sidecar, which restarts until the envelope is there.

    Raises:
        UnreachableError: the sidecar, PostgreSQL or S3 does not answer.
        ConfigurationError: archiving is not set up, or the stanza is of another cluster.
    """
    wait_for_sidecar(runners.settings, timeout_seconds=sidecar_timeout_seconds)
    client = runners.client()
    client.run("stanza-create")
    progress(f"stanza {runners.settings.stanza}: created or there")
    client.run("check")
    progress("a WAL segment went through archive_command into the repository")
