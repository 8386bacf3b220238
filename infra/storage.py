"""The buckets: one per component, one per class of what is locked, and one for their access logs."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AUDIT, COMPLIANCE, DOCUMENTS, LOGS, VAULT, bucket_name
from aivo_backup.policy.retention import AUDIT_DAYS, COMPLIANCE_DAYS, DISASTER_RECOVERY_DOCUMENT_DAYS
from infra.bucket import GuardedBucket, GuardedBucketArgs, Lock
from infra.bucket_policies import audit_bucket_policy, data_bucket_policy, locked_bucket_policy, log_bucket_policy
from infra.lifecycles import data_lifecycle, locked_lifecycle, log_lifecycle
from infra.settings import Settings

LOCKED_DAYS = {
    # The catalog and the reports.
    COMPLIANCE: COMPLIANCE_DAYS,
    # What CloudTrail saw. Services set no lock per object, so what has another retention has another bucket.
    AUDIT: AUDIT_DAYS,
    # Plans, journals of recoveries and minutes of drills.
    DOCUMENTS: DISASTER_RECOVERY_DOCUMENT_DAYS,
    # The monthly copies in a portable form.
    VAULT: COMPLIANCE_DAYS,
}
"""Retention of each class that is locked."""

BUCKETS = (*(component.value for component in Component), *LOCKED_DAYS, LOGS)


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """What the buckets depend on.

    Attributes:
        key_arns: component and ``compliance`` to KMS key ARN.
    """

    settings: Settings
    key_arns: Mapping[str, pulumi.Output[str]]


class Storage(pulumi.ComponentResource):
    """The buckets of the home region.

    Attributes:
        names: use to bucket name.
        buckets: use to the bucket itself, but for that of the logs.
    """

    names: Mapping[str, str]
    buckets: Mapping[str, GuardedBucket]

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Storage", name, None, opts)
        self._settings = args.settings
        self._in_component = pulumi.ResourceOptions(parent=self)
        self.names = {use: bucket_name(use, args.settings.bucket_suffix) for use in BUCKETS}
        if args.settings.block_public_account:
            self._close_account()
        logs = self._build_log_bucket()
        data = {
            component.value: self._build_data_bucket(component, args.key_arns[component.value], logs)
            for component in Component
        }
        locked = {use: self._build_locked_bucket(use, args.key_arns[COMPLIANCE], logs) for use in LOCKED_DAYS}
        self.buckets = {**data, **locked}
        self.register_outputs({"names": dict(self.names)})

    def _close_account(self) -> None:
        aws.s3.AccountPublicAccessBlock(
            "account-public-access",
            account_id=self._settings.account_id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            # Every bucket of the account stands behind it: an environment that goes must not take it along.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )

    def _build_data_bucket(
        self, component: Component, key_arn: pulumi.Output[str], logs: aws.s3.BucketPolicy
    ) -> GuardedBucket:
        use = component.value
        return GuardedBucket(
            use,
            GuardedBucketArgs(
                settings=self._settings,
                use=use,
                bucket=self.names[use],
                data_class="operational",
                key_arn=key_arn,
                policy=key_arn.apply(lambda arn: data_bucket_policy(self.names[use], arn)),
                lifecycle=data_lifecycle(component, self._settings),
                log_bucket=logs,
            ),
            self._in_component,
        )

    def _build_locked_bucket(self, use: str, key_arn: pulumi.Output[str], logs: aws.s3.BucketPolicy) -> GuardedBucket:
        lock = lock_of(self._settings, use)
        return GuardedBucket(
            use,
            GuardedBucketArgs(
                settings=self._settings,
                use=use,
                bucket=self.names[use],
                data_class="audit" if use == AUDIT else "compliance",
                key_arn=key_arn,
                policy=key_arn.apply(lambda arn: locked_policy(self._settings, use, self.names[use], arn)),
                lifecycle=locked_lifecycle(LOCKED_DAYS[use]),
                lock=lock,
                log_bucket=logs,
            ),
            self._in_component,
        )

    def _build_log_bucket(self) -> aws.s3.BucketPolicy:
        sources = [self.names[use] for use in self.names if use != LOGS]
        logs = GuardedBucket(
            LOGS,
            GuardedBucketArgs(
                settings=self._settings,
                use=LOGS,
                bucket=self.names[LOGS],
                data_class="audit",
                # S3 delivers access logs neither to a bucket whose default is KMS nor to one with a default lock.
                key_arn=None,
                policy=log_bucket_policy(self.names[LOGS], sources=sources, account_id=self._settings.account_id),
                lifecycle=log_lifecycle(),
            ),
            self._in_component,
        )
        return logs.policy


def lock_of(settings: Settings, use: str) -> Lock:
    """How a class is locked: in production for as long as it is kept, elsewhere for the days that are set."""
    days = LOCKED_DAYS[use] if settings.production else min(settings.evidence.days, LOCKED_DAYS[use])
    return Lock(mode=settings.evidence.mode, days=days)


def locked_policy(settings: Settings, use: str, bucket: str, key_arn: str) -> str:
    """The policy of a locked bucket. CloudTrail, which knows no write-once, has one of its own."""
    days = lock_of(settings, use).days
    if use == AUDIT:
        return audit_bucket_policy(settings, bucket, key_arn, lock_days=days)
    return locked_bucket_policy(bucket, key_arn, lock_days=days)
