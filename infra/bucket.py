"""One bucket with all its guards: versions, encryption, no public access, one owner, access log, lifecycle, lock."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import LockMode
from aivo_backup.policy.names import ACCESS_LOGS_PREFIX
from infra.lifecycles import Rule
from infra.settings import Settings
from infra.tags import aws_tags


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The default Object Lock; writers set each object's own, the default catches what they do not write."""

    mode: LockMode
    days: int


@dataclass(frozen=True, kw_only=True)
class GuardedBucketArgs:
    """One bucket.

    Attributes:
        use: the component or class; prefix of the names of its resources.
        bucket: its name in S3.
        data_class: the retention class, as a tag.
        key_arn: the customer-managed key; None for S3's own key (the log bucket alone).
        policy: the bucket policy.
        lifecycle: its rules.
        lock: None where nothing is locked.
        log_bucket: where its access log goes, by way of that bucket's policy; None for the log bucket itself.
    """

    settings: Settings
    use: str
    bucket: str
    data_class: str
    key_arn: pulumi.Input[str] | None
    policy: pulumi.Input[str]
    lifecycle: list[Rule]
    lock: Lock | None = None
    log_bucket: aws.s3.BucketPolicy | None = None


class GuardedBucket(pulumi.ComponentResource):
    """The bucket and what is set on it.

    Attributes:
        bucket: the bucket.
        policy: its policy; whoever delivers into the bucket waits for it.
        versioning: replication can only be set up after it.
    """

    bucket: aws.s3.Bucket
    policy: aws.s3.BucketPolicy
    versioning: aws.s3.BucketVersioning

    def __init__(self, name: str, args: GuardedBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:GuardedBucket", name, None, opts)
        self._args = args
        self.bucket = self._build_bucket()
        self._on_bucket = pulumi.ResourceOptions(parent=self.bucket)
        self.versioning = self._build_versioning()
        self._build_encryption()
        self._build_access()
        self._build_lock()
        self._build_lifecycle()
        self.policy = aws.s3.BucketPolicy(
            f"{args.use}-policy", bucket=self.bucket.id, policy=args.policy, opts=self._on_bucket
        )
        self._build_logging()
        self.register_outputs({"bucket": self.bucket.bucket})

    def _build_bucket(self) -> aws.s3.Bucket:
        args, settings = self._args, self._args.settings
        return aws.s3.Bucket(
            f"{args.use}-bucket",
            bucket=args.bucket,
            object_lock_enabled=args.lock is not None,
            # Only the sandbox may throw away a bucket that still holds something.
            force_destroy=settings.sandbox and args.lock is None,
            tags=aws_tags(settings, component=args.use, data_class=args.data_class),
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )

    def _build_versioning(self) -> aws.s3.BucketVersioning:
        return aws.s3.BucketVersioning(
            f"{self._args.use}-versioning",
            bucket=self.bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=self._on_bucket,
        )

    def _build_encryption(self) -> None:
        default: aws.s3.BucketServerSideEncryptionConfigurationRuleArgsDict
        if self._args.key_arn is None:
            default = {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
        else:
            default = {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": "aws:kms",
                    "kms_master_key_id": self._args.key_arn,
                },
                # One data key per bucket and hour instead of one per object: KMS is neither throttled nor billed by
                # the number of objects.
                "bucket_key_enabled": True,
                "blocked_encryption_types": ["SSE-C"],
            }
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{self._args.use}-encryption", bucket=self.bucket.id, rules=[default], opts=self._on_bucket
        )

    def _build_access(self) -> None:
        aws.s3.BucketPublicAccessBlock(
            f"{self._args.use}-public-access",
            bucket=self.bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._on_bucket,
        )
        aws.s3.BucketOwnershipControls(
            f"{self._args.use}-ownership",
            bucket=self.bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=self._on_bucket,
        )

    def _build_lock(self) -> None:
        lock = self._args.lock
        if lock is not None:
            aws.s3.BucketObjectLockConfiguration(
                f"{self._args.use}-lock",
                bucket=self.bucket.id,
                rule={"default_retention": {"mode": lock.mode.value, "days": lock.days}},
                opts=self._on_bucket,
            )

    def _build_lifecycle(self) -> None:
        aws.s3.BucketLifecycleConfiguration(
            f"{self._args.use}-lifecycle", bucket=self.bucket.id, rules=self._args.lifecycle, opts=self._on_bucket
        )

    def _build_logging(self) -> None:
        if self._args.log_bucket is not None:
            aws.s3.BucketLogging(
                f"{self._args.use}-logging",
                bucket=self.bucket.id,
                # By way of the policy: until it is there, S3 may not deliver.
                target_bucket=self._args.log_bucket.bucket,
                target_prefix=f"{ACCESS_LOGS_PREFIX}{self._args.use}/",
                opts=self._on_bucket,
            )
