"""The buckets: one per component, the locked compliance bucket, and the bucket of their access logs."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import ACCESS_LOGS_PREFIX, COMPLIANCE, LOGS, bucket_name
from aivo_backup.policy.retention import (
    ABORT_MULTIPART_AFTER_DAYS,
    AUDIT_DAYS,
    COMPLIANCE_DAYS,
    STANDARD_IA_AFTER_DAYS,
)
from infra.bucket_policies import compliance_bucket_policy, data_bucket_policy, log_bucket_policy
from infra.settings import Settings
from infra.tags import aws_tags

_Rule = aws.s3.BucketLifecycleConfigurationRuleArgs
_Expiration = aws.s3.BucketLifecycleConfigurationRuleExpirationArgs
_Noncurrent = aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs
_Transition = aws.s3.BucketLifecycleConfigurationRuleTransitionArgs
_AbortMultipart = aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """What the buckets depend on.

    Attributes:
        key_arns: component and ``compliance`` to KMS key ARN.
    """

    settings: Settings
    key_arns: Mapping[str, pulumi.Output[str]]


class Storage(pulumi.ComponentResource):
    """The buckets.

    Attributes:
        names: component, ``compliance`` and ``logs`` to bucket name.
    """

    names: Mapping[str, str]

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Storage", name, None, opts)
        self._settings = args.settings
        uses = (*(component.value for component in Component), COMPLIANCE, LOGS)
        self.names = {use: bucket_name(use, args.settings.bucket_suffix) for use in uses}
        logs = self._build_log_bucket()
        for component in Component:
            self._build_data_bucket(component, args.key_arns[component.value], logs)
        self._build_compliance_bucket(args.key_arns[COMPLIANCE], logs)
        self.register_outputs({"names": dict(self.names)})

    def _build_data_bucket(self, component: Component, key_arn: pulumi.Output[str], logs: aws.s3.BucketPolicy) -> None:
        use = component.value
        bucket = self._build_bucket(use, data_class="operational")
        self._build_encryption(use, bucket, key_arn)
        self._build_lifecycle(use, bucket, data_lifecycle(component, self._settings))
        self._build_logging(use, bucket, logs)
        policy = key_arn.apply(lambda arn: data_bucket_policy(self.names[use], arn))
        self._build_policy(use, bucket, policy)

    def _build_compliance_bucket(self, key_arn: pulumi.Output[str], logs: aws.s3.BucketPolicy) -> None:
        settings = self._settings
        bucket = self._build_bucket(COMPLIANCE, data_class="compliance", locked=True)
        self._build_encryption(COMPLIANCE, bucket, key_arn)
        aws.s3.BucketObjectLockConfiguration(
            f"{COMPLIANCE}-lock",
            bucket=bucket.id,
            # Writers set each record's own retention; the default catches what is written by hand.
            rule={"default_retention": {"mode": settings.evidence.mode.value, "days": settings.evidence.days}},
            opts=pulumi.ResourceOptions(parent=bucket),
        )
        self._build_lifecycle(COMPLIANCE, bucket, compliance_lifecycle())
        self._build_logging(COMPLIANCE, bucket, logs)
        days = settings.evidence.days
        policy = key_arn.apply(lambda arn: compliance_bucket_policy(self.names[COMPLIANCE], arn, lock_days=days))
        self._build_policy(COMPLIANCE, bucket, policy)

    def _build_log_bucket(self) -> aws.s3.BucketPolicy:
        bucket = self._build_bucket(LOGS, data_class="audit")
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{LOGS}-encryption",
            bucket=bucket.id,
            # S3 delivers access logs neither to a bucket whose default is KMS nor to one with a default lock.
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=pulumi.ResourceOptions(parent=bucket),
        )
        self._build_lifecycle(LOGS, bucket, log_lifecycle())
        sources = [self.names[use] for use in self.names if use != LOGS]
        policy = log_bucket_policy(self.names[LOGS], sources=sources, account_id=self._settings.account_id)
        return self._build_policy(LOGS, bucket, policy)

    def _build_bucket(self, use: str, *, data_class: str, locked: bool = False) -> aws.s3.Bucket:
        settings = self._settings
        bucket = aws.s3.Bucket(
            f"{use}-bucket",
            bucket=self.names[use],
            object_lock_enabled=locked,
            # Only the sandbox may throw away a bucket that still holds something.
            force_destroy=settings.sandbox and not locked,
            tags=aws_tags(settings, component=use, data_class=data_class),
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
        aws.s3.BucketVersioning(
            f"{use}-versioning",
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=pulumi.ResourceOptions(parent=bucket),
        )
        aws.s3.BucketPublicAccessBlock(
            f"{use}-public-access",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=pulumi.ResourceOptions(parent=bucket),
        )
        aws.s3.BucketOwnershipControls(
            f"{use}-ownership",
            bucket=bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=pulumi.ResourceOptions(parent=bucket),
        )
        return bucket

    def _build_encryption(self, use: str, bucket: aws.s3.Bucket, key_arn: pulumi.Output[str]) -> None:
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{use}-encryption",
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": key_arn,
                    },
                    # One data key per bucket and hour instead of one per object: KMS is neither throttled nor billed
                    # by the number of objects.
                    "bucket_key_enabled": True,
                    "blocked_encryption_types": ["SSE-C"],
                }
            ],
            opts=pulumi.ResourceOptions(parent=bucket),
        )

    def _build_lifecycle(self, use: str, bucket: aws.s3.Bucket, rules: list[_Rule]) -> None:
        aws.s3.BucketLifecycleConfiguration(
            f"{use}-lifecycle", bucket=bucket.id, rules=rules, opts=pulumi.ResourceOptions(parent=bucket)
        )

    def _build_logging(self, use: str, bucket: aws.s3.Bucket, logs: aws.s3.BucketPolicy) -> None:
        aws.s3.BucketLogging(
            f"{use}-logging",
            bucket=bucket.id,
            # By way of the policy: until it is there, S3 may not deliver.
            target_bucket=logs.bucket,
            target_prefix=f"{ACCESS_LOGS_PREFIX}{use}/",
            opts=pulumi.ResourceOptions(parent=bucket),
        )

    def _build_policy(self, use: str, bucket: aws.s3.Bucket, policy: pulumi.Input[str]) -> aws.s3.BucketPolicy:
        return aws.s3.BucketPolicy(
            f"{use}-policy", bucket=bucket.id, policy=policy, opts=pulumi.ResourceOptions(parent=bucket)
        )


def data_lifecycle(component: Component, settings: Settings) -> list[_Rule]:
    """Lifecycle of a component's bucket.

    Nothing here expires a current object: each store's own retention decides what is still needed. The rules only
    trail it, by clearing versions that have been superseded or deleted for as long as the store keeps its points.
    """
    noncurrent_days = {
        Component.POSTGRES: settings.postgres.recovery_window_days,
        Component.MINIO: settings.minio.retention_days,
        Component.OPENSEARCH: settings.opensearch.retention_days,
    }[component]
    return [
        _rule(
            "clear-superseded-versions",
            noncurrent_version_expiration=_Noncurrent(noncurrent_days=noncurrent_days),
            # A delete marker whose last version has gone.
            expiration=_Expiration(expired_object_delete_marker=True),
        ),
        _to_standard_ia(),
        _abort_multipart(),
    ]


def compliance_lifecycle() -> list[_Rule]:
    """Records and reports go when their seven years are over: no child's data is kept for ever (COPPA)."""
    return [
        _end_of_retention(COMPLIANCE_DAYS),
        _to_standard_ia(),
        _abort_multipart(),
    ]


