"""The root command, and the one place where errors become lines and exit codes."""

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from aivo_backup import __version__
from aivo_backup.cli.context import Context
from aivo_backup.cli.lazy import Lazy, LazyGroup
from aivo_backup.errors import BackupError, ExitCode

COMMANDS_GROUP = "aivo_backup.commands"
"""Entry points of this group add commands: the sandbox brings its own without being imported here."""

DEBUG = "AIVO_BACKUP_DEBUG"

ENDED = "ended by SIGTERM"


COMMANDS: Mapping[str, Lazy] = {
    "agent": Lazy(at="aivo_backup.cli.agent:agent", summary="Write heartbeats, publish what the cluster alone sees."),
    "backup": Lazy(at="aivo_backup.cli.backup:backup", summary="Take one backup of a component, and record it."),
    "doctor": Lazy(at="aivo_backup.cli.doctor:doctor", summary="Say what is wrong, on what evidence, and the mend."),
    "drill": Lazy(at="aivo_backup.cli.drill:drill", summary="Hold a recovery drill, or review the year."),
    "expire": Lazy(at="aivo_backup.cli.expire:expire", summary="Expire PostgreSQL's sets and WAL by retention."),
    "init": Lazy(at="aivo_backup.cli.init:init", summary="Prepare what has to be there before the first backup."),
    "metrics": Lazy(at="aivo_backup.cli.agent:metrics", summary="Print once what the agent publishes to Prometheus."),
    "points": Lazy(at="aivo_backup.cli.points:points", summary="List the recovery points, oldest first."),
    "prune": Lazy(at="aivo_backup.cli.expire:prune", summary="Remove MinIO's and OpenSearch's points by retention."),
    "recover": Lazy(at="aivo_backup.cli.recover:recover", summary="Recover from a disaster by plan."),
    "report": Lazy(at="aivo_backup.cli.report:report", summary="Write the compliance report of a period, and file it."),
    "restore": Lazy(at="aivo_backup.cli.restore:restore", summary="Restore a database, objects or indices."),
    "runbook": Lazy(at="aivo_backup.cli.runbook:runbook", summary="Write the recovery runbook of this environment."),
    "sidecar": Lazy(at="aivo_backup.cli.agent:sidecar", summary="Run pgBackRest's TLS server beside PostgreSQL."),
    "status": Lazy(at="aivo_backup.cli.status:status", summary="Show the age of the newest backups and proofs."),
    "verify": Lazy(at="aivo_backup.cli.verify:verify", summary="Restore a point into isolation, now, and check it."),
}


@click.group(
    cls=LazyGroup, lazy=COMMANDS, entries=COMMANDS_GROUP, context_settings={"help_option_names": ["-h", "--help"]}
)
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


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs the command and exits; every failure is one line on standard error.

    SIGTERM ends it as Ctrl-C does: what was begun is put in order and put on record. To the first process of a
    container, whom the kernel spares signals without a handler, a drained node would else come as SIGKILL only, when
    the pod's grace is over.
    """
    signal.signal(signal.SIGTERM, _end)
    sys.exit(run(argv))


def _end(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # putting in order is not to be interrupted again
    raise KeyboardInterrupt(ENDED)


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
    except click.Abort as error:
        told = ENDED if ENDED in str(error.__cause__) else "stopped by the user"
        return _say(f"{told}; nothing further was changed", ExitCode.FAILED)
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
