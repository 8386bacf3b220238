"""What every part of the set-up uses: its one error, the folders, versions, and programs that are run with a log."""

import os
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
VERSIONS_FILE = Path(__file__).with_name("versions.toml")


class ProblemError(Exception):
    """A part cannot be provided: which one, what went wrong, and what to do."""

    def __init__(self, part: str, what: str, mend: str) -> None:
        super().__init__(f"{part}: {what}: {mend}")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where the set-up works.

    Attributes:
        checkout: the project.
        cache: the tools of all checkouts, one folder per version.
        versions: the content of ``versions.toml``.
        installed: what was installed in this run, for the last line.
    """

    checkout: Path
    cache: Path
    versions: Mapping[str, Any]
    installed: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, checkout: Path = CHECKOUT, environment: Mapping[str, str] = os.environ) -> "Context":
        """The context of a checkout; AIVO_BACKUP_TOOLS names another cache than the user's own."""
        home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = environment.get("AIVO_BACKUP_TOOLS") or str(Path(home) / "aivo-backup")
        versions = tomllib.loads(VERSIONS_FILE.read_text(encoding="utf-8"))
        return cls(checkout=checkout, cache=Path(cache), versions=versions)

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.checkout / ".venv"

    @property
    def logs(self) -> Path:
        """The output of the programs that the set-up ran."""
        return self.checkout / ".tools" / "logs"

    def say(self, part: str, text: str) -> None:
        """One line of progress."""
        print(f"setup: {part}: {text}", flush=True)

    @contextmanager
    def installing(self, part: str, what: str) -> Generator[None]:
        """Says what is being installed, and how long it took."""
        self.say(part, f"installing {what}")
        begun = time.monotonic()
        yield
        self.installed.append(part)
        self.say(part, f"installed in {time.monotonic() - begun:.0f} s")

    @contextmanager
    def new_folder(self, target: Path) -> Generator[Path]:
        """A folder to fill, which becomes ``target`` only when the block ends well: half of a tool is never used."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield unfinished
            unfinished.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.replace(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def version_of(text: str) -> tuple[int, ...]:
    """The first dotted number in a text, as numbers; empty when there is none."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def at_least(found: str, floor: str) -> bool:
    """Whether the first version number in ``found`` is ``floor`` or newer."""
    return version_of(found) >= version_of(floor)


def ask(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a program prints about itself (both streams); empty when it is missing or fails."""
    try:
        done = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
            env={**os.environ, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def run(
    context: Context,
    part: str,
    argv: Sequence[str],
    *,
    mend: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs a program with its output in the part's log.

    Raises:
        ProblemError: it cannot be started or fails; the message has its last line and names the log.
    """
    context.logs.mkdir(parents=True, exist_ok=True)
    log = context.logs / f"{part}.log"
    with log.open("a", encoding="utf-8", errors="replace") as output:
        try:
            code = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=cwd or context.checkout,
                check=False,
            ).returncode
        except OSError as error:
            raise ProblemError(part, f"cannot run {argv[0]} ({error.strerror})", mend) from error
    if code != 0:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "no output")
        raise ProblemError(part, f"{Path(argv[0]).name} failed: {last[:300]}", f"{mend}; see {log}")
