"""Network policies, judged by an evaluator over the table of who reaches what; and that table in the documentation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from aivo_backup.policy.names import Role
from infra import network, reach
from infra.endpoints import reached_services
from infra.network import FUNCTION_REACH, POD_REACH
from infra.settings import load
from sandbox.plan import ROOT
from sandbox.provision.engine import stack_configuration
from tests.infra.network_evaluator import Connection, may_connect, ways_in
from tests.infra.plans import Plan

# Written by hand, from what each job does: the table in infra/network.py has to agree with it.
STORE_PORTS = {"postgres": 5432, "postgres-sidecar": 8432, "minio": 9000, "opensearch": 9200}
EXPECTED = {
    Role.POSTGRES_WRITER: {"postgres-sidecar", "aws"},
    Role.MINIO_WRITER: {"minio", "aws"},
    Role.OPENSEARCH_WRITER: {"opensearch", "aws"},
    Role.RESTORE_TESTER: {"opensearch", "opensearch-restore", "aws"},
    Role.DRILLER: {"minio", "opensearch", "aws"},
    Role.AGENT: {"postgres", "minio", "opensearch", "aws"},
}
DESTINATIONS = {
    **{name: Connection(port=port, namespace="aivo") for name, port in STORE_PORTS.items()},
    "aws": Connection(port=443, address="52.216.0.1"),
    "opensearch-restore": Connection(port=9200, address="10.1.2.3"),
}
# What nobody needs: another namespace, plain HTTP, a database by its address, the API server, the internet's DNS.
NEVER = (
    *(Connection(port=port, namespace="default") for port in STORE_PORTS.values()),
    Connection(port=443, namespace="aivo"),
    Connection(port=80, address="52.216.0.1"),
    Connection(port=5432, address="10.1.2.3"),
    Connection(port=9200, address="52.216.0.1"),
    Connection(port=6443, address="10.0.0.1"),
    Connection(port=22, namespace="aivo"),
    Connection(port=53, protocol="UDP", address="8.8.8.8"),
)
DNS = Connection(port=53, protocol="UDP", namespace="kube-system")


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A kind of pod: its workload, its labels, and the role of its service account."""

    name: str
    labels: dict[str, str]
    role: Role


def pods(plan: Plan) -> Iterator[Pod]:
    for workload in [*plan.all(":CronJob"), *plan.all(":Deployment")]:
        spec = workload.inputs["spec"]
        template = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
        role = Role(template["spec"]["serviceAccountName"].removeprefix("aivo-backup-"))
        yield Pod(name=workload.name, labels=template["metadata"]["labels"], role=role)


WAYS_IN = {Role.AGENT: {("monitoring", "9464")}}
"""Namespace and port from and at which a pod is reached: Prometheus reads the agent's metrics."""


def findings(plan: Plan) -> list[str]:
    """Every connection that is open and should not be, or closed and should be open."""
    policies = [policy.inputs["spec"] for policy in plan.all(":NetworkPolicy")]
    found: list[str] = []
    for pod in pods(plan):
        wanted = expected(plan, pod.role)
        for name, connection in DESTINATIONS.items():
            if may_connect(policies, pod.labels, connection) != (name in wanted):
                found.append(f"{pod.name}: {name} is {'closed' if name in wanted else 'open'}")
        found += [f"{pod.name}: {entry} is open" for entry in NEVER if may_connect(policies, pod.labels, entry)]
        if not may_connect(policies, pod.labels, DNS):
            found.append(f"{pod.name}: no names are resolved")
        found += [
            f"{pod.name}: {entry} come in" for entry in ways_in(policies, pod.labels) ^ WAYS_IN.get(pod.role, set())
        ]
    return found


def expected(plan: Plan, role: Role) -> set[str]:
    """What a role's pods reach, by the table; without a cluster for restore tests, that is nowhere."""
    wanted = {entry if entry in DESTINATIONS else "aws" for entry in POD_REACH[role]}
    return wanted if plan.settings()["opensearch"]["verification_endpoint"] else wanted - {"opensearch-restore"}


def test_the_table_is_what_each_job_needs() -> None:
    for role, wanted in EXPECTED.items():
        assert {entry if entry in DESTINATIONS else "aws" for entry in POD_REACH[role]} == wanted
    for destinations in FUNCTION_REACH.values():
        assert not set(destinations) & set(STORE_PORTS), "a function cannot resolve a name of the cluster"


def test_the_agent_alone_reaches_the_clusters_api_where_awss_ranges_are_narrow(plan: Plan) -> None:
    for policy in plan.all(":NetworkPolicy"):
        blocks = [
            peer["ipBlock"]["cidr"]
            for rule in policy.inputs["spec"]["egress"]
            for peer in rule["to"]
            if "ipBlock" in peer and rule["ports"][0]["port"] == 443
        ]
        # "0.0.0.0/0" stands for the ranges of endpoints, which an environment may narrow.
        reaches_api = "10.0.0.0/8" in blocks
        assert reaches_api == (policy.name == "aivo-backup-agent-network"), policy.name


