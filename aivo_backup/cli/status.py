"""`aivo-backup status`: how old the newest backup and the newest proof are."""

from datetime import datetime, timedelta

import click

from aivo_backup.catalog.records import Expiry, Restore, RunStatus
from aivo_backup.catalog.standing import Standing
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import json_option, print_json, print_table, seconds_text
from aivo_backup.jobs.standing import not_obsolete
from aivo_backup.policy.environment import Component

# A count over years says nothing about today, and reading them takes minutes.
_RUNS_LOOKED_AT = timedelta(days=30)


@click.command()
@json_option
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Show, per component, the newest recovery point, the last run, expiry and restore test, and lost points.

    Runs, and how many of them failed, are those of the last 30 days.
    """
    app = context.app
    now = app.clock()
    rows: list[dict[str, object]] = []
    for component in Component:
        catalog = app.catalog
        stood = not_obsolete(catalog, app.environment, component, now=now)
        points = [each.point for each in stood]
        runs = catalog.runs(component, since=now - _RUNS_LOOKED_AT)
        tested = catalog.newest(Restore, lambda entry, component=component: entry.component is component)
        proof = catalog.newest(
            Restore, lambda entry, component=component: entry.component is component and entry.passed
        )
        expiry = catalog.newest(Expiry, lambda entry, component=component: entry.component is component)
        rows.append(
            {
                "component": component,
                "newest_point": points[-1].id if points else None,
                "backup_age_seconds": _age(now, points[-1].recoverable_at if points else None),
                "last_run": runs[-1].status if runs else None,
                "failed_runs": sum(run.status in (RunStatus.FAILED, RunStatus.PARTIAL) for run in runs),
                "last_restore_passed": tested.passed if tested else None,
                "proof_age_seconds": _age(now, proof.started if proof else None),
                "valid_points": sum(each.standing is Standing.VALID for each in stood),
                "lost_points": sum(each.standing is Standing.LOST for each in stood),
                "last_expiry": expiry.status if expiry else None,
                "expiry_age_seconds": _age(now, expiry.started if expiry else None),
            }
        )
    if as_json:
        print_json({"environment": app.environment.name, "at": now, "components": rows})
        return
    print_table(
        f"Environment {app.environment.name}",
        [
            "component",
            "newest point",
            "backup age",
            "last run",
            "failed in 30 days",
            "points",
            "last expiry",
            "last proof",
        ],
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


def _age(now: datetime, moment: datetime | None) -> float | None:
    return (now - moment).total_seconds() if moment else None
