"""The plans that break a control: each control must see every one of its own."""

from collections.abc import Callable
from typing import Any

from tests.infra.controls import access, storage, workloads
from tests.infra.controls.security_mutants import SECURITY
from tests.infra.plans import (
    Document,
    Mutation,
    Plan,
    Resource,
    add_statement,
    drop_statement,
    edit_policy,
    remove,
    set_input,
    set_option,
    widened,
)

Control = Callable[[Plan], list[str]]

_POLICY = ":BucketPolicy"
_ROLE_POLICY = ":RolePolicy"
_BUCKET = "s3/bucket:Bucket"
_KEY = "kms/key:Key"
_LIFECYCLE = ":BucketLifecycleConfiguration"
_CRONJOB = ":CronJob"
_POD = ("spec", "jobTemplate", "spec", "template", "spec")
_VERIFY = "aivo-backup-prod-verify-restore"
_REGISTER = "aivo-backup-prod-register-snapshot"


def _allow(sid: str, action: str, resource: str) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def _without_condition(sid: str) -> Callable[[list[Document]], None]:
    def change(entries: list[Document]) -> None:
        for entry in entries:
            if entry["Sid"] == sid:
                del entry["Condition"]

    return change


def _with(kind: str, **inputs: Any) -> Mutation:
    """A mutation that adds a resource."""
    return lambda plan: plan.resources.append(
        Resource(type=kind, name="added", parent="", inputs=inputs, options={}),
    )


def _as_zip(runtime: str, **more: str) -> Mutation:
    """A mutation that runs the verification from a zip."""

    def mutate(plan: Plan) -> None:
        inputs = plan.one(":Function", _VERIFY).inputs
        del inputs["imageUri"]
        inputs |= {"packageType": "Zip", "runtime": runtime, **more}

    return mutate


_OIDC = "oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE33333333333333333333333333"

