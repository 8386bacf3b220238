"""MinIO to MinIO: our engine beside rclone, in the same run, on the same machine.

Four measures over the same objects: the first copy, a run in which nothing changed, a run in which one object in a
hundred changed, and the way back. Our side also writes a manifest, hashes every byte and makes the copy conditional on
the ETag; rclone is given its fastest options for each measure. The sides take turns, so that a noisy neighbour hits
both; the median is compared.

``python -m bench.minio [--objects N] [--pairs N] [--rclone PATH]``: prints a table, writes ``build/bench/minio.json``.
The servers, the load generator and both sides share this machine's processors: read the ratios, not the seconds.
"""

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aivo_backup.policy.environment import BackupKind, MinioSettings
from aivo_backup.stores.aws import s3_client
from aivo_backup.stores.minio import LeanS3ObjectStore, MinioStore, RestoreRequest, Selection
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.port import silent
from bench._shared import Server, minio, write
from sandbox.setup import tools
from sandbox.setup.common import Context, ProblemError
from sandbox.state import CHECKOUT, Tools

SOURCE, TARGET = "documents", "aivo-backup-minio"
OBJECT_BYTES = 10 * 1024
_CHANGED_SHARE = 100
_MEASURES = ("first copy", "nothing changed", "one in a hundred changed", "restore")
_RCLONE = ("--fast-list", "--transfers=32", "--checkers=64", "--log-level=ERROR", "--retries=1")


