"""A cluster as it was read: the objects of two namespaces, and how to read a log."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aivo_backup.errors import BackupError
from aivo_backup.observability.cluster.pods import log_of
from aivo_backup.observability.doctor import Finding
from aivo_backup.policy.environment import Environment
from aivo_backup.policy.workloads import part, parts

CLUSTER = "cluster"
"""What stands in the place of a component."""
_LOG_LINES, _LINE_CHARACTERS = 4, 160

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """What one namespace holds: objects as the API has them, events among them."""

    name: str
    objects: Sequence[Document]

    def of(self, kind: str) -> list[Document]:
        """The objects of a kind."""
        return [it for it in self.objects if it["kind"] == kind]

    def one(self, kind: str, name: str) -> Document | None:
        """The object of that kind and name."""
        return next((it for it in self.of(kind) if it["metadata"]["name"] == name), None)

    def labelled(self, kind: str, labels: Mapping[str, str]) -> list[Document]:
        """The objects of a kind that carry all of some labels."""
        return [it for it in self.of(kind) if labels.items() <= part(it, "metadata", "labels").items()]

    def pods_of(self, job: Document) -> list[Document]:
        """A Job's pods."""
        return [pod for pod in self.of("Pod") if job["metadata"]["uid"] in _owners(pod)]

    @property
    def events(self) -> list[Document]:
        """What happened in it lately."""
        return self.of("Event")


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """What the judgement is made of.

    Attributes:
        context: how kubectl names the cluster.
        jobs: the namespace of the jobs.
        stores: that of the stores.
        log: the last lines of a container's log, by namespace, pod and container. Raises BackupError where it has none.
        now: when it was read.
    """

    environment: Environment
    context: str
    jobs: Namespace
    stores: Namespace
    log: Callable[[str, str, str], str]
    now: datetime

    @property
    def image(self) -> str:
        """The image that everything of ours is to run."""
        return self.environment.postgres.pod.image

    def said(self, namespace: Namespace, pod: Document | None, container: str = "") -> str:
        """The last lines of the log of a container of ours, as the end of an evidence: what we log has no secret in it.

        Args:
            container: in a pod that is not all ours; else the one that began last.
        """
        container = container or (log_of(pod) if pod else "")
        if pod is None or not container:
            return ""
        try:
            text = self.log(namespace.name, pod["metadata"]["name"], container)
        except BackupError:
            return ""  # it is gone by now; what the cluster says of its end remains
        lines = [
            "".join(it for it in line if it.isprintable()).strip()[:_LINE_CHARACTERS] for line in text.splitlines()
        ]
        kept = [line for line in lines if line][-_LOG_LINES:]
        return f"; it said: {' | '.join(kept)}" if kept else ""


def well(check: str, evidence: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check=check, component=CLUSTER, passed=True, finding="ok", evidence=evidence)


def wrong(check: str, trouble: str, *, evidence: str, mend: str) -> Finding:
    """Something is; the evidence becomes one line."""
    evidence = " ".join(evidence.split())
    return Finding(check=check, component=CLUSTER, passed=False, finding=trouble, evidence=evidence, mend=mend)


def _owners(document: Document) -> set[str]:
    return {str(it["uid"]) for it in parts(document, "metadata", "ownerReferences")}
