"""What the scenarios work with: the stores, the surroundings they live in, and where restored data goes."""

import hashlib
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.catalog.lease import Lease
from aivo_backup.catalog.records import Purpose, RecoveryPoint
from aivo_backup.errors import UsageError
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component, Environment
from aivo_backup.policy.names import DRILL_BUCKETS
from aivo_backup.recovery.applications import Applications
from aivo_backup.recovery.estimates import Estimator
from aivo_backup.stores.minio.objects import ObjectStore
from aivo_backup.stores.minio.store import MinioStore
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.names import verification_prefix
from aivo_backup.stores.opensearch.store import OpenSearchStore
from aivo_backup.stores.port import Clock, Progress
from aivo_backup.stores.postgres.archive import Login
from aivo_backup.stores.postgres.restore import Destination, InCluster, InPlace, Staging
from aivo_backup.stores.postgres.store import PostgresStore

# S3's rule for bucket names, which MinIO has too.
_LONGEST_BUCKET = 63
_DIGEST = 8


class Provisioner(Protocol):
    """Brings an environment's infrastructure back, and what replaces lost storage."""

    def provision(self, progress: Progress) -> Endpoints:
        """Makes everything true that the program says, looking at what is really there (a refresh), and brings up
        empty storage in place of what is lost; that is set aside where something is left of it, never deleted.
        Repeating it changes nothing.

        Returns:
            where the stores answer now; an empty field: where they did before.

        Raises:
            ConfigurationError: it cannot run here.
            BackupError: it failed.
        """
        ...

    def redirect(self, endpoints: Endpoints, progress: Progress) -> None:
        """Points configuration and Services to the new endpoints, and rolls out what reads them. Repeatable.

        Raises:
            BackupError: it failed.
        """
        ...

    def provision_commands(self) -> tuple[str, ...]:
        """What a person would run for :meth:`provision`."""
        ...

    def redirect_commands(self) -> tuple[str, ...]:
        """What a person would run for :meth:`redirect`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """Where copies beside production are restored to: own folder, own port, own names.

    Attributes:
        folder: made for them, removed with them.
        port: of the staging database, on the loopback.
        prefix: of restored indices; the form that backups leave out.
        bucket_prefix: of restored buckets, likewise.
        drill: they are a drill's; otherwise a recovery's, which takes from them what production lost.
    """

    folder: Path
    port: int
    prefix: str
    bucket_prefix: str
    drill: bool


def isolation(folder: Path, *, now: datetime, drill: bool) -> Isolation:
    """A place with a free port and names of this moment."""
    token = secrets.token_hex(3)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
    return Isolation(
        folder=folder,
        port=port,
        prefix=verification_prefix(now, token),
        bucket_prefix=f"{DRILL_BUCKETS}{token}-",
        drill=drill,
    )


def beside(bucket: str, prefix: str) -> str:
    """The name of a bucket that is restored beside its original: with a prefix, and no longer than S3 takes.

    A name that would be longer ends in a digest of the whole, so that two of them stay apart.
    """
    name = f"{prefix}{bucket}"
    if len(name) <= _LONGEST_BUCKET:
        return name
    digest = hashlib.sha256(bucket.encode()).hexdigest()[:_DIGEST]
    return f"{name[: _LONGEST_BUCKET - _DIGEST - 1].rstrip('.-')}-{digest}"


class Surveyed(Protocol):
    """What a plan's steps are made from."""

    @property
    def environment(self) -> Environment:
        """Its settings."""
        ...

    @property
    def isolation(self) -> Isolation | None:
        """Set in a drill."""
        ...

    @property
    def estimator(self) -> Estimator:
        """What was measured before."""
        ...

    def newest_or_none(self, component: Component) -> RecoveryPoint | None:
        """The newest recovery point on record."""
        ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One environment's parts.

    Attributes:
        postgres, minio, opensearch: engines that read the backups (the second region's, if so asked).
        place: the live database's place, for a restore over it.
        login: of the live database.
        objects, cluster: the live object store and search cluster.
        remove_bucket: empties and removes a bucket of the live object store that a drill has made.
        leases: by component; they keep backups away, and (the last of each) restores and other recoveries.
        isolation: set in a drill; nothing outside of it is then changed.
    """

    environment: Environment
    catalog: Catalog
    postgres: PostgresStore
    minio: MinioStore
    opensearch: OpenSearchStore
    place: Callable[[], InPlace | InCluster]
    login: Callable[[], Login]
    objects: ObjectStore
    remove_bucket: Callable[[str], None]
    cluster: Cluster
    applications: Applications
    leases: Mapping[Component, tuple[Lease, ...]]
    estimator: Estimator
    clock: Clock
    from_replica: bool = False
    isolation: Isolation | None = None

    @property
    def purpose(self) -> Purpose:
        """What its restores are filed as."""
        return Purpose.DRILL if self.isolation and self.isolation.drill else Purpose.RECOVERY

    def destination(self) -> Destination:
        """Where the database is restored to."""
        if self.isolation is None:
            return self.place()
        return Staging(data=self.isolation.folder / "pgdata", port=self.isolation.port)

    def database(self) -> Login:
        """The login of the restored database."""
        login = self.login()
        if self.isolation is None:
            return login
        return Login(
            host="localhost",
            port=self.isolation.port,
            database=login.database,
            user=login.user,
            password=login.password,
        )

    def bucket(self, name: str) -> str:
        """The bucket that a source bucket is restored into."""
        return beside(name, self.isolation.bucket_prefix) if self.isolation else name

    def index(self, name: str) -> str:
        """The index that an index is restored as."""
        return f"{self.isolation.prefix}{name}" if self.isolation else name

    def newest_or_none(self, component: Component) -> RecoveryPoint | None:
        """The newest recovery point on record."""
        try:
            return self.catalog.newest_point(component)
        except UsageError:
            return None

    def held(self, *components: Component) -> tuple[Lease, ...]:
        """The leases of a recovery that changes these stores; a drill changes none."""
        return () if self.isolation else tuple(lease for component in components for lease in self.leases[component])

    def apart(self, *components: Component) -> tuple[Lease, ...]:
        """The leases that keep other restores of these stores away, and let backups go on."""
        return () if self.isolation else tuple(self.leases[component][-1] for component in components)


Open = Callable[[Endpoints], Parts]
"""Opens the parts with some endpoints in place of the configured ones."""
