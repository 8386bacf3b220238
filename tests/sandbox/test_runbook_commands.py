"""The commands of the runbook this project began from: its scripts and whatever is called supported, on real stores."""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.opensearch import Cluster, connect
from sandbox.runbook_commands import Verdict, table
from sandbox.state import CHECKOUT, REGION, Sandbox
from tests.sandbox.cli import Cli
from tests.sandbox.postgres_cli import on_lab
from tests.sandbox.postgres_lab import Lab

TABLE = table()
SUPPORTED = [line for part in TABLE.parts if part.verdict is Verdict.SUPPORTED for line in part.lines]
# GET requests, of what is supported and of what was corrected into one.
REQUESTS = [line for line in (*SUPPORTED, *(part.now for part in TABLE.parts)) if line.startswith("curl ")]
SCRIPTS = CHECKOUT / "infra" / "backup"
NO_BUCKET = "aivo-backup-of-somebody-else"


@dataclass(frozen=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a failure."""
        told = [line for line in self.err.splitlines() if not line.startswith("  ")]
        assert len(told) == 1, self.err
        return told[0]


def call(cli: Cli, script: str, *arguments: str, **variables: str) -> Done:
    done = subprocess.run(
        [str(SCRIPTS / script), *arguments],
        env={**os.environ, **cli.variables, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def refused(cli: Cli, sandbox: Sandbox, script: str, said: str, **variables: str) -> None:
    before = cli.records(sandbox)
    done = call(cli, script, **variables)
    assert done.code == 6, done.err
    assert said in done.line
    assert cli.records(sandbox) == before


def assert_listed(sandbox: Sandbox, runbooks: str, bucket: str) -> None:
    """What the runbook lists with ``aws s3 ls`` in its bucket is there to be listed in this one."""
    prefixes = [found[1] for line in SUPPORTED if (found := re.fullmatch(rf"aws s3 ls s3://{runbooks}/(\S+).*", line))]
    assert prefixes
    for prefix in prefixes:
        assert sandbox.aws().client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] > 0, prefix


def named(lab: Lab) -> dict[str, str]:
    """What the runbook sets for PostgreSQL."""
    return {
        "PGBACKREST_STANZA": "aivo-postgres",
        "BACKUP_BUCKET": lab.bucket,
        "KMS_KEY_ID": lab.kms_key,
        "ENCRYPTION_KEY_CMD": 'printf %s "$PASS" | cat',
        "PASS": lab.access.cipher_pass(),
    }


def test_a_full_and_an_incremental_backup_of_postgresql(cli: Cli, lab: Lab, sandbox: Sandbox) -> None:
    on_lab(cli, lab)
    variables = named(lab)
    full = call(cli, "pgbackrest.sh", BACKUP_TYPE="full", **variables)
    assert full.code == 0, full.err
    increment = call(cli, "pgbackrest.sh", "--json", BACKUP_TYPE="incr", **variables)
    assert increment.code == 0, increment.err
    point = json.loads(increment.out)["point"]
    assert (point["kind"], point["depends_on"]) == ("incr", [full.out.split()[3].rstrip(",")])
    assert_listed(sandbox, "aivo-backup-postgres", lab.bucket)
    assert variables["PASS"] not in full.out + full.err + increment.out + increment.err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PGBACKREST_STANZA", "other", "PGBACKREST_STANZA is other, and postgres.stanza of local is aivo-postgres"),
        ("BACKUP_BUCKET", NO_BUCKET, f"BACKUP_BUCKET is {NO_BUCKET}, and buckets.postgres of local is pg-"),
        ("KMS_KEY_ID", "12345678", "KMS_KEY_ID is 12345678, and keys.postgres of local is arn:aws:kms:"),
        ("ENCRYPTION_KEY_CMD", "echo guessed", "ENCRYPTION_KEY_CMD answers another pass than the repository's"),
        ("ENCRYPTION_KEY_CMD", "false", "ENCRYPTION_KEY_CMD failed, or answered nothing"),
    ],
)
def test_what_contradicts_the_environment_is_refused(
    cli: Cli, lab: Lab, sandbox: Sandbox, variable: str, value: str, said: str
) -> None:
    on_lab(cli, lab)
    refused(cli, sandbox, "pgbackrest.sh", said, **{**named(lab), variable: value})


@pytest.fixture
def minio(cli: Cli, sandbox: Sandbox) -> Mapping[str, str]:
    """A source bucket of three objects, and what the runbook sets for MinIO. The environment's own login is gone."""
    login = cli.folder / "secrets" / "minio-source"
    key, secret = ((login / name).read_text() for name in ("access-key", "secret-key"))
    shutil.rmtree(login)
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)
    endpoint = json.loads((cli.folder / "endpoints.json").read_text())["minio"]
    source = s3_client(session, endpoint_url=endpoint, ca_file=str(sandbox.ca_file))
    bucket = f"entry-{secrets.token_hex(4)}"
    source.create_bucket(Bucket=bucket)
    for number in range(3):
        source.put_object(Bucket=bucket, Key=f"file-{number}", Body=b"content")
    held = json.loads((cli.folder / "settings.json").read_text())["minio"]
    cli.edit("settings.json", minio={**held, "buckets": [bucket]})
    return {
        "MINIO_SOURCE_ENDPOINT": f"{endpoint}/",
        "MINIO_SOURCE_ACCESS_KEY": key,
        "MINIO_SOURCE_SECRET_KEY": secret,
        "BACKUP_TARGET_BUCKET": f"minio-{cli.folder.name}",
    }


