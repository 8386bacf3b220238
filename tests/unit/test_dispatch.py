"""What outgrows a function is handed over whole: the arithmetic, the two calls to the cluster, and the handler."""

import base64
import json
import ssl
import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from moto import mock_aws

from aivo_backup.composition import App
from aivo_backup.errors import AccessDeniedError, BackupError, ConfigurationError, UnreachableError
from aivo_backup.jobs.dispatch import dispatch
from aivo_backup.policy.environment import (
    Component,
    MinioSettings,
    OpenSearchSettings,
    PostgresSettings,
    VerificationSettings,
)
from aivo_backup.policy.verification import outgrown
from aivo_backup.stores import eks, in_cluster
from lambdas.verify_restore.handler import handler
from sandbox.certificates import Authority, Identity
from tests.unit.evidence.generated import environment as generated_environment
from tests.unit.test_handlers import Context

DUE = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
LIMITS = VerificationSettings(cluster="aivo-test", function_seconds=900, function_bytes=10 * 1024**3)
POSTGRES = PostgresSettings(host="p", sidecar_host="p", restore_bytes_per_second=100_000_000)
MINIO = MinioSettings(endpoint="http://m", restore_bytes_per_second=100_000_000, verify_share=0.1)
OPENSEARCH = OpenSearchSettings(endpoint="https://o", restore_bytes_per_second=100_000_000)
GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (replace(POSTGRES, size_bytes=8 * GIGABYTE), ""),
        (replace(POSTGRES, size_bytes=9 * GIGABYTE), "9000000000 bytes do not fit into the 8589934592 that"),
        (replace(POSTGRES, size_bytes=8 * GIGABYTE, restore_bytes_per_second=10**7), "800 s are more than the 720"),
        # A tenth of the bytes is read: 720 s at the rate are 720 GB of objects.
        (replace(MINIO, size_bytes=720 * GIGABYTE), ""),
        (replace(MINIO, size_bytes=721 * GIGABYTE), "721 s are more than the 720"),
        (replace(MINIO, size_bytes=73 * GIGABYTE, verify_share=1.0), "730 s are more than the 720"),
        (replace(OPENSEARCH, size_bytes=72 * GIGABYTE), ""),
        (replace(OPENSEARCH, size_bytes=73 * GIGABYTE), "730 s are more than the 720"),
        # The repository's own limit counts too.
        (replace(OPENSEARCH, size_bytes=72 * GIGABYTE, bytes_per_second=40_000_000), "1800 s are more than the 720"),
    ],
)
def test_what_fits_into_a_function(store: PostgresSettings | MinioSettings | OpenSearchSettings, why: str) -> None:
    reason = outgrown(store, LIMITS)
    assert reason.startswith(why)
    assert bool(reason) == bool(why)


@dataclass
class Api:
    """A cluster's API as far as two calls see it: templates in, Jobs out, and what it is told to answer instead."""

    url: str = ""
    authority: str = ""
    templates: dict[str, Any] = field(default_factory=dict[str, Any])
    jobs: dict[str, Any] = field(default_factory=dict[str, Any])
    tokens: list[str] = field(default_factory=list[str])
    refuses_with: int = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuses_with:
            return self.refuses_with, {"message": "no"}
        if method == "GET":
            found = self.templates.get(path)
            return (200, found) if found else (404, {"message": "not found"})
        name = f"{path}/{body['metadata']['name']}"
        if name in self.jobs:
            return 409, {"message": "already exists"}
        self.jobs[name] = body
        return 201, body


@pytest.fixture
def api(tmp_path: Path) -> Generator[Api]:
    now = datetime.now(UTC)
    authority = Authority(tmp_path, now=now)
    server_identity = authority.issue(
        Identity(certificate=tmp_path / "server.pem", key=tmp_path / "server.key"), name="api", hosts=("localhost",)
    )
    held = Api(authority=(tmp_path / "ca.pem").read_text())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            held.tokens.append(self.headers["Authorization"])
            status, answer = held.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server_identity.certificate, server_identity.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    held.url = f"https://localhost:{server.server_port}"
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never"}}}
    labels = {"app.kubernetes.io/part-of": "aivo-backup"}
    held.templates["/apis/batch/v1/namespaces/aivo-system/cronjobs/restore-test-postgres"] = {
        "spec": {"suspend": True, "jobTemplate": {"metadata": {"labels": labels}, "spec": spec}}
    }
    yield held
    server.shutdown()
    server.server_close()


def connected(api: Api) -> eks.ClusterApi:
    return eks.ClusterApi(url=api.url, authority=api.authority, token="bearer")


def test_a_job_is_made_from_the_template_once_for_each_scheduled_time(api: Api) -> None:
    environment = generated_environment()
    calls = [
        dispatch(connected(api), environment, Component.POSTGRES, scheduled_for=DUE, reason="too large")
        for _ in range(2)
    ]
    assert [call.started for call in calls] == [True, False]
    assert {call.name for call in calls} == {"restore-test-postgres-20261123060000"}
    ((path, job),) = api.jobs.items()
    assert path == "/apis/batch/v1/namespaces/aivo-system/jobs/restore-test-postgres-20261123060000"
    template = api.templates["/apis/batch/v1/namespaces/aivo-system/cronjobs/restore-test-postgres"]["spec"][
        "jobTemplate"
    ]
    assert job["spec"] == template["spec"]
    assert job["metadata"]["labels"] == template["metadata"]["labels"]
    assert set(api.tokens) == {"Bearer bearer"}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, AccessDeniedError, "check the access entry"),
        (403, AccessDeniedError, "check the access entry"),
        (404, ConfigurationError, "there is no CronJob aivo-system/restore-test-postgres"),
        (503, UnreachableError, "answers 503"),
    ],
)
def test_what_the_cluster_refuses_is_one_line_with_the_mend(
    api: Api, status: int, kind: type[BackupError], words: str
) -> None:
    api.refuses_with = status
    with pytest.raises(kind, match=words) as raised:
        connected(api).start_job("aivo-system", "restore-test-postgres", name="x")
    assert "\n" not in str(raised.value)
    assert raised.value.mend


