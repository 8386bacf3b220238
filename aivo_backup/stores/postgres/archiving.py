"""Whether a database archives after its recovery: without that it has no next one."""

import time
from collections.abc import Callable

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.stores.port import Progress

_ARCHIVING_SECONDS = 60.0
_POLL_SECONDS = 0.2


def check_archiving(
    connect: Callable[[], "psycopg.Connection[tuple[object, ...]]"], timeline: int, progress: Progress
) -> Check:
    """Whether the recovered database archives on its new timeline; waits a minute for the first segment."""
    wanted = f"{timeline:08X}"

    def archived() -> str:
        with connect() as connection:
            row = connection.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchone()
            return str(row[0]) if row else ""

    progress("waiting for the first WAL of the new timeline to be archived")
    with connect() as connection:
        # The checkpointer went to sleep while recovery was still going on, for checkpoint_timeout: until it wakes,
        # archive_timeout does not count, and minutes of writes could be lost instead of seconds.
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_switch_wal()")
    last = _poll(archived, lambda name: name.startswith(wanted) and len(name) == len(wanted) * 3)
    passed = last.startswith(wanted)
    detail = f"{last} is archived" if passed else f"timeline {timeline} is not archived; last was {last or 'none'}"
    return Check(name="archiving", passed=passed, detail=detail)


def _poll(ask: Callable[[], str], enough: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + _ARCHIVING_SECONDS
    answer = ask()
    while not enough(answer) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        answer = ask()
    return answer
