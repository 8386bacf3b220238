"""What the cluster and the image need beyond the sandbox: Kubernetes and CoreDNS from source, the rest from Debian.

Only `python -m sandbox.setup --cluster` asks for it: the compilation takes several minutes, and `make demo` and
`make test` need none of it.
"""

import hashlib
import json
from pathlib import Path

from sandbox.setup.common import Context, ProblemError, ask, at_least, run
from sandbox.setup.debian import program
from sandbox.setup.tools import GO_MEND, go_workspace

CNI_PLUGINS = Path("/usr/lib/cni")
TOOLS_FILE = "cluster.json"
_SOURCES = Path(__file__).parent
_PAUSE = "pause"
_COREDNS = "coredns"
# Each with the question that makes it tell its version.
_PROGRAMS = {
    "etcd": ("etcd", "--version"),
    "containerd": ("containerd", "--version"),
    "runc": ("runc", "--version"),
    "socat": ("socat", "-V"),
    "iptables": ("iptables", "--version"),
    "conntrack": ("conntrack", "--version"),
    "mmdebstrap": ("mmdebstrap", "--version"),
}


def missing_packages(context: Context) -> list[str]:
    """The Debian packages that this machine lacks, by what is really there."""
    versions = context.versions
    there = {part: _meets(name, question, versions[part]["floor"]) for part, (name, question) in _PROGRAMS.items()}
    there |= {"cni": (CNI_PLUGINS / "bridge").is_file(), "iproute2": program("ip") is not None}
    return [package for part, found in there.items() if not found for package in versions[part]["debian"]]


def find_kubernetes(context: Context) -> Path | None:
    """The folder of the compiled programs of the pinned version."""
    folder = _folder(context, "kubernetes")
    return folder if (folder / _PAUSE).is_file() and (folder / _COREDNS).is_file() else None


def build_kubernetes(context: Context) -> None:
    """Compiles Kubernetes, the pod's `pause` and CoreDNS, one after the other: they share most of what is compiled.

    Raises:
        ProblemError: Go cannot be had, or the compilation fails.
    """
    versions = context.versions["kubernetes"]
    stamp = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={versions['pin']}"
    commands = [f"k8s.io/kubernetes/cmd/{name}" for name in versions["commands"]]
    with (
        context.installing("kubernetes", f"{versions['pin']} from source (7 to 12 minutes on two cores)"),
        context.new_folder(_folder(context, "kubernetes")) as folder,
        go_workspace(context) as (go, environment),
    ):
        for source, flags, packages in (
            ("kubernetes", stamp, [*commands, f"./{_PAUSE}"]),
            (_COREDNS, "-ldflags=-s -w", ["."]),
        ):
            argv = [str(go), "build", "-trimpath", "-mod=readonly", flags, "-o", f"{folder}/", *packages]
            run(context, "kubernetes", argv, environment=environment, cwd=_SOURCES / source, mend=GO_MEND)


def write_tools(context: Context) -> None:
    """Writes ``.tools/cluster.json``: where each tool of the cluster is.

    Raises:
        ProblemError: something is missing though its installation went well.
    """
    found = {part: program(name) for part, (name, _) in _PROGRAMS.items()}
    found |= {"ctr": program("ctr"), "ip": program("ip"), "nsenter": program("nsenter"), "cni": CNI_PLUGINS}
    found |= {"kubernetes": find_kubernetes(context)}
    for name, path in found.items():
        if path is None or not path.exists():
            raise ProblemError(name, "not found after the installation", f"see the logs in {context.logs}")
    file = context.checkout / ".tools" / TOOLS_FILE
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps({name: str(path) for name, path in found.items()}, indent=2), encoding="utf-8")
    unfinished.replace(file)


def _meets(name: str, question: str, floor: str) -> bool:
    path = program(name)
    return path is not None and at_least(ask([str(path), question]), floor)


def _folder(context: Context, part: str) -> Path:
    digest = hashlib.sha256()
    for file in sorted(path for name in ("kubernetes", "coredns") for path in (_SOURCES / name).rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return context.cache / f"{part}-{context.versions[part]['pin']}-{digest.hexdigest()[:12]}"
