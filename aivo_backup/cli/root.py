"""The root command, and the one place where errors become lines and exit codes."""

import os
import sys
import traceback
from importlib.metadata import entry_points
from typing import Any, NoReturn

import click

from aivo_backup import __version__
from aivo_backup.cli import agent, backup, doctor, expire, init, points, recover, report, restore, status, verify
from aivo_backup.cli.context import Context
from aivo_backup.errors import BackupError, ExitCode

COMMANDS_GROUP = "aivo_backup.commands"
"""Entry points of this group add commands: the sandbox brings its own without being imported here."""

DEBUG = "AIVO_BACKUP_DEBUG"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aivo-backup")
@click.option(
    "--environment",
    "-e",
    envvar="AIVO_BACKUP_ENVIRONMENT",
    help="Which environment: local, dev, staging or prod. Its settings are read from what `pulumi up` published.",
)
@click.pass_context
def root(context: click.Context, environment: str | None) -> None:
    """Back up PostgreSQL, MinIO and OpenSearch, restore them, and keep the proof that the restore worked.

    Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 a store or AWS cannot be reached, 5 verification failed,
    6 refused by a guard.
    """
    context.obj = Context(environment)


for command in (
    init.init,
    backup.backup,
    points.points,
    expire.expire,
    expire.prune,
    restore.restore,
    recover.recover,
    verify.verify,
    report.report,
    status.status,
    doctor.doctor,
    agent.agent,
    agent.metrics,
    agent.sidecar,
):
    root.add_command(command)


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs the command and exits; every failure is one line on standard error."""
    for entry in entry_points(group=COMMANDS_GROUP):
        root.add_command(entry.load())
    sys.exit(run(argv))


def run(argv: list[str] | None = None) -> int:
    """Runs the command.

    Returns:
        the exit code.
    """
    try:
        answer: Any = root.main(args=argv, prog_name="aivo-backup", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        return _say(f"{error.format_message()} (see `{_command(error)} --help`)", ExitCode.USAGE)
    except click.Abort:
        return _say("stopped by the user; nothing further was changed", ExitCode.FAILED)
    except BackupError as error:
        code = _say(str(error), error.exit_code)
        for note in getattr(error, "__notes__", []):
            click.echo(f"  {note}", err=True)
        return code
    except Exception as error:  # noqa: BLE001 -- the last resort: a defect of ours is a line too, not a traceback
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _say(
            f"internal error: {type(error).__name__}: {' '.join(str(error).split())} "
            f"(please report it; {DEBUG}=1 shows where)",
            ExitCode.FAILED,
        )
    return answer if isinstance(answer, int) else ExitCode.DONE


def _command(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "aivo-backup"


def _say(line: str, code: ExitCode) -> int:
    click.echo(f"aivo-backup: {line}", err=True)
    return code
