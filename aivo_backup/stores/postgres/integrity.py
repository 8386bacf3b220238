"""Whether a running database is sound: asked of the live server, after a recovery."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aivo_backup.catalog.records import Check
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres import looking
from aivo_backup.stores.postgres.archive import Login, connect
from aivo_backup.stores.process import run


def integrity(login: Login, settings: PostgresSettings) -> Iterator[Check]:
    """Reads every heap and B-tree of every database, and runs the sentinel queries.

    Reading a page checks its checksum; the extension ``amcheck`` is installed where it is missing.

    Raises:
        UnreachableError: the server does not answer.
        ConfigurationError: PostgreSQL's programs are not in ``bin_path``.
    """
    argv = [
        str(Path(settings.bin_path) / "pg_amcheck"),
        f"--host={login.host}", f"--port={login.port}", f"--username={login.user}", "--no-password",
        f"--maintenance-db={login.database}", "--all", "--install-missing", "--heapallindexed",
        f"--jobs={settings.process_max}",
    ]  # fmt: skip
    with connect(login) as connection:
        yield looking.amcheck_verdict(run(argv, environment=_variables(login)))
        yield from looking.sentinels(connection, settings.sentinel_queries)


def _variables(login: Login) -> Mapping[str, str]:
    variables = {"PGPASSWORD": login.password, "PGCONNECT_TIMEOUT": "10"}
    if login.ca_file:
        variables |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": login.ca_file}
    return variables
