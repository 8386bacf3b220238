"""What EKS does to pods, done by the cluster's own API server: the role of a service account, and its projected token.

EKS has a webhook for it. Here it is an admission policy per service account, made from the same annotation; the
token is signed by this cluster's key, which the sandbox's AWS API trusts as STS trusts an OIDC provider. Each pod also
learns where AWS answers, the one thing that differs from an account.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aivo_backup.composition import ENDPOINTS
from sandbox.aws_api.web_identity import AUDIENCE
from sandbox.state import REGION

ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
ENDPOINTS_CONFIG_MAP = "aivo-sandbox-endpoints"
ENDPOINTS_FOLDER = "/etc/aivo-sandbox"
_TOKEN_FOLDER = "/var/run/secrets/eks.amazonaws.com/serviceaccount"  # noqa: S105 - a path
_TOKEN_SECONDS = 86400
_VERSION = "admissionregistration.k8s.io/v1beta1"

Document = Mapping[str, Any]


def policies(service_accounts: Sequence[Document]) -> list[dict[str, Any]]:
    """The admission policies and their bindings, for the service accounts that have a role."""
    documents: list[dict[str, Any]] = []
    for account in service_accounts:
        metadata: Document = account["metadata"]
        annotations: Document = metadata.get("annotations") or {}
        if ROLE_ANNOTATION in annotations:
            documents += _policy(str(metadata["namespace"]), str(metadata["name"]), str(annotations[ROLE_ANNOTATION]))
    return documents


def _policy(namespace: str, account: str, role: str) -> list[dict[str, Any]]:
    name = f"identity-{namespace}-{account}"
    match = f"request.namespace == '{namespace}' && object.spec.serviceAccountName == '{account}'"
    policy = {
        "apiVersion": _VERSION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ]
            },
            "matchConditions": [{"name": "account", "expression": match}],
            "mutations": [
                {"patchType": "JSONPatch", "jsonPatch": {"expression": _volumes()}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": _containers(role)}},
            ],
        },
    }
    binding = {
        "apiVersion": _VERSION,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    return [policy, binding]


def _volumes() -> str:
    token = (
        'Object.spec.volumes{name: "aws-token", projected: Object.spec.volumes.projected{sources: ['
        "Object.spec.volumes.projected.sources{serviceAccountToken: "
        "Object.spec.volumes.projected.sources.serviceAccountToken{"
        f'audience: "{AUDIENCE}", expirationSeconds: {_TOKEN_SECONDS}, path: "token"}}}}]}}}}'
    )
    endpoints = (
        'Object.spec.volumes{name: "aws-endpoints", '
        f'configMap: Object.spec.volumes.configMap{{name: "{ENDPOINTS_CONFIG_MAP}"}}}}'
    )
    return (
        "["
        + ", ".join(f'JSONPatch{{op: "add", path: "/spec/volumes/-", value: {it}}}' for it in (token, endpoints))
        + "]"
    )


def _containers(role: str) -> str:
    kinds = ("containers", "initContainers")
    lists = ", ".join(f"{kind}: {_of_kind(kind, role)}" for kind in kinds)
    return f"Object{{spec: Object.spec{{{lists}}}}}"


def _of_kind(kind: str, role: str) -> str:
    variables = {
        "AWS_ROLE_ARN": role,
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        ENDPOINTS: f"{ENDPOINTS_FOLDER}/endpoints.json",
    }
    mounts = {"aws-token": _TOKEN_FOLDER, "aws-endpoints": ENDPOINTS_FOLDER}
    path = f"Object.spec.{kind}"
    env = ", ".join(f'{path}.env{{name: "{name}", value: "{value}"}}' for name, value in variables.items())
    mounted = ", ".join(
        f'{path}.volumeMounts{{name: "{name}", mountPath: "{folder}", readOnly: true}}'
        for name, folder in mounts.items()
    )
    return f"object.spec.?{kind}.orValue([]).map(it, {path}{{name: it.name, env: [{env}], volumeMounts: [{mounted}]}})"
