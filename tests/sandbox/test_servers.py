"""The sandbox's servers: real, on loopback, under generated credentials; they heal, and leave nothing behind."""

import json
import os
import signal
import socket
import ssl
import stat
from collections.abc import Generator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthenticationException

from aivo_backup.errors import BackupError, ConfigurationError
from sandbox import servers
from sandbox.certificates import Authority, Identity
from sandbox.commands import sandbox as sandbox_command
from sandbox.servers.aws_api import AwsApi
from sandbox.servers.base import Server
from sandbox.servers.minio import Minio
from sandbox.servers.postgres import Postgres
from sandbox.state import HOME_VARIABLE, Sandbox


def postgres(sandbox: Sandbox, *, password: str = "") -> "psycopg.Connection[Any]":
    return psycopg.connect(
        host="localhost",
        port=sandbox.ports.postgres,
        user="postgres",
        password=password or sandbox.secret("postgres", "password"),
        dbname="postgres",
        sslmode="verify-full",
        sslrootcert=str(sandbox.ca_file),
        autocommit=True,
    )


def minio(sandbox: Sandbox, *, secret_key: str = "") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=sandbox.minio_url,
        region_name="us-east-1",
        aws_access_key_id=sandbox.secret("minio-source", "access-key"),
        aws_secret_access_key=secret_key or sandbox.secret("minio-source", "secret-key"),
        verify=str(sandbox.ca_file),
        config=Config(s3={"addressing_style": "path"}),
    )


def opensearch(sandbox: Sandbox, *, password: str = "") -> OpenSearch:
    login = (sandbox.secret("opensearch", "username"), password or sandbox.secret("opensearch", "password"))
    return OpenSearch(sandbox.opensearch_url, http_auth=login, ca_certs=str(sandbox.ca_file))


def test_postgres_keeps_checksums_archives_and_reports_the_path_of_the_cluster(sandbox: Sandbox) -> None:
    with postgres(sandbox) as connection:
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    expected = {
        "data_checksums": "on",
        "archive_mode": "on",
        "archive_timeout": "60",
        "wal_level": "replica",
        "fsync": "on",
        "data_directory": "/var/lib/postgresql/data/pgdata",
        "archive_command": "pgbackrest --config=/etc/pgbackrest/host.conf --stanza=aivo-postgres archive-push %p",
    }
    assert {name: settings[name] for name in expected} == expected
    assert int(settings["server_version_num"]) >= 150000


def test_every_store_refuses_wrong_credentials(sandbox: Sandbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres(sandbox, password="guess")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        minio(sandbox, secret_key="guess").list_buckets()
    with pytest.raises(AuthenticationException):
        opensearch(sandbox, password="guess").info()


def test_every_store_takes_its_generated_credentials_over_tls(sandbox: Sandbox) -> None:
    with postgres(sandbox) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True,)
    assert minio(sandbox).list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert opensearch(sandbox).info()["version"]["number"].startswith("3.")


def test_postgres_takes_no_password_in_clear(sandbox: Sandbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(
            host="localhost", port=sandbox.ports.postgres, user="postgres", dbname="postgres", password="x",
            sslmode="disable",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["localhost", "minio.aivo.svc.cluster.local", "postgresql.aivo.svc.cluster.local"])
def test_certificates_are_good_for_loopback_and_service_names(sandbox: Sandbox, name: str) -> None:
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    with (
        socket.create_connection(("127.0.0.1", sandbox.ports.minio)) as plain,
        context.wrap_socket(plain, server_hostname=name),
    ):
        pass


def test_every_port_is_open_on_loopback_alone(sandbox: Sandbox) -> None:
    # The sidecar and the agent come with the provisioned pods, not with the servers.
    later = ("pgbackrest", "agent")
    ours = {f"{port:04X}" for name, port in asdict(sandbox.ports).items() if name not in later}
    listening: dict[str, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and port in ours:
                listening.setdefault(port, set()).add(address)
    assert set(listening) == ours
    # 127.0.0.1, the same on a socket for both protocols, and ::1, as the kernel writes them.
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
    assert all(addresses <= loopback for addresses in listening.values()), listening


def test_secrets_are_their_owners_alone_and_in_no_command_line(sandbox: Sandbox) -> None:
    files = [file for file in sandbox.secrets.rglob("*") if file.is_file() and file.suffix != ".crt"]
    assert len(files) >= 12
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(sandbox.secrets.stat().st_mode) == 0o700
    values = {file.read_text().strip() for file in files if file.name not in ("username", "tls.key")}
    lines = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in sandbox.processes.running()]
    assert len(lines) >= 5
    state = (sandbox.home / "state.json").read_text() + sandbox.endpoints_file.read_text()
    for value in values:
        assert not any(value in text for text in (*lines, state))


def test_endpoints_name_every_store(sandbox: Sandbox) -> None:
    endpoints = json.loads(sandbox.endpoints_file.read_text())
    assert endpoints == {
        "aws": sandbox.aws_url,
        "postgres": f"localhost:{sandbox.ports.postgres}",
        "pgbackrest": f"localhost:{sandbox.ports.pgbackrest}",
        "minio": sandbox.minio_url,
        "opensearch": sandbox.opensearch_url,
        "agent": f"localhost:{sandbox.ports.agent}",
        "ca_file": str(sandbox.ca_file),
    }


def test_status_lists_all_as_running_and_up_starts_nothing_twice(sandbox: Sandbox) -> None:
    pids = {row.name: row.pid for row in servers.status(sandbox)}
    result = CliRunner().invoke(sandbox_command, ["status", "--json"])
    rows = {row["name"]: row for row in json.loads(result.output)}
    core = ("aws", "postgres", "minio", "opensearch", "opensearch-proxy")
    assert [rows[name]["state"] for name in core] == ["running"] * 5
    risen = servers.up(sandbox)
    assert {row.name: row.pid for row in risen.servers} == {name: pids[name] for name in core}
    assert {row.state for row in risen.servers} == {"running"}
    assert not risen.aws_state_lost


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Sandbox]:
    """A sandbox to break: without OpenSearch, whose start takes longer than all the rest."""

    def without_opensearch(sandbox: Sandbox) -> list[Server]:
        return [AwsApi(sandbox), Postgres(sandbox), Minio(sandbox)]

    monkeypatch.setattr(servers, "servers", without_opensearch)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    sandbox = Sandbox()
    yield sandbox
    servers.down(sandbox)


