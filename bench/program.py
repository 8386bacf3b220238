"""How long the whole program of ``prod`` takes to register: what a reviewer and every test wait for.

Cold is a new interpreter with its imports, as ``make plan`` and ``pulumi preview`` have it; warm is the registration
alone, in a process that has imported everything. ``python -m bench.program [--runs N]``: prints both, writes
``build/bench/program.json``, and ends with 1 when the warm median is past its bound.
"""

import argparse
import statistics
import subprocess
import sys
import time

from bench._shared import write
from sandbox.plan import register
from sandbox.state import CHECKOUT

STACK = "prod"
BOUND_SECONDS = 3.0
_COLD = f"from sandbox.plan import register; register({STACK!r})"


def cold() -> float:
    """Seconds of one registration with everything before it."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", _COLD], cwd=CHECKOUT, check=True)
    return time.perf_counter() - begun


def warm() -> tuple[float, int]:
    """Seconds of one registration in this process, and how many resources it is."""
    begun = time.perf_counter()
    registration = register(STACK)
    return time.perf_counter() - begun, len(registration.resources)


def main() -> int:
    """See the module; answers the exit code."""
    parser = argparse.ArgumentParser(description=f"how long the program of {STACK} takes to register")
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    _, resources = warm()
    seconds = {
        "cold": statistics.median(cold() for _ in range(runs)),
        "warm": statistics.median(warm()[0] for _ in range(runs)),
    }
    print(f"{resources} resources of {STACK}, medians of {runs} runs, bound {BOUND_SECONDS:.1f} s in process")
    for name, taken in seconds.items():
        print(f"{name:6}{taken:8.2f} s")
    document = {"stack": STACK, "resources": resources, "runs": runs, "bound_seconds": BOUND_SECONDS}
    write("program", {**document, "seconds": seconds})
    return 0 if seconds["warm"] <= BOUND_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
