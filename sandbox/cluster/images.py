"""The images on the node: ours, and the one that holds a pod's namespaces. There is no registry to pull from."""

import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.stores.process import run
from images.build import LAYOUT
from images.oci import ImageConfig, write_layer, write_layout
from sandbox.cluster.machine import inside
from sandbox.cluster.parts import PAUSE_IMAGE
from sandbox.cluster.place import Place
from sandbox.cluster.tools import ClusterTools

_WAIT_SECONDS = 30
_POLL_SECONDS = 0.1
_PAUSE = "pause"


def require_image(checkout: Path) -> None:
    """Demands the image of `make image`.

    Raises:
        ConfigurationError: it has not been built.
    """
    if not (LAYOUT / "index.json").is_file():
        raise ConfigurationError(f"there is no image in {LAYOUT.relative_to(checkout)}", mend="run `make image`")


def import_images(place: Place, tools: ClusterTools) -> None:
    """Puts both images on the node, where an earlier life has not left them: that of half a gigabyte takes long.

    Raises:
        BackupError: containerd refuses one.
    """
    held = _held(place, tools)
    for layout in (LAYOUT, _pause_layout(place, tools)):
        (image,) = json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"]
        name = image["annotations"]["io.containerd.image.name"]
        if not re.search(rf"^{re.escape(name)}\s.*\s{image['digest']}\s", held, re.MULTILINE):
            _import(place, tools, layout)


def _held(place: Place, tools: ClusterTools) -> str:
    """The node's images, a line each. Asked again while containerd starts: its socket is there before it listens."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while (listed := run(_ctr(place, tools, "images", "list"))).exit_code != 0:
        if time.monotonic() > deadline:
            raise BackupError(f"containerd does not answer: {listed.tail()}", mend=f"see {place.logs}")
        time.sleep(_POLL_SECONDS)
    return listed.stdout


def _ctr(place: Place, tools: ClusterTools, *arguments: str) -> list[str]:
    ctr = [str(tools.ctr), f"--address={place.containerd_socket}", f"--connect-timeout={_WAIT_SECONDS}s"]
    return inside(place, tools, [*ctr, "--namespace=k8s.io", *arguments])


def _import(place: Place, tools: ClusterTools, layout: Path) -> None:
    argv = _ctr(place, tools, "images", "import", "-")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
                tar.add(layout, arcname=".")
            if process.stdin is not None:
                process.stdin.close()
        except BrokenPipeError:
            pass  # its own words say why
        words = process.stdout.read().decode(errors="replace").strip() if process.stdout else ""
    if process.returncode != 0:
        raise BackupError(f"containerd does not take {layout.name}: {words[-300:]}", mend=f"see {place.logs}")


def _pause_layout(place: Place, tools: ClusterTools) -> Path:
    root = place.home / "images" / "root"
    root.mkdir(parents=True, exist_ok=True)
    program = root / _PAUSE
    program.write_bytes((tools.kubernetes / _PAUSE).read_bytes())
    program.chmod(0o755)
    layer = root.with_name("layer.tar")
    write_layer(root, layer, epoch=0)
    config = ImageConfig(
        machine=os.uname().machine,
        created="1970-01-01T00:00:00Z",
        user="65535:65535",
        environment={"PATH": "/"},
        entrypoint=[f"/{_PAUSE}"],
        labels={},
    )
    layout = root.with_name(_PAUSE)
    write_layout(layout, name=PAUSE_IMAGE, config=config, layers=[layer])
    return layout
