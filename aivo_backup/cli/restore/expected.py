"""What the records say of a PostgreSQL restore that is planned: how long it takes, and whether its point was proven."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import click

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.composition import App
from aivo_backup.jobs.expectation import check_proven, expected_seconds
from aivo_backup.policy.environment import Component


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Asks the records of one environment."""

    app: App
    catalog: Catalog

    def of(
        self, drivers: Mapping[str, str], amounts: Mapping[str, float], fallback_seconds: float
    ) -> tuple[float, int]:
        """The expected seconds, and how many measured restores they rest on."""
        prediction = expected_seconds(
            self.catalog,
            Component.POSTGRES,
            now=self.app.clock(),
            drivers=drivers,
            amounts=amounts,
            fallback_seconds=fallback_seconds,
        )
        return prediction.seconds, prediction.measured


def warn_if_unproven(app: App, catalog: Catalog, point: str, *, since: datetime | None) -> None:
    """Says so when no restore of the point has passed yet.

    Raises:
        RefusedError: the environment's settings refuse such a point.
    """
    if since is None:
        return
    warning = check_proven(catalog, Component.POSTGRES, point, rule=app.environment.unproven_points, since=since)
    if warning:
        click.echo(f"  warning: {warning}", err=True)
