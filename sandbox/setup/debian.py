"""The Debian packages: installs what is missing, and leaves no packaged service running."""

import importlib.util
import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.setup.common import Context, ProblemError, ask, at_least, run, version_of

_PART = "debian"
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_SAVED = Path("/usr/sbin/policy-rc.d.before-aivo-backup")
_POLICY_TEXT = (
    "#!/bin/sh\n# Put here by aivo-backup's set-up for as long as it installs packages: no service starts.\nexit 101\n"
)
_CLUSTER_CONFIG = Path("/etc/postgresql-common/createcluster.d/aivo-backup-setup.conf")
_POSTGRES = Path("/usr/lib/postgresql")
_LISTS = Path("/var/lib/apt/lists")
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def postgres_bin(floor: str) -> Path | None:
    """The folder of the newest PostgreSQL server that meets the floor."""
    folders = [
        path.parent for path in _POSTGRES.glob("*/bin/initdb") if version_of(path.parts[-3]) >= version_of(floor)
    ]
    return max(folders, key=lambda folder: version_of(folder.parts[-2]), default=None)


def program(name: str) -> Path | None:
    """A program on PATH or in the folders of system programs, which a user's PATH may leave out."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)
    return Path(found) if found else None


def _program_meets(name: str, question: str, floor: str) -> bool:
    path = program(name)
    return path is not None and at_least(ask([str(path), question]), floor)


def missing(context: Context, *, maven: bool) -> list[str]:
    """The Debian packages that this machine lacks, by what is really there rather than by package names.

    Args:
        maven: whether Maven is needed.
    """
    versions = context.versions
    there = {
        "postgresql": postgres_bin(versions["postgresql"]["floor"]) is not None,
        "pgbackrest": _program_meets("pgbackrest", "version", versions["pgbackrest"]["floor"]),
        "bubblewrap": _program_meets("bwrap", "--version", versions["bubblewrap"]["floor"]),
        "nginx": _program_meets("nginx", "-v", versions["nginx"]["floor"]),
        "prometheus": _program_meets("promtool", "--version", versions["prometheus"]["floor"]),
        "iso-codes": Path("/usr/share/iso-codes/json/iso_3166-1.json").is_file(),
        "python-venv": (context.venv / "bin" / "pip").exists() or importlib.util.find_spec("ensurepip") is not None,
        "certificates": Path("/etc/ssl/certs/ca-certificates.crt").is_file(),
        "maven": not maven or program("mvn") is not None,
    }
    return [package for part, found in there.items() if not found for package in versions[part]["debian"]]


def install(context: Context, packages: Sequence[str]) -> None:
    """Installs packages, and the lists of packages (the demonstration indexes their descriptions) when absent.

    Raises:
        ProblemError: this is not Debian, or not root, or apt-get fails; the message names every package.
    """
    listed = any(_LISTS.glob("*Packages*"))
    if not packages and listed:
        return
    by_hand = f"apt-get update && apt-get install --no-install-recommends {' '.join(packages)}".removesuffix(
        " && apt-get install --no-install-recommends "
    )
    what = f"missing: {', '.join(packages)}" if packages else "the lists of packages are missing"
    if shutil.which("apt-get") is None:
        raise ProblemError(_PART, what, "this is not Debian: install them with your own package manager, then repeat")
    if os.geteuid() != 0:
        raise ProblemError(_PART, what, f"as root run: {by_hand}")
    with context.installing(_PART, ", ".join(packages) or "the lists of packages"):
        run(context, _PART, ["apt-get", "update"], mend="check the network and /etc/apt")
        if packages:
            _install_quietly(context, packages)


def _install_quietly(context: Context, packages: Sequence[str]) -> None:
    argv = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]
    argv += ["-o", "DPkg::Lock::Timeout=300", *packages]
    environment = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    before = _enabled_services()
    with _no_service_starts(), _no_database_is_made():
        run(context, _PART, argv, environment=environment, mend=f"try `apt-get install {' '.join(packages)}` by hand")
    for service in sorted(_enabled_services() - before):
        # Else it would start at the next boot, on ports that nobody asked for.
        run(context, _PART, ["systemctl", "disable", "--quiet", service], mend=f"disable {service} by hand")


@contextmanager
def _no_service_starts() -> Generator[None]:
    """Debian's own switch against service starts at installation; a policy that forbids them already stays."""
    if _POLICY.exists() and _POLICY.read_text(encoding="utf-8", errors="replace") != _POLICY_TEXT:
        if _forbids(_POLICY):
            yield
            return
        _POLICY.replace(_POLICY_SAVED)
    _POLICY.write_text(_POLICY_TEXT, encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
        if _POLICY_SAVED.exists():  # this time's, or that of a run that was killed
            _POLICY_SAVED.replace(_POLICY)


def _forbids(policy: Path) -> bool:
    return (
        re.search(r"^\s*exit\s+101\s*$", policy.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
    )


@contextmanager
def _no_database_is_made() -> Generator[None]:
    """Keeps Debian from making and starting a database cluster called main."""
    made = [folder for folder in (_CLUSTER_CONFIG.parent.parent, _CLUSTER_CONFIG.parent) if not folder.exists()]
    _CLUSTER_CONFIG.parent.mkdir(parents=True, exist_ok=True)
    _CLUSTER_CONFIG.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        yield
    finally:
        _CLUSTER_CONFIG.unlink(missing_ok=True)
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _enabled_services() -> set[str]:
    if not Path("/run/systemd/system").is_dir():
        return set()
    listing = ask(["systemctl", "list-unit-files", "--state=enabled", "--type=service", "--no-legend", "--plain"])
    return {line.split()[0] for line in listing.splitlines() if line.strip()}
