"""The API of the cluster that this pod runs in, for one question: which Jobs came to nothing, and why."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.names import PROJECT
from aivo_backup.policy.workloads import condition, had_a_pod
from aivo_backup.stores.eks import ClusterApi

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token and the cluster's authority."""

_OK = 200
_REFUSED = "FailedCreate"
"""What the Job controller calls the event of a pod that admission, or a quota, did not let in."""


@dataclass(frozen=True, kw_only=True)
class BarrenJob:
    """A Job that failed, or that was refused a pod and has had none.

    Attributes:
        uid: the cluster's own name for it, never used twice.
        cron_job: the CronJob from whose template it was made.
        ended: when it failed; of one that still asks for a pod, when it was first refused one.
        reason: the cluster's own words.
    """

    uid: str
    name: str
    cron_job: str
    created: datetime
    ended: datetime
    reason: str


def is_inside(variables: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> bool:
    """Whether this process runs in a pod that may speak to its cluster."""
    return bool(variables.get("KUBERNETES_SERVICE_HOST")) and (folder / "token").is_file()


def connect(variables: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> ClusterApi:
    """The API, under this pod's service account. The token lives an hour: connect again for each look.

    Raises:
        ConfigurationError: the token or the authority cannot be read.
    """
    host, port = variables.get("KUBERNETES_SERVICE_HOST", ""), variables.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (folder / "token").read_text(encoding="ascii").strip()
        authority = (folder / "ca.crt").read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the service account in {folder} cannot be read", mend="mount its token into the pod"
        ) from error
    return ClusterApi(url=f"https://{f'[{host}]' if ':' in host else host}:{port}", authority=authority, token=token)


def barren_jobs(api: ClusterApi, namespace: str) -> list[BarrenJob]:
    """Our Jobs in a namespace that came to nothing, oldest first.

    Raises:
        BackupError: the cluster refuses, or does not answer.
    """
    ours = quote(f"app.kubernetes.io/part-of={PROJECT}")
    found: list[BarrenJob] = []
    for job in _items(api, f"/apis/batch/v1/namespaces/{namespace}/jobs?labelSelector={ours}"):
        if condition(job, "Failed") is None and had_a_pod(job):
            continue
        of_it = quote(f"involvedObject.uid={job['metadata']['uid']},reason={_REFUSED}")
        barren = judged(job, _items(api, f"/api/v1/namespaces/{namespace}/events?fieldSelector={of_it}"))
        found += [barren] if barren else []
    return sorted(found, key=lambda job: (job.created, job.name))


def judged(job: Mapping[str, Any], refusals: Sequence[Mapping[str, Any]]) -> BarrenJob | None:
    """What a Job and the events of its refused pods, as the API has them, come to; None when it may still succeed."""
    failure, metadata = condition(job, "Failed"), job["metadata"]
    refused = sorted((event["metadata"]["creationTimestamp"], str(event.get("message", ""))) for event in refusals)
    if failure is not None:
        ended, reason = failure["lastTransitionTime"], f"{failure.get('reason', '')}: {failure.get('message', '')}"
        reason += f"; first refusal of a pod: {refused[0][1]}" if refused else ""
    elif refused and not had_a_pod(job):
        ended, reason = refused[0]
    else:
        return None
    return BarrenJob(
        uid=metadata["uid"],
        name=metadata["name"],
        cron_job=metadata.get("labels", {}).get("app.kubernetes.io/name", ""),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        ended=datetime.fromisoformat(ended),
        reason=" ".join(reason.split()),
    )


def _items(api: ClusterApi, path: str) -> list[dict[str, Any]]:
    status, answer = api.ask("GET", path)
    if status != _OK:
        raise BackupError(f"{api.url} answers {path} with {answer.get('message', status)}")
    return answer["items"]


__all__ = ["BarrenJob", "barren_jobs", "connect", "is_inside", "judged"]
