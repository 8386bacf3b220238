"""The one settings object of the environment, and where it is published outside the cluster."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.environment import (
    Component,
    Environment,
    EvidenceSettings,
    PostgresSettings,
    SecondRegion,
    VerificationSettings,
)
from aivo_backup.policy.names import (
    COMPLIANCE,
    DOCUMENTS,
    OPERATIONS,
    SECRET_MINIO_SOURCE,
    SECRET_OPENSEARCH,
    Role,
    role_arn,
    secret_name,
    settings_parameter,
)
from infra.functions import TIMEOUT_SECONDS
from infra.replica import Replica
from infra.settings import Settings
from infra.tags import aws_tags


@dataclass(frozen=True, kw_only=True)
class PublicationArgs:
    """What the settings are made from.

    Attributes:
        second_region: the environment's own account in the replica's region, where the settings are published too:
            whoever restores from there must not have to ask a region that is gone.
    """

    settings: Settings
    key_arns: Mapping[str, pulumi.Output[str]]
    bucket_names: Mapping[str, str]
    replica: Replica | None = None
    second_region: aws.Provider | None = None


class Publication(pulumi.ComponentResource):
    """The settings as JSON, and the SSM parameter that functions and the CLI read.

    Attributes:
        document: the settings as JSON text.
    """

    document: pulumi.Output[str]

    def __init__(self, name: str, args: PublicationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Publication", name, None, opts)
        settings = args.settings
        self.document = pulumi.Output.all(
            here=pulumi.Output.all(**args.key_arns),
            there=pulumi.Output.all(**(args.replica.key_arns if args.replica else {})),
        ).apply(
            lambda arns: as_text(
                environment(
                    settings,
                    key_arns=arns["here"],
                    bucket_names=args.bucket_names,
                    replica=_second_region(settings, args.replica, arns["there"]),
                )
            )
        )
        aws.ssm.Parameter(
            "settings",
            name=settings_parameter(settings.environment),
            description="Settings of aivo-backup; written by Pulumi, holds no secret",
            type="SecureString",
            key_id=args.key_arns[OPERATIONS],
            # Past 4 KiB the standard tier refuses it, and sentinel queries can be long.
            tier="Advanced",
            value=self.document,
            tags=aws_tags(settings, component="settings", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        if args.second_region is not None:
            aws.ssm.Parameter(
                "settings-replica",
                name=settings_parameter(settings.environment),
                description="Settings of aivo-backup for restores from this region; written by Pulumi, holds no secret",
                # Under the account's own key for parameters: the environment's keys are in the home region.
                type="SecureString",
                key_id="alias/aws/ssm",
                tier="Advanced",
                value=self.document,
                tags=aws_tags(settings, component="settings", data_class="none"),
                opts=pulumi.ResourceOptions(parent=self, provider=args.second_region),
            )
        self.register_outputs({"document": self.document})


def _second_region(settings: Settings, replica: Replica | None, key_arns: Mapping[str, str]) -> SecondRegion:
    if replica is None:
        return SecondRegion()
    uses = (*(component.value for component in Component), COMPLIANCE)
    return SecondRegion(
        region=settings.replica.region,
        buckets={use: replica.names[use] for use in uses},
        keys={use: key_arns[use] for use in uses},
    )


def environment(
    settings: Settings, *, key_arns: Mapping[str, str], bucket_names: Mapping[str, str], replica: SecondRegion
) -> Environment:
    """The settings object that jobs, functions and the CLI read."""
    name = settings.environment
    components = [component.value for component in Component]
    return Environment(
        name=name,
        region=settings.region,
        account_id=settings.account_id,
        namespace=settings.cluster.namespace,
        production=settings.production,
        objectives=settings.objectives,
        buckets={use: bucket_names[use] for use in (*components, DOCUMENTS)},
        keys={use: key_arns[use] for use in (*components, COMPLIANCE)},
        evidence=EvidenceSettings(
            bucket=bucket_names[COMPLIANCE], lock_mode=settings.evidence.mode, lock_days=settings.evidence.days
        ),
        postgres=database_settings(settings),
        minio=replace(settings.minio, source_secret=secret_name(name, SECRET_MINIO_SOURCE)),
        opensearch=replace(settings.opensearch, login_secret=secret_name(name, SECRET_OPENSEARCH)),
        backups=settings.backups,
        expiries=settings.expiries,
        verification_cron=settings.verification_cron,
        verification=VerificationSettings(
            cluster=settings.cluster.name,
            function_seconds=TIMEOUT_SECONDS,
            function_bytes=settings.functions.scratch_megabytes * 1024**2,
        ),
        restore_role=role_arn(settings.account_id, name, Role.RESTORER),
        replica=replica,
        unproven_points=settings.unproven_points,
        recovery=replace(settings.recovery, store_namespace=settings.cluster.store_namespace),
    )


def database_settings(settings: Settings) -> PostgresSettings:
    """With what the cluster's settings say about the database's pod."""
    cluster = settings.cluster
    pod = replace(
        settings.postgres.pod,
        namespace=cluster.store_namespace,
        service_account=cluster.postgres_service_account,
        image=cluster.image,
        image_pull_policy=cluster.image_pull_policy,
    )
    return replace(settings.postgres, pod=pod, pgbackrest_version=cluster.pgbackrest_version)


def as_text(settings: Environment) -> str:
    """Stable JSON: the same settings give the same bytes, so that nothing is updated without a change."""
    return json.dumps(settings.to_json(), indent=1, sort_keys=True)
