"""A pod runs as its manifest says: its command, user, variables, volumes and role, and sees nothing else."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.names import AGENT
from sandbox import pods
from sandbox.pods.container import DeadlineError
from sandbox.pods.identity import inject
from sandbox.pods.manifests import pod_of_cronjob
from sandbox.processes import Process
from sandbox.state import ACCOUNT, Sandbox
from tests.sandbox.lone import JOB, Provisioned, write_job

ACCOUNT_NAME = "aivo-backup-minio-writer"


@pytest.fixture
def sandbox(provisioned: Provisioned) -> Sandbox:
    return provisioned.sandbox


def said(sandbox: Sandbox, script: str, *, extra_env: Mapping[str, str] | None = None, **changes: Any) -> list[str]:
    """What the script prints in the job's pod; it must succeed."""
    write_job(sandbox, script, **changes)
    done = pods.run_cronjob(sandbox, JOB, extra_env)
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


def test_a_pod_has_the_variables_of_its_manifest_its_identity_and_the_endpoints_and_no_others(sandbox: Sandbox) -> None:
    variables = {name: value for name, _, value in (line.partition("=") for line in said(sandbox, "env"))}
    image = {"PATH", "HOME", "LANG", "PWD"}
    assert {name: value for name, value in variables.items() if name not in image} == {
        "AIVO_BACKUP_SETTINGS": "/etc/aivo-backup/settings.json",
        "AIVO_BACKUP_SECRETS": "/etc/aivo-backup-secrets",
        "AIVO_BACKUP_STATE": "/var/lib/aivo-backup",
        "AIVO_BACKUP_JOB": "minio-backup",
        "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/aivo-backup-local-minio-writer",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AIVO_BACKUP_ENDPOINTS": str(sandbox.endpoints_file),
    }


def test_a_pod_runs_as_the_user_of_its_manifest_with_no_capability(sandbox: Sandbox) -> None:
    lines = said(sandbox, "id -u; id -g; grep CapEff /proc/self/status; hostname; echo $$")
    assert lines == ["1000", "1000", "CapEff:\t0000000000000000", JOB, "1"]
    other = {"runAsUser": 2000, "runAsGroup": 3000}
    assert said(sandbox, "id -u; id -g", securityContext=other) == ["2000", "3000"]


def test_config_maps_and_secrets_are_where_the_manifest_mounts_them(sandbox: Sandbox) -> None:
    secrets = "/etc/aivo-backup-secrets"
    lines = said(sandbox, f"cat /etc/aivo-backup/settings.json; echo; ls {secrets}; cat {secrets}/*/secret-key")
    assert json.loads("\n".join(lines[:-2]))["name"] == "local"
    assert lines[-2:] == ["minio-source", sandbox.secret("minio-source", "secret-key")]


def test_a_pod_writes_where_its_manifest_lets_it_and_nowhere_else(sandbox: Sandbox) -> None:
    places = ("/", "/etc", "/usr", "/etc/aivo-backup", "/etc/aivo-backup-secrets/minio-source", str(sandbox.checkout))
    script = "; ".join(f"touch {place}/new 2>/dev/null && echo {place}" for place in (*places, "/tmp", "/dev/shm"))
    assert said(sandbox, f"{script}; touch /var/lib/aivo-backup/new && echo state") == ["/tmp", "/dev/shm", "state"]


def test_scratch_is_fresh_for_each_pod_and_the_claimed_volume_stays(sandbox: Sandbox) -> None:
    said(sandbox, "touch /tmp/old /var/lib/aivo-backup/kept")
    assert "old" not in said(sandbox, "ls /tmp")
    assert "kept" in said(sandbox, "ls /var/lib/aivo-backup")
    assert (sandbox.home / "volumes" / "minio-backup-state" / "kept").exists()
    assert list((sandbox.home / "pods").glob(f"{JOB}-*")) == []