MUTANTS: list[tuple[Control, str, Mutation]] = [
    (
        storage.account_closed_to_the_public,
        "not closed",
        remove(":AccountPublicAccessBlock", "account-public-access"),
    ),
    (
        storage.account_closed_to_the_public,
        "a switch off",
        set_input(":AccountPublicAccessBlock", "account-public-access", ("ignorePublicAcls",), False),
    ),
    (
        storage.account_closed_to_the_public,
        "open again with the stack",
        set_option(":AccountPublicAccessBlock", "account-public-access", "retainOnDelete", False),
    ),
    (
        storage.public_access_blocked,
        "a switch off",
        set_input(":BucketPublicAccessBlock", "minio-public-access", ("blockPublicPolicy",), False),
    ),
    (storage.public_access_blocked, "no block", remove(":BucketPublicAccessBlock", "logs-public-access")),
    (
        storage.versioned,
        "suspended",
        set_input(":BucketVersioning", "postgres-versioning", ("versioningConfiguration", "status"), "Suspended"),
    ),
    (
        storage.encrypted_with_own_key,
        "AWS's key",
        set_input(
            ":BucketServerSideEncryptionConfiguration",
            "minio-encryption",
            ("rules", 0, "applyServerSideEncryptionByDefault", "sseAlgorithm"),
            "AES256",
        ),
    ),
    (storage.access_logged, "not logged", remove(":BucketLogging", "compliance-logging")),
    (
        storage.no_acls,
        "ACLs count",
        set_input(":BucketOwnershipControls", "minio-ownership", ("rule", "objectOwnership"), "ObjectWriter"),
    ),
    (storage.has_lifecycle, "no lifecycle", remove(_LIFECYCLE, "opensearch-lifecycle")),
    (
        storage.current_objects_stay,
        "expires archive.info",
        set_input(_LIFECYCLE, "postgres-lifecycle", ("rules", 0, "expiration"), {"days": 30}),
    ),
    (
        storage.versions_outlive_points,
        "too early",
        set_input(_LIFECYCLE, "minio-lifecycle", ("rules", 0, "noncurrentVersionExpiration", "noncurrentDays"), 29),
    ),
    (storage.only_over_tls, "plain HTTP", drop_statement(_POLICY, "minio-policy", "OnlyOverTls")),
    (storage.only_over_tls, "old TLS", drop_statement(_POLICY, "compliance-policy", "OnlyModernTls")),
    (storage.customer_keys_denied, "SSE-C", drop_statement(_POLICY, "postgres-policy", "NoCustomerProvidedKeys")),
    (storage.wrong_key_denied, "any key", drop_statement(_POLICY, "opensearch-policy", "NoOtherKey")),
    (
        storage.wrong_key_denied,
        "denies the default too",
        edit_policy(
            _POLICY,
            "minio-policy",
            widened("NoOtherKey", "Null", "s3:x-amz-server-side-encryption-aws-kms-key-id", "true"),
        ),
    ),
    (
        storage.no_foreign_principal,
        "another account",
        add_statement(
            _POLICY,
            "postgres-policy",
            {
                **_allow("Partner", "s3:GetObject", "arn:aws:s3:::x/*"),
                "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
            },
        ),
    ),
    (storage.records_written_once, "overwritten", drop_statement(_POLICY, "compliance-policy", "WriteOnce")),
    (storage.records_written_once, "hidden", drop_statement(_POLICY, "compliance-policy", "NoDeleteMarkers")),
    (storage.locked, "no lock", remove(":BucketObjectLockConfiguration", "compliance-lock")),
    (
        storage.locked,
        "can be lifted",
        set_input(
            ":BucketObjectLockConfiguration", "compliance-lock", ("rule", "defaultRetention", "mode"), "GOVERNANCE"
        ),
    ),
    (
        storage.locked,
        "outlives its promise",
        set_input(":BucketObjectLockConfiguration", "compliance-lock", ("rule", "defaultRetention", "days"), 3650),
    ),
    (storage.records_written_once, "audit hidden", drop_statement(_POLICY, "audit-policy", "NoDeleteMarkers")),
    (storage.locked, "vault unlocked", remove(":BucketObjectLockConfiguration", "vault-lock")),
    (
        storage.locked_objects_go_when_their_class_is_over,
        "kept for ever",
        set_input(_LIFECYCLE, "vault-lifecycle", ("rules", 0, "expiration"), None),
    ),
    (
        storage.locked_objects_go_when_their_class_is_over,
        "gone early",
        set_input(_LIFECYCLE, "audit-lifecycle", ("rules", 0, "expiration", "days"), 365),
    ),
    (storage.replicated, "one region", remove(":BucketReplicationConfig", "minio-replication")),
    (
        storage.replicated,
        "deletions stay",
        set_input(
            ":BucketReplicationConfig",
            "minio-replication",
            ("rules", 0, "deleteMarkerReplication", "status"),
            "Disabled",
        ),
    ),
    (
        storage.only_replication_writes_copies,
        "anybody",
        drop_statement(_POLICY, "vault-replica-policy", "OnlyReplicationWrites"),
    ),
    (access.touched_objects_are_recorded, "no trail", remove(":Trail", "trail")),
    (
        access.touched_objects_are_recorded,
        "no digests",
        set_input(":Trail", "trail", ("enableLogFileValidation",), False),
    ),
    (
        access.touched_objects_are_recorded,
        "a bucket unwatched",
        set_input(":Trail", "trail", ("advancedEventSelectors", 1, "fieldSelectors", 2, "startsWiths"), ["x"]),
    ),
    (access.keys_rotate, "never rotates", set_input(_KEY, "minio-key", ("enableKeyRotation",), False)),
    (
        access.keys_not_public,
        "everybody",
        add_statement(_KEY, "postgres-key", {**_allow("Open", "kms:Decrypt", "*"), "Principal": "*"}),
    ),
    (access.keys_and_buckets_protected, "key unprotected", set_option(_KEY, "postgres-key", "protect", False)),
    (access.keys_and_buckets_protected, "bucket unprotected", set_option(_BUCKET, "minio-bucket", "protect", False)),
    (access.keys_and_buckets_protected, "gone in a week", set_input(_KEY, "minio-key", ("deletionWindowInDays",), 7)),
    (access.keys_and_buckets_protected, "emptied", set_input(_BUCKET, "minio-bucket", ("forceDestroy",), True)),
    (
        access.administrators_use_no_key,
        "everything",
        add_statement(
            _KEY, "minio-key", {**_allow("All", "kms:*", "*"), "Principal": {"AWS": "arn:aws:iam::333333333333:root"}}
        ),
    ),
    (
        access.no_role_decrypts_everything,
        "all keys",
        add_statement(_ROLE_POLICY, "verifier-policy", _allow("Keys", "kms:Decrypt", "*")),
    ),
    (
        access.no_wildcards,
        "all buckets",
        add_statement(_ROLE_POLICY, "reporter-policy", _allow("All", "s3:GetObject", "*")),
    ),
    (
        access.no_wildcards,
        "all actions",
        add_statement(_ROLE_POLICY, "minio-writer-policy", _allow("All", "s3:*", "arn:aws:s3:::b/*")),
    ),
    *(
        (
            access.roles_cannot_spoil,
            action,
            add_statement(_ROLE_POLICY, "postgres-writer-policy", _allow("Spoil", action, "arn:aws:s3:::b/*")),
        )
        for action in access.SPOILING
    ),
    (
        access.roles_keep_to_their_store,
        "another's bucket",
        add_statement(
            _ROLE_POLICY,
            "minio-writer-policy",
            _allow("Peek", "s3:GetObject", "arn:aws:s3:::aivo-backup-postgres-prod-333333333333/*"),
        ),
    ),
    (access.no_confused_deputy, "any alarm", edit_policy(_KEY, "operations-key", _without_condition("AlarmsToTopics"))),
    (
        access.no_confused_deputy,
        "any account's schedule",
        edit_policy("iam/role:Role", "scheduler", _without_condition("Service"), key="assumeRolePolicy"),
    ),
    (
        access.web_identity_names_one_account,
        "any service account",
        edit_policy(
            "iam/role:Role",
            "minio-writer",
            widened("ServiceAccount", "StringEquals", f"{_OIDC}:sub", "system:serviceaccount:aivo-system:*"),
            key="assumeRolePolicy",
        ),
    ),
    (workloads.functions_bounded, "no DLQ", set_input(":Function", _VERIFY, ("deadLetterConfig",), None)),
    (workloads.functions_bounded, "no bound", set_input(":Function", _VERIFY, ("reservedConcurrentExecutions",), None)),
    (
        workloads.functions_bounded,
        "one zone",
        set_input(":Function", _VERIFY, ("vpcConfig", "subnetIds"), ["subnet-1"]),
    ),
    (
        workloads.functions_not_public,
        "everybody",
        _with("aws:lambda/permission:Permission", action="lambda:InvokeFunction", principal="*"),
    ),
    (
        workloads.functions_not_public,
        "any account's bucket",
        _with("aws:lambda/permission:Permission", action="lambda:InvokeFunction", principal="s3.amazonaws.com"),
    ),
    (
        workloads.functions_not_public,
        "open URL",
        _with("aws:lambda/functionUrl:FunctionUrl", functionName=_VERIFY, authorizationType="NONE"),
    ),
    (
        workloads.function_code_is_what_was_tested,
        "a tag",
        set_input(":Function", _VERIFY, ("imageUri",), "repo:latest"),
    ),
    (
        workloads.function_code_is_what_was_tested,
        "old runtime",
        _as_zip("python3.8", codeSigningConfigArn="arn:aws:lambda:us-east-1:333333333333:code-signing-config:csc-1"),
    ),
    (workloads.function_code_is_what_was_tested, "neither signed nor known", _as_zip("python3.13")),
    (workloads.event_buses_are_guarded, "no policy", _with("aws:cloudwatch/eventBus:EventBus", name="backups")),
    (
        workloads.functions_bounded,
        "lost event",
        set_input(":Schedule", "verify-minio", ("target", "deadLetterConfig"), None),
    ),
    (workloads.logs_kept, "a month", set_input(":LogGroup", f"{_VERIFY}-logs", ("retentionInDays",), 30)),
    (workloads.logs_kept, "no group", remove(":LogGroup", f"{_VERIFY}-logs")),
    (
        workloads.queues_and_topics_encrypted,
        "plain topic",
        set_input(":Topic", "aivo-backup-prod-level1", ("kmsMasterKeyId",), None),
    ),
    (
        workloads.queues_and_topics_encrypted,
        "plain queue",
        set_input(":Queue", "failed-events", ("kmsMasterKeyId",), None),
    ),
    (
        workloads.absence_alarms,
        "absence is fine",
        set_input(":MetricAlarm", f"{_REGISTER}-missing", ("treatMissingData",), "notBreaching"),
    ),
    (
        workloads.alarms_watch_what_is_published,
        "a namespace of nobody",
        set_input(":MetricAlarm", f"{_REGISTER}-missing", ("namespace",), "aivo-backup"),
    ),
    (
        workloads.alarms_watch_what_is_published,
        "another function",
        set_input(":MetricAlarm", f"{_REGISTER}-missing", ("dimensions", "FunctionName"), "gone"),
    ),
    (workloads.absence_alarms, "nobody told", set_input(":MetricAlarm", f"{_REGISTER}-missing", ("alarmActions",), [])),
    (
        workloads.pods_restricted,
        "root",
        set_input(_CRONJOB, "minio-backup", (*_POD, "securityContext", "runAsUser"), 0),
    ),
    (
        workloads.pods_restricted,
        "writable",
        set_input(
            _CRONJOB, "minio-backup", (*_POD, "containers", 0, "securityContext", "readOnlyRootFilesystem"), False
        ),
    ),
    (
        workloads.pods_restricted,
        "capabilities",
        set_input(_CRONJOB, "minio-backup", (*_POD, "containers", 0, "securityContext", "capabilities"), None),
    ),
    (
        workloads.images_scanned_and_immutable,
        "tags move",
        set_input("ecr/repository:Repository", "images", ("imageTagMutability",), "MUTABLE"),
    ),
    (
        workloads.images_scanned_and_immutable,
        "not scanned",
        set_input("ecr/repository:Repository", "images", ("imageScanningConfiguration",), None),
    ),
    (
        workloads.no_secret_values,
        "in the state",
        _with("aws:secretsmanager/secretVersion:SecretVersion", secretId="minio-source", secretString="..."),
    ),
    (workloads.pods_have_network_policy, "open", remove(":NetworkPolicy", "aivo-backup-minio-writer-network")),
    *SECURITY,
]
