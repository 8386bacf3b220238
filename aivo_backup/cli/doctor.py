"""`aivo-backup doctor`: what is wrong, on what evidence, and the mend."""

from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.doctor_cluster import look_at_cluster
from aivo_backup.cli.output import json_option, print_json, print_table
from aivo_backup.composition import App
from aivo_backup.errors import ExitCode, UsageError
from aivo_backup.observability import doctor as checking
from aivo_backup.observability.cluster import CLUSTER
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import SCRATCH_MOUNT
from aivo_backup.stores.postgres.archive import Archive


def _subject(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Component | str | None:
    if value is None or value == CLUSTER:
        return value
    try:
        return Component(value)
    except ValueError as error:
        known = ", ".join((*Component, CLUSTER))
        raise UsageError(f"{value!r} is nothing that can be examined", mend=f"use one of {known}") from error


@click.command()
@click.argument("subject", required=False, callback=_subject, metavar="[COMPONENT|cluster]")
@json_option
@click.pass_obj
def doctor(context: Context, subject: Component | str | None, as_json: bool) -> int:
    """Examine COMPONENT, or all three, and what they share: the clock, the catalog, the disks. And the cluster.

    `doctor cluster` looks, through kubectl, at the CronJobs, their Jobs with pods, events and logs, the agent, the
    database and its sidecar, and the volumes. Without a subject it is looked at too, where there is a kubeconfig.

    Every check is made, whatever the others find. Exit code 1 when one fails; each failure comes with its evidence
    and the mend. Nothing is repaired.
    """
    app = context.app
    looked = None if isinstance(subject, Component) else look_at_cluster(app, asked=subject is not None)
    findings = [] if subject == CLUSTER else checking.examine(_checks(app, subject))
    findings += looked.findings if looked else []
    left_out = [f"the cluster was not looked at: {looked.left_out}"] if looked and looked.left_out else []
    failed = [finding for finding in findings if not finding.passed]
    if as_json:
        print_json(
            {
                "environment": app.environment.name,
                "healthy": not failed,
                "findings": findings,
                "left_out": left_out,
            }
        )
    else:
        print_table(
            f"Environment {app.environment.name}: {len(findings)} checks, {len(failed)} failed",
            ["component", "check", "finding", "evidence", "mend"],
            [
                [finding.component or "all", finding.check, finding.finding, finding.evidence, finding.mend]
                for finding in findings
            ],
        )
    for line in left_out:
        click.echo(f"  {line}", err=True)
    for finding in failed:
        click.echo(f"  {finding.component or 'all'}: {finding.check}: {finding.evidence}: {finding.mend}", err=True)
    return ExitCode.FAILED if failed else ExitCode.DONE


def _checks(app: App, subject: Component | str | None) -> list[checking.Check]:
    checks = checking.shared_checks(
        app.s3,
        bucket=app.environment.evidence.bucket,
        state=app.state,
        scratch=Path(SCRATCH_MOUNT),
        clock=app.clock,
    )
    for each in [subject] if isinstance(subject, Component) else list(Component):
        checks += checks_of(app, each)
    return checks


def checks_of(app: App, component: Component) -> list[checking.Check]:
    """The checks of one component. Logins are read when a check needs them: one that is missing is its finding."""
    environment = app.environment
    bucket = environment.bucket(component)
    checks = checking.backup_checks(
        component, app.s3, app.aws.client("kms"), bucket=bucket, key=environment.key(component.value)
    )
    match component:
        case Component.POSTGRES:
            archive = Archive(s3=app.s3, bucket=bucket, stanza=environment.postgres.stanza)
            return checks + checking.postgres_checks(lambda: app.postgres_login, lambda: app.postgres.runners, archive)
        case Component.MINIO:
            return checks + checking.minio_checks(lambda: app.minio_source, environment.minio)
        case Component.OPENSEARCH:
            longest = max(run.longest_run_seconds for run in environment.backups if run.component is component)
            return checks + checking.opensearch_checks(
                lambda: app.opensearch.repository, longest_run_seconds=longest, clock=app.clock
            )
