"""The second region: every backup bucket copied as it is written, under that region's own keys.

The copies have their own keys and their own lifecycle, so they hold when the home region, or its keys, are gone.
Version ids stay the same, so a manifest names the same objects in both. With a vault account the copies belong to
that account: who restores reads them, and nobody of the home account can delete them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import (
    CIPHER_CONTEXT,
    LOGS,
    PROJECT,
    Role,
    bucket_name,
    key_of,
    role_name,
    settings_parameter,
)
from infra.access import GRANTS, SETTINGS_READERS
from infra.bucket import GuardedBucket, GuardedBucketArgs
from infra.bucket_policies import log_bucket_policy, replica_bucket_policy
from infra.documents import Statement, document
from infra.encryption import DATA_KEYS, replica_key_policy, replica_readers
from infra.lifecycles import data_lifecycle, locked_lifecycle, log_lifecycle
from infra.settings import Settings
from infra.storage import LOCKED_DAYS, lock_of
from infra.tags import aws_tags

_Encrypted = aws.s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjectsArgs
_Owner = aws.s3.BucketReplicationConfigRuleDestinationAccessControlTranslationArgs
_Encryption = aws.s3.BucketReplicationConfigRuleDestinationEncryptionConfigurationArgs
_Metrics = aws.s3.BucketReplicationConfigRuleDestinationMetricsArgs
_Threshold = aws.s3.BucketReplicationConfigRuleDestinationMetricsEventThresholdArgs
_Time = aws.s3.BucketReplicationConfigRuleDestinationReplicationTimeArgs
_Minutes = aws.s3.BucketReplicationConfigRuleDestinationReplicationTimeTimeArgs

# Beyond this a copy counts as late, and S3 says so in a metric.
_LATE_AFTER_MINUTES = 15
_SUFFIX = "-replica"


@dataclass(frozen=True, kw_only=True)
class ReplicaArgs:
    """What the replica depends on.

    Attributes:
        home: the provider of the home region; the component's own is the second region's.
        buckets: the home region's, by use.
        key_arns: the home region's keys.
        role_names: role to its name.
    """

    settings: Settings
    home: aws.Provider
    buckets: Mapping[str, GuardedBucket]
    key_arns: Mapping[str, pulumi.Output[str]]
    role_names: Mapping[Role, pulumi.Input[str]]


class Replica(pulumi.ComponentResource):
    """Keys and buckets of the second region, and the replication into them.

    Attributes:
        names: use to bucket name.
        key_arns: component and ``compliance`` to the second region's key.
    """

    names: Mapping[str, str]
    key_arns: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ReplicaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Replica", name, None, opts)
        self._args = args
        self._settings = args.settings
        suffix = f"{args.settings.bucket_suffix}{_SUFFIX}"
        self.names = {use: bucket_name(use, suffix) for use in (*args.buckets, LOGS)}
        self.key_arns = {use: self._build_key(use) for use in DATA_KEYS}
        logs = self._build_log_bucket()
        copies = {use: self._build_bucket(use, logs) for use in args.buckets}
        role = self._build_role()
        for use, copy in copies.items():
            self._build_replication(use, copy, role)
        self._build_access()
        self.register_outputs({"names": dict(self.names)})

    def copy_arns(self, *, but: str) -> list[str]:
        """ARNs of the buckets with copies, without those of one use."""
        return [f"arn:aws:s3:::{name}" for use, name in self.names.items() if use not in (LOGS, but)]

    @property
    def _account(self) -> str:
        return self._settings.replica.account_id or self._settings.account_id

    def _build_key(self, use: str) -> pulumi.Output[str]:
        settings = self._settings
        key = aws.kms.Key(
            f"{use}{_SUFFIX}-key",
            description=f"{PROJECT} {settings.environment}: {use}, second region",
            enable_key_rotation=True,
            deletion_window_in_days=settings.key_deletion_days,
            policy=replica_key_policy(settings, use),
            tags=aws_tags(settings, component=use, data_class="none"),
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
        return key.arn

    def _build_log_bucket(self) -> aws.s3.BucketPolicy:
        name = self.names[LOGS]
        sources = [source for use, source in self.names.items() if use != LOGS]
        logs = GuardedBucket(
            f"{LOGS}{_SUFFIX}",
            GuardedBucketArgs(
                settings=self._settings,
                use=f"{LOGS}{_SUFFIX}",
                bucket=name,
                data_class="audit",
                key_arn=None,
                policy=log_bucket_policy(name, sources=sources, account_id=self._account),
                lifecycle=log_lifecycle(),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        return logs.policy

    def _build_bucket(self, use: str, logs: aws.s3.BucketPolicy) -> GuardedBucket:
        settings, name = self._settings, self.names[use]
        locked = use in LOCKED_DAYS
        key_arn = self.key_arns[key_of(use)]
        return GuardedBucket(
            f"{use}{_SUFFIX}",
            GuardedBucketArgs(
                settings=settings,
                use=f"{use}{_SUFFIX}",
                bucket=name,
                data_class="compliance" if locked else "operational",
                key_arn=key_arn,
                policy=key_arn.apply(
                    lambda arn: replica_bucket_policy(settings, name, arn, readers=replica_readers(use))
                ),
                lifecycle=locked_lifecycle(LOCKED_DAYS[use]) if locked else data_lifecycle(Component(use), settings),
                lock=lock_of(settings, use) if locked else None,
                log_bucket=logs,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _build_role(self) -> aws.iam.Role:
        settings, args = self._settings, self._args
        home = pulumi.ResourceOptions(parent=self, provider=args.home)
        role = aws.iam.Role(
            Role.REPLICATOR.value,
            name=role_name(settings.environment, Role.REPLICATOR),
            assume_role_policy=document(
                [
                    Statement(
                        sid="Service",
                        actions=("sts:AssumeRole",),
                        principals={"Service": "s3.amazonaws.com"},
                        conditions={"StringEquals": {"aws:SourceAccount": settings.account_id}},
                    )
                ]
            ),
            tags=aws_tags(settings, component=Role.REPLICATOR.value, data_class="none"),
            opts=home,
        )
        sources = {use: bucket.bucket.bucket for use, bucket in args.buckets.items()}
        aws.iam.RolePolicy(
            f"{Role.REPLICATOR.value}-policy",
            name="access",
            role=role.name,
            policy=pulumi.Output.all(
                sources=pulumi.Output.all(**sources),
                home=pulumi.Output.all(**{use: args.key_arns[use] for use in DATA_KEYS}),
                there=pulumi.Output.all(**self.key_arns),
            ).apply(
                lambda found: replicator_policy(
                    settings,
                    sources=found["sources"],
                    copies={use: self.names[use] for use in sources},
                    home_keys=tuple(found["home"].values()),
                    replica_keys=tuple(found["there"].values()),
                )
            ),
            opts=pulumi.ResourceOptions(parent=role),
        )
        return role

    def _build_replication(self, use: str, copy: GuardedBucket, role: aws.iam.Role) -> None:
        source = self._args.buckets[use]
        rule = aws.s3.BucketReplicationConfigRuleArgs(
            id="everything",
            status="Enabled",
            priority=1,
            filter=aws.s3.BucketReplicationConfigRuleFilterArgs(prefix=""),
            # A deletion at the source must show in the copy too, or a restore from it would bring it back.
            delete_marker_replication=aws.s3.BucketReplicationConfigRuleDeleteMarkerReplicationArgs(status="Enabled"),
            source_selection_criteria=aws.s3.BucketReplicationConfigRuleSourceSelectionCriteriaArgs(
                sse_kms_encrypted_objects=_Encrypted(status="Enabled")
            ),
            destination=self._destination(use, copy),
        )
        aws.s3.BucketReplicationConfig(
            f"{use}-replication",
            bucket=source.bucket.id,
            role=role.arn,
            rules=[rule],
            opts=pulumi.ResourceOptions(
                parent=self, provider=self._args.home, depends_on=[source.versioning, copy.versioning, copy.policy]
            ),
        )

    def _destination(self, use: str, copy: GuardedBucket) -> aws.s3.BucketReplicationConfigRuleDestinationArgs:
        foreign = bool(self._settings.replica.account_id)
        owner = _Owner(owner="Destination") if foreign else None
        return aws.s3.BucketReplicationConfigRuleDestinationArgs(
            bucket=copy.bucket.arn,
            storage_class="STANDARD_IA",
            account=self._account if foreign else None,
            access_control_translation=owner,
            encryption_configuration=_Encryption(replica_kms_key_id=self.key_arns[key_of(use)]),
            metrics=_Metrics(status="Enabled", event_threshold=_Threshold(minutes=_LATE_AFTER_MINUTES)),
            replication_time=_Time(status="Enabled", time=_Minutes(minutes=_LATE_AFTER_MINUTES)),
        )

    def _build_access(self) -> None:
        """The restorer reads the copies, so that a restore needs nothing of a home region that is gone; so does the
        driller, who proves it every quarter, and the database's own identity, under which a Job restores on its volume.
        The initialiser wraps the cipher pass."""
        args = self._args
        for role, policy in (
            (Role.RESTORER, partial(self._reader_policy, Role.RESTORER)),
            (Role.DRILLER, partial(self._reader_policy, Role.DRILLER)),
            (Role.POSTGRES_ARCHIVER, self._repository_policy),
            (Role.INITIALISER, self._wrapper_policy),
        ):
            aws.iam.RolePolicy(
                f"{role.value}-replica-policy",
                name="replica",
                role=args.role_names[role],
                policy=pulumi.Output.all(**self.key_arns).apply(policy),
                opts=pulumi.ResourceOptions(parent=self, provider=args.home),
            )

    def _reader_policy(self, role: Role, keys: Mapping[str, str]) -> str:
        return reader_policy(self._settings, role, names=self.names, keys=keys)

    def _repository_policy(self, keys: Mapping[str, str]) -> str:
        return repository_policy(self._settings, bucket=self.names[Component.POSTGRES.value], keys=keys)

    def _wrapper_policy(self, keys: Mapping[str, str]) -> str:
        return document([_cipher_pass("WrapCipherPassThere", "kms:Encrypt", keys)])


def replicator_policy(
    settings: Settings,
    *,
    sources: Mapping[str, str],
    copies: Mapping[str, str],
    home_keys: tuple[str, ...],
    replica_keys: tuple[str, ...],
) -> str:
    """What S3 may do on our behalf: read versions at home, write copies there, and nothing else."""

    def objects(names: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(f"arn:aws:s3:::{name}/*" for name in names.values())

    owner = ("s3:ObjectOwnerOverrideToBucketOwner",) if settings.replica.account_id else ()
    return document(
        [
            Statement(
                sid="LookAtSources",
                actions=("s3:GetReplicationConfiguration", "s3:ListBucket"),
                resources=tuple(f"arn:aws:s3:::{name}" for name in sources.values()),
            ),
            Statement(
                sid="ReadVersions",
                actions=(
                    "s3:GetObjectLegalHold",
                    "s3:GetObjectRetention",
                    "s3:GetObjectVersionAcl",
                    "s3:GetObjectVersionForReplication",
                    "s3:GetObjectVersionTagging",
                ),
                resources=objects(sources),
            ),
            Statement(
                sid="WriteCopies",
                actions=("s3:ReplicateDelete", "s3:ReplicateObject", "s3:ReplicateTags", *owner),
                resources=objects(copies),
            ),
            Statement(
                sid="KeysAtHome",
                actions=("kms:Decrypt",),
                resources=home_keys,
                conditions={"StringEquals": {"kms:ViaService": f"s3.{settings.region}.amazonaws.com"}},
            ),
            Statement(
                sid="KeysThere",
                actions=("kms:Encrypt", "kms:GenerateDataKey"),
                resources=replica_keys,
                conditions={"StringEquals": {"kms:ViaService": f"s3.{settings.replica.region}.amazonaws.com"}},
            ),
        ]
    )


def reader_policy(settings: Settings, role: Role, *, names: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """What those who restore may do in the second region: read the copies and the cipher pass, and who works outside
    the cluster the settings."""
    copies = [name for use, name in names.items() if use != LOGS]
    region, account = settings.replica.region, settings.account_id
    parameter = f"arn:aws:ssm:{region}:{account}:parameter{settings_parameter(settings.environment)}"
    # Under the account's own key for parameters, which needs no permission of its own.
    published = Statement(sid="ReadSettingsThere", actions=("ssm:GetParameter",), resources=(parameter,))
    return document(
        [
            Statement(
                sid="ListCopies",
                actions=("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketVersions"),
                resources=tuple(f"arn:aws:s3:::{name}" for name in copies),
            ),
            Statement(
                sid="ReadCopies",
                actions=("s3:GetObject", "s3:GetObjectVersion"),
                resources=tuple(f"arn:aws:s3:::{name}/*" for name in copies),
            ),
            _keys_there(settings, tuple(keys.values())),
            _cipher_pass("UnwrapCipherPassThere", "kms:Decrypt", keys),
            *([published] if role in SETTINGS_READERS else []),
        ]
    )


def repository_policy(settings: Settings, *, bucket: str, keys: Mapping[str, str]) -> str:
    """What the database's own identity may do in the second region: read there of its repository what it may at home,
    and write nothing."""
    (grant,) = (grant for grant in GRANTS[Role.POSTGRES_ARCHIVER] if grant.use == Component.POSTGRES.value)
    arn = f"arn:aws:s3:::{bucket}"
    return document(
        [
            Statement(sid="ListCopy", actions=("s3:GetBucketLocation", "s3:ListBucket"), resources=(arn,)),
            Statement(
                sid="ReadCopy",
                actions=("s3:GetObject",),
                resources=tuple(f"{arn}/{prefix}*" for prefix in grant.reads),
            ),
            _keys_there(settings, (keys[grant.use],)),
            _cipher_pass("UnwrapCipherPassThere", "kms:Decrypt", keys),
        ]
    )


def _keys_there(settings: Settings, keys: tuple[str, ...]) -> Statement:
    return Statement(
        sid="KeysThere",
        actions=("kms:Decrypt", "kms:DescribeKey"),
        resources=keys,
        conditions={"StringEquals": {"kms:ViaService": f"s3.{settings.replica.region}.amazonaws.com"}},
    )


def _cipher_pass(sid: str, action: str, keys: Mapping[str, str]) -> Statement:
    context = {f"kms:EncryptionContext:{name}": value for name, value in CIPHER_CONTEXT.items()}
    key = (keys[Component.POSTGRES.value],)
    return Statement(sid=sid, actions=(action,), resources=key, conditions={"StringEquals": context})
