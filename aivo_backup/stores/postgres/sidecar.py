"""The sidecar: pgBackRest's TLS server beside the database, holding the secrets that PostgreSQL must not have."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.pgbackrest import Workspace, host_configuration, sidecar_configuration
from aivo_backup.stores.postgres.access import RepositoryAccess, certificates_in
from aivo_backup.stores.postgres.pgbackrest import PROGRAM, installed_version, place
from aivo_backup.stores.process import as_owner


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A program that is ready to be started: its argv, and the variables that are added to its environment."""

    argv: tuple[str, ...]
    secrets: Mapping[str, str]


def prepare(
    settings: PostgresSettings,
    access: RepositoryAccess,
    *,
    certificates: Path,
    state: Path,
    address: str | None = None,
) -> Launch:
    """Opens the cipher envelope, writes the configuration, and answers what to start.

    Session credentials in the environment do not renew themselves. In the cluster there are none: pgBackRest
    exchanges the pod's web identity token whenever it needs to. Where it is handed credentials (an AWS API that is
    not AWS's own), the sidecar must be started anew before they expire; PostgreSQL keeps the WAL until it answers.

    Args:
        certificates: folder with the server's ``tls.crt``, ``tls.key`` and ``ca.crt``.
        state: folder for lock and spool files.
        address: where to listen; every interface when None.

    Raises:
        ConfigurationError: there is no envelope yet, pgBackRest is missing, or the configuration cannot be written.
        AccessDeniedError, UnreachableError: S3 or KMS.
    """
    secrets = access.secrets()
    workspace = Workspace.under(str(state / "pgbackrest" / "sidecar"))
    configuration = sidecar_configuration(
        settings,
        access.repository(),
        certificates_in(certificates),
        workspace,
        version=installed_version(settings.pgbackrest_version),
        address=address or _every_interface(),
    )
    config = place(configuration, Path(settings.sidecar_config), workspace)
    return Launch(argv=(*as_owner(config.parent), PROGRAM, f"--config={config}", "server"), secrets=secrets)


def _every_interface() -> str:
    """The address that takes IPv4 and IPv6 alike: where there is IPv6, a pod's ``localhost`` is ::1 to pgBackRest."""
    try:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True):
            return "::"
    except (OSError, ValueError):
        return "0.0.0.0"  # noqa: S104 - the jobs come from other pods; mutual certificates decide who may


def become(launch: Launch) -> NoReturn:
    """Replaces this process by the sidecar, so that signals and exit status are its own.

    Raises:
        ConfigurationError: it cannot be started.
    """
    try:
        os.execvpe(launch.argv[0], list(launch.argv), {**os.environ, **launch.secrets})  # noqa: S606 - no shell wanted
    except OSError as error:
        raise ConfigurationError(f"cannot start {launch.argv[0]}: {error.strerror}", mend="install it") from error


def write_host_configuration(settings: PostgresSettings, *, certificates: Path) -> Path:
    """Writes the configuration that ``archive_command`` reads; it holds no secret.

    Args:
        certificates: the client certificate's folder as PostgreSQL's container sees it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    file = Path(settings.host_config)
    text = host_configuration(settings, certificates_in(certificates)).text()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}", mend="make it writable") from error
    return file
