"""Production beside its state of a moment: what differs, what comes back, what is saved before a restore loses it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aivo_backup.errors import RefusedError
from aivo_backup.stores.port import Difference, Progress, RescueBundle
from aivo_backup.stores.postgres.difference import Pair, compare, snapshots
from aivo_backup.stores.postgres.private_copy import PrivateCopy
from aivo_backup.stores.postgres.rescue import export_newer
from aivo_backup.stores.postgres.restore import Connect
from aivo_backup.stores.postgres.rows import BroughtBack, bring_back
from aivo_backup.stores.postgres.tables import chosen, prepare


@dataclass(frozen=True, kw_only=True)
class RowRecovery:
    """The two sides.

    Attributes:
        copy: the database at the moment; see :meth:`~.store.PostgresStore.private_copy`.
        connect: a new connection to production.
    """

    copy: PrivateCopy
    connect: Connect

    def compare(self, wanted: Sequence[str] = (), *, progress: Progress) -> tuple[Difference, ...]:
        """How each table differs; equal ones are in the answer too.

        Args:
            wanted: tables, as ``schema.name`` or of ``public``; all when empty.

        Raises:
            UsageError: neither side has one of them.
            BackupError: a side fails.
        """
        with self._pair() as pair:
            return compare(pair, _units(pair, wanted), progress=progress)

    def bring_back(
        self, wanted: Sequence[str] = (), *, overwrite_changed: bool = False, progress: Progress
    ) -> tuple[BroughtBack, ...]:
        """Puts the rows that production lost back into it, in one transaction. Newer rows stay.

        Args:
            wanted: as for :meth:`compare`.
            overwrite_changed: rows that are there with other content become as they were.

        Raises:
            UsageError: neither side has one of the tables.
            RefusedError: production has dropped one of them.
            BackupError: production refused a row; nothing was written.
        """
        with self._pair() as pair, self.connect() as writer:
            prepare(writer)
            ours, theirs = pair.tables()
            units = [unit for unit in _units(pair, wanted) if unit in ours and ours[unit].logged]
            dropped = [unit for unit in units if unit not in theirs]
            if dropped:
                raise RefusedError(
                    f"production has no table {dropped[0]} to bring rows back into",
                    mend=f"extract it whole: `aivo-backup restore postgres --table {dropped[0]}`",
                )
            return bring_back(pair, writer, units, overwrite_changed=overwrite_changed, progress=progress)

    def export_newer(
        self, folder: Path, wanted: Sequence[str] = (), *, after: str, now: datetime, progress: Progress
    ) -> RescueBundle:
        """Exports what was written after the moment (see :mod:`.rescue`).

        Raises:
            RefusedError: the folder is taken.
            ConfigurationError, BackupError: it cannot be written, or a side fails.
        """
        with self._pair() as pair:
            return export_newer(pair, _units(pair, wanted), folder, after=after, now=now, progress=progress)

    @contextmanager
    def _pair(self) -> Generator[Pair]:
        with self.copy.server.connect() as copy, self.connect() as production, snapshots(copy, production) as pair:
            yield pair


def _units(pair: Pair, wanted: Sequence[str]) -> list[str]:
    ours, theirs = pair.tables()
    return sorted(chosen({**ours, **theirs}, wanted))
