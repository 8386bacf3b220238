"""VPC endpoints: how functions in subnets without a way out reach AWS's APIs.

Made where ``network.endpoints`` says so; an environment whose VPC has them already, or NAT, leaves them out. Which
services they are is the table in :mod:`infra.network`.
"""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from aivo_backup.policy.names import PROJECT
from infra.network import AWS_SERVICES, FUNCTION_REACH, HTTPS_PORT, S3
from infra.settings import Settings
from infra.tags import aws_tags


@dataclass(frozen=True, kw_only=True)
class EndpointsArgs:
    """What the endpoints depend on."""

    settings: Settings


class Endpoints(pulumi.ComponentResource):
    """One interface endpoint per service, a gateway for S3, and the security group that lets the functions in."""

    def __init__(self, name: str, args: EndpointsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("aivo:backup:Endpoints", name, None, opts)
        self._settings = args.settings
        group = self._build_group()
        for service in reached_services(args.settings):
            if service == S3:
                self._build_gateway()
            else:
                self._build_interface(service, group)
        self.register_outputs({})

    def _build_group(self) -> aws.ec2.SecurityGroup:
        settings = self._settings
        return aws.ec2.SecurityGroup(
            "endpoints",
            name=f"{PROJECT}-{settings.environment}-endpoints",
            description="AWS APIs for the functions of aivo-backup",
            vpc_id=settings.network.vpc,
            ingress=[
                {
                    "description": "the functions",
                    "protocol": "tcp",
                    "from_port": HTTPS_PORT,
                    "to_port": HTTPS_PORT,
                    "security_groups": list(settings.functions.security_groups),
                }
            ],
            # An endpoint answers and never asks.
            egress=[],
            tags=aws_tags(settings, component="network", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _build_interface(self, service: str, group: aws.ec2.SecurityGroup) -> None:
        settings = self._settings
        aws.ec2.VpcEndpoint(
            f"{service}-endpoint",
            vpc_id=settings.network.vpc,
            service_name=f"com.amazonaws.{settings.region}.{service}",
            vpc_endpoint_type="Interface",
            subnet_ids=list(settings.functions.subnets),
            security_group_ids=[group.id],
            # The usual host names lead here, so that no client has to know.
            private_dns_enabled=True,
            tags=aws_tags(settings, component="network", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _build_gateway(self) -> None:
        settings = self._settings
        # A gateway costs nothing per byte, and whole backups pass through it. Its policy stays AWS's default: whatever
        # else uses these route tables would lose S3; the buckets' own policies say who gets in.
        aws.ec2.VpcEndpoint(
            "s3-endpoint",
            vpc_id=settings.network.vpc,
            service_name=f"com.amazonaws.{settings.region}.{S3}",
            vpc_endpoint_type="Gateway",
            route_table_ids=list(settings.network.route_tables),
            tags=aws_tags(settings, component="network", data_class="none"),
            opts=pulumi.ResourceOptions(parent=self),
        )


def reached_services(settings: Settings) -> list[str]:
    """The AWS services that some function reaches, and X-Ray where calls are traced."""
    reached = {service for services in FUNCTION_REACH.values() for service in services if service in AWS_SERVICES}
    return sorted(reached | ({"xray"} if settings.functions.tracing else set[str]()))
