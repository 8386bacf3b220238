"""The order of the set-up: Debian's packages, Python's, the compilation and the downloads go on side by side."""

import fcntl
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sandbox.setup import cluster, debian, python, tools
from sandbox.setup.common import Context, ProblemError

_Result = TypeVar("_Result")
_CLUSTER = "--cluster"
_USAGE = 2
_CONFIGURATION = 3  # the exit code of every part of this product when the machine is not ready


def main(arguments: Sequence[str] = ()) -> int:
    """Sets everything up, or says what is missing.

    Args:
        arguments: ``--cluster`` provides what a Kubernetes and the image need too.
    """
    begun = time.monotonic()
    if unknown := [argument for argument in arguments if argument != _CLUSTER]:
        print(f"setup: {unknown[0]} is not known; the one option is {_CLUSTER}", file=sys.stderr)
        return _USAGE
    with_cluster = _CLUSTER in arguments
    context = Context.of()
    try:
        context.cache.mkdir(parents=True, exist_ok=True)
        with (context.cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts share the cache
            problems = provide(context, with_cluster=with_cluster)
            if not problems:
                write_tools(context)
                if with_cluster:
                    cluster.write_tools(context)
    except OSError as error:
        problems = [str(ProblemError("setup", f"cannot write ({error})", "check permissions and free disk space"))]
    except ProblemError as problem:
        problems = [str(problem)]
    for problem in problems:
        print(f"setup: {problem}", file=sys.stderr)
    if problems:
        return _CONFIGURATION
    what = f"installed {', '.join(context.installed)}" if context.installed else "everything is there"
    print(f"setup: {what} ({time.monotonic() - begun:.1f} s)", flush=True)
    return 0


def provide(context: Context, *, with_cluster: bool = False) -> list[str]:
    """Installs what is missing, side by side. Returns the problems, one line each."""
    lacks_minio = tools.find_minio(context) is None
    lacks_opensearch = tools.find_opensearch(context) is None
    packages = debian.missing(context, maven=lacks_opensearch)
    packages += cluster.missing_packages(context) if with_cluster else []
    with ThreadPoolExecutor(6) as pool:

        def after(needed: list[Future[None]], step: Callable[[Context], None]) -> Future[None]:
            def work() -> None:
                for other in needed:
                    if other.exception() is not None:
                        return  # its problem is the one to report
                step(context)

            return pool.submit(work)

        system = after([], lambda it: debian.install(it, packages))
        venv = after([system] if "python3-venv" in packages else [], python.make_venv)
        steps = [system, venv, after([venv], python.install_packages)]
        if lacks_minio:
            steps.append(after([venv], tools.build_minio))
        if tools.find_java(context) is None:
            steps.append(after([venv], tools.install_java))
        if lacks_opensearch:
            steps.append(after([system] if "maven" in packages else [], tools.install_opensearch))
        if with_cluster and cluster.find_kubernetes(context) is None:
            # After MinIO: two compilations at once would only slow each other down.
            steps.append(after(steps[3:4] if lacks_minio else [venv], cluster.build_kubernetes))
    problems: list[str] = []
    for step in steps:
        error = step.exception()
        if error is not None and not isinstance(error, ProblemError | OSError):
            raise error
        if error is not None:
            problems.append(str(error))
    return problems


def write_tools(context: Context) -> None:
    """Writes ``.tools/tools.json``: where each tool is, for the sandbox.

    Raises:
        ProblemError: something is missing though its installation went well.
    """
    found = {
        "postgres_bin": debian.postgres_bin(context.versions["postgresql"]["floor"]),
        "minio": tools.find_minio(context),
        "java_home": tools.find_java(context),
        "opensearch_home": tools.find_opensearch(context),
        "nginx": debian.program("nginx"),
        "pgbackrest": debian.program("pgbackrest"),
        "bwrap": debian.program("bwrap"),
    }
    for name, path in found.items():
        if path is None:
            raise ProblemError(name, "not found after the installation", f"see the logs in {context.logs}")
    file = context.checkout / ".tools" / "tools.json"
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps({name: str(path) for name, path in found.items()}, indent=2), encoding="utf-8")
    unfinished.replace(file)
