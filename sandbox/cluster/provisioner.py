"""Volumes on demand, as a cluster in an account has them from its CSI driver: a folder of this machine for each claim.

A process of the cluster (`python -m sandbox.cluster.provisioner`). It keeps nothing in mind: what is to be made and
what is to be removed is read from the API each time, so it may be killed at any moment.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from aivo_backup.errors import BackupError
from aivo_backup.stores.eks import ClusterApi

STORAGE_CLASS = "sandbox"
"""The class that the stack `local` names. It is not the cluster's default: a claim with no class gets no volume."""
FOLDER_PREFIX = "pvc-"
_PROVISIONER = "aivo-backup.invalid/folders"
_ASKED_OF = "volume.kubernetes.io/storage-provisioner"
_NODE = "volume.kubernetes.io/selected-node"
_MADE_BY = "pv.kubernetes.io/provisioned-by"
_OK, _CREATED, _MISSING, _TAKEN = 200, 201, 404, 409
_POLL_SECONDS = 0.5

Document = dict[str, Any]


def storage_class() -> Document:
    """The class. A volume is made where its pod will run, and goes with its claim."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": _PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def local_source(folder: Path, node: str) -> Document:
    """What makes a persistent volume of a folder of this machine."""
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
    }


def look(api: ClusterApi, folder: Path) -> Iterator[str]:
    """Makes what is asked for, and removes what is no longer; says what it did.

    Raises:
        BackupError: the API does not answer, or refuses.
    """
    for claim in _listed(api, "/api/v1/persistentvolumeclaims"):
        marks: dict[str, str] = claim["metadata"].get("annotations") or {}
        if claim["status"].get("phase") == "Pending" and marks.get(_ASKED_OF) == _PROVISIONER and _NODE in marks:
            yield f"made {_make(api, folder, claim, marks[_NODE])}"
    for volume in _listed(api, "/api/v1/persistentvolumes"):
        marks = volume["metadata"].get("annotations") or {}
        if volume["status"].get("phase") == "Released" and marks.get(_MADE_BY) == _PROVISIONER:
            yield f"removed {_remove(api, folder, volume)}"


def _make(api: ClusterApi, folder: Path, claim: Document, node: str) -> str:
    metadata = claim["metadata"]
    name = f"{FOLDER_PREFIX}{metadata['uid']}"
    # The kubelet hands it to the pod's group.
    (folder / name).mkdir(mode=0o700, exist_ok=True)
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE_BY: _PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": claim["spec"]["storageClassName"],
            "claimRef": reference | {"namespace": metadata["namespace"], "name": metadata["name"]},
            **local_source(folder / name, node),
        },
    }
    _expect(api.ask("POST", "/api/v1/persistentvolumes", volume), _CREATED, _TAKEN)
    return name


def _remove(api: ClusterApi, folder: Path, volume: Document) -> str:
    name = str(volume["metadata"]["name"])
    shutil.rmtree(folder / name, ignore_errors=True)
    _expect(api.ask("DELETE", f"/api/v1/persistentvolumes/{name}"), _OK, _MISSING)
    return name


def _listed(api: ClusterApi, path: str) -> list[Document]:
    return list(_expect(api.ask("GET", path), _OK)["items"])


def _expect(answer: tuple[int, Document], *wanted: int) -> Document:
    status, content = answer
    if status not in wanted:
        raise BackupError(f"the cluster answers {status}: {content.get('message', '')}")
    return content


def connect(kubeconfig: Path) -> ClusterApi:
    """The API, as who a kubeconfig of :mod:`sandbox.cluster.parts` is for."""
    content: Document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster = content["clusters"][0]["cluster"]
    authority = Path(cluster["certificate-authority"]).read_text(encoding="ascii")
    return ClusterApi(url=cluster["server"], authority=authority, token=content["users"][0]["user"]["token"])


def main(arguments: Sequence[str]) -> None:
    """Looks again and again until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.cluster.provisioner", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where volumes are made")
    options = parser.parse_args(arguments)
    api = connect(options.kubeconfig)
    while True:
        try:
            for line in look(api, options.folder):
                print(line, flush=True)
        except BackupError as error:
            # The API is on its way up or down, or two looks met; the next one tells.
            print(error, flush=True)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
