"""A container without a container runtime: bubblewrap with an own root, user and process table, and this network.

Inside there is what the product's image has (the system's programs, Python, this package) and what is mounted; of the
user's home nothing else, and of ``.sandbox`` only what other code mounts, so that no process reads a secret that is
not its own.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aivo_backup.errors import BackupError
from aivo_backup.stores.process import Finished
from sandbox.processes import Process
from sandbox.state import Sandbox

Progress = Callable[[str], None]

USER_ID = 1000
_FROM_ETC = (
    "alternatives",
    "fonts",
    "hosts",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "resolv.conf",
    "ssl",
)
_ROOT_LINKS = ("bin", "lib", "lib32", "lib64", "sbin")
_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
_BUBBLEWRAP_FAILED = "bwrap: "


class DeadlineError(BackupError):
    """It ran longer than it may, and was ended."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or folder of this machine at an absolute path inside."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Container:
    """A process and the only surroundings that it sees.

    Attributes:
        environment: all of its variables, apart from PATH, HOME and LANG, which the image sets.
        mounts: one may lie within another.
        program_folders: searched before the system's programs.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    user_id: int = USER_ID
    group_id: int = USER_ID
    read_only_root: bool = True
    working_folder: str = "/"
    program_folders: Sequence[Path] = field(default_factory=tuple[Path, ...])

    def variables(self) -> dict[str, str]:
        """Everything that is in the process's environment."""
        path = ":".join([*(str(folder) for folder in self.program_folders), *_SYSTEM_PATH])
        return {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8", **self.environment}  # noqa: S108 - the container's own


def image_mounts(sandbox: Sandbox, scratch: Path) -> list[Mount]:
    """What the product's image holds: the system's programs, Python with our packages, this checkout.

    Args:
        scratch: as in :func:`system_mounts`.
    """
    mounts = system_mounts(sandbox, scratch)
    packages = Path(sys.prefix).resolve()
    if not any(packages.is_relative_to(folder) for folder in (sandbox.checkout, "/usr", *(m.source for m in mounts))):
        mounts.append(_same(packages))
    return [*mounts, _same(sandbox.checkout)]


def system_mounts(sandbox: Sandbox, scratch: Path) -> list[Mount]:
    """The system's programs, Python without any package, and who the user is; nothing of this product.

    Args:
        scratch: a folder for the files that are made up (``passwd``, ``group``); it must outlive the container.
    """
    users = {
        "passwd": f"root:x:0:0::/root:/usr/sbin/nologin\naivo-backup:x:{USER_ID}:{USER_ID}::/tmp:/usr/sbin/nologin\n",
        "group": f"root:x:0:\naivo-backup:x:{USER_ID}:\n",
    }
    scratch.mkdir(parents=True, exist_ok=True)
    for name, text in users.items():
        (scratch / name).write_text(text, encoding="utf-8")
    mounts = [Mount(source=Path("/usr"), target="/usr")]
    mounts += [_same(path) for path in (Path("/etc") / name for name in _FROM_ETC) if path.exists()]
    mounts += [Mount(source=scratch / name, target=f"/etc/{name}") for name in users]
    python = Path(sys.base_prefix).resolve()
    mounts += [_same(python)] if not python.is_relative_to("/usr") else []
    tools = (sandbox.tools.pgbackrest.resolve().parent, sandbox.tools.postgres_bin.resolve().parent)
    return mounts + [_same(folder) for folder in tools if not folder.is_relative_to("/usr")]


def image_programs(sandbox: Sandbox) -> tuple[Path, ...]:
    """Folders of the image's own programs: `aivo-backup`, pgBackRest, PostgreSQL."""
    found = (Path(sys.prefix) / "bin", sandbox.tools.pgbackrest.parent, sandbox.tools.postgres_bin)
    return tuple(dict.fromkeys(found))


def endpoint_mounts(sandbox: Sandbox) -> list[Mount]:
    """The endpoints file and the certificate authority that it names, at the same paths as outside."""
    return [_same(sandbox.endpoints_file), _same(sandbox.ca_file)]


def run(
    sandbox: Sandbox,
    container: Container,
    *,
    timeout_seconds: float | None = None,
    progress: Progress | None = None,
) -> Finished:
    """Runs a container to its end, and ends it when this process ends.

    Args:
        progress: called with each line of its output as it comes, from two threads, one call at a time.

    Raises:
        DeadlineError: it took longer than ``timeout_seconds``.
        BackupError: it could not be started.
    """
    argv = [*_bubblewrap(sandbox, container), "--die-with-parent", "--", *container.argv]
    with subprocess.Popen(
        argv,
        env=container.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        lock = threading.Lock()
        readers = [_Reader(stream, progress, lock) for stream in (process.stdout, process.stderr)]
        try:
            exit_code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()  # its child dies with it
            raise DeadlineError(
                f"{container.name} did not end within its {timeout_seconds:.0f} s", mend="see its output above"
            ) from error
        except BaseException:
            process.kill()
            raise
        stdout, stderr = (reader.text() for reader in readers)
    if exit_code != 0 and stderr.startswith(_BUBBLEWRAP_FAILED):
        raise BackupError(f"{container.name} cannot be started: {stderr.strip()}", mend="check that bubblewrap works")
    return Finished(argv=tuple(container.argv), exit_code=exit_code, stdout=stdout, stderr=stderr)


def start(sandbox: Sandbox, container: Container, *, name: str, log: Path) -> Process:
    """Starts a container that runs on; `sandbox down` ends it by asking its main process.

    Args:
        name: what it is registered as.
        log: its output is appended there.

    Raises:
        BackupError: it could not be started, or ended at once.
    """
    reader, writer = os.pipe()
    argv = [*_bubblewrap(sandbox, container), "--info-fd", str(writer), "--", *container.argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            outer = subprocess.Popen(
                argv,
                env=container.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(writer,),
            )
    finally:
        os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as information:
        content = information.read()
    try:
        inner = int(json.loads(content)["child-pid"])
    except (ValueError, KeyError) as error:
        outer.wait()
        raise BackupError(f"{container.name} cannot be started", mend=f"see {log}") from error
    # Bubblewrap only waits for it. Somebody must wait for bubblewrap, or it stays behind as a zombie of this process.
    threading.Thread(target=outer.wait, daemon=True).start()
    return sandbox.processes.register(name, inner, log=log)


class _Reader(threading.Thread):
    """Collects one stream, and passes each line on."""

    def __init__(self, stream: IO[str] | None, progress: Progress | None, lock: threading.Lock) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._progress = progress
        self._lock = lock
        self._lines: list[str] = []
        self._failure: Exception | None = None
        self.start()

    def run(self) -> None:
        for line in self._stream or ():
            self._lines.append(line)
            if self._progress is None or self._failure is not None:
                continue
            try:
                with self._lock:
                    self._progress(line.rstrip("\n"))
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream must be read on, or the process hangs
                self._failure = error

    def text(self) -> str:
        """All that was said; waits for the stream's end. Raises what ``progress`` raised."""
        self.join()
        if self._failure is not None:
            raise self._failure
        return "".join(self._lines)


def _bubblewrap(sandbox: Sandbox, container: Container) -> list[str]:
    argv = [str(sandbox.tools.bwrap), "--unshare-user", "--uid", str(container.user_id)]
    argv += ["--gid", str(container.group_id), "--cap-drop", "ALL"]
    # As in a pod, the command is the first process of its own table: it must handle SIGTERM to be ended by it.
    argv += ["--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--hostname", container.name]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for name in _ROOT_LINKS:
        if Path("/", name).is_symlink():
            argv += ["--symlink", str(Path("/", name).readlink()), f"/{name}"]
        elif Path("/", name).is_dir():
            argv += ["--ro-bind", f"/{name}", f"/{name}"]
    # By depth, so that none hides another: a checkout may itself lie in /tmp, which every pod has of its own.
    for mount in sorted(container.mounts, key=lambda mount: mount.target.rstrip("/").count("/")):
        argv += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        if mount.source == sandbox.checkout:
            for home in _sandbox_homes(sandbox):
                argv += ["--tmpfs", str(home)]
    if container.read_only_root:
        argv += ["--remount-ro", "/"]
    return [*argv, "--chdir", container.working_folder]


def _sandbox_homes(sandbox: Sandbox) -> Iterator[Path]:
    """Sandboxes within the checkout, all of which are hidden: a pod gets what is mounted from one, by name."""
    for home in dict.fromkeys((sandbox.home, sandbox.checkout / ".sandbox")):
        if home.is_relative_to(sandbox.checkout) and home.is_dir():
            yield home


def _same(path: Path) -> Mount:
    return Mount(source=path, target=str(path))
