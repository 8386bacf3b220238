"""Whether a running database is sound: asked of the live server, after a recovery."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aivo_backup.catalog.records import Check
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.stores.postgres import looking
from aivo_backup.stores.postgres.archive import Login, connect, hurry
from aivo_backup.stores.process import run

_ARCHIVING_SECONDS = 60.0


def integrity(login: Login, settings: PostgresSettings, *, archives: bool) -> Iterator[Check]:
    """Reads every heap and B-tree of every database, and runs the sentinel queries.

    Reading a page checks its checksum; the extension ``amcheck`` is installed where it is missing.

    Args:
        archives: the server archives its WAL, which is looked at too: without it, it has no next recovery.

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
        if archives:
            # Also where nobody waited for the end of recovery: a checkpointer that slept through it counts
            # archive_timeout again only when it is woken (see in_place).
            connection.execute("CHECKPOINT")
            done = hurry(connection, timeout_seconds=_ARCHIVING_SECONDS)
            yield Check(
                name="archiving", passed=done, detail="WAL is archived" if done else "WAL does not reach the repository"
            )
        yield looking.amcheck_verdict(run(argv, environment=_variables(login)))
        yield from looking.sentinels(connection, settings.sentinel_queries)


def _variables(login: Login) -> Mapping[str, str]:
    variables = {"PGPASSWORD": login.password, "PGCONNECT_TIMEOUT": "10"}
    if login.ca_file:
        variables |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": login.ca_file}
    return variables
