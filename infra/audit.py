"""CloudTrail: who touched the buckets and the keys, in the locked audit bucket."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import trail_name
from infra.bucket import GuardedBucket
from infra.settings import Settings
from infra.tags import aws_tags


@dataclass(frozen=True, kw_only=True)
class AuditArgs:
    """What the trail depends on.

    Attributes:
        audit_bucket: where it is delivered.
        watched_buckets: ARNs of the buckets whose every read and write is recorded.
        key_arn: the key that the log files are encrypted with.
    """

    settings: Settings
    audit_bucket: GuardedBucket
    watched_buckets: Sequence[pulumi.Input[str]]
    key_arn: pulumi.Input[str]


class Audit(pulumi.ComponentResource):
    """The trail."""

    def __init__(self, name: str, args: AuditArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Audit", name, None, opts)
        settings = args.settings
        selector = aws.cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs
        trail = aws.cloudtrail.Trail(
            "trail",
            name=trail_name(settings.environment),
            s3_bucket_name=args.audit_bucket.bucket.bucket,
            kms_key_id=args.key_arn,
            # Calls in a region that we do not use are just the ones to know about.
            is_multi_region_trail=True,
            include_global_service_events=True,
            # Digests, chained and signed by CloudTrail: a log file that was changed or removed shows.
            enable_log_file_validation=True,
            advanced_event_selectors=[
                aws.cloudtrail.TrailAdvancedEventSelectorArgs(
                    name="management events",
                    field_selectors=[selector(field="eventCategory", equals=["Management"])],
                ),
                aws.cloudtrail.TrailAdvancedEventSelectorArgs(
                    name="every object of the backup buckets",
                    field_selectors=[
                        selector(field="eventCategory", equals=["Data"]),
                        selector(field="resources.type", equals=["AWS::S3::Object"]),
                        selector(
                            field="resources.ARN",
                            starts_withs=[pulumi.Output.concat(bucket, "/") for bucket in args.watched_buckets],
                        ),
                    ],
                ),
            ],
            tags=aws_tags(settings, component="audit", data_class="audit"),
            # CloudTrail looks at the bucket's policy before it agrees.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.audit_bucket.policy], protect=settings.protect),
        )
        self.register_outputs({"trail": trail.arn})
