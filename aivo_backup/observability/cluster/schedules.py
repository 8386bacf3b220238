"""CronJobs as the schedule demands them, and what became of their Jobs. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from aivo_backup.errors import ExitCode
from aivo_backup.observability.cluster.pods import Cause, Trouble, about, job_trouble, newest
from aivo_backup.observability.cluster.view import ClusterView, well, wrong
from aivo_backup.observability.doctor import Finding
from aivo_backup.policy.schedules import expected_runs
from aivo_backup.policy.workloads import moment, outcome, part, parts

_NAME = "app.kubernetes.io/name"
_ZONE = "Etc/UTC"
# The controller looks every few seconds; a schedule that is a minute old is not late yet.
_PUNCTUAL = timedelta(seconds=60)

Document = Mapping[str, Any]


def judge_cron_job(view: ClusterView, name: str, cron: str, *, component: str, late: int | None) -> Iterator[Finding]:
    """A CronJob and its Jobs.

    Args:
        cron: when it is to run, five fields.
        component: whose own checks say more when a Job could not reach something; empty for all of them.
        late: seconds that a start may be late; None for a template, which starts nothing by itself.
    """
    check, held = f"CronJob {name}", view.jobs.one("CronJob", name)
    if held is None:
        told = f"{view.context} has no CronJob {view.jobs.name}/{name}"
        yield wrong(check, "it does not exist: nothing is run", evidence=told, mend="pulumi up --refresh")
        return
    found = list(_definition(view, held, cron, template=late is None))
    if late is not None and not held["spec"].get("suspend"):
        found += _missed(view, held, cron, timedelta(seconds=late))
    jobs = newest(view.jobs.labelled("Job", {_NAME: name}))
    ended = next((job for job in jobs if outcome(job)), None)
    # Of those that ended the last one counts; one that goes on may hold back the next, however old it is.
    for job in [it for it in jobs if not outcome(it)] + ([ended] if ended else []):
        pods = newest(view.jobs.pods_of(job))
        if trouble := job_trouble(job, pods, view.jobs.events, view.now):
            found.append(_job_finding(view, name, job, pods, trouble, component))
    last = part(held, "status").get("lastScheduleTime") or "never"
    scheduled = "a template" if late is None else f"last scheduled {last}"
    how = f"last Job {ended['metadata']['name']}: {outcome(ended)}" if ended else "no Job has ended"
    yield from found or [well(check, f"{cron}, {scheduled}; {how}")]


def _definition(view: ClusterView, held: Document, cron: str, *, template: bool) -> Iterator[Finding]:
    name, spec = held["metadata"]["name"], held["spec"]
    check, suspended = f"CronJob {name}", bool(spec.get("suspend"))
    if suspended != template:
        trouble = "it is suspended: nothing is run" if suspended else "it runs by itself, beside the function"
        wanted = "false" if suspended else "true"
        mend = f'kubectl patch cronjob {name} -n {view.jobs.name} -p \'{{"spec":{{"suspend":{wanted}}}}}\''
        yield wrong(check, trouble, evidence=f"spec.suspend is {str(suspended).lower()}", mend=mend)
    containers = parts(spec, "jobTemplate", "spec", "template", "spec", "containers")
    pairs = [
        ("spec.schedule", spec.get("schedule"), cron),
        ("spec.timeZone", spec.get("timeZone"), _ZONE),
        *(("image", container.get("image"), view.image) for container in containers),
    ]
    differing = [f"{what} is {has!r}, not {wanted!r}" for what, has, wanted in pairs if has != wanted]
    if differing:
        trouble = "it is not as the published settings have it"
        yield wrong(check, trouble, evidence="; ".join(differing), mend="pulumi up --refresh")


def _missed(view: ClusterView, held: Document, cron: str, late: timedelta) -> Iterator[Finding]:
    """A run that was due and did not come, unless the one before goes on, which is judged by itself."""
    name, status = held["metadata"]["name"], part(held, "status")
    if status.get("active"):
        return
    last = status.get("lastScheduleTime")
    since = moment(last or held["metadata"]["creationTimestamp"]) + timedelta(seconds=1)
    due = next(expected_runs(cron, since, view.now - late - _PUNCTUAL), None)
    if due is None:
        return
    told = f"a run was due at {due:%Y-%m-%d %H:%M} UTC, the last was scheduled {last or 'never'}"
    if warnings := about(held, view.jobs.events):
        told += f"; {warnings[-1].get('reason', '')}: {warnings[-1].get('message', '')}"
    mend = f"kubectl describe cronjob {name} -n {view.jobs.name}; then {_again(view, name)}"
    yield wrong(f"CronJob {name}", "a run that was due was not started", evidence=told, mend=mend)


def _job_finding(
    view: ClusterView, name: str, job: Document, pods: Sequence[Document], trouble: Trouble, component: str
) -> Finding:
    check, job_name = f"CronJob {name}", str(job["metadata"]["name"])
    pod = next((it for it in pods if it["metadata"]["name"] == trouble.pod), pods[0] if pods else None)
    told = f"Job {job_name}: {trouble.told}{view.said(view.jobs, pod)}"
    mend = _mend(view, name, job_name, trouble, component)
    if outcome(job):
        return wrong(check, "its last Job failed", evidence=told, mend=mend)
    if trouble.cause in (Cause.FAILED, Cause.MEMORY, Cause.EVICTED):
        mend = (
            f"see whether that one ends well: kubectl get pods -n {view.jobs.name} -l job-name={job_name}; else {mend}"
        )
        return wrong(check, "an attempt failed, and its Job makes another", evidence=told, mend=mend)
    return wrong(check, "its Job does not get to its work", evidence=told, mend=mend)


def _mend(view: ClusterView, name: str, job: str, trouble: Trouble, component: str) -> str:
    namespace, again = view.jobs.name, _again(view, name)
    log = f"kubectl logs job/{job} -n {namespace}"
    removed = f"kubectl delete job {job} -n {namespace}, which holds back the next; then {again}"
    match trouble.cause:
        case Cause.REFUSED:
            return f"mend what refuses it (its template: pulumi up --refresh); {removed}"
        case Cause.IMAGE:
            return f"correct cluster.image and pulumi up, or let the nodes pull it; {removed}"
        case Cause.UNSCHEDULABLE | Cause.NOT_STARTED:
            return f"kubectl describe pod {trouble.pod} -n {namespace}; it starts when that is mended"
        case Cause.EVICTED:
            return f"kubectl describe nodes says what they lack; then {again}"
        case Cause.MEMORY:
            return f"raise its memory limit and pulumi up; then {again}"
        case Cause.FAILED if trouble.exit_code in (ExitCode.CONFIGURATION, ExitCode.UNREACHABLE):
            return f"{f'aivo-backup doctor {component}'.strip()}; then {again}"
        case Cause.FAILED | Cause.TOO_LONG:
            return f"{log}; then {again}"


def _again(view: ClusterView, name: str) -> str:
    return f"kubectl create job {name}-again -n {view.jobs.name} --from=cronjob/{name}"
