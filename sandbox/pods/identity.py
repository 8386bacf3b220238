"""What EKS adds to a pod: the role of its service account, and the token that proves the account."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.pods.container import Mount
from sandbox.pods.manifests import Pod, load
from sandbox.provision.engine import stack_configuration
from sandbox.provision.provisioner import STACK
from sandbox.state import REGION, Sandbox

_ANNOTATION = "eks.amazonaws.com/role-arn"
_TOKEN_FOLDER = "/var/run/secrets/eks.amazonaws.com/serviceaccount"  # noqa: S105 - a path
# EKS projects a day and the kubelet renews it; a sandbox's agent and sidecar run as long as they like.
_TOKEN_LIFE = timedelta(days=30)


def role_of(sandbox: Sandbox, pod: Pod) -> str:
    """The ARN in the annotation of the pod's service account; empty when it has none.

    Raises:
        ConfigurationError: there is no such service account.
    """
    account = load(sandbox.home / "kubernetes", "ServiceAccount", pod.service_account)
    annotations: dict[str, Any] = account["metadata"].get("annotations") or {}
    return str(annotations.get(_ANNOTATION, ""))


def inject(sandbox: Sandbox, pod: Pod, role: str, scratch: Path, now: datetime) -> tuple[dict[str, str], list[Mount]]:
    """The variables and mounts that EKS's webhook adds to a pod whose service account has a role.

    Args:
        role: the role's ARN; without one nothing is added.
        scratch: where the token file is made.
        now: when the token is issued (UTC).
    """
    if not role:
        return {}, []
    cluster = json.loads(stack_configuration(sandbox.checkout, STACK, {})["aivo-backup:cluster"])
    folder = scratch / "token"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(
        sandbox.web_identity_token(
            issuer=cluster["oidc_provider"],
            subject=f"system:serviceaccount:{pod.namespace}:{pod.service_account}",
            now=now,
            life=_TOKEN_LIFE,
        ),
        encoding="utf-8",
    )
    variables = {
        "AWS_ROLE_ARN": role,
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
    }
    return variables, [Mount(source=folder, target=_TOKEN_FOLDER)]