def pids_of(sandbox: Sandbox) -> set[int]:
    """Every process whose command line or environment names the sandbox's folder."""
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(sandbox.home).encode() in text and int(process.name) != os.getpid():
            found.add(int(process.name))
    return found


def test_after_a_crash_up_heals_keeps_the_data_and_says_that_aws_is_empty(small: Sandbox) -> None:
    first = servers.up(small)
    with postgres(small) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    minio(small).create_bucket(Bucket="kept")
    small.aws().client("s3").create_bucket(Bucket="lost-bucket")
    ports = small.ports
    for process in small.processes.running():
        os.kill(process.pid, signal.SIGKILL)
    (small.home / "run" / "minio.json").write_text("{")
    (small.home / "postgres" / "volume" / "pgdata.new").mkdir()

    second = servers.up(Sandbox())

    assert {row.state for row in second.servers} == {"started"}
    assert Sandbox().ports == ports
    assert second.aws_state_lost
    assert second.aws_instance != first.aws_instance
    with postgres(small) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
    assert [bucket["Name"] for bucket in minio(small).list_buckets()["Buckets"]] == ["kept"]
    assert small.aws().client("s3").list_buckets()["Buckets"] == []
    # At the next `up` that is old news.
    assert not servers.up(Sandbox()).aws_state_lost


def test_down_leaves_no_process_and_reset_no_file(small: Sandbox) -> None:
    servers.up(small)
    extra = small.processes.start("sidecar-of-others", ["sleep", "60"], log=small.logs / "other.log")
    assert pids_of(small)
    ended = servers.down(small)
    assert set(ended) == {"aws", "postgres", "minio", "sidecar-of-others"}
    assert not extra.alive()
    assert pids_of(small) == set()
    assert servers.down(small) == []
    assert {row.state for row in servers.status(small)} == {"stopped"}
    servers.reset(small)
    assert not small.home.exists()


def test_a_port_that_another_program_took_meanwhile_is_replaced(small: Sandbox) -> None:
    servers.up(small)
    before = small.ports
    servers.down(small)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", before.minio))
        squatter.listen()
        servers.up(Sandbox())
        after = Sandbox().ports
    assert after.minio != before.minio
    assert replace(after, minio=before.minio) == before
    assert json.loads(small.endpoints_file.read_text())["minio"] == f"https://localhost:{after.minio}"


def test_a_server_that_does_not_come_up_is_named_with_its_log(small: Sandbox) -> None:
    small.tools = replace(small.tools, minio=Path("/bin/false"))
    with pytest.raises(BackupError, match=r"^minio (does not come up: it )?ended .*see .*minio\.log$"):
        servers.up(small)
    assert small.processes.find("aws") is not None  # left for a look


def test_without_a_sandbox_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="aivo-backup sandbox up"):
        _ = Sandbox(home=tmp_path / "nothing").ports


def test_without_the_set_up_nothing_is_begun(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    with pytest.raises(ConfigurationError, match="make setup"):
        servers.up(sandbox)
    assert not (tmp_path / ".sandbox").exists()


def test_certificates_are_kept_until_shortly_before_they_expire(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    identity = Identity(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")

    def issue(at: datetime, *hosts: str) -> bytes:
        Authority(tmp_path / "ca", now=at).issue(identity, name="pg-server", hosts=hosts)
        return identity.certificate.read_bytes()

    first = issue(now, "localhost")
    assert issue(now + timedelta(days=300), "localhost") == first
    assert issue(now + timedelta(days=300), "localhost", "127.0.0.1") != first
    assert issue(now + timedelta(days=395), "localhost") != first
    assert stat.S_IMODE(identity.key.stat().st_mode) == 0o600
