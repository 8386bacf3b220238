"""What the settings may say about ways: of functions into the VPC, to the stores, and into the cluster."""

import ipaddress
import re

from aivo_backup.policy.bounds import holds, matching
from aivo_backup.policy.environment import VerificationSettings
from aivo_backup.policy.verification import outgrown
from infra.functions import TIMEOUT_SECONDS
from infra.settings import NetworkSettings, Settings
from infra.validation_words import DNS_LABEL, URL, key

# What only the cluster's own DNS resolves.
_CLUSTER_NAME = re.compile(r"(?:\.svc|\.cluster\.local)\.?(?::\d+)?$")
_QUANTITY = re.compile(r"([1-9]\d*)(Gi|Ti)")
_GIBIBYTES = {"Gi": 1, "Ti": 1024}
# WAL and the server's own files come on top of what the database holds.
_SCRATCH_FACTOR = 1.25


def check_network(settings: Settings) -> None:
    """Refuses ways that lead nowhere.

    Raises:
        ConfigurationError: the first setting out of its bounds, with key, value and bound.
    """
    network = settings.network
    _check_ranges("aws_ranges", network.aws_ranges, "no job could reach S3")
    _check_ranges("cluster_api_ranges", network.cluster_api_ranges, "no Job without a pod would be noticed")
    _check_ranges("restore_cluster_ranges", network.restore_cluster_ranges, "no restore test could reach OpenSearch")
    matching(key("network", "dns_namespace"), network.dns_namespace, pattern=DNS_LABEL, example="kube-system")
    matching(
        key("network", "monitoring_namespace"),
        network.monitoring_namespace,
        pattern=DNS_LABEL,
        example="monitoring",
    )
    if network.endpoints:
        _check_endpoints(settings, network)
    _check_addresses(settings)
    _check_dispatch(settings)


def _check_ranges(name: str, ranges: tuple[str, ...], nothing: str) -> None:
    for block in ranges:
        try:
            ipaddress.ip_network(block)
        except ValueError as error:
            holds(key("network", name), block, False, bound=str(error))
    holds(key("network", name), ranges, bool(ranges), bound=nothing)


def _check_endpoints(settings: Settings, network: NetworkSettings) -> None:
    matching(key("network", "vpc"), network.vpc, pattern=r"vpc-[0-9a-f]{8,17}", example="vpc-0123456789abcdef0")
    for table in network.route_tables:
        matching(key("network", "route_tables"), table, pattern=r"rtb-[0-9a-f]{8,17}", example="rtb-0123456789abcdef0")
    holds(
        key("network", "route_tables"),
        network.route_tables,
        bool(network.route_tables),
        bound="the gateway to S3 goes into the route tables of the functions' subnets",
    )
    holds(
        key("network", "endpoints"),
        network.endpoints,
        bool(settings.functions.subnets),
        bound="endpoints stand in the functions' subnets: set functions.subnets",
    )


def _check_addresses(settings: Settings) -> None:
    search = settings.opensearch
    for name in ("internal_endpoint", "verification_endpoint"):
        address: str = getattr(search, name)
        if not address:
            continue
        matching(key("opensearch", name), address, pattern=URL, example="https://opensearch.prod.aivo.internal:9200")
        holds(
            key("opensearch", name),
            address,
            not _CLUSTER_NAME.search(address),
            bound="functions resolve no name of the cluster: give an internal address",
        )
    holds(
        key("opensearch", "internal_endpoint"),
        search.internal_endpoint,
        settings.sandbox or bool(search.internal_endpoint),
        bound="functions compare the catalog with OpenSearch: give an address that the VPC resolves",
    )


def _check_dispatch(settings: Settings) -> None:
    cluster = settings.cluster
    matching(
        key("cluster", "name"), cluster.name, pattern=r"|[0-9A-Za-z][0-9A-Za-z_-]{0,99}", example="aivo-production"
    )
    matching(key("cluster", "priority_class"), cluster.priority_class, pattern=f"|{DNS_LABEL}", example="backups")
    quantity = _QUANTITY.fullmatch(cluster.restore_test_scratch)
    holds(
        key("cluster", "restore_test_scratch"),
        cluster.restore_test_scratch,
        quantity is not None,
        bound="write it like 200Gi",
    )
    if quantity is not None:
        needed = settings.postgres.size_bytes * _SCRATCH_FACTOR / 1024**3
        holds(
            key("cluster", "restore_test_scratch"),
            cluster.restore_test_scratch,
            int(quantity[1]) * _GIBIBYTES[quantity[2]] >= needed,
            bound=f"a restore test of postgres needs {needed:.0f} GiB: its size and a quarter for WAL",
        )
    limits = VerificationSettings(
        function_seconds=TIMEOUT_SECONDS, function_bytes=settings.functions.scratch_megabytes * 1024**2
    )
    for name, store in (
        ("postgres", settings.postgres),
        ("minio", settings.minio),
        ("opensearch", settings.opensearch),
    ):
        reason = outgrown(store, limits)
        holds(
            key("cluster", "name"),
            cluster.name,
            bool(cluster.name) or not reason,
            bound=f"the restore test of {name} outgrows a function ({reason}): name the EKS cluster that takes it",
        )
