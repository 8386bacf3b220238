"""What the records say of a restore that is planned: how long it takes, and whether its point was proven."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import click

from aivo_backup.catalog.catalog import Catalog
from aivo_backup.composition import App
from aivo_backup.jobs.expectation import check_proven, expected_seconds
from aivo_backup.policy.environment import Component, UnprovenPoints


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Asks the records of one environment."""

    app: App
    catalog: Catalog
    component: Component

    def of(
        self, drivers: Mapping[str, str], amounts: Mapping[str, float], fallback_seconds: float
    ) -> tuple[float, int]:
        """The expected seconds, and how many measured restores they rest on."""
        prediction = expected_seconds(
            self.catalog,
            self.component,
            now=self.app.clock(),
            drivers=drivers,
            amounts=amounts,
            fallback_seconds=fallback_seconds,
        )
        return prediction.seconds, prediction.measured


def warn_if_unproven(expected: Expected, point: str, *, since: datetime | None, accepted: bool) -> None:
    """Says so when no restore of the point has passed yet.

    Args:
        since: when the point was taken; None says nothing.
        accepted: the person has said that such a point will do.

    Raises:
        RefusedError: the environment's settings refuse such a point.
    """
    if since is None:
        return
    rule = UnprovenPoints.WARN if accepted else expected.app.environment.unproven_points
    warning = check_proven(expected.catalog, expected.component, point, rule=rule, since=since)
    if warning:
        click.echo(f"  warning: {warning}", err=True)