def log_lifecycle() -> list[_Rule]:
    """Access logs are audit logs: three years."""
    return [
        _end_of_retention(AUDIT_DAYS),
        _abort_multipart(),
    ]


def _end_of_retention(days: int) -> _Rule:
    return _rule(
        "end-of-retention",
        expiration=_Expiration(days=days),
        # What expires becomes a version under a delete marker; it is not kept a second time.
        noncurrent_version_expiration=_Noncurrent(noncurrent_days=1),
    )


def _to_standard_ia() -> _Rule:
    transition = _Transition(days=STANDARD_IA_AFTER_DAYS, storage_class="STANDARD_IA")
    return _rule("to-standard-ia", transitions=[transition])


def _abort_multipart() -> _Rule:
    return _rule(
        "abort-abandoned-uploads",
        abort_incomplete_multipart_upload=_AbortMultipart(days_after_initiation=ABORT_MULTIPART_AFTER_DAYS),
    )


def _rule(
    name: str,
    *,
    expiration: _Expiration | None = None,
    noncurrent_version_expiration: _Noncurrent | None = None,
    transitions: list[_Transition] | None = None,
    abort_incomplete_multipart_upload: _AbortMultipart | None = None,
) -> _Rule:
    return _Rule(
        id=name,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        expiration=expiration,
        noncurrent_version_expiration=noncurrent_version_expiration,
        transitions=transitions,
        abort_incomplete_multipart_upload=abort_incomplete_multipart_upload,
    )
