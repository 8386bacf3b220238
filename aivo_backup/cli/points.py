"""`aivo-backup points`: what can be restored."""

from datetime import timedelta

import click

from aivo_backup.catalog.records import RecoveryPoint
from aivo_backup.catalog.standing import Standing, standings
from aivo_backup.cli.context import Context
from aivo_backup.cli.output import bytes_text, component_argument, json_option, print_json, print_table
from aivo_backup.composition import App
from aivo_backup.jobs.standing import not_obsolete
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.environment import Component


@click.command()
@component_argument(required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that retention has removed.")
@json_option
@click.pass_obj
def points(context: Context, component: Component | None, everything: bool, as_json: bool) -> None:
    """List the recovery points of COMPONENT, or of all three, oldest first.

    A point is valid; obsolete, when retention has removed it; or lost, when it is gone and should be there.
    """
    app, catalog = context.app, context.app.catalog
    if everything:
        recorded = catalog.points(component)
        states = standings(recorded, catalog.expiries(component), catalog.registrations(component))
        known = [(point, states[point.component, point.id]) for point in recorded]
    else:
        wanted = [component] if component else list(Component)
        now = app.clock()
        stood = [each for one in wanted for each in not_obsolete(catalog, app.environment, one, now=now)]
        known = sorted(
            ((each.point, each.standing) for each in stood), key=lambda known: (known[0].moment, known[0].id)
        )
    past = _past_retention(app, [point for point, state in known if state is Standing.VALID])
    if as_json:
        print_json(
            [{**to_json(point), "state": state.value, "past_retention": point.id in past} for point, state in known]
        )
        return
    print_table(
        "Recovery points",
        ["component", "recovery point", "kind", "recoverable at (UTC)", "size", "state", "run"],
        [
            [
                point.component.value,
                point.id,
                point.kind.value,
                f"{point.recoverable_at:%Y-%m-%d %H:%M:%S}",
                bytes_text(point.size_bytes),
                state.value,
                point.run_id or "found by registration",
            ]
            for point, state in known
        ],
    )
    for name in past:
        click.echo(
            f"minio {name} is kept past its retention: what has changed since may have expired; "
            f"`aivo-backup restore minio --point {name} --plan` tells"
        )


def _past_retention(app: App, valid: list[RecoveryPoint]) -> list[str]:
    """MinIO points whose manifest stays, as one of the last that are verified, while S3 expires versions by age."""
    oldest = app.clock() - timedelta(days=app.environment.minio.retention_days)
    return [point.id for point in valid if point.component is Component.MINIO and point.started <= oldest]
