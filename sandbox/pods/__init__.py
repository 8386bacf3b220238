"""Provisioned pods, run on this machine under bubblewrap as their manifests say."""

from sandbox.pods.identity import role_of
from sandbox.pods.manifests import Pod, pod_of_cronjob, pod_of_deployment
from sandbox.pods.run import run_cronjob, start_deployment, start_pod
from sandbox.pods.sidecar import SIDECAR_PROCESS, sidecar_pod, start_sidecar

__all__ = [
    "SIDECAR_PROCESS",
    "Pod",
    "pod_of_cronjob",
    "pod_of_deployment",
    "role_of",
    "run_cronjob",
    "sidecar_pod",
    "start_deployment",
    "start_pod",
    "start_sidecar",
]
