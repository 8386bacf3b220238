"""What is gone as a whole: tables and indices that come back under their own names, with their definitions."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aivo_backup.catalog.records import Check, RecoveryPoint
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.recovery.executor import Work
from aivo_backup.recovery.parts import Parts
from aivo_backup.stores.opensearch.plan import RestoreRequest
from aivo_backup.stores.port import Stopwatch
from aivo_backup.stores.postgres.archive import connect
from aivo_backup.stores.postgres.tables import Connection
from aivo_backup.stores.postgres.whole import Gone, dump, load, still_gone, tie, ties_left, what_is_gone

_GONE = "gone"


@contextmanager
def _both(parts: Parts, beside: Parts) -> Generator[tuple[Connection, Connection]]:
    with connect(beside.database()) as copy, connect(parts.login()) as live:
        yield copy, live


def extract_tables(work: Work, parts: Parts, beside: Parts, units: Sequence[str], folder: Path) -> None:
    """Dumps tables that are gone, and what went along, from the copy into the folder of the recovery.

    Raises:
        BackupError: pg_dump failed.
    """
    with _both(parts, beside) as (copy, live):
        gone = what_is_gone(copy, live, units)
    work.progress(f"dumping what is gone as a whole: {gone}")
    size = dump(beside.database(), gone, folder, bin_path=Path(parts.environment.postgres.bin_path))
    work.note(**{_GONE: json.dumps(to_json(gone)), "dumped": size})


def extracted(work: Work, step: str) -> Gone | None:
    """What :func:`extract_tables` dumped in a step; None when nothing was gone."""
    noted = work.noted(step).get(_GONE)
    return None if noted is None else from_json(Gone, json.loads(str(noted)), where="journal")


def bring_back_tables(work: Work, parts: Parts, gone: Gone, folder: Path) -> None:
    """Restores what :func:`extract_tables` dumped; safe to begin again.

    Raises:
        RefusedError: somebody has made a part of it anew meanwhile.
        BackupError: production refused something.
    """
    load(parts.login(), gone, folder, bin_path=Path(parts.environment.postgres.bin_path))
    work.progress(f"{gone}: back, whole")


def tie_tables(work: Work, parts: Parts, beside: Parts, gone: Gone) -> None:
    """Puts back what tied the tables to others, as far as it holds now; the rest is told."""
    with _both(parts, beside) as (copy, live):
        tie(copy, live, gone, progress=work.progress)


def check_ties(parts: Parts, beside: Parts, gone: Gone) -> Check:
    """Whether everything that went along with the tables is there again."""
    with _both(parts, beside) as (copy, live):
        left = [each.told for each in ties_left(copy, live, gone)]
        left += [f"{name} is missing" for name in still_gone(live, gone)]
    return Check(
        name="views, partitions and foreign keys",
        passed=not left,
        detail="; ".join(left) or "all that went along is there again",
    )


def bring_back_index(work: Work, parts: Parts, point: RecoveryPoint, index: str) -> None:
    """Restores an index of the snapshot under its own name, with its settings and aliases.

    Nothing is removed for an attempt after this one: users may have written into it by then, so that one adds what is
    missing, as to any other index.

    Raises:
        VerificationError, BackupError: it failed.
    """
    parts.opensearch.register()
    request = RestoreRequest(snapshot=point.id, indices=(index,))
    parts.opensearch.restore(request, now=parts.clock(), stopwatch=Stopwatch(), progress=work.progress)
    work.progress(f"{index} is back, whole")
