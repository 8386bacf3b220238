"""Builds the zip packages of the functions: ``python -m sandbox.packages`` (``make lambdas``).

A package holds what its handler imports and nothing else: the modules of ours that the import graph names, and the
distributions of requirements.txt that those import, installed for Lambda's platform with their hashes checked. Names,
order, times and permissions of the files are fixed, so that one source gives the same bytes on every machine with the
same zlib.
"""

import compileall
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aivo_backup.errors import BackupError, ConfigurationError, ExitCode
from aivo_backup.policy.codec import to_json
from aivo_backup.policy.names import PROJECT, Function
from infra.network import FUNCTION_REACH
from infra.packages import FOLDER, LARGEST_BYTES, MANIFEST, PACKAGED, ROOT, Package, Packages, built, fingerprint

_OURS = ("aivo_backup", "lambdas")
# The oldest time that a zip file can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE, _UNIX = 0o644, 3
_COMPRESSION = 6
# Amazon Linux 2 up to Python 3.11, Amazon Linux 2023 from 3.12 on: what their C library can load.
_PLATFORMS = {True: "x86_64-manylinux2014", False: "x86_64-manylinux_2_28"}
# What an installer notes about this machine, and what no function runs.
_LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|bin|tests?)/|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_.*|licenses/.*)$"
    r"|\.pyi$|(^|/)\.lock$"
)
# Required by their distribution's metadata, and imported by nothing that a function calls: OpenSearch's gRPC transport
# (we speak HTTP to it) would be half of the package.
_UNUSED = {"opensearch-protobufs"}
_SERVICE = re.compile(r"^botocore/data/([^/]+)/")


