"""A recovery that is killed, fails, is refused or given up: what is done is known, and applications run again."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aivo_backup.catalog.lease import Lease, LeaseHeldError
from aivo_backup.catalog.records import Check
from aivo_backup.errors import BackupError, RefusedError, UsageError, VerificationError
from aivo_backup.policy.environment import Component
from aivo_backup.recovery.executor import (
    START_APPLICATIONS,
    STOP_APPLICATIONS,
    Action,
    Executor,
    Procedure,
    Work,
)
from aivo_backup.recovery.journal import Ending, Journal, Journals, StepState
from aivo_backup.recovery.plan import Basis, Estimate, Plan, PlannedStep, Scenario
from aivo_backup.stores.port import Progress, silent
from tests.unit.conftest import SetClock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

NAMES = ("look", STOP_APPLICATIONS, "replace", "verify", START_APPLICATIONS)
SCENARIO = Scenario.DATABASE_CORRUPTION


@dataclass
class Workloads:
    """Applications whose scale is kept in a file, as a cluster keeps it: it outlives a process that is killed."""

    file: Path
    fails_on: str = ""

    def scales(self) -> dict[str, int]:
        return dict(json.loads(self.file.read_text()))

    def scale(self, workload: str, replicas: int, progress: Progress) -> None:
        if replicas and workload == self.fails_on:
            raise BackupError(f"{workload} does not start")
        self.file.write_text(json.dumps({**self.scales(), workload: replicas}))


@dataclass(frozen=True, kw_only=True)
class Request:
    depth: int = 1


@dataclass
class World:
    folder: Path
    clock: SetClock
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    settled: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])
    actions: dict[str, Action] = field(default_factory=dict[str, Action])

    def __post_init__(self) -> None:
        self.workloads = Workloads(self.folder / "cluster.json")
        self.workloads.file.write_text(json.dumps({"a/deployment/api": 3, "a/deployment/idle": 0}))
        self.journals = Journals(self.folder / "recoveries")

    def procedure(self, leases: tuple[Lease, ...] = ()) -> Procedure:
        def step(name: str) -> PlannedStep:
            return PlannedStep(
                name=name,
                title=f"does {name}",
                precondition="none",
                changes="" if name == "look" else f"changed by {name}",
                destructive=name in (STOP_APPLICATIONS, "replace"),
                expected=Estimate(seconds=2, basis=Basis.ASSUMED),
                undo=f"undo {name}",
            )

        def note(name: str) -> Action:
            def act(work: Work) -> None:
                state = "again" if work.again else "first"
                with (self.folder / "acts").open("a") as acts:
                    acts.write(f"{name} {state} api={self.workloads.scales()['a/deployment/api']}\n")
                self.actions.get(name, lambda _work: None)(work)

            return act

        plan = Plan(scenario=SCENARIO, environment="local", steps=tuple(step(name) for name in NAMES))
        return Procedure(
            plan=plan,
            request=Request(),
            actions={name: note(name) for name in NAMES},
            applications=self.workloads,
            leases=leases,
        )

    def executor(self, ask: Callable[[PlannedStep], None] | None = None) -> Executor:
        def settled(_journal: Journal, error: str) -> None:
            self.settled.append(error or "done")

        return Executor(
            journals=self.journals,
            clock=self.clock,
            progress=silent,
            ask=ask or (lambda step: self.asked.append(step.name)),
            settled=settled,
        )

    def acts(self) -> list[str]:
        file = self.folder / "acts"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def api(self) -> int:
        return self.workloads.scales()["a/deployment/api"]


@pytest.fixture
def world(tmp_path: Path, clock: SetClock) -> World:
    return World(tmp_path, clock)


def test_steps_run_in_order_with_the_applications_stopped_between(world: World) -> None:
    outcome = world.executor().execute(world.procedure())
    assert world.acts() == ["look first api=3", "replace first api=0", "verify first api=0"]
    assert world.api == 3
    assert world.workloads.scales()["a/deployment/idle"] == 0
    assert world.asked == [STOP_APPLICATIONS, "replace"]
    assert [step.name for step in outcome.steps] == list(NAMES)
    assert outcome.predicted_seconds == 10
    assert world.journals.open_ones() == []
    assert world.settled == ["done"]


def killed(folder: Path, at: str) -> None:
    def die(_work: Work) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    world = World(folder, SetClock())
    scale = world.workloads.scale
    if at == STOP_APPLICATIONS:

        def scaled(workload: str, replicas: int, progress: Progress) -> None:
            scale(workload, replicas, progress)
            os.kill(os.getpid(), signal.SIGKILL)

        world.workloads.scale = scaled
    elif at == START_APPLICATIONS:
        world.workloads.scale = lambda workload, replicas, progress: (
            os.kill(os.getpid(), signal.SIGKILL) if replicas else scale(workload, replicas, progress)
        )
    world.actions = {at: die}
    world.executor().execute(world.procedure())


@pytest.mark.parametrize("at", NAMES)
def test_a_kill_at_any_step_is_resumed_there(world: World, at: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(world.folder, at))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    (journal,) = world.journals.open_ones()
    assert journal.step(at).state is StepState.BEGUN
    before = NAMES[: NAMES.index(at)]
    assert all(journal.step(name).state is StepState.DONE for name in before)
    # A new recovery would forget how the applications ran.
    with pytest.raises(RefusedError, match=r"was begun and has not ended.*--resume"):
        world.executor().execute(world.procedure())
    world.executor().resume(world.procedure(), world.journals.open_one(SCENARIO))
    assert world.api == 3
    assert world.journals.open_ones() == []
    resumed = [act for act in world.acts() if "again" in act]
    assert resumed == (
        [] if at in (STOP_APPLICATIONS, START_APPLICATIONS) else [f"{at} again api={3 if at == 'look' else 0}"]
    )
    done = [name for name in ("look", "replace", "verify") if name != at]
    assert sorted(act.split()[0] for act in world.acts() if "first" in act and act.split()[0] in done) == sorted(done)


def test_a_failed_step_tells_what_was_changed_and_the_applications_run_again(world: World) -> None:
    failures = [BackupError("the disk is full")]

    def fail_once(work: Work) -> None:
        work.note(stamp="kept")
        if failures:
            raise failures.pop()

    world.actions = {"replace": fail_once}
    with pytest.raises(BackupError, match="the disk is full") as caught:
        world.executor().execute(world.procedure())
    notes = " | ".join(caught.value.__notes__)
    assert "failed step: replace; done before it: look, stop-applications" in notes
    assert "changed so far" not in notes
    assert "run again at their former scale" in notes
    assert "to undo: undo replace" in notes
    assert "recover database-corruption --resume" in notes
    assert world.api == 3
    assert world.settled == ["the disk is full"]
    # The applications run: they have to be stopped once more, and come back to what they were at first.
    world.executor().resume(world.procedure(), world.journals.open_one(SCENARIO))
    assert world.acts()[-2:] == ["replace again api=0", "verify first api=0"]
    assert world.api == 3


def test_a_check_that_does_not_pass_fails_the_recovery(world: World) -> None:
    bad = Check(name="pages", passed=False, detail="base/5/1")
    world.actions = {"verify": lambda work: work.check((Check(name="good", passed=True, detail=""), bad))}
    with pytest.raises(VerificationError, match="pages: base/5/1"):
        world.executor().execute(world.procedure())
    assert world.api == 3


def test_an_application_that_does_not_start_keeps_no_other_from_it_and_is_named(world: World) -> None:
    world.workloads.file.write_text(json.dumps({"a/deployment/api": 3, "b/deployment/web": 2}))
    world.workloads.fails_on = "a/deployment/api"
    with pytest.raises(BackupError, match="a/deployment/api does not start"):
        world.executor().execute(world.procedure())
    assert world.workloads.scales() == {"a/deployment/api": 0, "b/deployment/web": 2}
    world.workloads.fails_on = ""
    world.executor().resume(world.procedure(), world.journals.open_one(SCENARIO))
    assert world.workloads.scales() == {"a/deployment/api": 3, "b/deployment/web": 2}


def test_who_does_not_agree_changes_nothing(world: World) -> None:
    def refuse(_step: PlannedStep) -> None:
        raise RefusedError("the plan was not agreed to")

    with pytest.raises(RefusedError):
        world.executor(refuse).execute(world.procedure())
    assert (world.acts(), world.api, world.journals.open_ones()) == ([], 3, [])


def test_a_drill_that_is_refused_is_a_result_and_nothing_to_resume(world: World) -> None:
    def refuse(_work: Work) -> None:
        raise RefusedError("no recovery point")

    world.actions = {"look": refuse}
    real = world.procedure()
    held = replace(real, plan=replace(real.plan, isolated=True))
    with pytest.raises(RefusedError) as caught:
        world.executor().execute(held)
    assert world.settled == ["no recovery point"]
    assert not any("--resume" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("fails", [False, True])
def test_what_cannot_be_removed_is_told_and_the_record_filed_all_the_same(world: World, fails: bool) -> None:
    def die(_work: Work) -> None:
        raise BackupError("the disk is full")

    def untidy() -> None:
        raise BackupError("a bucket stays")

    world.actions = {"verify": die} if fails else {}
    with pytest.raises(BackupError, match="the disk is full" if fails else "a bucket stays") as caught:
        world.executor().execute(replace(world.procedure(), tidy=untidy))
    assert world.settled == ["the disk is full" if fails else "done"]
    assert fails == ("a bucket stays" in getattr(caught.value, "__notes__", []))


def test_two_recoveries_at_once_are_refused(world: World) -> None:
    inner: list[type[BaseException] | None] = []

    def second(_work: Work) -> None:
        with pytest.raises(RefusedError, match="another recovery runs on this machine") as caught:
            world.executor().execute(world.procedure())
        inner.append(caught.type)

    world.actions = {"replace": second}
    world.executor().execute(world.procedure())
    assert inner == [RefusedError]
    assert len(world.acts()) == 3


def test_a_backup_or_a_recovery_of_another_machine_holds_it_back(world: World, s3: "S3Client", clock: SetClock) -> None:
    lease = Lease(
        s3=s3, bucket="aivo-backup-postgres", component=Component.POSTGRES, kms_key="alias/aws/s3", clock=clock
    )
    with lease.held("a backup"), pytest.raises(LeaseHeldError, match="held by a backup"):
        world.executor().execute(world.procedure((lease,)))
    assert (world.acts(), world.api, world.journals.open_ones()) == ([], 3, [])


def test_given_up_its_applications_run_and_a_new_one_can_begin(world: World) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(world.folder, "replace"))
    process.start()
    process.join(30)
    assert world.api == 0
    journal = world.journals.open_one(SCENARIO)
    world.executor().abandon(journal, world.workloads)
    assert (world.api, journal.entries.ending) == (3, Ending.ABANDONED)
    with pytest.raises(UsageError, match="no database-corruption recovery is open"):
        world.journals.open_one(SCENARIO)
    world.clock.forward(60)
    world.executor().execute(world.procedure())


def test_a_journal_that_cannot_be_written_stops_before_the_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupError, match="No space left on device"):
        world.executor().execute(world.procedure())
    assert world.acts() == []


def test_what_a_first_look_refuses_leaves_nothing_open(world: World) -> None:
    def refuse(_work: Work) -> None:
        raise RefusedError("outside the recovery window")

    world.actions = {"look": refuse}
    with pytest.raises(RefusedError) as caught:
        world.executor().execute(world.procedure())
    assert caught.value.__notes__ == ["nothing was changed"]
    assert (world.api, world.journals.open_ones(), world.settled) == (3, [], [])
    world.actions = {"replace": refuse}
    world.clock.forward(60)
    with pytest.raises(RefusedError):
        world.executor().execute(world.procedure())
    assert len(world.journals.open_ones()) == 1


def test_a_resumed_recovery_has_the_checks_of_its_earlier_attempts(world: World) -> None:
    good = iter((False, True))
    world.actions["look"] = lambda work: work.check((Check(name="point", passed=True, detail=""),))
    world.actions["verify"] = lambda work: work.check((Check(name="heap", passed=next(good), detail=""),))
    with pytest.raises(VerificationError):
        world.executor().execute(world.procedure())
    (journal,) = world.journals.open_ones()
    outcome = world.executor().resume(world.procedure(), journal)
    assert [(check.name, check.passed) for check in outcome.checks] == [("point", True), ("heap", True)]
