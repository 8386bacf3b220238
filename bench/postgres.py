"""A database in place: our restore beside plain ``pgbackrest restore``, from the same repository on MinIO.

Both start from an empty volume, and what is timed ends at the same moment: the recovered server takes writes. The peer
is given what makes it fastest here (as many processes as ours, no console log) and nothing else to do. In ours is
everything that comes before that moment: the start of a Python process, the plan, the checks of target, version, disk
and the cluster's identity. What ours looks at afterwards (loss, sentinel queries, whether the new timeline is archived)
is no work of the peer's, so it is in the line "to its end" only. Opening the cipher envelope and filing the record, one
call each to KMS and S3, are in neither: MinIO has no KMS.

The sides take turns, so that a noisy neighbour hits both; the median of the pairs' ratios is the answer. After three
restores of ours each one is predicted from those before it, as ``--plan`` does, and compared.

``python -m bench.postgres [--scale N] [--pairs N]``: prints a table, writes ``build/bench/postgres.json``, and ends
with 1 past its bounds. Scale 150 of pgbench is 2.2 GB.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from aivo_backup.policy.prediction import Measured, predict
from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.postgres.restore import drivers
from bench._database import BUCKET, Database, Ours
from bench._shared import authority, interval, minio, write
from sandbox.state import CHECKOUT, Tools

BOUND = 1.05
PREDICTED_WITHIN = 0.25
MEASURED_BEFORE = 3
SIDES = ("peer", "ours")
_WORTH_TELLING_SECONDS = 0.005


def compare(database: Database, pairs: int) -> tuple[list[float], list[Ours]]:
    """Both sides by turns: seconds of the peer, and restores of ours."""
    theirs: list[float] = []
    mine: list[Ours] = []
    for pair in range(pairs):
        # Whoever begins finds colder caches, so they take turns at that too.
        for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
            database.lose()
            if side == "peer":
                theirs.append(database.peer())
            else:
                mine.append(database.ours())
    return theirs, mine


def prediction_errors(mine: Sequence[Ours], driven: Mapping[str, str]) -> list[float]:
    """How far off the predicted time of each restore was, as a share of the measured one: 0.1 is 10 % too long.

    The first restores, which there is nothing to predict from, are left out. ``driven`` is as :func:`predict` takes it.
    """
    history = [Measured(phases=one.phases, amounts=one.amounts) for one in mine]
    errors: list[float] = []
    for number, one in enumerate(mine[MEASURED_BEFORE:], start=MEASURED_BEFORE):
        expected = predict(history[:number], drivers=driven, amounts=one.amounts, fallback_seconds=0.0)
        errors.append(expected.seconds / sum(one.phases.get(phase, 0.0) for phase in driven) - 1)
    return errors


def tell(size: int, theirs: Sequence[float], mine: Sequence[Ours], errors: Sequence[float]) -> int:
    """Prints the comparison and writes it down; answers the exit code."""
    ratios = [one.ready / other for one, other in zip(mine, theirs, strict=True)]
    ratio, (low, high) = statistics.median(ratios), interval(ratios)
    ready, peer = statistics.median(one.ready for one in mine), statistics.median(theirs)
    total = statistics.median(one.total for one in mine)
    phases = {name: statistics.median(one.phases.get(name, 0.0) for one in mine) for name in mine[0].phases}
    off = statistics.median(abs(error) for error in errors) if errors else None
    print(f"{size / 1e9:.2f} GB, medians of {len(theirs)} pairs, until the server takes writes")
    print(f"pgbackrest restore {peer:8.2f} s")
    print(f"ours               {ready:8.2f} s   ratio {ratio:.3f} (95 %: {low:.3f} to {high:.3f}), bound {BOUND}")
    told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items() if seconds > _WORTH_TELLING_SECONDS)
    print(f"ours, to its end   {total:8.2f} s   {told}")
    if off is not None:
        print(f"predicted          {off:8.0%} off, median of {len(errors)}, bound {PREDICTED_WITHIN:.0%}")
    write(
        "postgres",
        {
            "database_bytes": size,
            "pairs": len(theirs),
            "seconds": {"ours": ready, "pgbackrest": peer, "ours_to_its_end": total},
            "ratio": ratio,
            "interval": [low, high],
            "bound": BOUND,
            "phases": phases,
            "prediction_errors": list(errors),
            "runs": {"ours": [one.ready for one in mine], "pgbackrest": list(theirs)},
        },
    )
    return 0 if ratio <= BOUND and (off is None or off <= PREDICTED_WITHIN) else 1


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="a database in place: our restore beside plain pgbackrest restore")
    parser.add_argument("--scale", type=int, default=150, help="of pgbench; 150 is 2.2 GB")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 2)
    arguments = parser.parse_args()
    tools = Tools.load(CHECKOUT)
    with tempfile.TemporaryDirectory(prefix="bench-pg-") as folder:
        home = Path(folder)
        with minio(tools.minio, home / "minio", authority=authority(home / "ca"), kms_key="benchmark") as server:
            client = s3_client(server.session, endpoint_url=server.endpoint, ca_file=server.ca_file)
            client.create_bucket(Bucket=BUCKET)
            client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
            database = Database(home=home, programs=tools.postgres_bin, processes=arguments.processes, server=server)
            # What archives and fetches for the server, whichever side starts it, finds the secrets in its environment.
            os.environ.update(database.access.secrets())
            database.configure()
            try:
                size = database.load(arguments.scale)
                theirs, mine = compare(database, arguments.pairs)
            finally:
                database.lose()
    return tell(size, theirs, mine, prediction_errors(mine, drivers(database.in_place)))


if __name__ == "__main__":
    sys.exit(main())