def test_pods_reach_what_the_table_says_and_nothing_else(plan: Plan) -> None:
    assert {pod.role for pod in pods(plan)} <= set(POD_REACH)
    assert findings(plan) == []


def _policy(plan: Plan, role: Role) -> dict[str, Any]:
    return plan.one(":NetworkPolicy", f"aivo-backup-{role.value}-network").inputs["spec"]


def _egress(role: Role, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Plan], None]:
    def mutate(plan: Plan) -> None:
        change(_policy(plan, role)["egress"])

    return mutate


def _set(role: Role, key: str, value: object) -> Callable[[Plan], None]:
    def mutate(plan: Plan) -> None:
        _policy(plan, role)[key] = value

    return mutate


ANYBODY: list[dict[str, Any]] = [{}]
ANYWHERE: dict[str, Any] = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
MUTANTS: dict[str, Callable[[Plan], None]] = {
    "no policy": lambda plan: plan.remove(":NetworkPolicy", "aivo-backup-minio-writer-network"),
    "egress left out": _set(Role.MINIO_WRITER, "policyTypes", ["Ingress"]),
    "ingress left out": _set(Role.AGENT, "policyTypes", ["Egress"]),
    "anybody comes in": _set(Role.AGENT, "ingress", ANYBODY),
    "any namespace comes in": _set(
        Role.AGENT, "ingress", [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 9464}]}]
    ),
    "any port comes in": _set(
        Role.AGENT,
        "ingress",
        [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]}],
    ),
    "no scraping": _set(Role.AGENT, "ingress", []),
    "everything goes out": _egress(Role.POSTGRES_WRITER, lambda rules: rules.append({})),
    "every port goes out": _egress(Role.POSTGRES_WRITER, lambda rules: rules.append(ANYWHERE)),
    "every address at a store's port": _egress(
        Role.RESTORE_TESTER, lambda rules: rules.append({**ANYWHERE, "ports": [{"port": 9200}]})
    ),
    "a store too many": _egress(
        Role.MINIO_WRITER, lambda rules: rules.append({**rules[1], "ports": [{"port": 9200, "protocol": "TCP"}]})
    ),
    "the store's namespace whole": _egress(Role.AGENT, lambda rules: rules[1].pop("ports")),
    "every namespace": _egress(Role.AGENT, lambda rules: rules[1].update(to=[{"namespaceSelector": {}}])),
    "no way to AWS": _egress(Role.OPENSEARCH_WRITER, lambda rules: rules.pop()),
    "no names": _egress(Role.OPENSEARCH_WRITER, lambda rules: rules.pop(0)),
    "selects nobody": _set(Role.AGENT, "podSelector", {"matchLabels": {"app.kubernetes.io/component": "agents"}}),
}


@pytest.mark.parametrize("mutation", MUTANTS.values(), ids=[name.replace(" ", "-") for name in MUTANTS])
def test_a_spoilt_policy_is_found(mutation: Callable[[Plan], None], prod: Plan) -> None:
    mutant = prod.copy()
    mutation(mutant)
    assert findings(mutant)


def test_functions_without_a_way_out_have_an_endpoint_for_each_service_that_they_reach(prod: Plan) -> None:
    settings = load("prod", stack_configuration(ROOT, "prod", {}))
    made = {entry.inputs["serviceName"].rpartition(".")[2]: entry.inputs for entry in prod.all(":VpcEndpoint")}
    assert sorted(made) == reached_services(settings)
    assert {"s3", "kms", "sts", "logs", "secretsmanager", "ssm", "sqs", "eks", "xray"} == set(made)
    (group,) = prod.all(":SecurityGroup")
    assert [rule["securityGroups"] for rule in group.inputs["ingress"]] == [list(settings.functions.security_groups)]
    for name, inputs in made.items():
        assert inputs["vpcEndpointType"] == ("Gateway" if name == "s3" else "Interface")


def test_no_function_is_led_to_a_name_of_the_cluster(plan: Plan) -> None:
    search = plan.settings()["opensearch"]
    if plan.stack != "local":
        assert search["internal_endpoint"]
    for name in ("internal_endpoint", "verification_endpoint"):
        assert ".svc" not in search[name]


def test_the_documentation_holds_the_table() -> None:
    """`python -m infra.reach` writes it."""
    text = (ROOT / reach.DOCUMENT).read_text(encoding="utf-8")
    assert reach.placed(text) == text
    assert reach.rows().count("\n") > len(network.POD_REACH) + len(network.FUNCTION_REACH)
