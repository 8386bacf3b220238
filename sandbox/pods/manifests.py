"""Reads provisioned manifests into what a pod needs to run. What would be silently missing here is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from aivo_backup.errors import ConfigurationError
from sandbox.pods.container import USER_ID
from sandbox.provision.kubernetes import manifest_file

_PROVISION = "provision the sandbox: `aivo-backup sandbox up`"
# What has no meaning for one pod on one machine: scheduling, images, limits, probes. The rest must be understood.
_POD_KEYS = frozenset({
    "containers", "volumes", "securityContext", "serviceAccountName", "terminationGracePeriodSeconds",
    "automountServiceAccountToken", "enableServiceLinks", "restartPolicy", "nodeSelector", "tolerations", "affinity",
    "priorityClassName", "topologySpreadConstraints",
})  # fmt: skip
_CONTAINER_KEYS = frozenset({
    "name", "command", "args", "env", "volumeMounts", "securityContext", "workingDir",
    "image", "imagePullPolicy", "resources", "ports", "livenessProbe", "readinessProbe", "startupProbe",
})  # fmt: skip

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class VolumeMount:
    """Where a volume appears in the container."""

    volume: str
    path: str
    sub_path: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod with one container.

    Attributes:
        service_account: its account; AWS trusts the pod as that.
        volumes: the manifest's own volume sources by name.
        deadline_seconds: after it the job is ended; None for pods that run on.
    """

    name: str
    namespace: str
    service_account: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[VolumeMount, ...]
    volumes: Mapping[str, Document]
    user_id: int
    group_id: int
    read_only_root: bool
    working_folder: str
    deadline_seconds: int | None = None


def load(folder: Path, kind: str, name: str) -> Document:
    """A provisioned object.

    Raises:
        ConfigurationError: it is not among the manifests.
    """
    file = manifest_file(folder, kind, name)
    try:
        return cast("Document", yaml.safe_load(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        known = sorted(found.stem.partition("-")[2] for found in folder.glob(f"{kind.lower()}-*.yaml"))
        raise ConfigurationError(
            f"there is no {kind} {name}", mend=f"known: {', '.join(known)}" if known else _PROVISION
        ) from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}", mend=_PROVISION) from error


def pod_of_cronjob(folder: Path, name: str) -> Pod:
    """The pod that a CronJob would start.

    Raises:
        ConfigurationError: there is no such CronJob, or its pod needs what the sandbox cannot give it.
    """
    manifest = load(folder, "CronJob", name)
    job: Document = manifest["spec"]["jobTemplate"]["spec"]
    namespace = str(manifest["metadata"].get("namespace", "default"))
    return _pod(name, namespace, job["template"]["spec"], job.get("activeDeadlineSeconds"))


def pod_of_deployment(folder: Path, name: str) -> Pod:
    """The pod of a Deployment. Raises as :func:`pod_of_cronjob`."""
    manifest = load(folder, "Deployment", name)
    namespace = str(manifest["metadata"].get("namespace", "default"))
    return _pod(name, namespace, manifest["spec"]["template"]["spec"], None)


def _pod(name: str, namespace: str, spec: Document, deadline_seconds: int | None) -> Pod:
    _refuse_unknown(name, spec, _POD_KEYS)
    containers: list[Document] = spec["containers"]
    if len(containers) != 1:
        raise ConfigurationError(f"the pod {name} has {len(containers)} containers", mend="the sandbox runs one each")
    container = containers[0]
    _refuse_unknown(name, container, _CONTAINER_KEYS)
    security: Document = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
    mounts: list[Document] = container.get("volumeMounts") or []
    volumes: list[Document] = spec.get("volumes") or []
    return Pod(
        name=name,
        namespace=namespace,
        service_account=str(spec.get("serviceAccountName") or "default"),
        argv=(*map(str, container.get("command") or ()), *map(str, container.get("args") or ())),
        environment=_environment(name, container),
        mounts=tuple(
            VolumeMount(
                volume=mount["name"],
                path=mount["mountPath"],
                sub_path=mount.get("subPath") or "",
                read_only=bool(mount.get("readOnly", False)),
            )
            for mount in mounts
        ),
        volumes={volume["name"]: volume for volume in volumes},
        user_id=int(security.get("runAsUser", USER_ID)),
        group_id=int(security.get("runAsGroup", USER_ID)),
        read_only_root=bool(security.get("readOnlyRootFilesystem", False)),
        working_folder=str(container.get("workingDir") or "/"),
        deadline_seconds=deadline_seconds,
    )


def _environment(name: str, container: Document) -> dict[str, str]:
    variables: list[Document] = container.get("env") or []
    for variable in variables:
        if variable.keys() - {"name", "value"}:
            raise ConfigurationError(
                f"the pod {name}: variable {variable.get('name')} is not a plain value",
                mend="mount what it refers to, as the other pods do",
            )
    values = {str(variable["name"]): str(variable.get("value") or "") for variable in variables}
    for text in (*values.values(), *(container.get("command") or ()), *(container.get("args") or ())):
        if "$(" in str(text):
            raise ConfigurationError(f"the pod {name} refers to a variable in {text!r}", mend="write the value itself")
    return values


def _refuse_unknown(name: str, spec: Document, known: frozenset[str]) -> None:
    unknown = sorted(spec.keys() - known)
    if unknown:
        raise ConfigurationError(
            f"the pod {name} has {', '.join(unknown)}, which the sandbox does not do",
            mend="add it to sandbox/pods/manifests.py",
        )
