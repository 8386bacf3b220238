"""A PostgreSQL of the tests' own, archiving through a sidecar of its own, that tests may break.

It uses the sandbox's AWS API and nothing else of it: the sandbox's database is the one that `make demo` shows.
"""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psycopg
import pytest

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.policy.environment import BackupKind, Component, PostgresSettings
from aivo_backup.policy.pgbackrest import CLIENT_NAME, HOST_NAME, archive_command
from aivo_backup.stores.port import Stopwatch, TakenBackup, TestedRestore, silent
from aivo_backup.stores.postgres.access import Credentials, RepositoryAccess
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.postgres.envelope import RegionKey, open_pass
from aivo_backup.stores.postgres.private_copy import PrivateCopy
from aivo_backup.stores.postgres.restore import InPlace, RestorePlan, RestoreRequest, RestoreResult, Staging
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.service import PgCtlService
from aivo_backup.stores.postgres.setup import make_envelope, make_stanza
from aivo_backup.stores.postgres.sidecar import prepare, write_host_configuration
from aivo_backup.stores.postgres.store import PostgresStore
from aivo_backup.stores.postgres.targets import Target
from aivo_backup.stores.process import as_owner, run
from sandbox.aws_api.control import AwsControl
from sandbox.certificates import Authority, Identity
from sandbox.state import Sandbox
from tests.sandbox.cli import closed_port

if TYPE_CHECKING:
    from types_boto3_kms.client import KMSClient
    from types_boto3_s3.client import S3Client

BIN = "/usr/lib/postgresql/15/bin"


def new_lab(sandbox: Sandbox, **settings: str) -> "Generator[Lab]":
    """A database with a stanza, for the tests of one module; ``settings`` are added to its configuration."""
    # In memory where there is such a folder: PostgreSQL and pgBackRest flush every file they write.
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="pglab-", dir=memory if memory.is_dir() else None))
    # pgBackRest tries again after 15 s what failed; damage on purpose need not be waited for.
    patch = pytest.MonkeyPatch()
    patch.setenv("PGBACKREST_JOB_RETRY", "0")
    lab = Lab(
        home=home,
        aws=sandbox.aws(),
        aws_url=sandbox.aws_url,
        ca_file=sandbox.ca_file,
        control=sandbox.aws_control,
        bucket=f"pg-{uuid.uuid4().hex}",
        more_settings=settings,
    )
    try:
        lab.build()
        lab.init()
        yield lab
    finally:
        lab.close()
        shutil.rmtree(home, ignore_errors=True)
        patch.undo()


