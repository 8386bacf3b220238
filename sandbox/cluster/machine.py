"""What a cluster takes of the machine beside processes, and taking it away: a network namespace, groups, mounts.

Everything here may be repeated, and finds what a crash has left: by the cluster's own name, never by a program's.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.stores.process import run
from sandbox.cluster.place import BRIDGE, GATEWAY, POD_NETWORK, Place
from sandbox.cluster.tools import ClusterTools

_CGROUPS = Path("/sys/fs/cgroup")
_SHIM = "containerd-shim"
# The parts of the machine on which pods are counted and limited; a cgroup v2 machine names them in a file.
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.1


def inside(place: Place, tools: ClusterTools, argv: Sequence[str]) -> list[str]:
    """The argv that runs a program in the cluster's network namespace.

    Not by `ip netns exec`, which mounts a /sys of its own that shows no control groups.
    """
    return [str(tools.nsenter), f"--net={place.network_namespace}", "--", *argv]


def make_network(place: Place, tools: ClusterTools) -> None:
    """Makes the namespace, its loopback and the bridge of the pods.

    Raises:
        ConfigurationError: not allowed, or the kernel lacks something.
    """
    _run([str(tools.ip), "netns", "add", place.identity])
    bridge = ([BRIDGE, "type", "bridge"], ["add", f"{GATEWAY}/16", "dev", BRIDGE])
    for arguments in (
        ["link", "set", "lo", "up"],
        ["link", "add", *bridge[0]],
        ["addr", *bridge[1]],
        ["link", "set", BRIDGE, "up"],
        # kube-apiserver wants a default route to find its own address by; it leads nowhere.
        ["route", "add", "default", "dev", BRIDGE],
    ):
        _run(inside(place, tools, [str(tools.ip), *arguments]))
    _run(inside(place, tools, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))


def network_configuration(place: Place) -> dict[str, object]:
    """The pods' network for containerd."""
    leases = {"type": "host-local", "subnet": POD_NETWORK, "dataDir": str(place.home / "addresses")}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        # A pod that reaches itself through its Service.
        "hairpinMode": True,
        "ipam": {**leases, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "0.4.0", "name": place.identity, "plugins": [bridge]}


def make_cgroup(place: Place) -> str:
    """Makes the control group under which all of the cluster's pods are: the kubelet ends what it does not know in its
    own, so two clusters must not share one. Returns its name as the kubelet wants it."""
    for folder in _cgroup_folders(place):
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # On cgroup v1 a new set is empty, and nothing can run in it.
            if (folder / setting).exists() and (folder.parent / setting).exists():
                (folder / setting).write_text((folder.parent / setting).read_text())
    if _is_v2():
        controllers = " ".join(f"+{name}" for name in _V2_CONTROLLERS)
        for folder in (_CGROUPS, _CGROUPS / place.identity):
            (folder / "cgroup.subtree_control").write_text(controllers)
    return f"/{place.identity}"


def sweep(place: Place, tools: ClusterTools) -> None:
    """Takes away whatever the cluster still has on the machine: containers, mounts, groups, namespace.

    Raises:
        BackupError: something stays; the message names it.
    """
    sockets = _shim_sockets(place)
    _end(list(_shims(place)) + list(_contained(place)))
    _unmount(place)
    for folder in _cgroup_folders(place):
        _remove_cgroup(folder)
    if place.network_namespace.exists():
        _run([str(tools.ip), "netns", "delete", place.identity])
    for socket in sockets:
        socket.unlink(missing_ok=True)
    for result in Path("/var/lib/cni/results").glob(f"{place.identity}-*"):
        result.unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(place.home):
            link.unlink(missing_ok=True)
    shutil.rmtree(place.short, ignore_errors=True)
    if left := remains(place):
        raise BackupError(f"the cluster leaves {', '.join(left)}", mend="end the processes that hold it, then repeat")


def remains(place: Place) -> list[str]:
    """What of the cluster is on the machine beside files: in words, empty when nothing is."""
    left = [f"process {pid}" for pid in (*_shims(place), *_contained(place))]
    left += [f"mount {target}" for target in _mounts(place)]
    left += [f"control group {folder}" for folder in _cgroup_folders(place) if folder.exists()]
    left += [str(place.network_namespace)] if place.network_namespace.exists() else []
    return left


def _shims(place: Place) -> Iterator[int]:
    """containerd's keepers of containers: they outlive it, and name its socket, which is ours alone."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if _SHIM.encode() in argv[0] and str(place.containerd_socket).encode() in argv:
            yield int(folder.name)


def _contained(place: Place) -> Iterator[int]:
    """Processes of pods."""
    seen: set[int] = set()
    for folder in _cgroup_folders(place):
        for file in folder.rglob("cgroup.procs") if folder.exists() else ():
            try:
                seen.update(int(line) for line in file.read_text().split())
            except OSError:
                continue
    yield from sorted(seen)


def processes_of(place: Place, pod: str) -> list[int]:
    """What runs of our program in a pod, by its UID."""
    found: list[int] = []
    for pid in _contained(place):
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            argv = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if f"pod{pod}" in groups and b"aivo-backup" in argv:
            found.append(pid)
    return found


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _unmount(place: Place) -> None:
    # The deepest first; one more round for what was mounted over another.
    for _ in range(3):
        for target in sorted(_mounts(place), key=len, reverse=True):
            run(["umount", target])
    for target in sorted(_mounts(place), key=len, reverse=True):
        run(["umount", "--lazy", target])


def _mounts(place: Place) -> list[str]:
    owned = (place.home, place.short)
    targets: list[str] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1].encode().decode("unicode_escape")
        if any(Path(target).is_relative_to(folder) for folder in owned):
            targets.append(target)
    return targets


def _cgroup_folders(place: Place) -> list[Path]:
    if _is_v2():
        return [_CGROUPS / place.identity]
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted({Path(fields[1]) / place.identity for fields in lines if fields[2] in ("cgroup", "cgroup2")})


def _is_v2() -> bool:
    return (_CGROUPS / "cgroup.controllers").is_file()


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while folder.exists():
        # A group's files cannot be removed, its empty subgroups can, the deepest first.
        for group in sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda it: -len(it.parts)):
            _try_to_remove(group)
        _try_to_remove(folder)
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def _try_to_remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # a process is still going; the next round, or `remains`, tells


def _shim_sockets(place: Place) -> list[Path]:
    files = place.containerd_state.glob("io.containerd.runtime.v2.task/*/*/address")
    return [Path(file.read_text().removeprefix("unix://")) for file in files]


def _run(argv: Sequence[str]) -> None:
    done = run(argv, timeout_seconds=60.0)
    if done.exit_code != 0:
        raise ConfigurationError(
            f"{' '.join(argv)}: {done.tail()}", mend="the cluster needs root, and a kernel with network namespaces"
        )
