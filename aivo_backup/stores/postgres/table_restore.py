"""A restore of one table or schema: planned, extracted beside the live one, then swapped or merged if wanted."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from aivo_backup.catalog.records import Check
from aivo_backup.errors import RefusedError
from aivo_backup.stores.port import Progress, Stopwatch
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.postgres.extraction import Wanted, extract, free_or_extracted
from aivo_backup.stores.postgres.replacing import check_swap, merge, swap
from aivo_backup.stores.postgres.restore import RestoreRequest, Staging
from aivo_backup.stores.postgres.store import PostgresStore
from aivo_backup.stores.postgres.targets import Target


class Then(StrEnum):
    """What becomes of the extracted tables."""

    BESIDE = "beside"
    SWAP = "swap"
    MERGE = "merge"


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """What is asked for. ``into`` is the schema beside the live one; made from the moment when empty."""

    target: Target
    wanted: Wanted
    into: str = ""
    then: Then = Then.BESIDE

    def schema(self, now: datetime) -> str:
        """The name of the schema beside the live one."""
        moment = (self.target.time or now).astimezone(UTC)
        return self.into or f"restored_{moment:%Y%m%d_%H%M%S}"


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """What a restore of tables would do.

    Attributes:
        extracted: it is there already from an earlier call, and is only swapped or merged.
        set_aside: the schema that takes the live tables of a swap; empty otherwise.
        size_bytes: of the whole database, which is restored to a private copy first; 0 when nothing is.
    """

    wanted: str
    target: str
    schema: str
    then: Then
    extracted: bool
    set_aside: str
    recovery_point: str = ""
    point_ended: datetime | None = None
    size_bytes: int = 0
    wal_segments: int = 0
    expected_seconds: float = 0.0
    measured_restores: int = 0

    @property
    def amounts(self) -> dict[str, float]:
        """How much there is to do, by unit."""
        return {"bytes": self.size_bytes, "wal_segments": self.wal_segments}


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """What came into production. ``rows`` by table; ``merged`` rows that production lacked."""

    schema: str
    rows: dict[str, int]
    merged: dict[str, int]
    set_aside: str
    recovery_point: str
    target_time: datetime
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class TableRestore:
    """Restores tables of one repository into one production."""

    store: PostgresStore
    login: Login

    def plan(self, request: TableRequest, *, now: datetime) -> TablePlan:
        """Looks at repository, disk and production. Changes nothing.

        Raises:
            RefusedError: the name beside the live one is taken, something holds on to a live table that is to be
                swapped, or the target cannot be reached.
        """
        schema = request.schema(now)
        with connect(self.login) as production:
            there = free_or_extracted(production, schema, request.wanted)
            if there and request.then is Then.BESIDE:
                raise RefusedError(
                    f"production has a schema {schema} already",
                    mend="--swap or --merge what is in it, drop it, or choose another name with --into",
                )
            if request.then is Then.SWAP:
                check_swap(production, request.wanted)
        # To the millisecond: two swaps of one second must not meet.
        stamp = f"{now.astimezone(UTC):%Y%m%d_%H%M%S_%f}"[:-3]
        aside = f"replaced_{stamp}" if request.then is Then.SWAP else ""
        plan = TablePlan(
            wanted=str(request.wanted),
            target=str(request.target),
            schema=schema,
            then=request.then,
            extracted=there,
            set_aside=aside,
        )
        if there:
            return plan
        place = Staging(data=self.store.runners.state / "copies" / "planned" / "data", port=0)
        whole = self.store.plan_restore(RestoreRequest(target=request.target, destination=place), now=now)
        return replace(
            plan,
            recovery_point=whole.recovery_point,
            point_ended=whole.point_ended,
            size_bytes=whole.size_bytes,
            wal_segments=whole.wal_segments,
            expected_seconds=whole.expected_seconds,
        )

    def run(self, request: TableRequest, *, now: datetime, stopwatch: Stopwatch, progress: Progress) -> TableResult:
        """Carries it out, after planning it anew.

        Raises:
            UsageError: the moment holds no such table.
            RefusedError: as :meth:`plan`.
            VerificationError, BackupError: the restore, the import, or the swap failed; live tables are as they were.
        """
        plan = self.plan(request, now=now)
        rows: dict[str, int] = {}
        target_time, point = now, plan.recovery_point
        checks: list[Check] = []
        if not plan.extracted:
            bin_path = Path(self.store.settings.bin_path)
            with self.store.private_copy(request.target, now=now, stopwatch=stopwatch, progress=progress) as copy:
                with stopwatch.phase("import"):
                    done = extract(
                        copy, self.login, request.wanted, into=plan.schema, bin_path=bin_path, progress=progress
                    )
                rows, target_time = done.rows, copy.result.target_time
                checks += copy.result.checks
                detail = f"{sum(rows.values())} rows in {len(rows)} tables, as many as there were"
                checks.append(Check(name="rows", passed=True, detail=detail))
        merged: dict[str, int] = {}
        with connect(self.login) as production, stopwatch.phase(request.then.value):
            if request.then is Then.SWAP:
                moved = swap(production, request.wanted, extracted=plan.schema, aside=plan.set_aside, progress=progress)
                checks.append(Check(name="swap", passed=True, detail=f"{', '.join(moved.tables)} are live"))
            elif request.then is Then.MERGE:
                back = merge(production, request.wanted, extracted=plan.schema, progress=progress)
                merged = {each.unit: each.rows for each in back}
                checks.append(Check(name="merge", passed=True, detail=f"{sum(merged.values())} rows came in"))
        return TableResult(
            schema=plan.schema,
            rows=rows,
            merged=merged,
            set_aside=plan.set_aside,
            recovery_point=point,
            target_time=target_time,
            checks=tuple(checks),
        )
