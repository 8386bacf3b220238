"""What tests do in the cluster: start jobs as a person would, wait for them, and read what they left on record."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aivo_backup.catalog.records import BackupRun, RecoveryPoint
from aivo_backup.composition import App
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import Role
from aivo_backup.stores.process import Finished
from sandbox import lifecycle
from sandbox.cluster import machine
from sandbox.cluster.kubectl import Kubectl

NAMESPACE = "aivo-system"
STORES = "aivo"
JOB_SECONDS = 240.0
CLI_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A Job whose first attempt was killed, and how many runs its CronJob had left before."""

    cronjob: str
    job: str
    before: int


@dataclass(frozen=True, kw_only=True)
class Evicted:
    """How long a backup that was told to go took until it was on record, and what it left there."""

    seconds: float
    runs: list[BackupRun]


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """A CronJob whose schedule was set to one minute that is near, its own schedule, and its runs on record before."""

    cronjob: str
    schedule: str
    before: int


class World:
    """One running cluster."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    @property
    def app(self) -> App:
        """The environment as this machine's administrator."""
        return lifecycle.open_app()

    def cronjobs(self, *, drills: bool = False) -> list[str]:
        """The CronJobs that the program registered with a schedule: drills, or the others. A suspended one is a
        template for a function."""
        found = self.kubectl.get("cronjobs", namespace=NAMESPACE)
        own = [it["metadata"] for it in found if not it["spec"].get("suspend")]
        return sorted(
            it["name"] for it in own if (it["labels"]["app.kubernetes.io/component"] == Role.DRILLER.value) is drills
        )

    def schedule(self, cronjob: str, cron: str) -> None:
        """Gives a CronJob another schedule."""
        patch = f'{{"spec": {{"schedule": "{cron}"}}}}'
        self.kubectl("patch", "cronjob", cronjob, f"--namespace={NAMESPACE}", f"--patch={patch}")

    def start(self, cronjob: str) -> str:
        """`kubectl create job --from`, and the job's name."""
        job = f"e2e-{cronjob}-{secrets.token_hex(3)}"
        self.kubectl("create", "job", f"--namespace={NAMESPACE}", f"--from=cronjob/{cronjob}", job)
        return job

    def start_at_work(self, cronjob: str) -> str:
        """A Job of a full backup that has begun to copy."""
        job = self.start(cronjob)
        self.wait(f"{job} at work", lambda: "takes a full backup" in self.logs(job))
        return job

    def start_spoilt(self, cronjob: str, job: str, *, pod: dict[str, Any] | None = None, **container: Any) -> str:
        """A Job of a CronJob that differs from its template in its pod or container, and is not retried."""
        where = (f"--namespace={NAMESPACE}", f"--from=cronjob/{cronjob}")
        document = json.loads(self.kubectl("create", "job", job, *where, "--dry-run=client", "--output=json"))
        document["spec"]["backoffLimit"] = 0
        spec = document["spec"]["template"]["spec"]
        spec.update(pod or {})
        spec["containers"][0].update(container)
        self.kubectl("create", "--filename=-", stdin=json.dumps(document))
        return job

    def outcome(self, job: str) -> str:
        """``Complete``, ``Failed``, or empty while it runs."""
        conditions: list[dict[str, str]] = self.kubectl.get("job", job, namespace=NAMESPACE)["status"].get(
            "conditions", []
        )
        return next(
            (one["type"] for one in conditions if one["type"] in ("Complete", "Failed") and one["status"] == "True"), ""
        )

    def ended(self, job: str, *, seconds: float = JOB_SECONDS) -> str:
        """How a job ended, once it has."""
        self.kubectl.wait(job, lambda: bool(self.outcome(job)), seconds=seconds)
        return self.outcome(job)

    def pods(self, job: str) -> list[dict[str, Any]]:
        """The job's pods."""
        return self.kubectl.get("pods", namespace=NAMESPACE, selector=f"job-name={job}")

    def logs(self, job: str) -> str:
        """What its pods said so far; nothing while their containers are being made."""
        return self.kubectl.run("logs", f"--namespace={NAMESPACE}", f"--selector=job-name={job}", "--tail=50").stdout

    def kill(self, job: str) -> None:
        """SIGKILL to the processes of the job's pods, from outside: nothing in them can notice or tidy up."""
        found = self.processes(job)
        assert found, f"no process of {job} was found"
        for pid in found:
            with suppress(ProcessLookupError):  # with the first one of a pod, the kernel ends all the others
                os.kill(pid, signal.SIGKILL)

    def processes(self, job: str) -> list[int]:
        """The processes of the job's pods, as this machine numbers them."""
        place = self.kubectl.place
        return [pid for pod in self.pods(job) for pid in machine.processes_of(place, str(pod["metadata"]["uid"]))]

    def replicate(self) -> None:
        """What S3 does by itself, and its stand-in when it is told to: copies into the second region."""
        self.kubectl.place.sandbox.aws_control.replicate()

    def runs(self, cronjob: str) -> list[BackupRun]:
        """What the catalog has of a CronJob's runs, oldest first."""
        found = self.app.catalog.runs(since=self.app.clock().replace(hour=0, minute=0))
        return sorted((run for run in found if run.job == cronjob), key=lambda run: run.started)

    def full_backup(self) -> None:
        """Has a full backup of the database made, where there is none."""
        if not any(point.component is Component.POSTGRES for point in self.points()):
            assert self.ended(self.start("postgresql-backup-full")) == "Complete"

    def points(self) -> list[RecoveryPoint]:
        """The recovery points on record."""
        return list(self.app.catalog.points(since=self.app.clock().replace(hour=0, minute=0)))

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`aivo-backup` on this machine, as a person calls it who may restore in the cluster, and no more."""
        with self.cli_process(*arguments) as process:
            out, err = process.communicate(timeout=CLI_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def cli_process(self, *arguments: str) -> "subprocess.Popen[str]":
        """The same, still running, in a process group of its own."""
        place, tools = self.kubectl.place, self.kubectl.tools
        path = f"{Path(tools.program('kubectl')).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("aivo-backup")), *arguments],
            env={**os.environ, "PATH": path, "KUBECONFIG": str(place.restorer_kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def restorer(self, *arguments: str, stdin: str | None = None) -> Finished:
        """kubectl, as such a person."""
        return self.kubectl.run(f"--kubeconfig={self.kubectl.place.restorer_kubeconfig}", *arguments, stdin=stdin)

    def wait(self, what: str, condition: Callable[[], bool], *, seconds: float = JOB_SECONDS) -> None:
        """Waits until something is so, or fails with its name."""
        self.kubectl.wait(what, condition, seconds=seconds)

    def psql(self, sql: str) -> str:
        """What the cluster's database answers, over its socket."""
        where = [f"--namespace={STORES}", "--container=postgresql", "postgresql-0"]
        return self.kubectl("exec", *where, "--", "psql", "-h", "/var/run/postgresql", "-U", "postgres", "-Atc", sql)
