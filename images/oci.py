"""An OCI image layout, written byte for byte the same from the same content. Knows nothing of what is in the image."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """What a container of the image is started with, and what the image says about itself.

    Attributes:
        machine: as ``uname -m`` says it.
        created: RFC 3339, UTC.
        environment: variables of every process.
    """

    machine: str
    created: str
    user: str
    environment: Mapping[str, str]
    entrypoint: Sequence[str]
    labels: Mapping[str, str]

    def document(self, layers: Sequence[str]) -> dict[str, Any]:
        """The configuration as OCI has it; ``layers`` are the digests of their tars."""
        return {
            "architecture": _MACHINES[self.machine],
            "os": "linux",
            "created": self.created,
            "config": {
                "User": self.user,
                "Env": [f"{name}={value}" for name, value in sorted(self.environment.items())],
                "Entrypoint": list(self.entrypoint),
                "WorkingDir": "/",
                "Labels": dict(sorted(self.labels.items())),
            },
            "rootfs": {"type": "layers", "diff_ids": list(layers)},
        }


def write_layer(root: Path, target: Path, *, epoch: int, wanted: Callable[[Path], bool] = lambda _: True) -> None:
    """Packs a folder as a layer: sorted, owned by root, no time later than ``epoch`` (seconds since 1970).

    Args:
        wanted: which files and folders go in, asked with each path below ``root``.
    """
    unfinished = target.with_suffix(".tmp")
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*"), key=lambda path: path.parts):
            if not wanted(path):
                continue
            entry = tar.gettarinfo(path, arcname=str(path.relative_to(root)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = min(int(entry.mtime), epoch)
            if entry.isfile():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
    unfinished.replace(target)


def write_layout(folder: Path, *, name: str, config: ImageConfig, layers: Sequence[Path]) -> str:
    """Writes an image layout; what was in the folder is replaced when the new one is whole.

    Args:
        name: what the image is called where the layout is imported, for example ``docker.io/library/job:1``.
        layers: tars, the lowest first.

    Returns:
        the manifest's digest, ``sha256:…``: what the image is pinned by.
    """
    unfinished = folder.with_name(f".{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    blobs = unfinished / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    described = [_add_file(blobs, layer, _LAYER) for layer in layers]
    document = config.document([str(layer["digest"]) for layer in described])
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _add(blobs, document, _CONFIG),
        "layers": described,
        "annotations": dict(sorted(config.labels.items())),
    }
    entry = _add(blobs, manifest, _MANIFEST)
    short = name.rpartition(":")[2]
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": short}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [{**entry, "annotations": annotations}]}
    (unfinished / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (unfinished / "index.json").write_bytes(_json(index))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
    return str(entry["digest"])


def labels_of(layout: Path) -> dict[str, str]:
    """The labels of the one image in a layout."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    return dict(json.loads(_blob(layout, manifest["config"]["digest"]).read_text())["config"]["Labels"])


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _add_file(blobs: Path, source: Path, media_type: str) -> dict[str, Any]:
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    target = blobs / digest
    try:
        target.hardlink_to(source)  # half a gigabyte that nobody changes
    except OSError:
        shutil.copyfile(source, target)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": source.stat().st_size}


def _add(blobs: Path, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    content = _json(document)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
