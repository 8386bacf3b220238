"""Wires one environment. Read top to bottom: what exists in the account and in the cluster, and what needs what."""

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import AUDIT, COMPLIANCE, OPERATIONS, PROJECT, SECURITY_TOPIC, Role
from infra.agent import Agent, AgentArgs
from infra.alerting import Alerting, AlertingArgs
from infra.audit import Audit, AuditArgs
from infra.cluster import Cluster, ClusterArgs
from infra.dashboard import Dashboard, DashboardArgs
from infra.drills import Drills, DrillsArgs
from infra.encryption import Encryption, EncryptionArgs
from infra.endpoints import Endpoints, EndpointsArgs
from infra.functions import Functions, FunctionsArgs
from infra.identity import Identity, IdentityArgs
from infra.monitoring import Monitoring, MonitoringArgs
from infra.network import Network, NetworkArgs
from infra.publication import Publication, PublicationArgs
from infra.registry import Registry, RegistryArgs
from infra.replica import Replica, ReplicaArgs
from infra.restorers import Restorers, RestorersArgs
from infra.schedules import Schedules, SchedulesArgs
from infra.security import Security, SecurityArgs
from infra.settings import Settings
from infra.storage import Storage, StorageArgs
from infra.verification import Verification, VerificationArgs


def run(settings: Settings) -> None:
    """Registers every resource of an environment and exports what others look up."""
    home = _account(settings, settings.region)
    opts = pulumi.ResourceOptions(providers=[home])
    encryption = Encryption("encryption", EncryptionArgs(settings=settings), opts)
    storage = Storage("storage", StorageArgs(settings=settings, key_arns=encryption.arns), opts)
    identity = Identity(
        "identity",
        IdentityArgs(settings=settings, key_arns=encryption.arns, bucket_names=storage.names),
        opts,
    )
    replica: Replica | None = None
    second_region = _account(settings, settings.replica.region) if settings.replica.region else None
    if settings.replica.region:
        replica = Replica(
            "replica",
            ReplicaArgs(
                settings=settings,
                home=home,
                buckets=storage.buckets,
                key_arns=encryption.arns,
                role_names=identity.names,
            ),
            pulumi.ResourceOptions(providers=[_second_region(settings)]),
        )
    if settings.audit_trail:
        Audit(
            "audit",
            AuditArgs(
                settings=settings,
                audit_bucket=storage.buckets[AUDIT],
                watched_buckets=[
                    # The trail's own deliveries into the audit bucket would be recorded without end.
                    *(bucket.bucket.arn for use, bucket in storage.buckets.items() if use != AUDIT),
                    # Of a vault account's buckets, its own trail tells.
                    *(replica.copy_arns(but=AUDIT) if replica and settings.replica.ours else ()),
                ],
                key_arn=encryption.arns[COMPLIANCE],
            ),
            opts,
        )
    publication = Publication(
        "publication",
        PublicationArgs(
            settings=settings,
            key_arns=encryption.arns,
            bucket_names=storage.names,
            replica=replica,
            second_region=second_region,
        ),
        opts,
    )
    functions = Functions(
        "functions",
        FunctionsArgs(settings=settings, role_arns=identity.arns, key_arns=encryption.arns),
        opts,
    )
    schedules = Schedules(
        "schedules",
        SchedulesArgs(
            settings=settings,
            function_arns=functions.arns,
            role_arn=identity.arns[Role.SCHEDULER],
            failed_events_arn=functions.failed_events.arn,
            key_arn=encryption.arns[OPERATIONS],
        ),
        opts,
    )
    alerting = Alerting("alerting", AlertingArgs(settings=settings, key_arn=encryption.arns[OPERATIONS]), opts)
    if SECURITY_TOPIC in alerting.topic_arns:
        Security(
            "security",
            SecurityArgs(
                settings=settings,
                key_arns=encryption.arns,
                bucket_names=storage.names,
                topic_arn=alerting.topic_arns[SECURITY_TOPIC],
                copies=replica if settings.replica.ours else None,
                second_region=second_region,
                forwarder_arn=identity.arns.get(Role.SECURITY_FORWARDER),
            ),
            opts,
        )
    Dashboard("dashboard", DashboardArgs(settings=settings, bucket_names=storage.names), opts)
    if settings.registry:
        registry = Registry("registry", RegistryArgs(settings=settings, key_arn=encryption.arns[OPERATIONS]), opts)
        pulumi.export("registry", registry.url)
    if settings.network.endpoints:
        Endpoints("endpoints", EndpointsArgs(settings=settings), opts)
    cluster = Cluster(
        "cluster", ClusterArgs(settings=settings, role_arns=identity.arns, document=publication.document), opts
    )
    Agent("agent", AgentArgs(settings=settings, namespace=cluster.namespace), opts)
    Verification(
        "verification",
        VerificationArgs(settings=settings, role_arns=identity.arns, namespace=cluster.namespace),
        opts,
    )
    Drills("drills", DrillsArgs(settings=settings, namespace=cluster.namespace), opts)
    Restorers(
        "restorers",
        RestorersArgs(settings=settings, role_arns=identity.arns, namespace=cluster.namespace),
        opts,
    )
    Monitoring(
        "monitoring",
        MonitoringArgs(settings=settings, document=publication.document, namespace=cluster.namespace),
        opts,
    )
    Network("network", NetworkArgs(settings=settings, namespace=cluster.namespace), opts)
    pulumi.export("settings", publication.document)
    pulumi.export("buckets", dict(storage.names))
    pulumi.export("keys", dict(encryption.arns))
    pulumi.export("signing_key", encryption.signing_arn)
    pulumi.export("roles", {role.value: arn for role, arn in identity.arns.items()})
    pulumi.export("functions", {function.value: arn for function, arn in functions.arns.items()})
    pulumi.export("schedules", schedules.names)
    pulumi.export("topics", alerting.topic_arns)
    pulumi.export("cluster", {"name": settings.cluster.name, "namespace": settings.cluster.namespace})


def _account(settings: Settings, region: str) -> aws.Provider:
    """A region's AWS provider, held to the account of the settings: a wrong profile is refused, not provisioned."""
    return aws.Provider(
        PROJECT if region == settings.region else f"{PROJECT}-{region}",
        region=region,
        allowed_account_ids=[settings.account_id],
        # The sandbox answers under one host name, so buckets cannot be part of it.
        s3_use_path_style=settings.sandbox,
        skip_metadata_api_check=settings.sandbox,
    )


def _second_region(settings: Settings) -> aws.Provider:
    """The provider of the second region, in the vault account where there is one."""
    replica = settings.replica
    return aws.Provider(
        f"{PROJECT}-replica",
        region=replica.region,
        allowed_account_ids=[replica.account_id or settings.account_id],
        assume_roles=[{"role_arn": replica.provisioning_role}] if replica.provisioning_role else None,
        s3_use_path_style=settings.sandbox,
        skip_metadata_api_check=settings.sandbox,
    )