def test_a_full_backup_of_minio_with_the_login_of_the_variables(
    cli: Cli, minio: Mapping[str, str], sandbox: Sandbox
) -> None:
    done = call(cli, "minio-sync.sh", "--json", **minio)
    assert done.code == 0, done.err
    point = json.loads(done.out)["point"]
    assert point["kind"] == "full"
    listing = sandbox.aws().client("s3").list_objects_v2(Bucket=minio["BACKUP_TARGET_BUCKET"], Prefix="minio-data/")
    assert listing["KeyCount"] == 3
    assert_listed(sandbox, "aivo-backup-minio", minio["BACKUP_TARGET_BUCKET"])
    assert minio["MINIO_SOURCE_SECRET_KEY"] not in done.out + done.err
    refused(cli, sandbox, "minio-sync.sh", "buckets.minio", **{**minio, "BACKUP_TARGET_BUCKET": NO_BUCKET})
    refused(cli, sandbox, "minio-sync.sh", "minio.endpoint", **{**minio, "MINIO_SOURCE_ENDPOINT": "http://minio:9000"})
    half = call(cli, "minio-sync.sh", **{**minio, "MINIO_SOURCE_SECRET_KEY": ""})
    assert (half.code, "MINIO_SOURCE_SECRET_KEY is not" in half.line) == (3, True)


@pytest.fixture
def opensearch(cli: Cli, sandbox: Sandbox) -> Generator[Mapping[str, str]]:
    """A repository of the test's own, and what the runbook sets for OpenSearch. The environment's own login is gone."""
    name = f"entry-{cli.folder.name}"
    folder = sandbox.home / "opensearch" / "snapshots" / name
    held = json.loads((cli.folder / "settings.json").read_text())["opensearch"]
    own = {"repository": name, "fs_location": str(folder), "heartbeat_index": name, "index_patterns": [name]}
    cli.edit("settings.json", opensearch={**held, **own})
    login = cli.folder / "secrets" / "opensearch"
    user, password = ((login / key).read_text() for key in ("username", "password"))
    assert cli.run("init", "opensearch").code == 0
    shutil.rmtree(login)
    yield {
        "OPENSEARCH_ENDPOINT": json.loads((cli.folder / "endpoints.json").read_text())["opensearch"],
        "OPENSEARCH_USERNAME": user,
        "OPENSEARCH_PASSWORD": password,
        "SNAPSHOT_BUCKET": f"opensearch-{cli.folder.name}",
    }
    cluster = Cluster(connect(sandbox.opensearch_url, str(sandbox.ca_file), user, password))
    for path in (("_snapshot", name), (name,)):
        cluster.delete(*path, what="tidying up")
    shutil.rmtree(folder)


def test_a_snapshot_of_opensearch_with_the_login_of_the_variables(
    cli: Cli, opensearch: Mapping[str, str], sandbox: Sandbox
) -> None:
    done = call(cli, "os-snapshots.sh", "--json", **opensearch)
    assert done.code == 0, done.err
    assert json.loads(done.out)["point"]["id"].startswith("snapshot_")
    refused(
        cli, sandbox, "os-snapshots.sh", "opensearch.endpoint", **{**opensearch, "OPENSEARCH_ENDPOINT": "https://x"}
    )
    refused(cli, sandbox, "os-snapshots.sh", "buckets.opensearch", **{**opensearch, "SNAPSHOT_BUCKET": NO_BUCKET})


def requests_answer(cli: Cli, opensearch: Mapping[str, str], sandbox: Sandbox) -> None:
    """Every request of the table, by curl itself. Only host, login and names are this test's."""
    login = cli.folder / "netrc"
    user, password = opensearch["OPENSEARCH_USERNAME"], opensearch["OPENSEARCH_PASSWORD"]
    login.write_text(f"default login {user} password {password}")
    name = f"entry-{cli.folder.name}"
    assert len(REQUESTS) == 5
    for line in REQUESTS:
        command = line.partition(" | ")[0].replace("aivo-snapshots", name).replace("index-name", name)
        url = re.sub(r"https://[^/]+", opensearch["OPENSEARCH_ENDPOINT"], shlex.split(command)[-1])
        argv = ["curl", "--silent", "--fail", "--cacert", str(sandbox.ca_file), "--netrc-file", str(login), url]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, url
        assert isinstance(json.loads(done.stdout), dict), url


def test_what_is_asked_of_the_database_and_of_the_machine(lab: Lab) -> None:
    (query,) = (line for line in SUPPORTED if line.startswith("psql "))
    answer = subprocess.run(
        [*shlex.split(query), "-p", str(lab.settings.port), "-At"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip().endswith("|f")
    (disk,) = (line for line in SUPPORTED if line.startswith("df "))
    assert subprocess.run(shlex.split(disk), capture_output=True, check=True).stdout


def test_no_environment_no_command_and_a_wrong_call(cli: Cli, tmp_path: Path) -> None:
    nowhere = call(cli, "minio-sync.sh", AIVO_BACKUP_SETTINGS="")
    assert (nowhere.code, "no environment is named" in nowhere.line) == (3, True)
    wrong = call(cli, "pgbackrest.sh", BACKUP_TYPE="differential")
    assert (wrong.code, "'differential' is not one of 'full', 'incr'" in wrong.line) == (2, True)
    assert call(cli, "os-snapshots.sh", "--help").code == 0
    # Copied out of the checkout, as into the image: what counts is the command on PATH.
    copy = tmp_path / "share" / "backup"
    shutil.copytree(SCRIPTS, copy)
    bare = subprocess.run(
        [str(copy / "minio-sync.sh")], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert (bare.returncode, "there is no aivo-backup" in bare.stderr) == (3, True)