@dataclass(kw_only=True)
class Lab:
    """The database, its sidecar and its bucket. ``home`` must be short: sockets live under it."""

    home: Path
    aws: boto3.Session
    aws_url: str
    ca_file: Path
    control: AwsControl
    bucket: str
    more_settings: Mapping[str, str] = field(default_factory=dict[str, str])
    region: str = "us-east-1"
    s3: "S3Client" = field(init=False)
    kms: "KMSClient" = field(init=False)
    kms_key: str = field(init=False)
    settings: PostgresSettings = field(init=False)
    access: RepositoryAccess = field(init=False)
    _sidecar: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def build(self) -> None:
        self.s3 = self.aws.client("s3")
        self.kms = self.aws.client("kms")
        self.kms_key = self.kms.create_key()["KeyMetadata"].get("Arn", "")
        self.s3.create_bucket(Bucket=self.bucket)
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.settings = PostgresSettings(
            host="localhost",
            port=closed_port(),
            sidecar_host="localhost",
            sidecar_port=closed_port(),
            sidecar_config=str(self.home / "etc" / "sidecar.conf"),
            host_config=str(self.home / "etc" / "host.conf"),
            data_path=str(self.data),
            socket_path=str(self.home / "run"),
            bin_path=BIN,
        )
        self.access = RepositoryAccess(
            bucket=self.bucket,
            region=self.region,
            kms_key=self.kms_key,
            endpoint_url=self.aws_url,
            ca_file=str(self.ca_file),
            credentials=self._credentials,
            cipher_pass=lambda: open_pass(self.s3, bucket=self.bucket, region=self.region, kms=self.kms),
        )
        authority = Authority(self.home / "ca", now=datetime.now(UTC))
        for name, common, hosts in (
            ("server", "pg-server", ("localhost", "127.0.0.1")),
            ("client", CLIENT_NAME, ()),
            ("host", HOST_NAME, ()),
            ("stranger", "stranger", ()),
        ):
            folder = self.home / name
            authority.issue(Identity(certificate=folder / "tls.crt", key=folder / "tls.key"), name=common, hosts=hosts)
            shutil.copy(authority.certificate, folder / "ca.crt")
        write_host_configuration(self.settings, certificates=self.home / "host")
        self.make_cluster()
        self.service.start()
        self.wait_ready()

    @property
    def data(self) -> Path:
        return self.home / "volume" / "pgdata"

    @property
    def log(self) -> Path:
        return self.home / "postgresql.log"

    @property
    def service(self) -> PgCtlService:
        return PgCtlService(bin_path=Path(BIN), data=self.data, log=self.log)

    @property
    def login(self) -> Login:
        """The superuser over TCP."""
        return Login(host="localhost", port=self.settings.port, database="postgres", user="postgres", password="")

    def init(self) -> None:
        """What ``aivo-backup init`` and ``aivo-backup sidecar`` do together."""
        make_envelope(
            self.s3,
            bucket=self.bucket,
            keys={self.region: RegionKey(kms=self.kms, key=self.kms_key)},
            now=datetime.now(UTC),
            progress=silent,
        )
        self.start_sidecar()
        make_stanza(self.runners(), sidecar_timeout_seconds=20, progress=silent)
        self.sql(
            "CREATE SCHEMA IF NOT EXISTS aivo_backup",
            "CREATE TABLE IF NOT EXISTS aivo_backup.heartbeat (at timestamptz PRIMARY KEY)",
            "CREATE TABLE IF NOT EXISTS notes (text text PRIMARY KEY)",
        )

    def start_sidecar(self) -> None:
        launch = prepare(
            self.settings,
            self.access,
            certificates=self.home / "server",
            state=self.home / "sidecar-state",
            address="127.0.0.1",
        )
        with (self.home / "sidecar.log").open("ab") as log:
            self._sidecar = subprocess.Popen(
                launch.argv, env={**os.environ, **launch.secrets}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def stop_sidecar(self) -> None:
        if self._sidecar is not None:
            self._sidecar.terminate()
            self._sidecar.wait(20)
            self._sidecar = None

    def runners(self) -> Runners:
        return Runners(
            settings=self.settings, access=self.access, certificates=self.home / "client", state=self.home / "state"
        )

    def store(
        self,
        settings: PostgresSettings | None = None,
        *,
        certificates: str = "client",
        access: RepositoryAccess | None = None,
        s3: "S3Client | None" = None,
    ) -> PostgresStore:
        return PostgresStore(
            settings=settings or self.settings,
            access=access or self.access,
            certificates=self.home / certificates,
            state=self.home / "state",
            s3=s3 or self.s3,
        )

    def backup(self, kind: BackupKind) -> tuple[RecoveryPoint, TakenBackup]:
        """Returns once the second of the set's end is over: pgBackRest knows no finer, so a moment in it is older."""
        started = datetime.now(UTC)
        taken = self.store().backup(kind, now=started, progress=silent)
        time.sleep(1 - time.time() % 1)
        return point_of(taken, kind, started), taken

    def restore_test(
        self, point: RecoveryPoint, scratch: Path, settings: PostgresSettings | None = None
    ) -> tuple[TestedRestore, Stopwatch]:
        stopwatch = Stopwatch()
        scratch.mkdir()
        tested = self.store(settings).restore_test(
            point, scratch=scratch, now=datetime.now(UTC), stopwatch=stopwatch, progress=silent
        )
        return tested, stopwatch

    @contextmanager
    def connect(self, port: int = 0, host: str = "") -> "Generator[psycopg.Connection[tuple[object, ...]]]":
        with psycopg.connect(
            host=host or self.settings.socket_path,
            port=port or self.settings.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
        ) as connection:
            yield connection

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            for statement in statements[:-1]:
                connection.execute(statement.encode())
            cursor = connection.execute(statements[-1].encode())
            return cursor.fetchall() if cursor.description else []

    def note(self, text: str) -> datetime:
        """Writes one row and a heartbeat; answers the heartbeat's time."""
        at = self.sql(
            "INSERT INTO aivo_backup.heartbeat VALUES (clock_timestamp())",
            f"INSERT INTO notes VALUES ('{text}')",  # noqa: S608 - the test's own words
            "SELECT max(at) FROM aivo_backup.heartbeat",
        )[0][0]
        assert isinstance(at, datetime)
        return at.astimezone(UTC)

    def notes(self) -> set[str]:
        return {str(row[0]) for row in self.sql("SELECT text FROM notes")}

    def in_place(self, *, stop: bool, data: Path | None = None, delta: bool = False, named: bool = False) -> InPlace:
        place = data or self.data
        service = PgCtlService(bin_path=Path(BIN), data=place, log=self.log)
        live = partial(connect, self.login)
        return InPlace(data=place, service=service, stop=stop, connect=live, delta=delta, adapter_named=named)

    def plan(self, target: Target, destination: InPlace | Staging) -> RestorePlan:
        return self.store().plan_restore(RestoreRequest(target=target, destination=destination), now=datetime.now(UTC))

    def remove_staging(self, place: Staging) -> None:
        folder = place.data.with_name(f"{place.data.name}.server")
        PgCtlService(bin_path=Path(BIN), data=place.data, log=folder / "postgresql.log").stop()
        self.remove(place.data.parent)

    def remove(self, folder: Path) -> None:
        assert folder.is_relative_to(self.home)
        shutil.rmtree(folder)

    def restore(
        self, target: Target, destination: InPlace | Staging, *, store: PostgresStore | None = None
    ) -> tuple[RestoreResult, Stopwatch]:
        stopwatch = Stopwatch()
        result = (store or self.store()).restore(
            RestoreRequest(target=target, destination=destination),
            now=datetime.now(UTC),
            stopwatch=stopwatch,
            progress=silent,
        )
        return result, stopwatch

    @contextmanager
    def private_copy(self, target: Target) -> Generator[PrivateCopy]:
        with self.store().private_copy(target, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=silent) as copy:
            yield copy

    def now(self) -> datetime:
        """The database's clock, between two transactions."""
        time.sleep(0.05)
        at = self.sql("SELECT clock_timestamp()")[0][0]
        time.sleep(0.05)
        assert isinstance(at, datetime)
        return at.astimezone(UTC)

    def archive_all(self) -> str:
        """Switches WAL and waits until all of it is in the archive; answers the last segment."""
        segment = str(self.sql("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
        deadline = time.monotonic() + 30
        while True:
            archived = str(self.sql("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")[0][0])
            if archived[:24] >= segment:
                return segment
            assert time.monotonic() < deadline, f"{segment} is not archived: see {self.log}"
            time.sleep(0.1)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sql("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, f"PostgreSQL does not start: see {self.log}"
                time.sleep(0.1)

    @contextmanager
    def flipped(self, key: str, offset: int | None = None) -> Generator[None]:
        """One byte of a stored object is another while the block runs; nothing that S3 says of it changes."""
        self.control.flip_byte(self.bucket, key, offset=offset)
        try:
            yield
        finally:
            self.control.flip_byte(self.bucket, key, offset=offset)

    @contextmanager
    def vanished(self, key: str) -> Generator[None]:
        """An object is gone while the block runs (a delete marker hides it), and then the same version as before."""
        version = self.s3.head_object(Bucket=self.bucket, Key=key).get("VersionId", "")
        marker = self.s3.delete_object(Bucket=self.bucket, Key=key).get("VersionId", "")
        try:
            yield
        finally:
            self.s3.delete_object(Bucket=self.bucket, Key=key, VersionId=marker)
            assert self.s3.head_object(Bucket=self.bucket, Key=key).get("VersionId") == version

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]

    def close(self) -> None:
        if self.service.running():
            self.service.stop()
        self.stop_sidecar()

    def _credentials(self) -> Credentials:
        found = self.aws.get_credentials()
        assert found is not None
        frozen = found.get_frozen_credentials()
        return Credentials(key=frozen.access_key or "", secret=frozen.secret_key or "", token=frozen.token or "")

    def initdb(self, data: Path) -> None:
        data.parent.mkdir(parents=True, exist_ok=True)
        cluster = ("--username=postgres", "--auth=trust", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8")
        done = run([*as_owner(self.home), f"{BIN}/initdb", "-D", str(data), *cluster])
        assert done.exit_code == 0, done.tail()

    def make_cluster(self) -> None:
        (self.home / "run").mkdir(mode=0o700, exist_ok=True)
        self.initdb(self.data)
        values = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.settings.port),
            "unix_socket_directories": self.settings.socket_path,
            "archive_mode": "on",
            "archive_timeout": "60s",
            "archive_command": archive_command(self.settings),
            "shared_buffers": "64MB",
            "timezone": "UTC",
            **self.more_settings,
        }
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in values.items())


def point_of(taken: TakenBackup, kind: BackupKind, started: datetime) -> RecoveryPoint:
    return RecoveryPoint(
        id=taken.point,
        component=Component.POSTGRES,
        kind=kind,
        run_id="test",
        started=started,
        recoverable_at=taken.recoverable_at,
        size_bytes=taken.size_bytes,
        inventory=taken.inventory,
        facts=taken.facts,
        depends_on=taken.depends_on,
    )
