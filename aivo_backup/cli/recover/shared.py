"""What the three recovery commands have in common: their options, how a plan is shown, and how one is carried out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from aivo_backup.catalog.records import Phase, Purpose, Recovery
from aivo_backup.cli.confirm import confirm
from aivo_backup.cli.output import json_option, print_json, progress, seconds_text
from aivo_backup.cli.recover.parts import applications, journals
from aivo_backup.composition import App
from aivo_backup.errors import UsageError
from aivo_backup.recovery.executor import Executor, Outcome, Procedure, refuse_other_environment, request_of
from aivo_backup.recovery.journal import Journal
from aivo_backup.recovery.plan import Plan, PlannedStep, Scenario

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What is to be done with the plan; without any, it is shown."""

    execute: bool
    resume: bool
    abandon: bool
    yes: bool
    as_json: bool


def mode_options(command: F) -> F:
    """Adds ``--plan``, ``--execute``, ``--resume``, ``--abandon``, ``--yes``, ``--json``; hands them on as ``mode``."""

    @wraps(command)
    def collected(
        *arguments: Any,
        plan_only: bool,
        execute: bool,
        resume: bool,
        abandon: bool,
        yes: bool,
        as_json: bool,
        **rest: Any,
    ) -> Any:
        if plan_only + execute + resume + abandon > 1:
            raise UsageError("--plan, --execute, --resume and --abandon exclude each other", mend="give one of them")
        mode = Mode(execute=execute, resume=resume, abandon=abandon, yes=yes, as_json=as_json)
        return command(*arguments, mode=mode, **rest)

    decorated: Any = json_option(collected)
    for name, text in (
        ("--yes", "Go on without asking before destructive steps."),
        ("--abandon", "Give the open recovery up: start its applications again, and close its journal."),
        ("--resume", "Go on where the open recovery was killed or failed."),
        ("--execute", "Carry the plan out."),
    ):
        decorated = click.option(name, is_flag=True, help=text)(decorated)
    return click.option("--plan", "plan_only", is_flag=True, help="Show the plan, and stop (the default).")(decorated)


def recover(
    app: App,
    scenario: Scenario,
    mode: Mode,
    *,
    kind: type[R],
    request: Callable[[], R],
    build: Callable[[R], Procedure],
    given_up: Callable[[R], None] = lambda _request: None,
    remove: Callable[[Journal], None] = lambda _journal: None,
) -> int:
    """Does what the mode says.

    Args:
        kind: the scenario's request, as the journal keeps it.
        request: makes it from the command's options.
        build: makes the recovery from a request.
        given_up: starts what the applications need, when the recovery is abandoned.
        remove: removes what a recovery that is given up has made beside production.

    Returns:
        the exit code.
    """
    known = journals(app)
    if mode.abandon:
        journal = known.open_one(scenario)
        refuse_other_environment(journal, app.environment.name)
        _executor(app, mode, from_replica=False).abandon(
            journal,
            applications(app),
            before=lambda: given_up(request_of(journal, kind)),
            after=lambda: remove(journal),
        )
        progress(f"{journal.entries.id} is given up; its applications run")
        return 0
    if mode.resume:
        journal = known.open_one(scenario)
        refuse_other_environment(journal, app.environment.name)
        procedure = build(request_of(journal, kind))
        outcome = _executor(app, mode, from_replica=procedure.plan.from_replica).resume(procedure, journal)
        return _told(outcome, mode)
    procedure = build(request())
    if not mode.execute:
        show(procedure.plan, as_json=mode.as_json)
        return 0
    if not mode.as_json:
        show(procedure.plan, as_json=False)
    return _told(_executor(app, mode, from_replica=procedure.plan.from_replica).execute(procedure), mode)


def filed(app: App, *, from_replica: bool, exercise: str = "") -> Callable[[Journal, str], None]:
    """Files how a recovery ended, with each step's time, as evidence of the recovery time."""

    def file(journal: Journal, error: str) -> None:
        entries = journal.entries
        losses = [
            float(value) for step in entries.steps for name, value in step.notes.items() if name.endswith(" loss")
        ]
        app.catalog.append(
            Recovery(
                # An attempt that failed and the one that resumed it are two records.
                id=f"{entries.id}-{sum(step.attempts for step in entries.steps)}",
                scenario=entries.scenario.value,
                purpose=Purpose.DRILL if exercise else Purpose.RECOVERY,
                exercise=exercise,
                started=entries.started,
                finished=app.clock(),
                # Of one that failed, what it took until then.
                steps=tuple(Phase(name=step.name, seconds=step.seconds) for step in entries.steps if step.attempts),
                checks=entries.checks,
                predicted_seconds=entries.predicted_seconds,
                loss_seconds=max(losses, default=None),
                from_replica=from_replica,
                resumed=any(step.attempts > 1 for step in entries.steps),
                error=error,
            )
        )

    return file


def show(plan: Plan, *, as_json: bool) -> None:
    """Shows a plan: as JSON on standard output, or as lines on standard error, where prompts are too."""
    if as_json:
        print_json({"plan": plan, "expected_seconds": plan.expected_seconds})
        return
    where = " from the second region" if plan.from_replica else ""
    click.echo(f"{plan.scenario} in {plan.environment}{where}", err=True)
    for line in plan.summary:
        click.echo(f"  {line}", err=True)
    for number, step in enumerate(plan.steps, start=1):
        for line in _step_lines(number, step):
            click.echo(line, err=True)
    click.echo(f"expected to take {seconds_text(plan.expected_seconds)}", err=True)


def _step_lines(number: int, step: PlannedStep) -> list[str]:
    expected = step.expected
    known = f"{expected.basis.value}{f': {expected.detail}' if expected.detail else ''}"
    lines = [f"{number}. {step.title}  [{seconds_text(expected.seconds)}, {known}]"]
    lines.append(f"     needs: {step.precondition}")
    if step.changes:
        lines.append(f"     {'DESTRUCTIVE, ' if step.destructive else ''}changes: {step.changes}")
        lines.append(f"     undo: {step.undo}")
    return lines


def _executor(app: App, mode: Mode, *, from_replica: bool) -> Executor:
    def ask(step: PlannedStep) -> None:
        if not mode.yes:
            progress(f"next: {step.title}; it changes: {step.changes}")
        confirm(app, yes=mode.yes)

    return Executor(
        journals=journals(app),
        clock=app.clock,
        progress=progress,
        ask=ask,
        settled=filed(app, from_replica=from_replica),
    )


def _told(outcome: Outcome, mode: Mode) -> int:
    if mode.as_json:
        print_json({"recovery": outcome, "seconds": outcome.seconds})
        return 0
    for step in outcome.steps:
        click.echo(f"  {step.name:<22} {seconds_text(step.seconds)}")
    click.echo(
        f"{outcome.id}: recovered in {seconds_text(outcome.seconds)}, "
        f"expected {seconds_text(outcome.predicted_seconds)}"
    )
    return 0