def store_of(server: Server) -> LeanS3ObjectStore:
    """A store of ours on a server."""
    return LeanS3ObjectStore(s3_client(server.session, endpoint_url=server.endpoint), session=server.session)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One command: seconds of the clock and of the processor, and its largest memory."""

    seconds: float
    processor_seconds: float
    peak_mebibytes: float


def load(server: Server, objects: int) -> None:
    """Fills the source bucket with random bytes."""
    store_of(server).create_bucket(SOURCE)
    _write(server, range(objects))


def change(server: Server, objects: int) -> None:
    """Overwrites one object in a hundred."""
    _write(server, range(0, objects, _CHANGED_SHARE))


def _write(server: Server, numbers: range) -> None:
    store = store_of(server)

    def write(number: int) -> None:
        body = os.urandom(OBJECT_BYTES)
        key = f"folder-{number % 100:02d}/{number:07d}.bin"
        store.put(SOURCE, key, body, Attributes(), sha256=hashlib.sha256(body).hexdigest())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, numbers))


def measured(argv: list[str], environment: dict[str, str]) -> Measured:
    """Runs a command to its end, as a process of its own, and takes its measure."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(argv, env={**os.environ, **environment}, cwd=CHECKOUT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    if status != 0:
        raise SystemExit(f"{argv[0]} ended with status {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds=seconds, processor_seconds=spent, peak_mebibytes=usage.ru_maxrss / 1024)


def ours(source: Server, target: Server, prefix: str) -> Callable[[str], Measured]:
    """Our side, each run in a process of its own as a job is."""
    environment = {f"BENCH_SOURCE_{name.upper()}": value for name, value in vars(source).items()}
    environment |= {f"BENCH_TARGET_{name.upper()}": value for name, value in vars(target).items()}
    argv = [sys.executable, "-m", "bench.minio", "--run"]
    return lambda measure: measured([*argv, measure, "--bucket", f"{prefix}{TARGET}"], environment)


def run_ours(measure: str, bucket: str) -> None:
    """What :func:`ours` starts."""
    source, target = (
        Server(
            endpoint=os.environ[f"BENCH_{side}_ENDPOINT"],
            access_key=os.environ[f"BENCH_{side}_ACCESS_KEY"],
            secret_key=os.environ[f"BENCH_{side}_SECRET_KEY"],
        )
        for side in ("SOURCE", "TARGET")
    )
    store = MinioStore(
        settings=MinioSettings(endpoint=source.endpoint, buckets=(SOURCE,)),
        source=store_of(source),
        target=store_of(target),
        bucket=bucket,
        clock=lambda: datetime.now(UTC),
    )
    if measure == "restore":
        request = RestoreRequest(
            point=store.held_points()[-1].point,
            selection=Selection(bucket=SOURCE),
            target_bucket=f"{bucket}-restored",
        )
        store.restore(request, progress=silent)
        return
    kind = BackupKind.FULL if measure == "first copy" else BackupKind.INCREMENTAL
    store.backup(kind, now=datetime.now(UTC), progress=silent)


def rclone(program: str, source: Server, target: Server, prefix: str) -> Callable[[str], Measured]:
    """The peer, with the options that make it fastest where nothing changed."""
    environment: dict[str, str] = {}
    for name, server in (("SRC", source), ("DST", target)):
        environment |= {
            f"RCLONE_CONFIG_{name}_TYPE": "s3",
            f"RCLONE_CONFIG_{name}_PROVIDER": "Minio",
            f"RCLONE_CONFIG_{name}_ENDPOINT": server.endpoint,
            f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": server.access_key,
            f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": server.secret_key,
        }

    def run(measure: str) -> Measured:
        mirror = f"dst:{prefix}rclone"
        origin, end = ("src:" + SOURCE, mirror) if measure != "restore" else (mirror, f"src:{prefix}rclone-restored")
        return measured([program, "sync", origin, end, "--checksum", *_RCLONE], environment)

    return run


def compare(program: Path, peer: str, objects: int, pairs: int) -> dict[str, dict[str, list[Measured]]]:
    """All measures of both sides, by turns."""
    results: dict[str, dict[str, list[Measured]]] = {measure: {"ours": [], "rclone": []} for measure in _MEASURES}
    with tempfile.TemporaryDirectory(prefix="bench-minio-") as folder:
        source_folder, target_folder = Path(folder) / "source", Path(folder) / "target"
        with minio(program, source_folder) as source, minio(program, target_folder) as target:
            load(source, objects)
            for pair in range(pairs):
                prefix = f"pair-{pair}-"
                bucket = f"{prefix}{TARGET}"
                client = store_of(target).client
                client.create_bucket(Bucket=bucket)
                client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
                sides = {"ours": ours(source, target, prefix), "rclone": rclone(peer, source, target, prefix)}
                for measure in _MEASURES:
                    if measure == "one in a hundred changed":
                        change(source, objects)
                    # Whoever begins finds colder caches, so they take turns at that too.
                    for side in sorted(sides, reverse=bool(pair % 2)):
                        results[measure][side].append(sides[side](measure))
    return results


def tell(results: dict[str, dict[str, list[Measured]]], objects: int) -> None:
    """Prints the table and writes it down."""
    print(f"{objects} objects of {OBJECT_BYTES} bytes, medians of {len(results[_MEASURES[0]]['ours'])} pairs")
    print(f"{'':26}{'ours':>10}{'rclone':>10}{'ratio':>8}{'CPU s':>14}{'peak MiB':>14}")
    rows: list[dict[str, object]] = []
    for measure, sides in results.items():
        clock = {side: statistics.median(item.seconds for item in taken) for side, taken in sides.items()}
        spent = {side: statistics.median(item.processor_seconds for item in taken) for side, taken in sides.items()}
        peak = {side: max(item.peak_mebibytes for item in taken) for side, taken in sides.items()}
        ratio = statistics.median(
            mine.seconds / theirs.seconds for mine, theirs in zip(sides["ours"], sides["rclone"], strict=True)
        )
        print(
            f"{measure:26}{clock['ours']:9.2f}s{clock['rclone']:9.2f}s{ratio:8.2f}"
            f"{spent['ours']:7.1f}{spent['rclone']:7.1f}{peak['ours']:7.0f}{peak['rclone']:7.0f}"
        )
        rows.append(
            {"measure": measure, "ratio": ratio, "seconds": clock, "processor_seconds": spent, "peak_mebibytes": peak}
        )
    write("minio", {"objects": objects, "object_bytes": OBJECT_BYTES, "measures": rows})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="MinIO to MinIO: our engine beside rclone")
    parser.add_argument("--objects", type=int, default=5_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rclone", type=Path, help="another one than the set-up's")
    parser.add_argument("--run", choices=_MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--bucket", default=TARGET, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_ours(arguments.run, arguments.bucket)
        return
    try:
        peer: Path = arguments.rclone or tools.rclone(Context.of())
    except ProblemError as problem:
        raise SystemExit(str(problem)) from problem
    program = Tools.load(CHECKOUT).minio
    tell(compare(program, str(peer), arguments.objects, arguments.pairs), arguments.objects)


if __name__ == "__main__":
    main()
