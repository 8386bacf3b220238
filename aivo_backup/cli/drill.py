"""`aivo-backup drill`: the recovery plans held in isolation, timed and filed; which is overdue; the yearly review."""

import json
import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from aivo_backup.catalog.records import Purpose
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json, progress, seconds_text
from aivo_backup.cli.recover.parts import parts, provisioner, remove_bucket
from aivo_backup.cli.recover.shared import filed
from aivo_backup.composition import App
from aivo_backup.errors import BackupError, ConfigurationError, ExitCode
from aivo_backup.policy.drills import Exercise
from aivo_backup.policy.endpoints import Endpoints
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import DRILL_BUCKETS, REVIEWS_PREFIX
from aivo_backup.recovery.database_corruption import CorruptionRequest, database_corruption
from aivo_backup.recovery.documents import publish
from aivo_backup.recovery.drills import SCENARIOS, annual_review, standings
from aivo_backup.recovery.executor import Executor, Outcome, Procedure
from aivo_backup.recovery.journal import Journals
from aivo_backup.recovery.parts import Isolation, isolation
from aivo_backup.recovery.plan import Scenario
from aivo_backup.recovery.restores import remove_drilled
from aivo_backup.recovery.storage_failure import StorageRequest, storage_failure
from aivo_backup.stores.aws import translated

_YEAR = timedelta(days=365)
# A drill's Job is ended after four times the RTO (infra/drills.py); nobody holds one by hand for a day.
_DEAD_AFTER = timedelta(days=1)


@click.group()
def drill() -> None:
    """Hold a recovery drill beside production, see which is overdue, or write the yearly review.

    A drill restores the newest points under names, folders and ports of its own, verifies them, and removes them. It
    changes nothing that production uses, and needs nobody's consent.
    """


def _held(exercise: Exercise) -> click.Command:
    @click.command(exercise.value)
    @json_option
    @click.pass_obj
    def command(context: Context, as_json: bool) -> int:
        outcomes = hold(context.app, exercise)
        if as_json:
            print_json(
                [
                    {"scenario": scenario, "drill": outcome, "seconds": outcome.seconds}
                    for scenario, outcome in outcomes.items()
                ]
            )
        else:
            for scenario, outcome in outcomes.items():
                click.echo(
                    f"{exercise} drill, {scenario}: recovered in {seconds_text(outcome.seconds)}, "
                    f"expected {seconds_text(outcome.predicted_seconds)}"
                )
        return ExitCode.DONE

    where = "" if exercise is Exercise.MONTHLY else ", from the second region where there is one"
    command.help = f"Carry out {' and '.join(SCENARIOS[exercise])} beside production{where}; file how long it took."
    return command


for _exercise in Exercise:
    drill.add_command(_held(_exercise))


@drill.command()
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> int:
    """Show when each drill passed last. Exits 5 when one is overdue."""
    app = context.app
    now = app.clock()
    since = now - max(exercise.overdue_after for exercise in Exercise)
    found = standings(app.catalog.recoveries(Purpose.DRILL, since=since), now)
    if as_json:
        print_json(found)
    else:
        for each in found:
            passed = f"passed {each.passed_at:%Y-%m-%d %H:%M} UTC" if each.passed_at else "has not passed in time"
            click.echo(f"{each.exercise:<10} {passed}{', OVERDUE' if each.overdue else ''}")
    return ExitCode.VERIFICATION_FAILED if any(each.overdue for each in found) else ExitCode.DONE


@drill.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write the review to this file.")
@json_option
@click.pass_obj
def annual(context: Context, output: Path | None, as_json: bool) -> None:
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
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{output}: {error.strerror}", mend="name a file that can be written") from error
    places = publish(app.s3, app.environment, {"review.md": text}, kind=REVIEWS_PREFIX.rstrip("/"), now=now)
    if as_json:
        print_json({"review": text, "filed": places})
    else:
        click.echo("\n".join(places))


def hold(app: App, exercise: Exercise) -> dict[Scenario, Outcome]:
    """Holds a drill: each scenario in isolation, cleaned up and filed, passed or not.

    Raises:
        RefusedError: another drill is held on this machine.
        BackupError: a scenario failed; the others were held all the same.
    """
    from_replica = exercise is Exercise.QUARTERLY and bool(app.environment.replica.region)
    held: dict[Scenario, Outcome] = {}
    failures: list[BackupError] = []
    with Journals(app.state / "drills").locked():
        _remove_dead(app)
        for scenario in SCENARIOS[exercise]:
            progress(f"{exercise} drill: {scenario}{' from the second region' if from_replica else ''}")
            try:
                held[scenario] = _hold_one(app, exercise, scenario, from_replica=from_replica)
            except BackupError as error:
                progress(f"{scenario} failed: {error}")
                failures.append(error)
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"and: {other}")
        raise failures[0]
    return held


def _hold_one(app: App, exercise: Exercise, scenario: Scenario, *, from_replica: bool) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    try:
        executor = Executor(
            # Of its own: a drill that dies leaves nothing that a recovery would have to be resumed for.
            journals=Journals(folder / "journal"),
            clock=app.clock,
            progress=progress,
            settled=filed(app, from_replica=from_replica, exercise=exercise.value),
        )
        place = isolation(folder / "data", now=app.clock(), drill=True)
        _note(app).write_text(json.dumps({**vars(place), "folder": str(place.folder)}), encoding="utf-8")
        procedure = _procedure(app, scenario, place, from_replica=from_replica)

        def tidy() -> None:
            procedure.tidy()
            _note(app).unlink()

        return executor.execute(replace(procedure, tidy=tidy))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _note(app: App) -> Path:
    """Where a drill restores to; it stays when the drill is killed, or could not remove what it had made."""
    return app.state / "drills" / "isolation.json"


def _remove_dead(app: App) -> None:
    """Removes what killed drills left: of one on this machine everything; of others, whose folder went with their pod,
    buckets that are older than any drill lives. Their indices go with the next restore test's look at such.

    Raises:
        BackupError: it cannot be removed; the next drill tries again.
    """
    note = _note(app)
    if note.exists():
        content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        content["folder"] = Path(content["folder"])
        left = Isolation(**content)
        progress(
            f"removing what a drill left that was killed, or could not tidy up: {left.bucket_prefix}*, {left.prefix}*"
        )
        remove_drilled(parts(app, from_replica=False, isolation=left), Component.MINIO, Component.OPENSEARCH)
        shutil.rmtree(left.folder.parent, ignore_errors=True)
        note.unlink()
    with translated("MinIO"):
        buckets = app.minio_source.list_buckets()["Buckets"]
    for bucket in buckets:
        name, made = bucket.get("Name", ""), bucket.get("CreationDate")
        if name.startswith(DRILL_BUCKETS) and made is not None and app.clock() - made > _DEAD_AFTER:
            progress(f"removing {name}, which a drill left on {made:%Y-%m-%d}")
            remove_bucket(app, name)


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