def build(root: Path = ROOT, folder: Path | None = None) -> Packages:
    """Builds every package anew and answers what was built.

    Args:
        folder: where they go; where the program looks for them when None.

    Raises:
        ConfigurationError: a package cannot be installed, or is larger than Lambda takes.
    """
    folder = folder or root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    source = fingerprint(root)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages: dict[str, Package] = {}
    graph = grimp.build_graph(*_OURS, include_external_packages=True, exclude_type_checking_imports=True)
    with tempfile.TemporaryDirectory(prefix="lambdas-") as scratch:
        installed: dict[frozenset[str], Path] = {}
        for function in PACKAGED:
            ours, foreign = imported(graph, function)
            wanted = frozenset(distributions(foreign))
            if wanted not in installed:
                installed[wanted] = Path(scratch) / str(len(installed)) / "installed"
                _install(root, wanted, python, installed[wanted])
            file = folder / f"{function.value}.zip"
            _write(file, {**_sources(root, ours), **_installed(installed[wanted], function)})
            packages[function.value] = _judged(file)
    made = Packages(source=source, python=python, packages=packages)
    (folder / MANIFEST).write_text(json.dumps(to_json(made), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return made


def _judged(file: Path) -> Package:
    size = file.stat().st_size
    if size > LARGEST_BYTES:
        raise ConfigurationError(
            f"{file.name} has {size} bytes, Lambda takes {LARGEST_BYTES}",
            mend="import less, or let the function run from the image (infra/packages.py)",
        )
    return Package(sha256=hashlib.sha256(file.read_bytes()).hexdigest(), size_bytes=size)


def ensure(root: Path = ROOT) -> Packages:
    """The packages of this source; builds them when they are missing or of another.

    Raises:
        ConfigurationError: as :func:`build`.
    """
    try:
        return built(root)
    except ConfigurationError:
        return build(root)


def imported(graph: grimp.ImportGraph, function: Function) -> tuple[set[str], set[str]]:
    """The modules of ours that a handler imports, directly or not, and the foreign packages that those import."""
    wanted = {f"lambdas.{function.value}.handler"}
    while True:
        # Importing a module runs the packages that it lies in, and whatever those import.
        reached = wanted | {parent for name in wanted for parent in _parents(name)}
        for name in tuple(reached):
            if name.split(".")[0] in _OURS:
                reached |= graph.find_upstream_modules(name)
        if reached == wanted:
            break
        wanted = reached
    ours = {name for name in wanted if name.split(".")[0] in _OURS}
    return ours, {name.split(".")[0] for name in wanted - ours} - sys.stdlib_module_names


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    if parts[0] in _OURS:
        yield from (".".join(parts[:length]) for length in range(1, len(parts)))


def distributions(modules: Iterable[str]) -> set[str]:
    """The distributions that bring the modules, with all that they require; extras are those of our own pyproject."""
    homes = metadata.packages_distributions()
    extras: dict[str, set[str]] = {}
    for text in metadata.requires(PROJECT) or ():
        requirement = Requirement(text)
        extras.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    found: set[str] = set()
    waiting = [canonicalize_name(homes[module][0]) for module in sorted(modules)]
    while waiting:
        name = waiting.pop()
        if name in found or name in _UNUSED:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            wanted = [{"extra": extra} for extra in ("", *extras.get(name, ()))]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in wanted):
                waiting.append(canonicalize_name(requirement.name))
    return found


def _install(root: Path, names: frozenset[str], python: str, target: Path) -> None:
    """Installs the pinned distributions for Lambda's platform, whatever this machine's is."""
    target.parent.mkdir(parents=True)
    subset = target.with_name("requirements.txt")
    subset.write_text(pinned((root / "requirements.txt").read_text(encoding="utf-8"), names), encoding="utf-8")
    argv = [str(Path(sys.prefix) / "bin" / "uv"), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    argv += ["--only-binary", ":all:", "--no-config", "--python", sys.executable, "--python-version", python]
    argv += ["--python-platform", _PLATFORMS[sys.version_info < (3, 12)], "--target", str(target), "-r", str(subset)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigurationError(
            f"the packages' distributions cannot be installed: {lines[-1].strip()}",
            mend="check the network, then run `make lambdas`",
        )


def pinned(requirements: str, names: frozenset[str]) -> str:
    """The lines of requirements.txt for some distributions, with their hashes.

    Raises:
        ConfigurationError: one of them is not pinned.
    """
    entries = re.split(r"\n(?=[a-zA-Z0-9])", requirements)
    kept: dict[str, str] = {
        canonicalize_name(re.split(r"[=\[ ]", entry, maxsplit=1)[0]): entry for entry in entries if "==" in entry
    }
    missing = sorted(names - kept.keys())
    if missing:
        raise ConfigurationError(f"requirements.txt does not pin {', '.join(missing)}", mend="run `make lock`")
    return "\n".join(kept[name].rstrip() for name in sorted(names)) + "\n"


def _sources(root: Path, modules: set[str]) -> dict[str, bytes]:
    content: dict[str, bytes] = {}
    for module in modules:
        path = root.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        content[file.relative_to(root).as_posix()] = file.read_bytes()
    return content


def _installed(folder: Path, function: Function) -> dict[str, bytes]:
    # botocore describes every service of AWS; what the function's network does not reach, it cannot call either.
    reached = set(FUNCTION_REACH[function])
    content: dict[str, bytes] = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        service = _SERVICE.match(name)
        if file.is_file() and not _LEFT_OUT.search(name) and (service is None or service[1] in reached):
            content[name] = file.read_bytes()
    return content


def _write(file: Path, content: dict[str, bytes]) -> None:
    # Aside, then in place: who reads the old one meanwhile, reads all of it.
    aside = file.with_suffix(".new")
    with zipfile.ZipFile(aside, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _FILE_MODE << 16
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, _COMPRESSION)
    aside.replace(file)


def unpacked(sha256: str, folder: Path, root: Path = ROOT) -> Path:
    """Where a package with that digest is unpacked, as Lambda does before it starts a function; kept for the next call.

    Args:
        folder: where it may be unpacked.

    Raises:
        ConfigurationError: no package with that digest was built here.
    """
    target = folder / sha256
    if target.is_dir():
        return target
    for file in sorted((root / FOLDER).glob("*.zip")):
        if hashlib.sha256(file.read_bytes()).hexdigest() == sha256:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix="unpacking-", dir=folder))
            aside.chmod(0o755)
            with zipfile.ZipFile(file) as archive:
                archive.extractall(aside)
            # Once, instead of at every call: the function itself may not write there.
            compileall.compile_dir(aside, quiet=2)
            try:
                aside.replace(target)
            except OSError:  # another call was quicker
                shutil.rmtree(aside)
            return target
    raise ConfigurationError(
        f"the function's package {sha256[:12]} is not in {FOLDER}", mend="provision the sandbox again"
    )


def main() -> int:
    """The command behind ``make lambdas``; answers the exit code."""
    try:
        made = ensure()
    except BackupError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for name, package in sorted(made.packages.items()):
        sys.stdout.write(
            f"{FOLDER}/{name}.zip: {package.size_bytes / 2**20:.1f} MiB of {LARGEST_BYTES / 2**20:.0f}, "
            f"Python {made.python}, sha256 {package.sha256}\n"
        )
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
