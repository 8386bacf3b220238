"""`aivo-backup doctor`: what is wrong, on what evidence, and the mend."""

from pathlib import Path

import click

from aivo_backup.cli.context import Context
from aivo_backup.cli.output import component_argument, json_option, print_json, print_table
from aivo_backup.composition import App
from aivo_backup.errors import ExitCode
from aivo_backup.observability import doctor as checking
from aivo_backup.policy.environment import Component
from aivo_backup.policy.names import SCRATCH_MOUNT
from aivo_backup.stores.postgres.archive import Archive


@click.command()
@component_argument(required=False)
@json_option
@click.pass_obj
def doctor(context: Context, component: Component | None, as_json: bool) -> int:
    """Examine COMPONENT, or all three, and what they share: the clock, the catalog, the disks.

    Every check is made, whatever the others find. Exit code 1 when one fails; each failure comes with its evidence
    and the mend. Nothing is repaired.
    """
    app = context.app
    checks = checking.shared_checks(
        app.s3,
        bucket=app.environment.evidence.bucket,
        state=app.state,
        scratch=Path(SCRATCH_MOUNT),
        clock=app.clock,
    )
    for each in [component] if component else list(Component):
        checks += checks_of(app, each)
    findings = checking.examine(checks)
    failed = [finding for finding in findings if not finding.passed]
    if as_json:
        print_json({"environment": app.environment.name, "healthy": not failed, "findings": findings})
    else:
        print_table(
            f"Environment {app.environment.name}: {len(findings)} checks, {len(failed)} failed",
            ["component", "check", "finding", "evidence", "mend"],
            [
                [finding.component or "all", finding.check, finding.finding, finding.evidence, finding.mend]
                for finding in findings
            ],
        )
    for finding in failed:
        click.echo(f"  {finding.component or 'all'}: {finding.check}: {finding.evidence}: {finding.mend}", err=True)
    return ExitCode.FAILED if failed else ExitCode.DONE


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
