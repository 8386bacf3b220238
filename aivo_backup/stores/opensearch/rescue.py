"""What a restore would lose of production's newer documents: exported before it, imported again after.

A bundle is a folder: one file per index, a document a line (``_id``, ``_routing`` where it has one, ``_source``), and
``rescue.json`` that says what they are. It can be read without this program.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aivo_backup.errors import ConfigurationError, RefusedError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.stores.bundle import file_name, require_unchanged, unfinished
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.documents import Document, put, written_after
from aivo_backup.stores.port import Progress, RescueBundle

MANIFEST = "rescue.json"

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RescuedIndex:
    """One file of a bundle."""

    index: str
    file: str
    documents: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Rescued:
    """The content of ``rescue.json``. ``after`` is the snapshot that the documents are newer than; UTC."""

    format: int
    after: str
    exported: datetime
    indices: tuple[RescuedIndex, ...]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did with one index; ``kept`` documents were there already and stay as they were."""

    index: str
    written: int
    kept: int


def export(
    cluster: Cluster, copies: Mapping[str, str], folder: Path, *, after: str, now: datetime, progress: Progress
) -> RescueBundle:
    """Writes every document that an index of production has and its copy lacks, or has with other content.

    Args:
        copies: live index to its restored copy.
        folder: an empty one; see :func:`~aivo_backup.stores.bundle.require_fresh`.
        after: the snapshot that the copies are of.

    Raises:
        ConfigurationError: the folder cannot be written.
        BackupError: a shard does not answer, or an index keeps no sources.
    """
    written: list[RescuedIndex] = []
    with unfinished(folder, MANIFEST) as manifest:
        for number, (index, copy) in enumerate(sorted(copies.items())):
            file = folder / file_name(number, index, "ndjson")
            entry = _export_index(index, written_after(cluster, copy=copy, live=index), file)
            if entry.documents:
                written.append(entry)
                progress(f"{index}: {entry.documents} documents exported to {file.name}")
            else:
                file.unlink()
        rescued = Rescued(format=_FORMAT, after=after, exported=now, indices=tuple(written))
        manifest.write_text(json.dumps(to_json(rescued), indent=1), encoding="utf-8")
    return RescueBundle(
        folder=folder,
        units=tuple(entry.index for entry in written),
        items=sum(entry.documents for entry in written),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def import_bundle(
    cluster: Cluster, folder: Path, *, overwrite: bool = False, progress: Progress
) -> tuple[Imported, ...]:
    """Puts a bundle's documents into production. Repeatable.

    Args:
        overwrite: documents that are there get the bundle's content; otherwise they stay as they are.

    Raises:
        ConfigurationError: the folder holds no bundle.
        VerificationError: a file is not as it was exported; nothing was written.
        RefusedError: production lacks an index of it; nothing was written.
        BackupError: production refused a document; the message names it.
    """
    manifest = _read(folder)
    gone = [entry.index for entry in manifest.indices if not cluster.exists(entry.index)]
    if gone:
        # Written to, OpenSearch would make it with a mapping that it guesses.
        raise RefusedError(f"there is no index {gone[0]}", mend="restore it first, or make it with its mapping")
    done: list[Imported] = []
    for entry in manifest.indices:
        result = put(cluster, entry.index, _documents(folder / entry.file), overwrite=overwrite)
        done.append(Imported(index=entry.index, written=result.written, kept=result.kept))
        progress(f"{entry.index}: {result.written} documents imported, {result.kept} are there already")
    return tuple(done)


def _export_index(index: str, documents: Iterable[Document], file: Path) -> RescuedIndex:
    number, digest = 0, hashlib.sha256()
    with file.open("wb") as output:
        for document in documents:
            entry: dict[str, Any] = {"_id": document.id, "_source": document.source}
            if document.routing is not None:
                entry["_routing"] = document.routing
            line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
            output.write(line)
            digest.update(line)
            number += 1
    return RescuedIndex(index=index, file=file.name, documents=number, sha256=digest.hexdigest())


def _read(folder: Path) -> Rescued:
    file = folder / MANIFEST
    try:
        manifest = from_json(Rescued, json.loads(file.read_text(encoding="utf-8")), where=str(file))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{folder} holds no rescued documents: {error}", mend="name the bundle's folder"
        ) from error
    for entry in manifest.indices:
        require_unchanged(folder / entry.file, entry.sha256)
    return manifest


def _documents(file: Path) -> Iterator[Document]:
    with file.open(encoding="utf-8") as content:
        for line in content:
            entry = json.loads(line)
            yield Document(id=entry["_id"], routing=entry.get("_routing"), source=entry["_source"])