def test_a_pod_sees_nothing_else_of_the_sandbox_and_of_the_users_home(sandbox: Sandbox) -> None:
    assert said(sandbox, f"cd {sandbox.home}; find . -type f | sort") == ["./certificates/ca.pem", "./endpoints.json"]
    assert said(sandbox, f"ls {sandbox.checkout}/.sandbox 2>/dev/null; true") == []
    needed = (sandbox.checkout, Path(sys.prefix), Path(sys.base_prefix).resolve(), sandbox.home)
    home = Path.home()
    visible = {path.relative_to(home).parts[0] for path in needed if path.is_relative_to(home) and path != home}
    assert set(said(sandbox, f"ls -A {home} 2>/dev/null; true")) == visible


def test_a_pods_role_is_its_service_accounts(sandbox: Sandbox) -> None:
    program = (
        "import boto3, json, os; e = json.load(open(os.environ['AIVO_BACKUP_ENDPOINTS'])); "
        "print(boto3.client('sts', endpoint_url=e['aws'], verify=e['ca_file']).get_caller_identity()['Arn'])"
    )
    # botocore's exchange of the token is a client of its own, which only the environment reaches.
    endpoint = {"AWS_ENDPOINT_URL": sandbox.aws_url, "AWS_CA_BUNDLE": str(sandbox.ca_file)}
    (arn,) = said(sandbox, f'python -c "{program}"', extra_env=endpoint)
    assert arn.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/aivo-backup-local-minio-writer/")


def test_output_comes_as_it_is_said_and_the_exit_code_is_the_commands(sandbox: Sandbox) -> None:
    write_job(sandbox, "echo one; echo two >&2; exit 5")
    heard: list[str] = []
    done = pods.run_cronjob(sandbox, JOB, progress=heard.append)
    assert (done.exit_code, done.stdout, done.stderr) == (5, "one\n", "two\n")
    assert sorted(heard) == ["one", "two"]
    assert done.argv == ("sh", "-c", "echo one; echo two >&2; exit 5")


def test_a_failing_listener_neither_hangs_nor_hides(sandbox: Sandbox) -> None:
    write_job(sandbox, "seq 100000")

    def fail(_line: str) -> None:
        raise ValueError("listener")

    with pytest.raises(ValueError, match="listener"):
        pods.run_cronjob(sandbox, JOB, progress=fail)


def test_a_job_past_its_deadline_is_ended_with_all_that_it_started(sandbox: Sandbox) -> None:
    marker = f"86{os.getpid()}"
    write_job(sandbox, f"sleep {marker} & sleep {marker}", deadline=1)
    with pytest.raises(DeadlineError, match=r"probe did not end within its 1 s"):
        pods.run_cronjob(sandbox, JOB)
    time.sleep(0.5)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if command.split(b"\0")[:2] == [b"sleep", marker.encode()]]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"initContainers": []}, "initContainers"),
        ({"container": {"envFrom": []}}, "envFrom"),
        ({"container": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}}, "A"),
        ({"container": {"args": ["$(HOME)"]}}, "HOME"),
        ({"volumes": [{"name": "state", "hostPath": {"path": "/"}}]}, "hostPath|no volume"),
        ({"containers": []}, "0 containers"),
    ],
)
def test_what_the_sandbox_cannot_do_is_refused_by_name(sandbox: Sandbox, changes: dict[str, Any], named: str) -> None:
    write_job(sandbox, "true", **changes)
    with pytest.raises(ConfigurationError, match=named):
        pods.run_cronjob(sandbox, JOB)


