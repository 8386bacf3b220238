"""Lifecycles of buckets, in days. They follow the retention classes and never go ahead of a store's own retention."""

import pulumi_aws as aws

from aivo_backup.policy.environment import Component
from aivo_backup.policy.retention import ABORT_MULTIPART_AFTER_DAYS, AUDIT_DAYS, STANDARD_IA_AFTER_DAYS
from infra.settings import Settings

Rule = aws.s3.BucketLifecycleConfigurationRuleArgs
_Expiration = aws.s3.BucketLifecycleConfigurationRuleExpirationArgs
_Noncurrent = aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs
_Transition = aws.s3.BucketLifecycleConfigurationRuleTransitionArgs
_AbortMultipart = aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs


def data_lifecycle(component: Component, settings: Settings) -> list[Rule]:
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


def locked_lifecycle(retention_days: int) -> list[Rule]:
    """What is locked goes when its class is over: no child's data is kept for ever (COPPA)."""
    return [_end_of_retention(retention_days), _to_standard_ia(), _abort_multipart()]


def log_lifecycle() -> list[Rule]:
    """Access logs are audit logs."""
    return [_end_of_retention(AUDIT_DAYS), _abort_multipart()]


def _end_of_retention(days: int) -> Rule:
    return _rule(
        "end-of-retention",
        expiration=_Expiration(days=days),
        # What expires becomes a version under a delete marker; it is not kept a second time.
        noncurrent_version_expiration=_Noncurrent(noncurrent_days=1),
    )


def _to_standard_ia() -> Rule:
    transition = _Transition(days=STANDARD_IA_AFTER_DAYS, storage_class="STANDARD_IA")
    return _rule("to-standard-ia", transitions=[transition])


def _abort_multipart() -> Rule:
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
) -> Rule:
    return Rule(
        id=name,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        expiration=expiration,
        noncurrent_version_expiration=noncurrent_version_expiration,
        transitions=transitions,
        abort_incomplete_multipart_upload=abort_incomplete_multipart_upload,
    )
