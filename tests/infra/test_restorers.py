"""Those who restore in the cluster may do what the commands do, in two namespaces, and are held to it by guards."""

import pytest

from aivo_backup.policy.environment import DatabasePod
from aivo_backup.policy.names import RESTORERS_GROUP
from infra.restorer_rules import scale_rules
from tests.infra.plans import Plan, Resource

_RBAC = "rbac.authorization.k8s.io/v1"
_LOOKS = {
    ("jobs", "get"), ("jobs", "list"), ("pods", "get"), ("pods", "list"), ("pods/log", "get"), ("events", "list"),
    ("persistentvolumeclaims", "list"), ("configmaps aivo-backup-settings", "get"),
    *((kind, verb) for kind in ("deployments", "statefulsets") for verb in ("get", "list", "watch", "patch")),
}  # fmt: skip
_RIGHTS = {
    "aivo-backup-restorers": ("aivo", {("jobs", "create"), ("jobs", "delete"), ("jobs", "watch")}),
    "aivo-backup-restorers-jobs": ("aivo-system", {("cronjobs", "list")}),
}


def granted(role: Resource) -> set[tuple[str, str]]:
    return {
        (" ".join([resource, *rule.get("resourceNames", [])]), verb)
        for rule in role.inputs["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("name", _RIGHTS)
def test_the_group_may_do_what_the_commands_do_and_no_more(plan: Plan, name: str) -> None:
    role, binding = plan.one(f"{_RBAC}:Role", name), plan.one(f"{_RBAC}:RoleBinding", name)
    namespace, own = _RIGHTS[name]
    assert granted(role) == _LOOKS | own
    for one in (role, binding):
        assert (one.inputs["metadata"]["name"], one.inputs["metadata"]["namespace"]) == (name, namespace)
    assert binding.inputs["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    (subject,) = binding.inputs["subjects"]
    assert (subject["kind"], subject["name"]) == ("Group", RESTORERS_GROUP)


def test_the_restorers_role_is_let_in_where_a_cluster_is_named(plan: Plan) -> None:
    if plan.stack == "local":
        assert not plan.all(":AccessEntry")
        return
    entry = plan.one(":AccessEntry", "restorers")
    assert entry.inputs["principalArn"] == plan.outputs["roles"]["restorer"]
    assert entry.inputs["kubernetesGroups"] == [RESTORERS_GROUP]
    policy = plan.one(":RolePolicy", "restorer-policy").document()
    (finds,) = (it for it in policy["Statement"] if it["Sid"] == "FindCluster")
    assert finds["Action"] == "eks:DescribeCluster"
    assert finds["Resource"].endswith(f":cluster/{plan.outputs['cluster']['name']}")


@pytest.mark.parametrize(
    ("name", "operation", "namespaces"),
    [("scale", "UPDATE", ["aivo-system", "aivo"]), ("job", "CREATE", ["aivo"]), ("removal", "DELETE", ["aivo"])],
)
def test_what_they_change_is_guarded(plan: Plan, name: str, operation: str, namespaces: list[str]) -> None:
    guard = plan.one(":ValidatingAdmissionPolicy", f"aivo-backup-restorers-{name}")
    bound = plan.one(":ValidatingAdmissionPolicyBinding", f"aivo-backup-restorers-{name}")
    spec, matched = guard.inputs["spec"], guard.inputs["spec"]["matchConstraints"]
    assert spec["failurePolicy"] == "Fail"
    assert [it["expression"] for it in spec["matchConditions"]] == [f"'{RESTORERS_GROUP}' in request.userInfo.groups"]
    assert [rule["operations"] for rule in matched["resourceRules"]] == [[operation]]
    assert [it["values"] for it in matched["namespaceSelector"]["matchExpressions"]] == [namespaces]
    assert spec["validations"]
    # Cluster-wide: two environments in one cluster have guards of their own.
    full = f"aivo-backup-{plan.stack}-restorers-{name}"
    assert guard.inputs["metadata"]["name"] == full
    assert bound.inputs["spec"] == {"policyName": full, "validationActions": ["Deny"]}


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        ("uses=stores", 'labels[?"uses"] == optional.of("stores")'),
        ("a/b==c, d=", 'labels[?"a/b"] == optional.of("c") && object.metadata.?labels[?"d"] == optional.of("")'),
        ("uses in (stores, all)", ""),
        ("uses=stores,!never", ""),
        ("uses!=stores", ""),
    ],
)
def test_a_selector_is_told_to_the_guard_where_it_is_a_list_of_equalities(selector: str, told: str) -> None:
    rules = scale_rules(DatabasePod(), selector, "aivo")
    assert len(rules) == (3 if told else 2)
    assert told in rules[-1].expression
