"""`aivo-backup drill` and `aivo-backup runbook`: the plans held in isolation, reviewed every year, written down."""

import shutil
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import click

from aivo_backup.catalog.records import Purpose
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json, progress, seconds_text
from aivo_backup.cli.recover.parts import parts, provisioner
from aivo_backup.cli.recover.shared import filed
from aivo_backup.composition import App
from aivo_backup.errors import BackupError, ExitCode
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.recovery.database_corruption import CorruptionRequest, database_corruption
from aivo_backup.recovery.documents import publish
from aivo_backup.recovery.drills import Exercise, annual_review, standings
from aivo_backup.recovery.executor import Executor, Outcome, Procedure
from aivo_backup.recovery.journal import Journals
from aivo_backup.recovery.on_paper import plans
from aivo_backup.recovery.parts import Isolation, isolation
from aivo_backup.recovery.plan import Scenario
from aivo_backup.recovery.runbook import pages
from aivo_backup.recovery.storage_failure import StorageRequest, storage_failure

_YEAR = timedelta(days=365)


@click.group()
def drill() -> None:
    """Hold a recovery drill in isolation, see which is overdue, or write the yearly review."""


def _held(exercise: Exercise) -> click.Command:
    @click.command(exercise.value)
    @json_option
    @click.pass_obj
    def command(context: Context, as_json: bool) -> int:
        outcomes = hold(context.app, exercise)
        if as_json:
            print_json([{"scenario": scenario, "drill": outcome} for scenario, outcome in outcomes])
        else:
            for scenario, outcome in outcomes:
                click.echo(
                    f"{exercise} drill, {scenario}: recovered in {seconds_text(outcome.seconds)}, "
                    f"expected {seconds_text(outcome.predicted_seconds)}"
                )
        return ExitCode.DONE

    where = "" if exercise is Exercise.MONTHLY else ", from the second region where there is one"
    command.help = f"Carry out {' and '.join(exercise.scenarios)} in isolation{where}, and file how long it took."
    return command


for _exercise in Exercise:
    drill.add_command(_held(_exercise))


@drill.command()
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> int:
    """Show when each drill passed last. Exits 5 when one is overdue."""
    app = context.app
    found = standings(app.catalog.recoveries(Purpose.DRILL), app.clock())
    if as_json:
        print_json(found)
    else:
        for each in found:
            passed = f"passed {each.passed_at:%Y-%m-%d %H:%M} UTC" if each.passed_at else "never passed"
            click.echo(f"{each.exercise:<10} {passed}{', OVERDUE' if each.overdue else ''}")
    return ExitCode.VERIFICATION_FAILED if any(each.overdue for each in found) else ExitCode.DONE


@drill.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write the review to this file.")
@click.pass_obj
def annual(context: Context, output: Path | None) -> None:
    """Write the review of the backup strategy from the year's records, and file it for five years."""
    app = context.app
    now = app.clock()
    text = annual_review(
        environment=app.environment.name,
        objectives=app.environment.objectives,
        recoveries=app.catalog.recoveries(since=now - _YEAR),
        restores=app.catalog.restores(since=now - _YEAR),
        since=now - _YEAR,
        until=now,
    )
    if output is not None:
        output.write_text(text, encoding="utf-8")
    for place in publish(app.s3, app.environment, {"review.md": text}, kind="review", now=now):
        click.echo(place)


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write the pages into this folder.")
@click.option("--publish", "published", is_flag=True, help="File them in the bucket that keeps them five years.")
@click.pass_obj
def runbook(context: Context, output: Path | None, published: bool) -> None:
    """Write the recovery runbook of this environment: every step, and the commands to run it without this tool."""
    app = context.app
    written = pages(app.environment, plans(app.environment, provisioner(app)))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (output / name).write_text(text, encoding="utf-8")
    if published:
        for place in publish(app.s3, app.environment, written, kind="runbook", now=app.clock()):
            click.echo(place)
    if output is None and not published:
        click.echo("\n".join(written.values()))


def hold(app: App, exercise: Exercise) -> list[tuple[Scenario, Outcome]]:
    """Holds a drill: each scenario in isolation, cleaned up and filed, passed or not. A drill publishes the runbook
    that it has just proven.

    Raises:
        BackupError: a scenario failed; the others were held all the same.
    """
    from_replica = exercise is Exercise.QUARTERLY and bool(app.environment.replica.region)
    held: list[tuple[Scenario, Outcome]] = []
    failure: BackupError | None = None
    for scenario in exercise.scenarios:
        progress(f"{exercise} drill: {scenario}{' from the second region' if from_replica else ''}")
        folder = Path(tempfile.mkdtemp(prefix="drill-"))
        try:
            place = isolation(folder / "data", now=app.clock(), drill=True)
            executor = Executor(
                # Of its own: a drill that dies leaves nothing that a recovery would have to be resumed for.
                journals=Journals(folder / "journal"),
                clock=app.clock,
                progress=progress,
                settled=filed(app, from_replica=from_replica, exercise=exercise.value),
            )
            held.append((scenario, executor.execute(_procedure(app, scenario, place, from_replica=from_replica))))
        except BackupError as error:
            progress(f"{scenario} failed: {error}")
            failure = failure or error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if failure is not None:
        raise failure
    with suppress(BackupError):  # the drill is held and filed; where it is written down matters less
        pages_now = pages(app.environment, plans(app.environment, provisioner(app)))
        publish(app.s3, app.environment, pages_now, kind="runbook", now=app.clock())
    return held


def _procedure(app: App, scenario: Scenario, place: Isolation, *, from_replica: bool) -> Procedure:
    isolated = parts(app, from_replica=from_replica, isolation=place)
    if scenario is Scenario.DATABASE_CORRUPTION:
        return database_corruption(isolated, CorruptionRequest(from_replica=from_replica))
    return storage_failure(
        lambda _where: isolated,
        provisioner(app),
        StorageRequest(from_replica=from_replica),
        initialise=_nothing,
    )


def _nothing(_where: Endpoints) -> None:
    """A drill makes no backups go on."""
