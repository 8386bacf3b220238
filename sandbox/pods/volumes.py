"""A pod's volumes as folders of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from aivo_backup.errors import ConfigurationError
from sandbox.pods.container import Mount
from sandbox.pods.manifests import Document, Pod, load
from sandbox.state import Sandbox

# Volumes and what is in them belong to the pod's user alone.
_PRIVATE = 0o700


def volume_mounts(sandbox: Sandbox, pod: Pod, scratch: Path, given: Mapping[str, Path]) -> list[Mount]:
    """Every volume mount of a pod, its content in place.

    Args:
        scratch: the pod's own folder: config maps and empty volumes are made in it.
        given: volumes that the caller supplies by name, in place of the manifest's source (a database's own data).

    Raises:
        ConfigurationError: a volume is of a kind that the sandbox cannot supply, or what it names does not exist.
    """
    sources = {name: given.get(name) or _source(sandbox, pod, name, volume, scratch) for name, volume in _used(pod)}
    mounts: list[Mount] = []
    for mount in pod.mounts:
        if mount.volume not in sources:
            raise ConfigurationError(
                f"the pod {pod.name} mounts {mount.volume}, which is no volume of it", mend="name it"
            )
        source = sources[mount.volume]
        writable = not mount.read_only and "configMap" not in pod.volumes[mount.volume]
        mounts.append(
            Mount(source=source / mount.sub_path if mount.sub_path else source, target=mount.path, writable=writable)
        )
    return mounts


def _used(pod: Pod) -> list[tuple[str, Document]]:
    used = {mount.volume for mount in pod.mounts}
    return [(name, volume) for name, volume in pod.volumes.items() if name in used]


def _source(sandbox: Sandbox, pod: Pod, name: str, volume: Document, scratch: Path) -> Path:
    kinds = sorted(volume.keys() - {"name"})
    match kinds:
        case ["configMap"]:
            return _config_map(sandbox, volume["configMap"], scratch / "volumes" / name)
        case ["secret"]:
            return _secret(sandbox, pod, volume["secret"])
        case ["emptyDir"] | ["ephemeral"]:  # both live as long as the pod
            return _made(scratch / "volumes" / name)
        case ["persistentVolumeClaim"]:
            return _made(sandbox.home / "volumes" / str(volume["persistentVolumeClaim"]["claimName"]))
        case _:
            raise ConfigurationError(
                f"the pod {pod.name}: volume {name} is of kind {', '.join(kinds) or 'none'}",
                mend="add it to sandbox/pods/volumes.py",
            )


def _config_map(sandbox: Sandbox, source: Document, folder: Path) -> Path:
    manifest = load(sandbox.home / "kubernetes", "ConfigMap", str(source["name"]))
    data = cast("Mapping[str, str]", manifest.get("data") or {})
    items = cast("list[dict[str, Any]]", source.get("items") or [{"key": key, "path": key} for key in data])
    _made(folder)
    for item in items:
        file = folder / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[item["key"]], encoding="utf-8")
    return folder


def _secret(sandbox: Sandbox, pod: Pod, source: Document) -> Path:
    name = str(source["secretName"])
    folder = sandbox.secrets / name
    if source.get("items"):
        raise ConfigurationError(f"the pod {pod.name}: secret {name} is mounted in part", mend="mount all of it")
    if not folder.is_dir():
        raise ConfigurationError(f"the pod {pod.name}: there is no secret {name}", mend="run `aivo-backup sandbox up`")
    # The folder itself: a copy would be one more place where a secret lies.
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    return folder
