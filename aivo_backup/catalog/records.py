"""What the catalog holds. Each record is one JSON object, written once.

Times are UTC, sizes bytes, durations seconds. Words follow the field: a *run* succeeded, failed, is partial or was
superseded; a *recovery point* is what a succeeded run leaves; a *restore* has a purpose (test, recovery, drill).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from aivo_backup.policy.environment import BackupKind, Component

Fact = str | int | float | bool


class RunStatus(StrEnum):
    """How a run ended. ``SUPERSEDED``: another run held the lease; neither success nor failure."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PARTIAL = "partial"
    SUPERSEDED = "superseded"


class Purpose(StrEnum):
    """Why data was restored."""

    TEST = "test"
    RECOVERY = "recovery"
    DRILL = "drill"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """One stored object of a recovery point. ``version_id`` is empty where the storage keeps no versions."""

    location: str
    key: str
    version_id: str = ""
    size_bytes: int
    checksum: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupRun:
    """One attempt to back up one component."""

    record_type: ClassVar[str] = "backup-run"

    id: str
    component: Component
    kind: BackupKind
    job: str
    started: datetime
    finished: datetime
    status: RunStatus
    recovery_point: str | None = None
    bytes_transferred: int = 0
    error: str = ""
    late: bool = False
    version: str

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.started


@dataclass(frozen=True, kw_only=True)
class RecoveryPoint:
    """Something that can be restored.

    Attributes:
        id: the store's own name: pgBackRest label, ``YYYYMMDD_HHMMSS`` of a manifest, snapshot name.
        recoverable_at: the newest moment that this point alone brings back.
        run_id: the run that left it; empty for a point that registration found without one.
        inventory: the object that lists all others of this point, or the point's own metadata object.
        facts: what the run counted and a restore test must find again (for example ``documents.packages``).
        depends_on: points without which this one cannot be restored.
    """

    record_type: ClassVar[str] = "recovery-point"

    id: str
    component: Component
    kind: BackupKind
    run_id: str
    started: datetime
    recoverable_at: datetime
    size_bytes: int
    inventory: Artefact | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    depends_on: tuple[str, ...] = ()
    late: bool = False

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.recoverable_at


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One timed part of a restore."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at in restored data. ``detail`` names what was found, by name when it is wrong."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Restore:
    """One restore: a daily test, an operator's recovery, or a drill.

    Attributes:
        recovery_point: the id of the point that was restored.
        target_time: the moment that was asked for; the loss is counted up to it.
        newest_heartbeat: the newest heartbeat found in the restored data.
        loss_seconds: ``target_time - newest_heartbeat``; None when no heartbeat was found.
        error: the one line of what stopped it; empty when it ran to its end.
        amounts: how much there was to do, by unit (``bytes``, ``wal_segments``): what its time is compared by.
        job: the CronJob that it was held by; empty for a function, and for a person.
    """

    record_type: ClassVar[str] = "restore"

    id: str
    component: Component
    purpose: Purpose
    recovery_point: str
    started: datetime
    finished: datetime
    target_time: datetime
    newest_heartbeat: datetime | None = None
    loss_seconds: float | None = None
    phases: tuple[Phase, ...] = ()
    checks: tuple[Check, ...] = ()
    error: str = ""
    late: bool = False
    job: str = ""
    amounts: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.started

    @property
    def passed(self) -> bool:
        """True only when it ran to its end, looked at something, and every check passed."""
        return not self.error and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def seconds(self) -> float:
        """How long the restore took: the sum of its phases."""
        return sum(phase.seconds for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One reconciliation of the catalog with what the stores really hold.

    Attributes:
        found: points that the store holds; ``recorded`` those of them that the catalog lacked and now has.
        missing: points that the catalog holds as kept and the store no longer has.
    """

    record_type: ClassVar[str] = "registration"

    id: str
    component: Component
    scheduled_for: datetime
    finished: datetime
    found: tuple[str, ...]
    recorded: tuple[str, ...]
    missing: tuple[str, ...]
    late: bool = False

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.scheduled_for


@dataclass(frozen=True, kw_only=True)
class Expiry:
    """One attempt to remove what retention no longer keeps.

    Attributes:
        removed: points, and what broken runs left, that are gone; of a run that was ended half way, all that it had
            set out to remove.
        kept: number of points that stayed.
        facts: what else the decision came to, for example ``retention_archive``.
    """

    record_type: ClassVar[str] = "expiry"

    id: str
    component: Component
    job: str
    started: datetime
    finished: datetime
    status: RunStatus
    removed: tuple[str, ...] = ()
    kept: int = 0
    facts: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    error: str = ""
    late: bool = False
    version: str

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.started


@dataclass(frozen=True, kw_only=True)
class Report:
    """One compliance report and where its files are."""

    record_type: ClassVar[str] = "report"

    id: str
    period_start: datetime
    period_end: datetime
    generated: datetime
    files: tuple[Artefact, ...]
    objectives_met: bool
    late: bool = False

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.generated


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One recovery plan that was carried out, for real or as a drill: its evidence of the recovery time.

    Attributes:
        scenario: ``database-corruption``, ``storage-failure`` or ``partial-loss``.
        purpose: :attr:`Purpose.RECOVERY` or :attr:`Purpose.DRILL`.
        exercise: the drill that held it: ``monthly``, ``quarterly``; empty for a real one.
        steps: each step with its time, all attempts together.
        predicted_seconds: what the plan expected.
        loss_seconds: the largest loss that a restore of it measured; None when none was measured.
        from_replica: it read the second region alone.
        resumed: it was killed or failed on the way and went on later; its times tell less than it took.
        error: the one line of what stopped it; empty when it ran to its end.
    """

    record_type: ClassVar[str] = "recovery"

    id: str
    scenario: str
    purpose: Purpose
    exercise: str = ""
    started: datetime
    finished: datetime
    steps: tuple[Phase, ...]
    checks: tuple[Check, ...] = ()
    predicted_seconds: float
    loss_seconds: float | None = None
    from_replica: bool = False
    resumed: bool = False
    error: str = ""
    late: bool = False

    @property
    def moment(self) -> datetime:
        """The time that the record is filed under."""
        return self.finished

    @property
    def passed(self) -> bool:
        """True only when it ran to its end, looked at something, and every check passed."""
        return not self.error and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def seconds(self) -> float:
        """How long it took: the sum of its steps."""
        return sum(step.seconds for step in self.steps)


Record = BackupRun | RecoveryPoint | Restore | Registration | Expiry | Report | Recovery
