"""The person on call: how long a plan lets them wait, and how long it takes until lost storage is replaced.

On a sandbox of its own with the data of ``make demo``. First each ``--plan``, as a process of its own, in turns. Then
all three stores lose server and data, and ``recover storage-failure`` brings everything back; over again, so that the
last times can be compared with what three measured recoveries predicted.

``python -m bench.recovery [--runs N] [--recoveries N]``: prints both, writes ``build/bench/recovery.json``, and ends
with 1 when a bound is missed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bench._shared import free_port, write
from sandbox import application, lifecycle, pods, servers
from sandbox.damage import lose_storage
from sandbox.data.minio import load_minio
from sandbox.data.opensearch import load_opensearch
from sandbox.data.postgres import load_postgres
from sandbox.demo.narrator import Narrator
from sandbox.demo.world import World
from sandbox.state import CHECKOUT, HOME_VARIABLE, Sandbox

PLAN_BOUND_SECONDS = 3.0
RECOVERY_BOUND_SECONDS = 180.0
PREDICTED_WITHIN = 0.25
MEASURED_BEFORE = 3

PROGRAM = str(Path(sys.executable).with_name("aivo-backup"))
BACKUPS = ("postgresql-backup-full", "minio-backup", "opensearch-snapshot")
STAGING = "<staging>"
PLANS = {
    "restore postgres, in place": ("restore", "postgres", "--in-place", "--stop", "--plan"),
    "restore postgres, to staging": ("restore", "postgres", "--to", STAGING, "--port", "0", "--plan"),
    "restore minio": ("restore", "minio", "--bucket", "documents", "--plan"),
    "restore opensearch": ("restore", "opensearch", "--index", "packages", "--plan"),
    "recover database-corruption": ("recover", "database-corruption", "--plan"),
    "recover storage-failure": ("recover", "storage-failure", "--plan"),
}


@contextmanager
def environment(home: Path) -> Generator[Sandbox]:
    """The stack `local` in a sandbox of its own, with the demo's data and a backup of each store."""
    os.environ[HOME_VARIABLE] = str(home)
    sandbox = Sandbox(home=home)
    servers.reset(sandbox)
    try:
        servers.up(sandbox)
        lifecycle.provision(sandbox, overrides={"aivo-backup:recovery": {"references": application.REFERENCES}})
        lifecycle.initialise(sandbox, progress=_silent)
        app = lifecycle.open_app()
        application.prepare(app)
        world = World(sandbox, Narrator())
        load_postgres(world.dsn, postgres_bin=sandbox.tools.postgres_bin)
        load_minio(app.minio_source)
        load_opensearch(world.opensearch_client)
        lifecycle.start_agent(sandbox, heartbeat_seconds=1.0)
        back_up(sandbox)
        yield sandbox
    finally:
        servers.down(sandbox)
        shutil.rmtree(home, ignore_errors=True)


def _silent(_line: str) -> None: ...


def back_up(sandbox: Sandbox) -> None:
    """The provisioned jobs, as their schedules run them.

    Raises:
        SystemExit: one failed.
    """
    for name in BACKUPS:
        done = pods.run_cronjob(sandbox, name)
        if done.exit_code != 0:
            raise SystemExit(f"{name}: {done.tail()}")


def called(*arguments: str) -> tuple[float, str]:
    """Seconds of a command, as a process of its own, and its output.

    Raises:
        SystemExit: it failed.
    """
    begun = time.perf_counter()
    done = subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"aivo-backup {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return seconds, done.stdout


def plans(sandbox: Sandbox, runs: int) -> dict[str, list[float]]:
    """Seconds of every plan, by turns."""
    taken: dict[str, list[float]] = {name: [] for name in PLANS}
    staging = {STAGING: str(sandbox.home / "staging" / "data"), "0": str(free_port())}
    for _ in range(runs):
        for name, arguments in PLANS.items():
            taken[name].append(called(*(staging.get(argument, argument) for argument in arguments))[0])
    return taken


def recoveries(sandbox: Sandbox, number: int) -> list[dict[str, float]]:
    """Predicted and measured seconds of one loss of all storage after the other."""
    done: list[dict[str, float]] = []
    for _ in range(number):
        lose_storage(sandbox)
        _, said = called("recover", "storage-failure", "--execute", "--yes", "--json")
        answer = json.loads(said)
        done.append({"seconds": answer["seconds"], "predicted": answer["recovery"]["predicted_seconds"]})
        back_up(sandbox)
    return done


def tell(planned: dict[str, list[float]], recovered: list[dict[str, float]]) -> int:
    """Prints the figures and writes them down; answers the exit code."""
    print(f"until a plan is there, medians of {len(next(iter(planned.values())))}, bound {PLAN_BOUND_SECONDS:.0f} s")
    medians = {name: statistics.median(taken) for name, taken in planned.items()}
    for name, seconds in medians.items():
        print(f"{name:30}{seconds:8.2f} s")
    print(f"until lost storage is replaced, bound {RECOVERY_BOUND_SECONDS:.0f} s")
    errors: list[float] = []
    for number, one in enumerate(recovered):
        error = one["predicted"] / one["seconds"] - 1
        basis = f"by {min(number, MEASURED_BEFORE)} measured" if number else "nothing measured yet"
        print(f"{number + 1:2}{one['seconds']:9.1f} s   predicted {one['predicted']:6.1f} s ({error:+.0%}), {basis}")
        if number >= MEASURED_BEFORE:
            errors.append(abs(error))
    within = not errors or statistics.median(errors) <= PREDICTED_WITHIN
    write(
        "recovery",
        {
            "plan_seconds": planned,
            "recoveries": recovered,
            "bounds": {"plan": PLAN_BOUND_SECONDS, "recovery": RECOVERY_BOUND_SECONDS, "predicted": PREDICTED_WITHIN},
        },
    )
    in_time = statistics.median(one["seconds"] for one in recovered) <= RECOVERY_BOUND_SECONDS
    return 0 if within and in_time and max(medians.values()) <= PLAN_BOUND_SECONDS else 1


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="how long a plan lets wait, and lost storage takes to be replaced")
    parser.add_argument("--runs", type=int, default=7, help="of each plan")
    parser.add_argument("--recoveries", type=int, default=MEASURED_BEFORE + 2)
    arguments = parser.parse_args()
    with environment(CHECKOUT / "build" / "bench-sandbox") as sandbox:
        planned = plans(sandbox, arguments.runs)
        return tell(planned, recoveries(sandbox, arguments.recoveries))


if __name__ == "__main__":
    sys.exit(main())
