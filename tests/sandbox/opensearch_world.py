"""Indices, a repository and a store of one test's own on the sandbox's OpenSearch."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.policy.codec import format_time
from aivo_backup.policy.environment import BackupKind, Component, OpenSearchSettings, RepositoryType
from aivo_backup.policy.names import SECRET_OPENSEARCH
from aivo_backup.stores.opensearch import Cluster, OpenSearchStore, RestoreRequest, RestoreResult, connect
from aivo_backup.stores.port import Stopwatch, TakenBackup, TestedRestore, silent
from sandbox.state import Sandbox

DOCUMENTS = 2_000
SHARDS = {"settings": {"number_of_shards": 2, "number_of_replicas": 1}}


@dataclass(frozen=True, kw_only=True)
class World:
    """Indices of one test, under a prefix of their own, and a store that sees nothing else."""

    client: OpenSearch
    cluster: Cluster
    store: OpenSearchStore
    settings: OpenSearchSettings
    prefix: str
    location: Path

    @property
    def packages(self) -> str:
        return f"{self.prefix}-packages"

    @property
    def people(self) -> str:
        return f"{self.prefix}-people"

    def fill(self, index: str, first: int, number: int) -> None:
        bulk(
            self.client,
            (
                {"_index": index, "_id": f"d{n}", "_source": {"number": n, "text": f"document {n} of {index} " * 9}}
                for n in range(first, first + number)
            ),
            refresh=True,
        )

    def beat(self, at: datetime) -> None:
        self.client.index(
            index=self.settings.heartbeat_index,
            id="heartbeat",
            body={"at": format_time(at)},
            params={"refresh": "true"},
        )

    def count(self, index: str) -> int:
        return int(self.cluster.get(index, "_count", what="counting")["count"])

    def names(self) -> set[str]:
        rows = self.cluster.get(
            "_cat", "indices", what="listing", params={"format": "json", "h": "index", "expand_wildcards": "all"}
        )
        return {row["index"] for row in rows if self.prefix in row["index"]}

    def backup(self, kind: BackupKind = BackupKind.FULL) -> RecoveryPoint:
        started = datetime.now(UTC)
        return as_point(self.store.backup(kind, now=started, progress=silent), kind, started)

    def restore(self, point: RecoveryPoint, *indices: str, **rest: Any) -> RestoreResult:
        request = RestoreRequest(snapshot=point.id, indices=indices, **rest)
        return self.store.restore(request, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=silent)

    def tested(self, point: RecoveryPoint, scratch: Path) -> TestedRestore:
        return self.store.restore_test(
            point, scratch=scratch, now=datetime.now(UTC), stopwatch=Stopwatch(), progress=silent
        )


def as_point(taken: TakenBackup, kind: BackupKind, started: datetime) -> RecoveryPoint:
    return RecoveryPoint(
        id=taken.point,
        component=Component.OPENSEARCH,
        kind=kind,
        run_id="test",
        started=started,
        recoverable_at=taken.recoverable_at,
        size_bytes=taken.size_bytes,
        facts=taken.facts,
    )


def failed(tested: TestedRestore) -> dict[str, str]:
    return {check.name: check.detail for check in tested.checks if not check.passed}


def check(tested: TestedRestore, name: str) -> Check:
    return next(item for item in tested.checks if item.name == name)


def login(sandbox: Sandbox, secret: str = SECRET_OPENSEARCH) -> OpenSearch:
    """A client of the sandbox's OpenSearch. Only the expirer's login may delete snapshots."""
    return connect(
        sandbox.opensearch_url,
        str(sandbox.ca_file),
        sandbox.secret(secret, "username"),
        sandbox.secret(secret, "password"),
    )


@contextmanager
def made(sandbox: Sandbox) -> Generator[World]:
    """Indices, a repository and a store for one test; all of it is gone afterwards."""
    client = login(sandbox)
    prefix = f"t{uuid.uuid4().hex[:8]}"
    location = sandbox.home / "opensearch" / "snapshots" / prefix
    settings = OpenSearchSettings(
        endpoint=sandbox.opensearch_url,
        repository=f"{prefix}-snapshots",
        repository_type=RepositoryType.FS,
        fs_location=str(location),
        index_patterns=(f"{prefix}-*",),
        heartbeat_index=f"{prefix}-heartbeat",
    )
    cluster = Cluster(client)
    store = OpenSearchStore(client=client, settings=settings)
    world = World(client=client, cluster=cluster, store=store, settings=settings, prefix=prefix, location=location)
    store.register()
    cluster.put(world.packages, what="test", body=SHARDS)
    world.fill(world.packages, 0, DOCUMENTS)
    world.fill(world.people, 0, 20)
    world.beat(datetime.now(UTC))
    try:
        yield world
    finally:
        for stream in cluster.get("_data_stream", what="test")["data_streams"]:
            if prefix in stream["name"]:
                cluster.delete("_data_stream", stream["name"], what="test")
        for name in world.names():
            cluster.delete(name, what="test")
        cluster.delete("_snapshot", settings.repository, what="test")
