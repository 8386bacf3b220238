"""Carries a plan out, step by step, so that whatever happens a person knows what was done and how to go on.

A step is noted before it begins and after it ended. Steps are safe to begin again: one that was begun before gets
``again`` and first settles what its earlier attempt left. Whatever goes wrong, applications that were stopped are
started again at their former scale before the failure is told.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from aivo_backup.catalog.lease import Lease
from aivo_backup.catalog.records import Check, Fact, Phase
from aivo_backup.errors import BackupError, RefusedError, UsageError, VerificationError
from aivo_backup.policy.codec import from_json
from aivo_backup.recovery.applications import Applications, former, start_again, stop_all
from aivo_backup.recovery.journal import Ending, Journal, Journals, StepState, new_entries
from aivo_backup.recovery.plan import Plan, PlannedStep
from aivo_backup.stores.aws import MissingError
from aivo_backup.stores.port import Clock, Progress

T = TypeVar("T")

STOP_APPLICATIONS = "stop-applications"
START_APPLICATIONS = "start-applications"

Ask = Callable[[PlannedStep], None]
"""Returns when a person agrees to a destructive step; raises RefusedError otherwise."""


def agreed(_step: PlannedStep) -> None:
    """An :data:`Ask` for which everything is agreed beforehand (``--yes``)."""


@dataclass(kw_only=True)
class Work:
    """What a step works with.

    Attributes:
        again: an earlier attempt of this step was begun, and failed or was killed.
        earlier: the notes of all steps so far, by step.
    """

    step: str
    journal: Journal
    progress: Progress
    clock: Clock
    again: bool

    def note(self, **notes: Fact) -> None:
        """Keeps facts for later steps and for a later attempt; on the disk when it returns."""
        self.journal.note(self.step, notes)

    @property
    def notes(self) -> Mapping[str, Fact]:
        """What this step noted so far, earlier attempts included."""
        return self.journal.step(self.step).notes

    def noted(self, step: str) -> Mapping[str, Fact]:
        """What another step noted."""
        return self.journal.step(step).notes

    def check(self, checks: Sequence[Check]) -> None:
        """Keeps what was looked at for the record.

        Raises:
            VerificationError: a check did not pass; the message names all that did not.
        """
        self.journal.check(self.step, checks)
        for check in checks:
            self.progress(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
        failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
        if failed:
            raise VerificationError("; ".join(failed))


Action = Callable[[Work], None]


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A plan and what carries each step out.

    Attributes:
        request: what was asked for; kept in the journal, so that ``--resume`` asks for the same.
        actions: by step; stopping and starting the applications is the executor's own.
        leases: of the stores that it changes: they keep other recoveries and backups away.
        tidy: removes what a failure may leave behind (a staging server); called when the recovery ends, either way.
    """

    plan: Plan
    request: object
    actions: Mapping[str, Action]
    applications: Applications
    leases: tuple[Lease, ...] = ()
    tidy: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A recovery that ran to its end.

    Attributes:
        seconds: from its first beginning to its end as far as it was worked on, without the time between a kill and
            its resumption.
    """

    id: str
    steps: tuple[Phase, ...]
    checks: tuple[Check, ...]
    predicted_seconds: float

    @property
    def seconds(self) -> float:
        """The sum of its steps."""
        return sum(step.seconds for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Carries recoveries out on one machine."""

    journals: Journals
    clock: Clock
    progress: Progress
    ask: Ask = agreed
    settled: Callable[[Journal, str], None] = lambda _journal, _error: None
    """Told how each attempt ended: files the record. Also called when it failed, with the error's line."""

    def execute(self, recovery: Procedure) -> Outcome:
        """Begins a recovery and carries it out.

        Raises:
            RefusedError: another one runs or is open, or a person did not agree; nothing was changed.
            BackupError: a step failed. Notes say what was changed and how to go on; applications run again.
        """
        with ExitStack() as held:
            held.enter_context(self.journals.locked())
            started = self.clock()
            entries = new_entries(
                scenario=recovery.plan.scenario,
                environment=recovery.plan.environment,
                request=recovery.request,
                started=started,
                predicted_seconds=recovery.plan.expected_seconds,
                steps=[step.name for step in recovery.plan.steps],
            )
            self._take(held, recovery.leases, entries.id)
            self._ask_first(recovery)
            return self._carry_out(recovery, self.journals.create(entries))

    def resume(self, recovery: Procedure, journal: Journal) -> Outcome:
        """Goes on where a recovery was killed or failed; ``recovery`` was built from the journal's own request.

        Raises:
            as :meth:`execute`.
        """
        with ExitStack() as held:
            held.enter_context(self.journals.locked())
            self._take(held, recovery.leases, journal.entries.id)
            return self._carry_out(recovery, journal)

    def abandon(
        self,
        journal: Journal,
        applications: Applications,
        *,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Gives a recovery up: starts the applications that it stopped, and closes its journal.

        Args:
            before: starts what the applications need and the recovery stopped.
            after: removes what the recovery made beside production.

        Raises:
            RefusedError: a process works on it.
            BackupError: an application does not start, or something cannot be removed; the journal stays open.
        """
        with self.journals.locked():
            before()
            if journal.has(STOP_APPLICATIONS):
                start_again(applications, former(journal.step(STOP_APPLICATIONS).notes), self.progress)
            after()
            journal.close(Ending.ABANDONED)

    def _take(self, held: ExitStack, leases: Sequence[Lease], holder: str) -> None:
        for lease in leases:
            try:
                held.enter_context(lease.held(holder))
            except MissingError:
                # Its bucket is gone, which may be why the storage is recovered; the machine's lock remains.
                self.progress("a backup bucket is gone, and with it the lease that keeps other machines away")

    def _ask_first(self, recovery: Procedure) -> None:
        # Before the journal exists: who does not agree leaves nothing behind that would have to be resumed.
        for step in recovery.plan.steps:
            if step.destructive:
                self.ask(step)
                return

    def _carry_out(self, recovery: Procedure, journal: Journal) -> Outcome:
        asked = False
        try:
            for step in recovery.plan.steps:
                if journal.step(step.name).state is StepState.DONE:
                    self.progress(f"{step.name}: done before")
                else:
                    if step.destructive and asked:
                        self.ask(step)
                    self._run(recovery, journal, step)
                asked = asked or step.destructive
            journal.close(Ending.DONE)
        except BaseException as error:
            refused = isinstance(error, RefusedError | UsageError) and not _changed(recovery, journal)
            if refused and not recovery.plan.isolated:  # of a drill, that is a result like any other
                # Nothing was begun that would have to be gone on with.
                journal.close(Ending.ABANDONED)
                error.add_note("nothing was changed")
                raise
            self._explain(recovery, journal, error)
            self._settle(recovery, journal, error)
            raise
        outcome = _outcome(journal)
        self._settle(recovery, journal, None)
        return outcome

    def _settle(self, recovery: Procedure, journal: Journal, failure: BaseException | None) -> None:
        """Tidies up and files the record; what fails while doing so never hides why the recovery failed, and what
        cannot be removed does not keep the record from being filed."""
        untidy: BackupError | None = None
        for settle in (recovery.tidy, lambda: self.settled(journal, _line(failure) if failure else "")):
            try:
                settle()
            except BackupError as error:
                if failure is not None:
                    failure.add_note(str(error))
                elif untidy is not None:
                    untidy.add_note(str(error))
                else:
                    untidy = error
        if untidy is not None:
            raise untidy

    def _run(self, recovery: Procedure, journal: Journal, step: PlannedStep) -> None:
        again = journal.step(step.name).attempts > 0
        self.progress(f"{step.name}: {step.title}" + (" (again)" if again else ""))
        work = Work(step=step.name, journal=journal, progress=self.progress, clock=self.clock, again=again)
        journal.begin(step.name)
        begun = time.monotonic()
        try:
            self._action(recovery, step.name)(work)
        except BaseException as error:
            journal.finish(step.name, seconds=time.monotonic() - begun, error=_line(error))
            raise
        journal.finish(step.name, seconds=time.monotonic() - begun)

    def _action(self, recovery: Procedure, name: str) -> Action:
        if name == STOP_APPLICATIONS:
            return lambda work: stop_all(recovery.applications, work.notes, work.note, self.progress)
        if name == START_APPLICATIONS:
            return lambda work: start_again(recovery.applications, former(work.noted(STOP_APPLICATIONS)), self.progress)
        return recovery.actions[name]

    def _explain(self, recovery: Procedure, journal: Journal, error: BaseException) -> None:
        """Starts the applications again, and adds to the failure what a person at 03:00 needs to know."""
        entries = journal.entries
        done = [entry.name for entry in entries.steps if entry.state is StepState.DONE]
        titles = {step.name: step for step in recovery.plan.steps}
        failed = next((entry.name for entry in entries.steps if entry.state is StepState.FAILED), "")
        error.add_note(f"failed step: {failed or 'none'}; done before it: {', '.join(done) or 'nothing'}")
        changed = [titles[name].changes for name in done if titles[name].changes and name != STOP_APPLICATIONS]
        if changed:
            error.add_note(f"changed so far: {'; '.join(changed)}")
        if recovery.plan.isolated:
            error.add_note("it was a drill: production was not touched, and what it restored is removed")
            return
        self._start_after_failure(recovery, journal, error)
        if failed:
            error.add_note(f"to undo: {titles[failed].undo}")
        error.add_note(
            f"to go on: `aivo-backup recover {entries.scenario} --resume`; to give it up: --abandon "
            f"(journal {journal.file})"
        )

    def _start_after_failure(self, recovery: Procedure, journal: Journal, error: BaseException) -> None:
        scales = former(journal.step(STOP_APPLICATIONS).notes) if journal.has(STOP_APPLICATIONS) else {}
        if not scales or journal.step(START_APPLICATIONS).state is StepState.DONE:
            return
        try:
            start_again(recovery.applications, scales, self.progress)
            # They run: a later attempt has to stop them once more, and remembers their scale.
            journal.reopen(STOP_APPLICATIONS)
            error.add_note("the applications run again at their former scale")
        except BackupError as second:
            error.add_note(f"the applications could not be started again: {second}")


def _changed(recovery: Procedure, journal: Journal) -> bool:
    """Whether a step was begun that changes something."""
    changing = {step.name for step in recovery.plan.steps if step.changes}
    return any(entry.attempts > 0 and entry.name in changing for entry in journal.entries.steps)


def _line(error: BaseException) -> str:
    return str(error) or type(error).__name__


def request_of(journal: Journal, kind: type[T]) -> T:
    """The request that a journal's recovery was begun with.

    Raises:
        ConfigurationError: it was written by another version.
    """
    return from_json(kind, json.loads(journal.entries.request), where=str(journal.file))


def refuse_other_environment(journal: Journal, environment: str) -> None:
    """
    Raises:
        RefusedError: the journal is of another environment.
    """
    if journal.entries.environment != environment:
        raise RefusedError(
            f"the open recovery is of {journal.entries.environment}, not {environment}", mend="check --environment"
        )


def _outcome(journal: Journal) -> Outcome:
    entries = journal.entries
    return Outcome(
        id=entries.id,
        steps=tuple(Phase(name=entry.name, seconds=entry.seconds) for entry in entries.steps),
        checks=entries.checks,
        predicted_seconds=entries.predicted_seconds,
    )
