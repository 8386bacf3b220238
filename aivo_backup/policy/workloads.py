"""What Kubernetes' own objects say, as parsed JSON: how a Job ended, what scale a workload is to have. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

FORMER = "aivo-backup/former-replicas"
"""Annotation of a workload that was scaled to nothing: the scale it had, for whoever brings it back."""

Document = Mapping[str, Any]


def part(document: Document, *path: str) -> Document:
    """The object at a path of keys; empty where there is none, or a null."""
    for key in path:
        found: Document | None = document.get(key)
        document = found or {}
    return document


def parts(document: Document, *path: str) -> list[Document]:
    """The list of objects at a path of keys; likewise."""
    found: list[Document] | None = part(document, *path[:-1]).get(path[-1])
    return found or []


def wanted_scale(workload: Document) -> int:
    """The replicas that a workload is to have; of one that was stopped by us, those it had."""
    return int(workload["spec"].get("replicas", 1)) or int(former_scale(workload) or "0")


def former_scale(workload: Document) -> str:
    """The scale that a workload had before it was stopped by us; empty at one that was not, or was started again."""
    return str(part(workload, "metadata", "annotations").get(FORMER, ""))


def condition(document: Document, kind: str) -> Document | None:
    """The condition of that type where it is true."""
    found = parts(document, "status", "conditions")
    return next((one for one in found if (one["type"], one["status"]) == (kind, "True")), None)


def outcome(job: Document) -> str:
    """``Complete``, ``Failed``, or empty while a Job goes on."""
    return next((kind for kind in ("Complete", "Failed") if condition(job, kind)), "")


def had_a_pod(job: Document) -> bool:
    """Whether a Job got at least one pod, whatever became of it."""
    return any(part(job, "status").get(count) for count in ("active", "failed", "succeeded"))


def moment(text: str) -> datetime:
    """A moment as Kubernetes writes it, UTC."""
    return datetime.fromisoformat(text)
