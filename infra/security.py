"""What the Security team is told of, as it happens: whatever endangers the backups themselves.

The escalation levels learn that a backup or a proof is missing. Somebody who takes a key away, opens a bucket or ends
the trail makes nothing fail today: so CloudTrail's events of just these calls go to a topic of the Security team's own,
each with who, from where and when. None of them is part of a day's work: our roles may do none of it, `pulumi up` does
some when it changes something, and whoever ran it expects the mail.

A region's rules see that region's calls. Those of the second region hand what concerns the copies to the home region's
event bus, where the home rules know the copies too, so that it is told in one place. In a vault account the copies are
that account's to watch: it is there so that whoever took over this one neither reaches them nor hides their trail.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import LOGS, PROJECT, SecurityEvent, security_rule, trail_name
from infra.alerting import security_events
from infra.identity import home_event_bus
from infra.replica import Replica
from infra.settings import Settings
from infra.tags import aws_tags

# Every call that ends a key's use, or lets others use it.
_KEY_CALLS = ("CreateGrant", "DisableKey", "DisableKeyRotation", "PutKeyPolicy", "ScheduleKeyDeletion")
# Every call that weakens how a bucket keeps what it holds, by CloudTrail's names, which are not always the API's.
_BUCKET_CALLS = (
    "DeleteBucket",
    "DeleteBucketEncryption",
    "DeleteBucketLifecycle",
    "DeleteBucketPolicy",
    "DeleteBucketPublicAccessBlock",
    "DeleteBucketReplication",
    "PutBucketAcl",
    "PutBucketEncryption",
    "PutBucketLifecycle",
    "PutBucketLifecycleConfiguration",
    "PutBucketLogging",
    "PutBucketObjectLockConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketReplication",
    "PutBucketVersioning",
)
_LOCK_CALLS = ("PutObjectLegalHold", "PutObjectRetention")
_TRAIL_CALLS = ("DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail")
_DENIED = ("AccessDenied", "AccessDeniedException")
# Decrypting only reads, and rules see calls that only read when they ask for them.
_ALSO_READING = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
_TOLD = {
    SecurityEvent.KEY_AT_RISK: "a backup key was disabled, is to be deleted, or was opened to somebody",
    SecurityEvent.BUCKET_CHANGED: "how a backup bucket protects what it holds was changed",
    SecurityEvent.LOCK_CHANGED: "the lock of an object was touched",
    SecurityEvent.VERSION_DELETED: "a version in a backup bucket was deleted for good",
    SecurityEvent.BUCKET_ACCESS_DENIED: "access to a backup bucket was denied",
    SecurityEvent.KEY_ACCESS_DENIED: "the use of a backup key was denied",
    SecurityEvent.TRAIL_CHANGED: "the audit trail was stopped or changed",
}


@dataclass(frozen=True, kw_only=True)
class SecurityArgs:
    """What is watched, and who is told.

    Attributes:
        key_arns: use to ARN of every key.
        bucket_names: use to name of every bucket.
        topic_arn: the Security team's topic.
        copies: the second region's, where this account owns them.
        second_region: the provider of that region.
        forwarder_arn: role that its rules hand events to the home region under.
    """

    settings: Settings
    key_arns: Mapping[str, pulumi.Input[str]]
    bucket_names: Mapping[str, pulumi.Input[str]]
    topic_arn: pulumi.Input[str]
    copies: Replica | None = None
    second_region: aws.Provider | None = None
    forwarder_arn: pulumi.Input[str] | None = None


class Security(pulumi.ComponentResource):
    """The rules."""

    def __init__(self, name: str, args: SecurityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Security", name, None, opts)
        settings = args.settings
        self._settings = settings
        here = Watched(keys=tuple(args.key_arns.values()), buckets=tuple(args.bucket_names.values()))
        there = Watched()
        if args.copies is not None:
            there = Watched(
                keys=tuple(args.copies.key_arns.values()),
                # Nobody restores from the copies' access logs; their bucket is no copy.
                buckets=tuple(bucket for use, bucket in args.copies.names.items() if use != LOGS),
            )
        watched = Watched(keys=here.keys + there.keys, buckets=here.buckets + there.buckets)
        for event in security_events(settings):
            rule = self._build_rule(event, watched, pulumi.ResourceOptions(parent=self))
            aws.cloudwatch.EventTarget(
                f"{security_rule(settings.environment, event)}-topic",
                rule=rule.name,
                target_id="security-team",
                arn=args.topic_arn,
                input_transformer=_message(settings.environment, event),
                opts=pulumi.ResourceOptions(parent=rule),
            )
            # A trail of every region is changed in its home region only.
            if there.keys and event is not SecurityEvent.TRAIL_CHANGED:
                self._build_forwarding(event, there, args)
        self.register_outputs({})

    def _build_forwarding(self, event: SecurityEvent, there: "Watched", args: SecurityArgs) -> None:
        settings, provider = self._settings, args.second_region
        rule = self._build_rule(event, there, pulumi.ResourceOptions(parent=self, provider=provider), "-replica")
        aws.cloudwatch.EventTarget(
            f"{security_rule(settings.environment, event)}-home",
            rule=rule.name,
            target_id="home-region",
            arn=home_event_bus(settings),
            role_arn=args.forwarder_arn,
            opts=pulumi.ResourceOptions(parent=rule, provider=provider),
        )

    def _build_rule(
        self, event: SecurityEvent, watched: "Watched", opts: pulumi.ResourceOptions, suffix: str = ""
    ) -> aws.cloudwatch.EventRule:
        settings = self._settings
        name = security_rule(settings.environment, event)
        return aws.cloudwatch.EventRule(
            f"{name}{suffix}",
            name=name,
            description=f"{PROJECT} {settings.environment}: {_TOLD[event]}",
            event_pattern=pulumi.Output.json_dumps(pattern(event, settings, watched), separators=(",", ":")),
            state=_ALSO_READING if event is SecurityEvent.KEY_ACCESS_DENIED else "ENABLED",
            tags=aws_tags(settings, component="security", data_class="none"),
            opts=opts,
        )


@dataclass(frozen=True, kw_only=True)
class Watched:
    """ARNs of keys and names of buckets."""

    keys: tuple[pulumi.Input[str], ...] = ()
    buckets: tuple[pulumi.Input[str], ...] = ()


def pattern(event: SecurityEvent, settings: Settings, watched: Watched) -> dict[str, Any]:
    """Which of CloudTrail's events a rule tells of, in EventBridge's words."""
    keys = {"resources": {"ARN": list(watched.keys)}}
    in_buckets: dict[str, dict[str, Any]] = {"requestParameters": {"bucketName": list(watched.buckets)}}
    match event:
        case SecurityEvent.KEY_AT_RISK:
            return _calls("kms", {**keys, "eventName": _KEY_CALLS})
        case SecurityEvent.BUCKET_CHANGED:
            return _calls("s3", {**in_buckets, "eventName": _BUCKET_CALLS})
        case SecurityEvent.LOCK_CHANGED:
            return _calls("s3", {**in_buckets, "eventName": _LOCK_CALLS})
        case SecurityEvent.VERSION_DELETED:
            # Deleting an object leaves a delete marker; only a call that names a version takes something away.
            one_version = {"requestParameters": {**in_buckets["requestParameters"], "versionId": [{"exists": True}]}}
            return _calls("s3", {**one_version, "eventName": ["DeleteObject"]})
        case SecurityEvent.BUCKET_ACCESS_DENIED:
            return _calls("s3", {**in_buckets, "errorCode": _DENIED})
        case SecurityEvent.KEY_ACCESS_DENIED:
            return _calls("kms", {**keys, "errorCode": _DENIED})
        case SecurityEvent.TRAIL_CHANGED:
            name = trail_name(settings.environment)
            arn = f"arn:aws:cloudtrail:{settings.region}:{settings.account_id}:trail/{name}"
            trail = {"requestParameters": {"name": [name, arn]}}
            return _calls("cloudtrail", {**trail, "eventName": _TRAIL_CALLS})


def _calls(service: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": [f"aws.{service}"],
        "detail-type": ["AWS API Call via CloudTrail"],
        "detail": {"eventSource": [f"{service}.amazonaws.com"], **detail},
    }


def _message(environment: str, event: SecurityEvent) -> aws.cloudwatch.EventTargetInputTransformerArgs:
    """One line for a person; what it leaves out is in the trail, under the event's id."""
    paths = {
        "call": "$.detail.eventName",
        "who": "$.detail.userIdentity.arn",
        "where": "$.detail.sourceIPAddress",
        "when": "$.detail.eventTime",
        "error": "$.detail.errorCode",
        "bucket": "$.detail.requestParameters.bucketName",
        "id": "$.detail.eventID",
    }
    line = (
        f"{PROJECT} {environment}: {_TOLD[event]}: <call> <bucket> <error> by <who> from <where> at <when>, "
        "CloudTrail event <id>. If nobody of us did this: disable the identity, keep the trail, and call the "
        "on-call engineer."
    )
    return aws.cloudwatch.EventTargetInputTransformerArgs(input_paths=paths, input_template=json.dumps(line))
