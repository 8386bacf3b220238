"""A second region for a lab's repository: bucket, key, replication, and an engine that knows nothing of the first."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import boto3

from aivo_backup.stores.port import silent
from aivo_backup.stores.postgres.envelope import RegionKey, open_pass
from aivo_backup.stores.postgres.setup import make_envelope
from aivo_backup.stores.postgres.store import PostgresStore
from tests.sandbox.postgres_lab import Lab
from tests.sandbox.second_region import copy_to, wipe


@dataclass(kw_only=True)
class SecondRegion:
    """The region and what is in it. ``aws`` is a session there."""

    lab: Lab
    aws: boto3.Session
    region: str = "us-west-2"
    key: str = field(default="", init=False)

    @property
    def bucket(self) -> str:
        return f"{self.lab.bucket}-there"

    def build(self) -> None:
        """Makes bucket, key and replication, and wraps the cipher pass as `init` does."""
        lab = self.lab
        kms = self.aws.client("kms")
        self.key = kms.create_key()["KeyMetadata"].get("Arn", "")
        copy_to(lab.s3, lab.bucket, there=self.aws, bucket=self.bucket, key=self.key)
        keys = {
            lab.region: RegionKey(kms=lab.kms, key=lab.kms_key),
            self.region: RegionKey(kms=kms, key=self.key),
        }
        make_envelope(lab.s3, bucket=lab.bucket, keys=keys, now=datetime.now(UTC), progress=silent)

    def cipher_pass(self, bucket: str) -> str:
        """The repository's pass, opened with this region's key."""
        return open_pass(self.aws.client("s3"), bucket=bucket, region=self.region, kms=self.aws.client("kms"))

    def store(self) -> PostgresStore:
        """The engine on the copy, which is given nothing of the home region."""
        access = replace(
            self.lab.access,
            bucket=self.bucket,
            region=self.region,
            kms_key=self.key,
            cipher_pass=lambda: self.cipher_pass(self.bucket),
            behind_sidecar=False,
        )
        return self.lab.store(access=access, s3=self.aws.client("s3"))

    def lose_home(self) -> None:
        """Every version of every object of the home bucket is gone."""
        wipe(self.lab.s3, self.lab.bucket)
