"""Reads a cluster through kubectl for the doctor; it is judged in :mod:`aivo_backup.observability.cluster`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aivo_backup.cli.kubectl import configured, kubectl, objects
from aivo_backup.composition import App
from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.observability.cluster import CLUSTER, ClusterView, Namespace, judge_cluster, unknown_cluster
from aivo_backup.observability.doctor import Finding
from aivo_backup.policy.names import SETTINGS_CONFIG_MAP

_KINDS = ("jobs", "pods", "events", "persistentvolumeclaims", "deployments", "statefulsets")
_SCHEDULES = ("cronjobs",)
"""Looked at in the jobs' namespace only."""
_LOG_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at the cluster came to.

    Attributes:
        left_out: why it was not looked at; empty when it was.
    """

    findings: list[Finding]
    left_out: str = ""


def look_at_cluster(app: App, *, asked: bool) -> Looked:
    """Judges the environment's cluster. One that cannot be read is a finding.

    Args:
        asked: it was asked for by name. Else a machine without kubectl, or with a kubeconfig for something else, is
            none of the environment's troubles.

    Raises:
        ConfigurationError: it was asked for, and there is no kubectl or no kubeconfig.
    """
    if not configured():
        left_out = "no kubectl, or no kubeconfig for it, is on this machine"
        if asked:
            raise ConfigurationError(
                f"{left_out}: the cluster cannot be looked at", mend="install kubectl, and set KUBECONFIG"
            )
        return Looked(findings=[], left_out=left_out)
    try:
        view = read_cluster(app)
    except BackupError as error:
        unread = Finding(
            check="API",
            component=CLUSTER,
            passed=False,
            finding="the cluster cannot be looked at",
            evidence=error.what,
            mend=error.mend or "see the evidence",
        )
        return Looked(findings=[unread])
    unknown = unknown_cluster(view)
    if unknown and not asked:
        return Looked(findings=[], left_out=unknown.evidence)
    return Looked(findings=judge_cluster(view))


def read_cluster(app: App) -> ClusterView:
    """What there is to judge, read side by side.

    Raises:
        UnreachableError, BackupError: the cluster does not answer, or refuses.
    """
    jobs, stores = app.published.namespace, app.published.postgres.pod.namespace
    with ThreadPoolExecutor() as pool:
        context = pool.submit(kubectl, "config", "current-context")
        kinds = {stores: _KINDS} | {jobs: (*_SCHEDULES, *_KINDS)}
        reading = {
            name: (pool.submit(objects, every, name), pool.submit(objects, ("configmaps",), name, SETTINGS_CONFIG_MAP))
            for name, every in kinds.items()
        }
        held = {name: [*every.result(), *settings.result()] for name, (every, settings) in reading.items()}
    return ClusterView(
        environment=app.published,
        context=context.result().stdout.strip(),
        jobs=Namespace(name=jobs, objects=held[jobs]),
        stores=Namespace(name=stores, objects=held[stores]),
        log=_log,
        now=app.clock(),
    )


def _log(namespace: str, pod: str, container: str) -> str:
    where = (f"--namespace={namespace}", f"--container={container}", f"--tail={_LOG_LINES}")
    return kubectl("logs", pod, *where, "--request-timeout=30s").stdout
