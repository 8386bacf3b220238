"""Expires backup sets and WAL: decided by us, simulated by pgBackRest, and done only when both say the same."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aivo_backup.catalog.records import Fact
from aivo_backup.errors import BackupError, RefusedError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.expiry import ExpiryPlan, SetState, plan_expiry
from aivo_backup.policy.pruning import Because
from aivo_backup.stores.port import Progress, VerifiedSince
from aivo_backup.stores.postgres.archive import Archive
from aivo_backup.stores.postgres.info import BackupSet, StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.pgbackrest import PgBackRest
from aivo_backup.stores.postgres.wal import Segment

_SET = re.compile(r"repo1: remove expired backup (\d{8}-\S+)")
# Of a folder of 256 segments that goes as a whole, pgBackRest names the folder.
_WAL = re.compile(r"repo1: (\S+) remove archive, start = ([0-9A-F]{16,24}), stop = ([0-9A-F]{16,24})")
_ARCHIVE = re.compile(r"repo1: remove archive path \S*/([^/\s]+)")
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What pgBackRest says that it removes.

    Attributes:
        sets: labels.
        wal: archive id, first and last segment of each range.
        archives: ids of archives that go as a whole.
    """

    sets: tuple[str, ...]
    wal: tuple[tuple[str, str, str], ...]
    archives: tuple[str, ...]


def read_removed(output: str) -> Removed:
    """Reads what ``expire`` printed, simulated or not."""
    return Removed(
        sets=tuple(_SET.findall(output)),
        wal=tuple(
            (archive, first.ljust(24, "0"), last.ljust(24, "F")) for archive, first, last in _WAL.findall(output)
        ),
        archives=tuple(_ARCHIVE.findall(output)),
    )


def check_simulation(plan: ExpiryPlan, removed: Removed) -> None:
    """Holds what pgBackRest would remove against the plan.

    Raises:
        RefusedError: it would remove another set, leave one, or remove WAL that a kept set needs; named.
    """
    planned, simulated = set(plan.goes), set(removed.sets)
    if surplus := sorted(simulated - planned):
        raise _refused(f"it would also expire {_some(surplus)}")
    if left := sorted(planned - simulated):
        raise _refused(f"it would not expire {_some(left)}")
    for archive, first, last in removed.wal:
        if any(need.archive_id == archive and need.meets(first, last) for need in plan.wal):
            raise _refused(f"it would remove WAL that a kept set needs: {archive} {first} to {last}")
    if lost := sorted(set(removed.archives) & {need.archive_id for need in plan.wal}):
        raise _refused(f"it would remove the whole archive {_some(lost)}")


def _refused(what: str) -> RefusedError:
    return RefusedError(
        f"pgBackRest's simulation differs from the plan, and nothing was expired: {what}",
        mend="report this with the output of `pgbackrest info`; nothing is lost by waiting",
    )


