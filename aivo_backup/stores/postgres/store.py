"""PostgreSQL as a :class:`~aivo_backup.stores.port.Store`."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.environment import BackupKind, Component, PostgresSettings
from aivo_backup.stores.port import (
    HeldPoint,
    PartialBackupError,
    Progress,
    Stopwatch,
    TakenBackup,
    TestedRestore,
    VerifiedSince,
)
from aivo_backup.stores.postgres.access import RepositoryAccess
from aivo_backup.stores.postgres.archive import Archive, ArchivedSegment
from aivo_backup.stores.postgres.exclusion import alone_in
from aivo_backup.stores.postgres.expiry import Expirer, SetExpiry
from aivo_backup.stores.postgres.in_cluster import RestoreInCluster
from aivo_backup.stores.postgres.in_place import RestoreInPlace
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.points import held, taken
from aivo_backup.stores.postgres.private_copy import PrivateCopy, private_copy
from aivo_backup.stores.postgres.reach import ask_bucket, ask_sidecar
from aivo_backup.stores.postgres.restore import (
    Destination,
    InCluster,
    InPlace,
    Prepared,
    RestorePlan,
    Restorer,
    RestoreRequest,
    RestoreResult,
    Staging,
)
from aivo_backup.stores.postgres.runners import Runners
from aivo_backup.stores.postgres.scratch import scratch_folder
from aivo_backup.stores.postgres.service import PgCtlService
from aivo_backup.stores.postgres.staging import RestoreToStaging
from aivo_backup.stores.postgres.targets import Target
from aivo_backup.stores.postgres.testing import RestoreTest

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client


_COPY = "copy"


class PostgresStore:
    """Backs up through the sidecar; tests and restores from the repository alone."""

    def __init__(
        self,
        *,
        settings: PostgresSettings,
        access: RepositoryAccess,
        certificates: Path,
        state: Path,
        s3: "S3Client",
    ) -> None:
        """
        Args:
            certificates: folder with ``tls.crt``, ``tls.key``, ``ca.crt`` for the sidecar; only backups need it.
            state: folder for configuration and logs.
            s3: a client that may read the repository's bucket, and for backups write inventories.
        """
        self.settings = settings
        self._s3 = s3
        self.runners = Runners(settings=settings, access=access, certificates=certificates, state=state)
        self.inventories = Inventories(s3=s3, bucket=access.bucket, stanza=settings.stanza)
        self.archive = Archive(s3=s3, bucket=access.bucket, stanza=settings.stanza)
        self.restorer = Restorer(
            settings=settings, runners=self.runners, inventories=self.inventories, archive=self.archive
        )

    @property
    def component(self) -> Component:
        """See :class:`~aivo_backup.stores.port.Store`."""
        return Component.POSTGRES

    def info(self) -> StanzaInfo:
        """What the repository holds.

        Raises:
            ConfigurationError: it has no such stanza.
            UnreachableError, AccessDeniedError: S3.
        """
        return self._info(self.runners.repository())

    def backup(self, kind: BackupKind, *, now: datetime, progress: Progress) -> TakenBackup:
        """Runs ``pgbackrest backup``; its label is the point, an inventory of our own goes with it.

        An incremental without a full to build on becomes a full; the point says so (its label ends in F).

        Raises:
            PartialBackupError: the database has pages with wrong checksums; the set is kept and is no point.
        """
        del now  # pgBackRest names its sets by its own clock
        ask_sidecar(self.settings)
        client = self.runners.client()
        before = {backup.label for backup in self._info(client).sets}
        progress(f"pgBackRest {self.runners.version} takes a {kind.value} backup of {self.settings.stanza}")
        client.run("backup", f"--type={kind.value}")
        sets = client.info().sets
        new = [backup for backup in sets if backup.label not in before]
        if not new:
            raise BackupError("pgBackRest ended well and left no backup set", mend="see its log and the repository")
        self._complete_inventories(sets, but=new[-1].label, progress=progress)
        if new[-1].damaged:
            raise PartialBackupError(
                f"backup set {new[-1].label} holds pages with wrong checksums: {self._damaged(new[-1].label)}",
                mend="the database itself is damaged: see PostgreSQL's log, restore an earlier point",
            )
        inventory = self.inventories.take(new[-1])
        progress(f"backup set {new[-1].label}: {new[-1].repository_bytes:,} bytes in the repository")
        return taken(new[-1], inventory)

    def held_points(self) -> tuple[HeldPoint, ...]:
        """Every undamaged set that the repository lists, oldest first."""
        sets = sorted(self.info().sets, key=lambda backup: backup.stopped)
        inventories = self.inventories.stored()
        return tuple(held(backup, inventories.get(backup.label)) for backup in sets if not backup.damaged)

    def restore_test(
        self, point: RecoveryPoint, *, scratch: Path, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> TestedRestore:
        """Restores the point, replays WAL to the newest archived, and looks at the data (see :mod:`.testing`)."""
        del now  # every page is read each time; there is no share to choose
        test = RestoreTest(
            settings=self.settings,
            runners=self.runners,
            inventories=self.inventories,
            archive=self.archive,
            stopwatch=stopwatch,
            progress=progress,
        )
        return test.hold(point, self.info(), scratch)

    def plan_restore(self, request: RestoreRequest, *, now: datetime) -> RestorePlan:
        """What a restore would do; refuses what it would refuse. Changes nothing.

        Raises:
            RefusedError: a guard stops it (see :meth:`~.restore.Restorer.prepare`).
        """
        return self.prepare_restore(request, now=now).plan

    def prepare_restore(self, request: RestoreRequest, *, now: datetime) -> Prepared:
        """As :meth:`plan_restore`, with what :meth:`restore` needs to carry out this very plan.

        Raises:
            RefusedError: a guard stops it.
        """
        with self._alone(request.destination):
            return self.restorer.prepare(request, info=self.info(), now=now)

    def restore(
        self,
        request: RestoreRequest,
        *,
        now: datetime,
        stopwatch: Stopwatch,
        progress: Progress,
        prepared: Prepared | None = None,
    ) -> RestoreResult:
        """Restores (see :mod:`.in_place` and :mod:`.staging`).

        Args:
            prepared: a plan of just now; without it, it plans anew.

        Raises:
            RefusedError: a guard stopped it; nothing was changed.
            VerificationError, BackupError: it failed; the former state is back.
        """
        with self._alone(request.destination):
            with stopwatch.phase("plan"):
                prepared = prepared or self.restorer.prepare(request, info=self.info(), now=now)
            match request.destination:
                case InPlace() as place:
                    work = RestoreInPlace(
                        restorer=self.restorer,
                        place=place,
                        target=request.target,
                        prepared=prepared,
                        stopwatch=stopwatch,
                        progress=progress,
                    )
                case InCluster() as place:
                    work = RestoreInCluster(
                        place=place,
                        target=request.target,
                        prepared=prepared,
                        stopwatch=stopwatch,
                        progress=progress,
                    )
                case Staging() as place:
                    work = RestoreToStaging(
                        restorer=self.restorer,
                        place=place,
                        target=request.target,
                        prepared=prepared,
                        stopwatch=stopwatch,
                        progress=progress,
                    )
            return work.run(now=now)

    @contextmanager
    def private_copy(
        self, target: Target, *, now: datetime, stopwatch: Stopwatch, progress: Progress
    ) -> Generator[PrivateCopy]:
        """The database at ``target``, on a server that only this process reaches (see :mod:`.private_copy`)."""
        with (
            scratch_folder(self.runners.state / "copies", end_server=self._end_server, progress=progress) as folder,
            private_copy(
                self.restorer,
                self.info(),
                target,
                folder / _COPY,
                now=now,
                stopwatch=stopwatch,
                progress=progress,
            ) as copy,
        ):
            yield copy

    def _end_server(self, folder: Path) -> None:
        data = folder / _COPY / "data"
        if (data / "PG_VERSION").exists():
            PgCtlService(bin_path=Path(self.settings.bin_path), data=data, log=folder / "stop.log").stop()

    @contextmanager
    def _alone(self, destination: Destination) -> Generator[None]:
        # A staging restore holds a folder of its own, which is made only after the guards.
        with alone_in(destination.data.parent) if isinstance(destination, InPlace) else nullcontext():
            yield

    def plan_expiry(self, *, now: datetime, verified: VerifiedSince) -> SetExpiry:
        """See :class:`~aivo_backup.stores.port.Expirable`; pgBackRest has simulated it."""
        pgbackrest = self.runners.expirer()
        expirer = Expirer(
            settings=self.settings, pgbackrest=pgbackrest, archive=self.archive, inventories=self.inventories
        )
        return expirer.plan(self._info(pgbackrest), now=now, verified=verified)

    def newest_archived(self) -> ArchivedSegment | None:
        """The newest WAL segment in the repository; None before the first."""
        return self.archive.newest_listed()

    def _info(self, pgbackrest: PgBackRest) -> StanzaInfo:
        ask_bucket(self._s3, self.runners.access.bucket)
        info = pgbackrest.info()
        if not info.exists:
            raise ConfigurationError(
                f"the repository has no stanza {self.settings.stanza}", mend="run `aivo-backup init postgres`"
            )
        return info

    def _complete_inventories(self, sets: tuple[BackupSet, ...], *, but: str, progress: Progress) -> None:
        # A run that was killed between pgBackRest's end and its inventory leaves a set without one. It gets it late:
        # what vanished until now stays unseen, what vanishes from now on does not.
        stored = self.inventories.stored()
        for backup in sets:
            if backup.label != but and backup.label not in stored and not backup.damaged:
                self.inventories.take(backup)
                progress(f"backup set {backup.label} had no inventory and has one now")

    def _damaged(self, label: str) -> str:
        text = self.runners.repository().run("info", f"--set={label}", "--output=text")
        return " ".join(text.partition("error")[2].split())[:300] or "see pgBackRest's log"
