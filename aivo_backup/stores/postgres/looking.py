"""What is looked at in a restored database: heartbeat, sentinel queries, indexes and heaps, page checksums."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.stores.postgres.server import OwnServer
from aivo_backup.stores.process import Finished, as_owner, run

_STATEMENT_TIMEOUT = "600s"

Connection = psycopg.Connection[tuple[object, ...]]


def newest_heartbeat(connection: Connection) -> datetime | None:
    """The newest row of ``aivo_backup.heartbeat``, UTC; None when there is none, or no such table."""
    try:
        row = connection.execute("SELECT max(at) FROM aivo_backup.heartbeat").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    at = row[0] if row else None
    return at.astimezone(UTC) if isinstance(at, datetime) else None


def replayed_to(connection: Connection) -> tuple[str, datetime | None]:
    """The position up to which WAL was replayed (empty: nothing was), and the newest commit replayed, UTC."""
    row = connection.execute("SELECT pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp()").fetchone()
    position, commit = row if row else (None, None)
    return str(position or ""), commit.astimezone(UTC) if isinstance(commit, datetime) else None


def sentinels(connection: Connection, queries: Mapping[str, str]) -> Iterator[Check]:
    """Runs the configured queries; each must answer true. Read-only, so that a query cannot make itself true."""
    for name, query in queries.items():
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'")
                row = connection.execute(query.encode()).fetchone()
        except psycopg.Error as error:
            yield Check(name=f"sentinel.{name}", passed=False, detail=" ".join(str(error).split()))
            continue
        answer = row[0] if row else None
        yield Check(name=f"sentinel.{name}", passed=answer is True, detail=f"answered {answer!r}")


def amcheck(server: OwnServer, *, jobs: int) -> Check:
    """Checks every heap and B-tree index of every database, and that each heap row is in its indexes."""
    return amcheck_verdict(
        run(
            server.program(
                "pg_amcheck", "--all", "--install-missing", "--heapallindexed", f"--jobs={jobs}", "--no-password"
            )
        )
    )


def amcheck_verdict(done: Finished) -> Check:
    """What a run of ``pg_amcheck`` found."""
    said = " ".join(f"{done.stdout} {done.stderr}".split())
    if done.exit_code == 0:
        return Check(name="amcheck", passed=True, detail="heaps and indexes of all databases are consistent")
    return Check(name="amcheck", passed=False, detail=said[:500] or f"pg_amcheck ended with {done.exit_code}")


def page_checksums(bin_path: Path, data: Path) -> Check:
    """Checks the checksum of every page of a stopped server's files."""
    done = run([*as_owner(data), str(bin_path / "pg_checksums"), "--check", "-D", str(data)])
    if done.exit_code == 0:
        counts = " ".join(line.strip() for line in done.stdout.splitlines() if "scanned" in line or "Bad" in line)
        return Check(name="page_checksums", passed=True, detail=" ".join(counts.split()))
    wrong = [line.strip() for line in done.stderr.splitlines() if "failed" in line or "could not" in line]
    return Check(name="page_checksums", passed=False, detail="; ".join(wrong)[:500] or done.tail())
