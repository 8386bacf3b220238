"""What every chapter of the demo works with: the sandbox, the environment, and the ways to run things in it."""

import hashlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from opensearchpy import OpenSearch

from aivo_backup import composition
from aivo_backup.catalog.records import RecoveryPoint, Restore
from aivo_backup.composition import App
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import AGENT
from aivo_backup.stores.opensearch.client import connect
from sandbox import lifecycle, pods
from sandbox.demo.narrator import DemoError, Narrator
from sandbox.state import Sandbox

_READERS = 8
_HEARTBEAT_PATIENCE_SECONDS = 30.0


class World:
    """The demo's surroundings."""

    def __init__(self, sandbox: Sandbox, narrator: Narrator) -> None:
        self.sandbox = sandbox
        self.narrator = narrator
        self.restores: list[Restore] = []
        """What the final table shows."""

    @cached_property
    def app(self) -> App:
        """The environment `local`, as the sandbox's administrator. Only to look; jobs run under their own roles."""
        return lifecycle.open_app()

    @property
    def output(self) -> Path:
        """Where the demo leaves its report."""
        return self.sandbox.checkout / "build" / "demo"

    @property
    def dsn(self) -> str:
        """The live database, for loaders and questions."""
        login = self.app.postgres_login
        return (
            f"host={login.host} port={login.port} dbname={login.database} user={login.user} "
            f"password={login.password} sslmode=verify-full sslrootcert={login.ca_file}"
        )

    def now(self) -> datetime:
        """The present moment, UTC."""
        return composition.utc_now()

    def cronjob(self, name: str) -> RecoveryPoint:
        """Runs a provisioned CronJob's pod once; answers the recovery point that it left.

        Raises:
            DemoError: the pod failed, or left no new point.
        """
        pod = pods.pod_of_cronjob(self.sandbox.home / "kubernetes", name)
        self.narrator.command(pod.argv, where=f"CronJob {name}, as {pod.service_account}, UID {pod.user_id}")
        before = {(point.component, point.id) for point in self.app.catalog.points()}
        done = pods.run_cronjob(self.sandbox, name, progress=lambda line: self.narrator.fact(line.strip()))
        if done.exit_code != 0:
            raise DemoError(f"CronJob {name} exited with {done.exit_code}: {done.tail()}")
        new = [point for point in self.app.catalog.points() if (point.component, point.id) not in before]
        if len(new) != 1:
            raise DemoError(f"CronJob {name} left {len(new)} new recovery points, not one")
        run = [run for run in self.app.catalog.runs(new[0].component) if run.id == new[0].run_id]
        self.narrator.expect(
            len(run) == 1 and run[0].job == name, f"a BackupRun of {name} and RecoveryPoint {new[0].id} are filed"
        )
        return new[0]

    @cached_property
    def opensearch_client(self) -> OpenSearch:
        """A client of the cluster, to load, damage and count."""
        login = [self.sandbox.secret("opensearch", key) for key in ("username", "password")]
        return connect(self.sandbox.opensearch_url, str(self.sandbox.ca_file), *login)

    def documents(self, index: str) -> int:
        """How many documents an index holds."""
        self.opensearch_client.indices.refresh(index=index)
        return int(self.opensearch_client.count(index=index)["count"])

    def objects(self, bucket: str) -> dict[str, str]:
        """A digest by key of everything that a restore must bring back: content, content type, user metadata."""
        source = self.app.minio_source
        pages = source.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]

        def digest(key: str) -> str:
            answer = source.get_object(Bucket=bucket, Key=key)
            described = json.dumps([answer["ContentType"], sorted(answer["Metadata"].items())])
            return hashlib.sha256(answer["Body"].read() + described.encode()).hexdigest()

        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(keys, pool.map(digest, keys), strict=True))

    def log(self, name: str) -> Path:
        """Where a background process of the demo writes."""
        return self.sandbox.logs / f"{name}.log"

    def wait_for_heartbeats(self) -> None:
        """Waits until every store holds a heartbeat.

        Raises:
            DemoError: one has none after a while.
        """
        deadline = time.monotonic() + _HEARTBEAT_PATIENCE_SECONDS
        while missing := [name for name, beat in self._heartbeats() if not beat]:
            if time.monotonic() > deadline:
                raise DemoError(f"no heartbeat in {', '.join(missing)}: see {self.log(AGENT)}")
            time.sleep(0.2)

    def _heartbeats(self) -> list[tuple[str, bool]]:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("select count(*) from aivo_backup.heartbeat").fetchone()
        settings = self.app.environment
        stored = self.app.minio_source.list_objects_v2(Bucket=settings.minio.heartbeat_bucket).get("KeyCount", 0)
        return [
            ("PostgreSQL", bool(row and row[0])),
            ("MinIO", stored > 0),
            ("OpenSearch", self.documents(settings.opensearch.heartbeat_index) > 0),
        ]

    def cli(self, *arguments: str, expect: int = 0) -> Any:
        """Runs `aivo-backup … --json` as a person would; answers the JSON that it printed (None without).

        Raises:
            DemoError: it exited otherwise than expected.
        """
        self.narrator.command(["aivo-backup", *arguments])
        done = subprocess.run(
            [str(Path(sys.executable).with_name("aivo-backup")), *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != expect:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise DemoError(
                f"aivo-backup {' '.join(arguments)} exited with {done.returncode}, not {expect}: {' '.join(last)}"
            )
        if expect:
            self.narrator.fact(f"exit code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def restored(self, answer: Any) -> Restore:
        """The filed record of a restore that `aivo-backup restore` answered with; kept for the final table."""
        wanted = answer["restore"]["id"]
        component = Component(answer["restore"]["component"])
        record = next(restore for restore in self.app.catalog.restores(component) if restore.id == wanted)
        self.restores.append(record)
        return record
