"""Runs pgBackRest: one configuration file, secrets in the environment, failures in our words."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.pgbackrest import Configuration, Version, Workspace
from aivo_backup.stores.postgres.failures import as_error, read_failure, read_status
from aivo_backup.stores.postgres.info import StanzaInfo, parse_info
from aivo_backup.stores.process import Finished, as_owner, run

PROGRAM = "pgbackrest"

# `info` answers 0 for these states; they are what a new repository looks like, not failures.
_STATES = range(4)


def installed_version(expected: str = "") -> Version:
    """The version of the pgBackRest on this machine.

    Args:
        expected: the one that the environment was reviewed with; any when empty.

    Raises:
        ConfigurationError: it is not installed, or is another one.
    """
    found = Version.parse(run([PROGRAM, "version"]).stdout)
    if expected and found != Version.parse(expected):
        raise ConfigurationError(
            f"this is pgBackRest {found}, and the settings say {expected}",
            mend="set cluster.pgbackrest_version to what the image's label says, or pin the image that it is of",
        )
    return found


@dataclass(frozen=True, kw_only=True)
class PgBackRest:
    """pgBackRest with one configuration.

    Attributes:
        config: the configuration file.
        owner: the folder whose owner pgBackRest runs as (it must own what it writes, and must not be root).
        environment: answers the secrets, anew for each run because session credentials expire.
    """

    config: Path
    stanza: str
    owner: Path
    environment: Callable[[], Mapping[str, str]]

    def argv(self, command: str, *arguments: str) -> list[str]:
        """The command line, without secrets."""
        return [
            *as_owner(self.owner),
            PROGRAM,
            f"--config={self.config}",
            f"--stanza={self.stanza}",
            command,
            *arguments,
        ]

    def try_run(self, command: str, *arguments: str) -> Finished:
        """Runs a command and answers however it ends."""
        return run(self.argv(command, *arguments), environment=self.environment())

    def run(self, command: str, *arguments: str) -> str:
        """Runs a command; answers what it printed.

        Raises:
            BackupError: or the kind of it that pgBackRest's error code means (see :mod:`.failures`).
        """
        done = self.try_run(command, *arguments)
        if done.exit_code != 0:
            raise as_error(f"pgbackrest {command}", read_failure(done.exit_code, f"{done.stdout}\n{done.stderr}"))
        return done.stdout

    def info(self) -> StanzaInfo:
        """What the repository holds.

        Raises:
            UnreachableError, ConfigurationError, BackupError: the repository cannot be read.
        """
        info = parse_info(self.run("info", "--output=json", "--log-level-console=off", "--log-level-stderr=warn"))
        if info.code not in _STATES:
            raise as_error("pgbackrest info", read_status(info.message))
        return info

    def has_tablespaces(self, label: str) -> bool:
        """Whether the database in a backup set has tablespaces.

        Raises:
            BackupError: the set cannot be read.
        """
        text = self.run("info", f"--set={label}", "--output=json", "--log-level-console=off", "--log-level-stderr=warn")
        try:
            return bool(json.loads(text)[0]["backup"][0]["tablespace"])
        except (ValueError, KeyError, IndexError) as error:
            raise BackupError(f"pgbackrest info --set={label} cannot be read", mend="see the repository") from error

    def read_file(self, path: str) -> str:
        """The deciphered text of a file in the repository, for example ``archive/<stanza>/15-1/00000002.history``.

        Raises:
            BackupError: it cannot be read.
        """
        return self.run("repo-get", path, "--log-level-console=off", "--log-level-stderr=warn")


def place(configuration: Configuration, file: Path, workspace: Workspace) -> Path:
    """Writes a configuration and makes the folders that it names; answers ``file``.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        for folder in (workspace.log, workspace.lock, workspace.spool):
            Path(folder).mkdir(mode=0o770, parents=True, exist_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.new")
        unfinished.write_text(configuration.text(), encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename}: {error.strerror}", mend="make it writable") from error
    return file
