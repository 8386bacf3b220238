"""What is put into the cluster: the stores' names, a database that learns to archive, and the stack `local`."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import yaml

from aivo_backup.cli.init import prepare, prepare_envelope
from aivo_backup.policy import database_pod
from aivo_backup.policy.environment import Component, Environment, PostgresSettings
from aivo_backup.policy.names import (
    SECRET_PGBACKREST_HOST,
    SECRET_PGBACKREST_SERVER,
    SETTINGS_CONFIG_MAP,
    SETTINGS_KEY,
)
from aivo_backup.stores.port import Progress
from sandbox import lifecycle
from sandbox.cluster import handover, stores
from sandbox.cluster.identity import policies
from sandbox.cluster.kubectl import Kubectl
from sandbox.cluster.place import Place
from sandbox.cluster.provisioner import STORAGE_CLASS, storage_class
from sandbox.pods.manifests import load

STORES = "aivo"
"""The namespace of the stores in the stack `local`."""
_READY_SECONDS = 120.0

Document = dict[str, Any]


def provider(cluster_settings: str) -> str:
    """The cluster's OIDC provider, as the stack names it and its roles trust it."""
    return str(json.loads(cluster_settings)["oidc_provider"])


def deploy(place: Place, kubectl: Kubectl, *, progress: Progress) -> None:
    """Makes everything in the cluster true; repeating it changes nothing.

    Raises:
        BackupError: the cluster refuses an object, or a pod does not become ready.
    """
    document = load(place.sandbox.home / "kubernetes", "ConfigMap", SETTINGS_CONFIG_MAP)["data"][SETTINGS_KEY]
    environment = Environment.from_json(json.loads(document), where=SETTINGS_CONFIG_MAP)
    settings = environment.postgres
    patch = database_pod.patch(environment, document)
    manifests = read_manifests(place)
    app = lifecycle.open_app()
    kubectl.apply([*stores.names(environment), storage_class()])
    _deploy_identity(place, kubectl, manifests, patch, settings)
    _deploy_database(place, kubectl, settings, patch)
    progress("PostgreSQL: runs as a StatefulSet")
    prepare_envelope(app, progress=progress)
    _let_archive(kubectl, settings, patch)
    progress("PostgreSQL: the sidecar is beside it, and it archives")
    for component in Component:
        prepare(app, component, sidecar_timeout=_READY_SECONDS, progress=progress)
    claims = [_name(it) for it in manifests if it["kind"] == "PersistentVolumeClaim"]
    kubectl.apply(list(stores.volumes(place, claims, {}, storage_class=STORAGE_CLASS)), field_manager="sandbox")
    warnings = kubectl.apply(manifests)
    progress(f"the stack local: {len(manifests)} objects" + "".join(f"; {warning}" for warning in warnings))


def read_manifests(place: Place) -> list[Document]:
    """Every Kubernetes object of the stack `local`, as the Pulumi program registered it."""
    files = sorted((place.sandbox.home / "kubernetes").glob("*.yaml"))
    return [cast("Document", yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files]


def secrets_of(documents: Sequence[Document]) -> list[str]:
    """The secrets that pods among these objects mount."""
    return sorted({str(volume["secret"]["secretName"]) for volume in _volumes(documents) if "secret" in volume})


def _deploy_identity(
    place: Place, kubectl: Kubectl, manifests: Sequence[Document], patch: Sequence[Document], settings: PostgresSettings
) -> None:
    """Namespaces, secrets, where AWS answers, and the roles of service accounts: before any pod that needs them."""
    spaces = [it for it in manifests if it["kind"] == "Namespace"]
    accounts = [it for it in (*manifests, *patch) if it["kind"] == "ServiceAccount"]
    store = settings.pod.namespace
    jobs = sorted({str(it["metadata"]["namespace"]) for it in accounts} - {store})
    kubectl.apply(spaces)
    objects: list[Document] = [stores.endpoints(place, namespace) for namespace in (store, *jobs)]
    objects += stores.secrets(place, store, (SECRET_PGBACKREST_SERVER, SECRET_PGBACKREST_HOST))
    for namespace in jobs:
        objects += stores.secrets(place, namespace, secrets_of(manifests))
    kubectl.apply([*objects, *policies(accounts)], field_manager="sandbox")


def _deploy_database(place: Place, kubectl: Kubectl, settings: PostgresSettings, patch: Sequence[Document]) -> None:
    existing = kubectl.run("get", "statefulset", settings.pod.stateful_set, f"--namespace={settings.pod.namespace}")
    if existing.exit_code == 0:
        return  # what somebody else has put up is not put up again
    claim = stores.data_claim(settings)
    known = {claim: handover.give(place.sandbox, settings.pod)}
    documents = [*stores.volumes(place, [claim], known), *stores.database(place, settings)]
    if handover.archives(place.sandbox):
        # It comes back from an earlier life: no moment without the sidecar that it archives through.
        kubectl.apply([_stopped(it) for it in documents], field_manager="database-owner")
        kubectl.apply(patch)
    kubectl.apply(documents, field_manager="database-owner")
    _wait_for_database(kubectl, settings)


def _stopped(document: Document) -> Document:
    return {**document, "spec": {**document["spec"], "replicas": 0}} if document["kind"] == "StatefulSet" else document


def _let_archive(kubectl: Kubectl, settings: PostgresSettings, patch: Sequence[Document]) -> None:
    """What a person does with `aivo-backup init postgres --patch`."""
    pod = settings.pod
    login = ["psql", "-v", "ON_ERROR_STOP=1", "-qX", "-h", settings.socket_path, "-U", "postgres", "-f", "-"]
    where = [f"--namespace={pod.namespace}", f"--container={pod.container}", f"{pod.stateful_set}-0"]
    sql = "\n".join(database_pod.statements(settings))
    kubectl("exec", "--stdin", *where, "--", *login, stdin=sql)
    kubectl.apply(patch)
    _wait_for_database(kubectl, settings)


def _wait_for_database(kubectl: Kubectl, settings: PostgresSettings) -> None:
    pod = settings.pod
    limit = f"--timeout={_READY_SECONDS:.0f}s"
    kubectl("rollout", "status", "statefulset", pod.stateful_set, f"--namespace={pod.namespace}", limit)


def _volumes(documents: Sequence[Document]) -> Iterator[Document]:
    for document in documents:
        spec: Document = document.get("spec") or {}
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template: Document = spec.get("template") or {}
        yield from (template.get("spec") or {}).get("volumes") or []


def _name(document: Document) -> tuple[str, str]:
    return str(document["metadata"]["namespace"]), str(document["metadata"]["name"])


__all__ = ["STORES", "deploy", "provider", "read_manifests", "secrets_of"]