def test_an_unknown_job_is_answered_with_the_known_ones(sandbox: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no CronJob nightly: known: .*postgresql-backup-full"):
        pods.run_cronjob(sandbox, "nightly")


def test_a_secret_that_is_not_there_is_named(sandbox: Sandbox) -> None:
    pod = pod_of_cronjob(sandbox.home / "kubernetes", "minio-backup")
    volumes = [
        {"name": name, "secret": {"secretName": "elsewhere"}} if name.startswith("secret") else dict(volume)
        for name, volume in pod.volumes.items()
    ]
    write_job(sandbox, "true", volumes=volumes)
    with pytest.raises(ConfigurationError, match="there is no secret elsewhere"):
        pods.run_cronjob(sandbox, JOB)


def test_a_pod_without_a_role_gets_no_identity(sandbox: Sandbox, tmp_path: Path) -> None:
    pod = pod_of_cronjob(sandbox.home / "kubernetes", "minio-backup")
    assert inject(sandbox, pod, "", tmp_path, datetime.now(UTC)) == ({}, [])
    assert list(tmp_path.iterdir()) == []


def test_a_pod_that_runs_on_is_known_to_the_sandbox_and_ends_properly_when_asked(sandbox: Sandbox) -> None:
    write_job(sandbox, "trap 'echo asked to end; exit 0' TERM; echo up; while :; do sleep 0.1; done")
    pod = pod_of_cronjob(sandbox.home / "kubernetes", JOB)

    def start(times: int) -> Process:
        """Starts it, and waits until it says so: as the first process it is deaf to signals before its trap is set."""
        process = pods.start_pod(sandbox, pod, role="", process_name="background")
        deadline = time.monotonic() + 30
        while process.log.read_text().count("up\n") < times and time.monotonic() < deadline:
            time.sleep(0.05)
        return process

    first = start(1)
    assert sandbox.processes.find("background") == first
    second = start(2)
    assert second.pid != first.pid
    assert not first.alive()
    assert sandbox.processes.stop("background")
    assert second.log.read_text().splitlines() == ["up", "asked to end"] * 2
    assert sandbox.processes.find("background") is None


def test_the_provisioned_backup_of_minio_leaves_a_recovery_point(sandbox: Sandbox) -> None:
    source = boto3.client(
        "s3",
        endpoint_url=sandbox.minio_url,
        verify=str(sandbox.ca_file),
        region_name="us-east-1",
        aws_access_key_id=sandbox.secret("minio-source", "access-key"),
        aws_secret_access_key=sandbox.secret("minio-source", "secret-key"),
    )
    source.create_bucket(Bucket="pictures")
    for number in range(3):
        source.put_object(Bucket="pictures", Key=f"album/{number}", Body=os.urandom(1000))
    done = pods.run_cronjob(sandbox, "minio-backup")
    assert done.exit_code == 0, done.stderr
    s3 = sandbox.aws().client("s3")
    mirrored = s3.list_objects_v2(Bucket="aivo-backup-minio", Prefix="minio-data/pictures/").get("Contents", [])
    assert [entry.get("Key") for entry in mirrored] == [f"minio-data/pictures/album/{number}" for number in range(3)]
    filed = s3.list_objects_v2(Bucket="aivo-backup-compliance", Prefix="records/").get("Contents", [])
    kinds = {str(entry.get("Key")).split("/")[1] for entry in filed}
    assert {"backup-run", "recovery-point"} <= kinds


def test_the_provisioned_agent_is_ready_under_its_own_role_and_its_probes_answer(sandbox: Sandbox) -> None:
    """PostgreSQL and OpenSearch are not here: what AWS says is published all the same."""
    port = sandbox.ports.agent
    agent = pods.start_deployment(sandbox, AGENT)
    try:
        deadline = time.monotonic() + 60
        while not _body(port, "/readyz"):
            assert agent.alive(), agent.log.read_text()
            assert time.monotonic() < deadline, agent.log.read_text()
            time.sleep(0.2)
        assert _body(port, "/healthz")
        text = _body(port, "/metrics")
    finally:
        sandbox.processes.stop(AGENT)
    up = {
        sample.labels["source"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "backup_source_up"
    }
    assert {source for source, value in up.items() if value} >= {"catalog", "keys", "buckets"}, agent.log.read_text()
    assert up["postgres"] == up["opensearch"] == 0
    assert text.count("backup_kms_key_usable{") == 4
    container = yaml.safe_load((sandbox.home / "kubernetes" / f"deployment-{AGENT}.yaml").read_text())["spec"][
        "template"
    ]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


def _body(port: int, path: str) -> str:
    """What the agent answers with 200; empty for anything else."""
    try:
        with urllib.request.urlopen(f"http://localhost:{port}{path}", timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""
