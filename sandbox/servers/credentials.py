"""Generates the sandbox's credentials and certificates, once; later calls keep what is there."""

import secrets
import string
from datetime import datetime
from pathlib import Path

from sandbox.certificates import Authority, Identity
from sandbox.state import Sandbox

# Loopback for what runs on this machine, Service names for the same certificates in a cluster.
SERVER_HOSTS = (
    "localhost",
    "127.0.0.1",
    "minio.aivo.svc.cluster.local",
    "opensearch.aivo.svc.cluster.local",
    "postgresql.aivo.svc.cluster.local",
    "aws.aivo.svc.cluster.local",
)
# Who speaks pgBackRest's protocol: the sidecar as server, the jobs and the database's own container as its clients.
_PGBACKREST = {"pgbackrest-server": "pg-server", "pgbackrest-client": "backup-client", "pgbackrest-host": "pg-host"}
_LETTERS = string.ascii_letters + string.digits


def generate(sandbox: Sandbox, *, now: datetime) -> None:
    """Makes what is missing under ``secrets`` and ``certificates``; ``now`` is timezone-aware UTC."""
    for folder in (sandbox.home, sandbox.secrets):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for secret, key, value in (
        ("minio-source", "access-key", "aivo-" + _random(12)),
        ("minio-source", "secret-key", _random(40)),
        ("opensearch", "username", "aivo-backup"),
        ("opensearch", "password", _random(32)),
        ("opensearch-expirer", "username", "aivo-backup-expirer"),
        ("opensearch-expirer", "password", _random(32)),
        ("postgres", "username", "postgres"),
        ("postgres", "password", _random(32)),
        ("aws-admin", "access-key-id", "AKIA" + _random(16).upper()),
        ("aws-admin", "secret-access-key", _random(40)),
        ("aws-control", "token", _random(40)),
    ):
        _keep_or_write(sandbox.secrets / secret / key, value)
    authority = Authority(sandbox.certificates, now=now)
    folder = sandbox.certificates
    server = Identity(certificate=folder / "server.crt", key=folder / "server.key")
    authority.issue(server, name="localhost", hosts=(*SERVER_HOSTS, sandbox.cluster_address))
    for secret, name in _PGBACKREST.items():
        folder = sandbox.secrets / secret
        hosts = SERVER_HOSTS if secret == "pgbackrest-server" else ()  # noqa: S105 - a name
        authority.issue(Identity(certificate=folder / "tls.crt", key=folder / "tls.key"), name=name, hosts=hosts)
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _keep_or_write(file: Path, value: str) -> None:
    if file.is_file() and file.stat().st_size > 0:
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(value, encoding="utf-8")
    unfinished.replace(file)
