"""The virtual environment with the pinned packages and the project itself."""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.setup.common import Context, ask, run

_PART = "python"
_NETWORK = "check the network and pip's configuration, then repeat"


def make_venv(context: Context) -> None:
    """Makes the virtual environment unless one by this Python version works.

    Raises:
        ProblemError: the venv module fails.
    """
    python = context.venv / "bin" / "python"
    version = ".".join(str(number) for number in sys.version_info[:3])
    if ask([str(python), "-c", "import pip, sys; print(sys.version)"]).startswith(version):
        return
    shutil.rmtree(context.venv, ignore_errors=True)
    mend = "install Python's venv module (Debian: python3-venv)"
    run(context, _PART, [sys.executable, "-m", "venv", str(context.venv)], mend=mend)


def install_packages(context: Context) -> None:
    """Installs requirements.txt, hashes checked, and the project in place; does nothing when that is done.

    Raises:
        ProblemError: pip fails.
    """
    stamp = context.venv / "aivo-backup-stamp"
    wanted = _fingerprint(context)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    with context.installing(_PART, "the packages of requirements.txt"):
        pip(context, _PART, ["--require-hashes", "-r", str(context.checkout / "requirements.txt")])
        # In place, as one path entry: packages added to the checkout later are found without another installation.
        project = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat", "-e", "."]
        pip(context, _PART, project)
        _compile_what_commands_import(context)
        stamp.write_text(wanted, encoding="utf-8")


def _compile_what_commands_import(context: Context) -> None:
    """Where Python is told to write no bytecode, as in many containers, each call of a command would compile a
    thousand modules anew: a second of a processor. So what commands and tests import is compiled once, here."""
    argv = [str(context.venv / "bin" / "python"), "-m", "sandbox.setup.warm"]
    run(context, _PART, argv, mend="repeat the set-up", environment={"PYTHONDONTWRITEBYTECODE": ""})


def install_pinned(context: Context, part: str, target: Path) -> None:
    """Installs one pinned package that brings a program (``package``, ``pin``, ``hashes`` of a part) into a folder.

    Raises:
        ProblemError: pip fails.
    """
    versions = context.versions[part]
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in versions["hashes"])
    with context.new_folder(target) as folder:
        wanted = folder / "requirement.txt"
        wanted.write_text(f"{versions['package']}=={versions['pin']} {hashes}\n", encoding="utf-8")
        pip(context, part, ["--require-hashes", "--no-deps", "--target", str(folder), "-r", str(wanted)])


def pip(context: Context, part: str, arguments: Sequence[str]) -> None:
    """Runs the environment's pip. Compiling every module ahead would take longer than all the rest."""
    argv = [str(context.venv / "bin" / "python"), "-m", "pip", "install", "--no-compile", "--no-input"]
    run(context, part, [*argv, "--disable-pip-version-check", *arguments], mend=_NETWORK)


def _fingerprint(context: Context) -> str:
    digest = hashlib.sha256(f"{context.checkout}\n{sys.version}\n".encode())
    for name in ("requirements.txt", "pyproject.toml"):
        digest.update((context.checkout / name).read_bytes())
    return digest.hexdigest()
