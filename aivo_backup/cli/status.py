"""`aivo-backup status`: how old the newest backup and the newest proof are."""

from datetime import datetime

import click

from aivo_backup.catalog.records import RecoveryPoint, Restore, RunStatus
from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json, print_table, seconds_text
from aivo_backup.policy.environment import Component


@click.command()
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Show, per component, the newest recovery point, the last run, expiry and restore test, and lost points."""
    app = context.app
    now = app.clock()
    rows: list[dict[str, object]] = []
    for component in Component:
        points, runs = app.catalog.points(component), app.catalog.runs(component)
        restores, expiries = app.catalog.restores(component), app.catalog.expiries(component)
        states = standings(points, expiries, app.catalog.registrations(component)).values()
        rows.append(
            {
                "component": component,
                "newest_point": points[-1].id if points else None,
                "backup_age_seconds": _age(now, points),
                "last_run": runs[-1].status if runs else None,
                "failed_runs": sum(run.status in (RunStatus.FAILED, RunStatus.PARTIAL) for run in runs),
                "last_restore_passed": restores[-1].passed if restores else None,
                "proof_age_seconds": _proof_age(now, restores),
                "valid_points": sum(state is Standing.VALID for state in states),
                "lost_points": sum(state is Standing.LOST for state in states),
                "last_expiry": expiries[-1].status if expiries else None,
                "expiry_age_seconds": (now - expiries[-1].started).total_seconds() if expiries else None,
            }
        )
    if as_json:
        print_json({"environment": app.environment.name, "at": now, "components": rows})
        return
    print_table(
        f"Environment {app.environment.name}",
        ["component", "newest point", "backup age", "last run", "failed runs", "points", "last expiry", "last proof"],
        [_cells(row) for row in rows],
    )


def _cells(row: dict[str, object]) -> list[str]:
    age, proof, expiry = row["backup_age_seconds"], row["proof_age_seconds"], row["expiry_age_seconds"]
    passed = row["last_restore_passed"]
    proof_text = "never restored" if passed is None else f"{'passed' if passed else 'FAILED'}, last good: "
    if passed is not None:
        proof_text += f"{seconds_text(proof)} ago" if isinstance(proof, float) else "none"
    return [
        str(row["component"]),
        str(row["newest_point"] or "none"),
        seconds_text(age) if isinstance(age, float) else "none",
        str(row["last_run"] or "none"),
        str(row["failed_runs"]),
        f"{row['valid_points']} valid" + (f", {row['lost_points']} LOST" if row["lost_points"] else ""),
        f"{row['last_expiry']}, {seconds_text(expiry)} ago" if isinstance(expiry, float) else "none",
        proof_text,
    ]


def _age(now: datetime, points: list[RecoveryPoint]) -> float | None:
    return (now - points[-1].recoverable_at).total_seconds() if points else None


def _proof_age(now: datetime, restores: list[Restore]) -> float | None:
    passed = [restore for restore in restores if restore.passed]
    return (now - passed[-1].started).total_seconds() if passed else None