def _some(labels: list[str]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return ", ".join(labels[:_NAMED]) + more


@dataclass(frozen=True, kw_only=True)
class SetExpiry:
    """A simulated expiry, ready to be carried out."""

    plan: ExpiryPlan
    pgbackrest: PgBackRest
    inventories: Inventories

    @property
    def goes(self) -> tuple[str, ...]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.plan.goes

    @property
    def kept(self) -> Mapping[str, Because]:
        """See :class:`~aivo_backup.stores.port.PlannedExpiry`."""
        return self.plan.kept

    @property
    def facts(self) -> Mapping[str, Fact]:
        """How much WAL is kept, and since when it is whole."""
        return {"retention_archive": self.plan.archive_fulls, "window_start": self.plan.window_start}

    def simulate(self) -> None:
        """Has pgBackRest say what it would remove.

        Raises:
            RefusedError: it is not what is planned; nothing was changed.
        """
        outputs = [self._expire("--dry-run", *arguments) for arguments in self._calls()]
        parts = [read_removed(output) for output in outputs]
        check_simulation(
            self.plan,
            Removed(
                sets=tuple(label for part in parts for label in part.sets),
                wal=tuple(span for part in parts for span in part.wal),
                archives=tuple(name for part in parts for name in part.archives),
            ),
        )

    def carry_out(self, *, gone: Callable[[str], None], progress: Progress) -> None:
        """Expires for real, and looks at what is left.

        Raises:
            BackupError: pgBackRest failed, or what is left is not what was planned.
        """
        told: set[str] = set()
        for arguments in self._calls():
            # A later call may name a set again, whose folder S3's listing still shows.
            for label in dict.fromkeys(read_removed(self._expire(*arguments)).sets):
                if label not in told:
                    told.add(label)
                    progress(f"backup set {label} is gone")
                    gone(label)
        left = {backup.label for backup in self.pgbackrest.info().sets}
        forgotten = self.inventories.forget(left)
        if forgotten:
            progress(f"{forgotten} inventories of sets that are gone were deleted")
        if left != set(self.plan.kept):
            different = sorted(left ^ set(self.plan.kept))
            raise BackupError(
                f"after the expiry the repository differs from the plan in {_some(different)}",
                mend="see pgBackRest's log; `aivo-backup points postgres` tells what is left",
            )

    def _calls(self) -> list[tuple[str, ...]]:
        """One call for each set that is named, and one for the WAL, which goes also when no set does."""
        if not self.plan.archive_fulls:
            return []
        return [*((f"--set={head}",) for head in self.plan.heads), ()]

    def _expire(self, *arguments: str) -> str:
        return self.pgbackrest.run("expire", *arguments, f"--repo1-retention-archive={self.plan.archive_fulls}")


@dataclass(frozen=True, kw_only=True)
class Expirer:
    """Plans expiries of one stanza."""

    settings: PostgresSettings
    pgbackrest: PgBackRest
    archive: Archive
    inventories: Inventories

    def plan(self, info: StanzaInfo, *, now: datetime, verified: VerifiedSince) -> SetExpiry:
        """Decides, and has pgBackRest simulate it.

        Raises:
            RefusedError: the simulation differs.
            BackupError: the repository cannot be read.
        """
        oldest = min((backup.started for backup in info.sets), default=now)
        proven = verified(oldest)
        recovering = self._recovering(info)
        plan = plan_expiry(
            (
                _state(backup, verified=backup.label in proven, recovers=backup.label in recovering)
                for backup in info.sets
            ),
            now=now,
            window=timedelta(days=self.settings.recovery_window_days),
            fulls_kept=self.settings.full_backups_kept,
            verified_kept=self.settings.verified_points_kept,
        )
        expiry = SetExpiry(plan=plan, pgbackrest=self.pgbackrest, inventories=self.inventories)
        expiry.simulate()
        return expiry

    def _recovering(self, info: StanzaInfo) -> frozenset[str]:
        """Labels of the sets from which all WAL up to now can be replayed."""
        own = [backup for backup in info.sets if backup.archive_id == info.archive_id]
        if not own:
            return frozenset()
        line = self.archive.line(self.pgbackrest, info)
        newest = self.archive.newest(info, line)
        if newest is None:
            return frozenset()
        since = min(backup.wal_start for backup in own)
        held = {segment.name for segment in self.archive.segments(info.archive_id, since=since)}
        number = Segment.parse(newest.name).number
        while number >= 0 and Segment(line.timeline_of(number), number).name() in held:
            number -= 1
        # Everything after ``number`` is there, without a gap.
        return frozenset(
            backup.label
            for backup in own
            if Segment.parse(backup.wal_start).number > number and line.holds(backup.timeline, backup.stop_position)
        )


def _state(backup: BackupSet, *, verified: bool, recovers: bool) -> SetState:
    return SetState(
        label=backup.label,
        kind=backup.kind,
        ended=backup.usable_from,
        depends_on=tuple({*backup.references, *filter(None, [backup.prior])}),
        damaged=backup.damaged,
        verified=verified,
        recovers=recovers,
        wal=(backup.archive_id, backup.wal_start, backup.wal_stop),
    )
