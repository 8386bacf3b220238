"""What keeps a pod, and with it a Job, from its work: read off the objects and events that the cluster has. Pure.

The same things that a person would read in `kubectl describe`, in the order in which they explain each other: a pod
that was evicted has a container that failed too, and the eviction is the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from aivo_backup.errors import ExitCode
from aivo_backup.policy.workloads import condition, had_a_pod, moment, outcome, part, parts

Document = Mapping[str, Any]

START = timedelta(seconds=120)
"""How long a pod may be made before it is looked at: an image of some hundred megabytes is pulled in that time."""
_OVERTIME = timedelta(seconds=60)
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ErrImageInspect",
        "ImageInspectError",
    }
)
_REFUSED = "FailedCreate"
_KILLED = 137
_NEVER = "0001-01-01T00:00:00Z"


class Cause(StrEnum):
    """What sort of mend something needs."""

    REFUSED = "refused by admission"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    EVICTED = "evicted"
    MEMORY = "out of memory"
    NOT_STARTED = "not started"
    FAILED = "failed"
    TOO_LONG = "too long"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is the matter.

    Attributes:
        told: the cluster's own words.
        pod: the pod that it is the matter with; empty where there is none.
        container: in that pod; likewise.
        exit_code: that of the container that failed; None where none ended.
    """

    cause: Cause
    told: str
    pod: str = ""
    container: str = ""
    exit_code: int | None = None


def about(document: Document, events: Sequence[Document]) -> list[Document]:
    """The warnings about an object, oldest first."""
    uid = document["metadata"]["uid"]
    found = [it for it in events if part(it, "involvedObject").get("uid") == uid and it.get("type") == "Warning"]
    return sorted(found, key=_last_seen)


def newest(documents: Sequence[Document]) -> list[Document]:
    """Sorted by age, the newest first."""
    return sorted(documents, key=lambda it: (moment(it["metadata"]["creationTimestamp"]), _name(it)), reverse=True)


def pod_trouble(pod: Document, events: Sequence[Document], now: datetime) -> Trouble | None:
    """What is the matter with a pod; None while it starts, works, or has done its work."""
    status = part(pod, "status")
    name = _name(pod)
    if status.get("reason") == "Evicted":
        return Trouble(cause=Cause.EVICTED, told=f"pod {name} was evicted: {status.get('message', '')}", pod=name)
    if disturbed := condition(pod, "DisruptionTarget"):
        why = f"{disturbed.get('reason', '')}: {disturbed.get('message', '')}"
        return Trouble(cause=Cause.EVICTED, told=f"pod {name} was ended: {why}", pod=name)
    for container in _containers(pod):
        if trouble := _container_trouble(name, container):
            return trouble
    if status.get("phase") != "Pending":
        return None
    for one in parts(status, "conditions"):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            told = f"pod {name} has no node: {one.get('message', '')}"
            return Trouble(cause=Cause.UNSCHEDULABLE, told=told, pod=name)
    waited = now - moment(pod["metadata"]["creationTimestamp"])
    if waited <= START:
        return None
    warnings = about(pod, events)
    why = str(warnings[-1].get("message", "")) if warnings else "no event says why"
    told = f"pod {name} has not started for {waited.total_seconds():.0f} s: {why}"
    return Trouble(cause=Cause.NOT_STARTED, told=told, pod=name)


def job_trouble(job: Document, pods: Sequence[Document], events: Sequence[Document], now: datetime) -> Trouble | None:
    """What is the matter with a Job; None while it is well under way, or when it succeeded.

    Args:
        pods: the Job's own.
        events: of the namespace.
    """
    how = outcome(job)
    if how == "Complete":
        return None
    found = next((it for it in (pod_trouble(pod, events, now) for pod in newest(pods)) if it), None)
    if failure := condition(job, "Failed"):
        told = f"{failure.get('reason', '')}: {failure.get('message', '')}"
        if refusal := _refusal(job, events):
            told += f"; {refusal}"
        if found is None:
            cause = Cause.REFUSED if refusal else Cause.FAILED
            cause = Cause.TOO_LONG if failure.get("reason") == "DeadlineExceeded" and not refusal else cause
            return Trouble(cause=cause, told=told)
        return Trouble(
            cause=found.cause,
            told=f"{told}; {found.told}",
            pod=found.pod,
            container=found.container,
            exit_code=found.exit_code,
        )
    if (refusal := _refusal(job, events)) and not had_a_pod(job):
        return Trouble(cause=Cause.REFUSED, told=refusal)
    begun, limit = part(job, "status").get("startTime"), job["spec"].get("activeDeadlineSeconds")
    if begun and limit and now - moment(begun) > timedelta(seconds=limit) + _OVERTIME:
        seconds = (now - moment(begun)).total_seconds()
        return Trouble(cause=Cause.TOO_LONG, told=f"it has run for {seconds:.0f} s, it may take {limit} s")
    return found


def log_of(pod: Document) -> str:
    """The container of ours whose log is worth reading; empty while none has begun."""
    begun = [it for it in _containers(pod) if "waiting" not in part(it, "state") or part(it, "lastState")]
    return str(begun[-1]["name"]) if begun else ""


def _containers(pod: Document) -> Iterator[Document]:
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from parts(pod, "status", kind)


def _container_trouble(pod: str, container: Document) -> Trouble | None:
    waiting = part(container, "state", "waiting")
    reason = waiting.get("reason", "")
    # What ended before counts only while it is not back: a restart that mended things is past.
    ended = part(container, "state", "terminated") or (part(container, "lastState", "terminated") if waiting else {})
    name = str(container["name"])
    where = f"pod {pod}, container {name}"
    if reason in _IMAGE:
        told = f"{where}: {reason}: {waiting.get('message', '')}"
        return Trouble(cause=Cause.IMAGE, told=told, pod=pod, container=name)
    code = int(ended.get("exitCode") or 0)
    if code:
        memory = ended.get("reason") == "OOMKilled"
        told = f"{where}: {'OOMKilled' if memory else _exit_text(code)}"
        cause = Cause.MEMORY if memory else Cause.FAILED
        return Trouble(cause=cause, told=told, pod=pod, container=name, exit_code=code)
    if reason and reason not in _STARTING:
        told = f"{where}: {reason}: {waiting.get('message', '')}"
        return Trouble(cause=Cause.NOT_STARTED, told=told, pod=pod, container=name)
    return None


def _exit_text(code: int) -> str:
    known = {member.value: member.name.lower().replace("_", " ") for member in ExitCode}
    if code == _KILLED:
        return f"exit code {code} (killed)"
    return f"exit code {code} ({known[code]})" if code in known else f"exit code {code}"


def _refusal(job: Document, events: Sequence[Document]) -> str:
    refused = [it for it in about(job, events) if it.get("reason") == _REFUSED]
    return f"a pod was refused: {refused[-1].get('message', '')}" if refused else ""


def _last_seen(event: Document) -> datetime:
    times = (part(event, "series").get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    created = event["metadata"].get("creationTimestamp")
    return moment(next((one for one in (*times, created) if one), _NEVER))


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])