def test_a_pod_asks_its_cluster_which_jobs_came_to_nothing(api: Api, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("bearer\n")
    (tmp_path / "ca.crt").write_text(api.authority)
    address = urlsplit(api.url)
    variables = {"KUBERNETES_SERVICE_HOST": str(address.hostname), "KUBERNETES_SERVICE_PORT": str(address.port)}
    assert in_cluster.is_inside(variables, tmp_path)
    assert not in_cluster.is_inside({}, tmp_path)
    assert not in_cluster.is_inside(variables, tmp_path / "elsewhere")
    metadata = {"uid": "1", "name": "full-1", "creationTimestamp": "2026-11-23T01:00:00Z"}
    works = {"metadata": metadata | {"uid": "2"}, "status": {"active": 1}}
    refused = {"metadata": metadata | {"labels": {"app.kubernetes.io/name": "full"}}, "status": {}}
    refusal = {"metadata": {"creationTimestamp": "2026-11-23T01:00:01Z"}, "message": "forbidden:\nprivileged"}
    ours = "labelSelector=app.kubernetes.io/part-of%3Daivo-backup"
    of_it = "fieldSelector=involvedObject.uid%3D1%2Creason%3DFailedCreate"
    api.templates |= {
        f"/apis/batch/v1/namespaces/aivo-system/jobs?{ours}": {"items": [works, refused]},
        f"/api/v1/namespaces/aivo-system/events?{of_it}": {"items": [refusal]},
    }
    (found,) = in_cluster.barren_jobs(in_cluster.connect(variables, tmp_path), "aivo-system")
    assert (found.uid, found.cron_job, found.reason) == ("1", "full", "forbidden: privileged")
    assert found.ended == datetime(2026, 11, 23, 1, 0, 1, tzinfo=UTC)
    assert set(api.tokens) == {"Bearer bearer"}
    api.refuses_with = 403
    with pytest.raises(AccessDeniedError, match="role binding"):
        in_cluster.barren_jobs(in_cluster.connect(variables, tmp_path), "aivo-system")
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: mount its token"):
        in_cluster.connect(variables, tmp_path)


def test_a_cluster_that_is_away_or_is_another_is_unreachable(api: Api, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        replace(connected(api), url="https://localhost:1").start_job("n", "c", name="x")
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other", now=datetime.now(UTC))
    other = (tmp_path / "other" / "ca.pem").read_text()
    with pytest.raises(UnreachableError, match="does not answer"):
        replace(connected(api), authority=other).start_job("n", "c", name="x")
    assert not api.tokens, "the token was shown to a server that did not prove who it is"


def test_the_token_asks_sts_who_is_asking_for_this_cluster_and_no_other() -> None:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-west-1")
    made = eks.token(session, "aivo-prod")
    prefix, _, text = made.partition(".")
    url = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    asked = parse_qs(url.query)
    assert prefix == "k8s-aws-v1"
    assert (url.scheme, url.netloc, asked["Action"]) == ("https", "sts.eu-west-1.amazonaws.com", ["GetCallerIdentity"])
    assert asked["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    assert int(asked["X-Amz-Expires"][0]) <= 60
    assert "secret" not in url.query


@mock_aws
def test_the_cluster_is_found_by_its_name() -> None:
    session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
    session.client("eks").create_cluster(
        name="aivo-test", roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={}
    )
    found = eks.connect(session, "aivo-test")
    assert found.url.startswith("https://")
    assert found.token.startswith("k8s-aws-v1.")
    # moto's authority is no certificate.
    with pytest.raises(ConfigurationError, match=r"certificate authority of .* cannot be read"):
        found.start_job("n", "c", name="x")
    with pytest.raises(ConfigurationError, match="there is no EKS cluster other"):
        eks.connect(session, "other")


def test_the_handler_hands_over_what_outgrows_it_and_holds_no_part_of_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = generated_environment()
    large = replace(
        environment,
        postgres=replace(environment.postgres, size_bytes=500 * GIGABYTE),
        verification=LIMITS,
    )

    class Elsewhere:
        """An app that has its cluster, and no store: a part of a test would fail at once."""

        environment = large

        def cluster_jobs(self) -> eks.ClusterApi:
            return connected(api)

    def opened(_variables: object, *, outside: bool) -> App:
        assert outside
        return cast("App", Elsewhere())

    monkeypatch.setattr("lambdas.invocation.open_environment", opened)
    answer = handler({"component": "postgres", "scheduled_for": "2026-11-23T06:00:00Z"}, Context())
    assert answer["name"] == "restore-test-postgres-20261123060000"
    assert answer["reason"].startswith("500000000000 bytes do not fit")
    assert len(api.jobs) == 1


def test_an_environment_seen_from_outside_has_no_name_of_the_cluster() -> None:
    environment = generated_environment()
    address = "https://opensearch.aivo.internal:9200"
    moved = replace(environment, opensearch=replace(environment.opensearch, internal_endpoint=address))
    assert moved.from_outside().opensearch.endpoint == address
    assert environment.from_outside() == environment
