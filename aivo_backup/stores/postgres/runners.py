"""pgBackRest set up for the two places that jobs and restores run in: with and without the sidecar."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import (
    Version,
    Workspace,
    client_configuration,
    expire_configuration,
    restore_configuration,
)
from aivo_backup.stores.postgres.access import RepositoryAccess, certificates_in
from aivo_backup.stores.postgres.pgbackrest import PgBackRest, installed_version, place


@dataclass(frozen=True, kw_only=True)
class Runners:
    """Makes configured runners of pgBackRest.

    Attributes:
        certificates: folder of the client certificate for the sidecar; only :meth:`client` reads it.
        state: folder that survives this process, for configuration and logs.
    """

    settings: PostgresSettings
    access: RepositoryAccess
    certificates: Path
    state: Path

    @cached_property
    def version(self) -> Version:
        """The installed pgBackRest."""
        return installed_version()

    def client(self) -> PgBackRest:
        """Reaches the database through the sidecar, and the repository directly.

        Raises:
            ConfigurationError: pgBackRest is missing or too old, or the state folder cannot be written.
        """
        folder = self.state / "pgbackrest" / "client"
        workspace = Workspace.under(str(folder))
        configuration = client_configuration(
            self.settings,
            self.access.repository(),
            certificates_in(self.certificates),
            workspace,
            # Writing is for the reviewed version alone; a restore at night takes what is at hand.
            version=installed_version(self.settings.pgbackrest_version),
        )
        return self._runner(place(configuration, folder / "pgbackrest.conf", workspace), folder)

    def repository(self) -> PgBackRest:
        """Reads the repository, nothing else."""
        folder = self.state / "pgbackrest" / "reader"
        # Commands that only read the repository never look at the data directory that the stanza must name.
        return self.restorer(folder, data=folder / "no-data")

    def expirer(self) -> PgBackRest:
        """Expires what is named to it, in the repository alone.

        Raises:
            ConfigurationError: as for :meth:`client`.
        """
        folder = self.state / "pgbackrest" / "expirer"
        workspace = Workspace.under(str(folder))
        configuration = expire_configuration(
            self.settings,
            self.access.repository(),
            workspace,
            data_path=str(folder / "no-data"),
            version=self.version,
        )
        return self._runner(place(configuration, folder / "pgbackrest.conf", workspace), folder)

    def restorer(self, folder: Path, *, data: Path) -> PgBackRest:
        """Restores into ``data``; configuration, log and lock lie in ``folder``.

        Raises:
            ConfigurationError: as for :meth:`client`.
        """
        workspace = Workspace.under(str(folder))
        configuration = restore_configuration(
            self.settings, self.access.repository(), workspace, data_path=str(data), version=self.version
        )
        return self._runner(place(configuration, folder / "pgbackrest.conf", workspace), folder)

    def _runner(self, config: Path, owner: Path) -> PgBackRest:
        return PgBackRest(
            config=config,
            stanza=self.settings.stanza,
            owner=owner,
            environment=self.access.secrets,
        )
