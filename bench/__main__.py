"""Every benchmark, one after the other, each in a process of its own: ``python -m bench`` (``make bench``).

A module of this folder is a benchmark: it prints its table, writes ``build/bench/<name>.json``, and ends with another
exit code than 0 where it could not measure or missed its bound. The rest is run all the same.
"""

import pkgutil
import subprocess
import sys

import bench
from sandbox.state import CHECKOUT


def names() -> list[str]:
    """The benchmarks, by module name."""
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def main(arguments: list[str]) -> int:
    """Runs the named benchmarks, or all of them; answers the exit code."""
    unknown = sorted(set(arguments) - set(names()))
    if unknown:
        sys.stderr.write(f"there is no benchmark {', '.join(unknown)}: known: {', '.join(names())}\n")
        return 2
    failed: list[str] = []
    for name in arguments or names():
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=CHECKOUT, check=False).returncode != 0:
            failed.append(name)
    if failed:
        sys.stderr.write(f"not measured, or past its bound: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
