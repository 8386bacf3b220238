"""MinIO: two buckets of real files, and the objects that trip up copying programs."""

import hashlib
import io
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from boto3.s3.transfer import TransferConfig

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.stores.aws import translated
from sandbox.data.files import ROOTS, Concatenated, RealFile, choose_files

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

DOCUMENTS = "documents"
LIBRARY = "library"
LARGE_KEY = "archive/usr-lib.bin"
_FILES = 5_400
_FILES_BYTES = 60_000_000
_LARGE_BYTES = 100 * 1024 * 1024 + 1
_PART_BYTES = 16 * 1024 * 1024
_UPLOADS = 12

# Keys that MinIO accepts. The two é are different keys: one code point, and a letter with a combining accent.
_ODD_KEYS = (
    "odd/caf\u00e9.txt",
    "odd/cafe\u0301.txt",
    "odd/日本語/ファイル.txt",
    "odd/emoji 🧠 and spaces .txt",
    "odd/100%25 percent%2Fencoded.txt",
    "odd/plus+and&ampersand;.txt",
    'odd/it\'s "quoted".txt',
    "odd/#fragment?query=1.txt",
    "odd/.hidden",
    "odd/~tilde!$(parentheses)[brackets]{braces}^`|.txt",
    "odd/comma,colon:semicolon;equals=at@.txt",
    "odd/<angle>*star.txt",
    "odd/…/three dots",
)
_EMPTY_KEYS = ("empty/one", "empty/two.txt", "empty/deeper/three.json")


@dataclass(frozen=True, kw_only=True)
class MinioData:
    """Objects by bucket, and the bytes of all."""

    objects: Mapping[str, int]
    size_bytes: int

    @property
    def total(self) -> int:
        """Objects of all buckets."""
        return sum(self.objects.values())


@dataclass(frozen=True, kw_only=True)
class MinioChange:
    """Keys that :func:`change_minio` touched, in the bucket ``documents``."""

    overwritten: tuple[str, ...]
    added: tuple[str, ...]
    deleted: tuple[str, ...]

    @property
    def total(self) -> int:
        """Keys touched."""
        return len(self.overwritten) + len(self.added) + len(self.deleted)


@dataclass(frozen=True, kw_only=True)
class _Object:
    """One object to be. Its content is ``body``, or that of ``file``."""

    bucket: str
    key: str
    body: bytes = b""
    file: RealFile | None = None
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def content(self) -> bytes:
        return self.file.content() if self.file else self.body


def load_minio(
    client: "S3Client", *, files: int = _FILES, large_bytes: int = _LARGE_BYTES, prefix: str = ""
) -> MinioData:
    """Makes the buckets ``documents`` and ``library`` hold exactly the chosen objects.

    Objects that are there with the right content stay; others are written; the rest goes.

    Args:
        client: of MinIO, with the right to make buckets.
        files: how many real files, two thirds of them in ``documents``.
        large_bytes: size of the object that is written in parts.
        prefix: before the buckets' names, for tests.

    Raises:
        ConfigurationError: this machine has too few files.
        UnreachableError: MinIO does not answer.
    """
    chosen = choose_files(files, largest_total_bytes=_FILES_BYTES)
    objects = [*_from_files(chosen, prefix), *_special(prefix)]
    with translated("loading MinIO's data"):
        for bucket in (f"{prefix}{DOCUMENTS}", f"{prefix}{LIBRARY}"):
            _make_bucket(client, bucket)
            wanted = {item.key: item for item in objects if item.bucket == bucket}
            _make_equal(client, bucket, wanted, spared=LARGE_KEY if bucket.endswith(LIBRARY) else "")
        _write_large(client, f"{prefix}{LIBRARY}", chosen, large_bytes)
    counts = {f"{prefix}{name}": 0 for name in (DOCUMENTS, LIBRARY)}
    for item in objects:
        counts[item.bucket] += 1
    counts[f"{prefix}{LIBRARY}"] += 1
    size = sum(file.size_bytes for file in chosen) + large_bytes
    return MinioData(objects=counts, size_bytes=size + sum(len(item.body) for item in objects))


def change_minio(client: "S3Client", *, share: float = 0.01, prefix: str = "") -> MinioChange:
    """Changes a share of the bucket ``documents``: most of it overwritten, some added, a few deleted.

    Raises:
        UnreachableError: MinIO does not answer.
        BackupError: the bucket is empty.
    """
    bucket = f"{prefix}{DOCUMENTS}"
    with translated("changing MinIO's data"):
        keys = [key for key in sorted(_listing(client, bucket)) if key.startswith("usr/")]
        if not keys:
            raise BackupError(f"the bucket {bucket} holds no files", mend="load the data first")
        step = max(1, int(1 / share))
        touched = keys[::step]
        deleted, overwritten = touched[::10], [key for number, key in enumerate(touched) if number % 10]
        added = [f"{key}.new" for key in overwritten[::5]]
        for key in [*overwritten, *added]:
            body = f"A newer version of {key}.\n".encode()
            client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/plain")
        for key in deleted:
            client.delete_object(Bucket=bucket, Key=key)
    return MinioChange(overwritten=tuple(overwritten), added=tuple(added), deleted=tuple(deleted))


def _from_files(files: Sequence[RealFile], prefix: str) -> Iterable[_Object]:
    for number, file in enumerate(files):
        guessed, encoding = mimetypes.guess_type(file.name)
        yield _Object(
            bucket=f"{prefix}{LIBRARY if number % 3 == 0 else DOCUMENTS}",
            key=file.name,
            file=file,
            content_type=guessed if guessed and not encoding else "application/octet-stream",
            metadata={
                "mode": f"{file.mode:o}",
                "modified": str(file.modified_seconds),
                # A header holds ASCII only.
                "origin": quote(file.path),
            },
        )


def _special(prefix: str) -> Iterable[_Object]:
    documents = f"{prefix}{DOCUMENTS}"
    for key in _EMPTY_KEYS:
        yield _Object(bucket=documents, key=key, metadata={"why": "empty"})
    for key in _ODD_KEYS:
        yield _Object(
            bucket=documents,
            key=key,
            body=f"{key}\n".encode(),
            content_type="text/plain; charset=utf-8",
            metadata={"key": quote(key), "with-spaces": "two  blanks, a comma"},
        )
    yield _Object(
        bucket=documents, key=longest_key(), body=b"The longest key that S3 has.\n", content_type="text/plain"
    )


def longest_key() -> str:
    """A key of 1,024 bytes, in segments that a file system takes."""
    segments = "/".join(letter * 200 for letter in "abcde")
    return f"{segments}/{'f' * (1024 - len(segments) - 1)}"


def _make_bucket(client: "S3Client", bucket: str) -> None:
    names = {item.get("Name") for item in client.list_buckets().get("Buckets", [])}
    if bucket not in names:
        client.create_bucket(Bucket=bucket)


def _make_equal(client: "S3Client", bucket: str, wanted: Mapping[str, _Object], *, spared: str) -> None:
    held = _listing(client, bucket)
    for key in held.keys() - wanted.keys() - {spared}:
        client.delete_object(Bucket=bucket, Key=key)

    def write(item: _Object) -> None:
        try:
            content = item.content()
        except OSError as error:
            raise ConfigurationError(f"{item.key} cannot be read ({error})", mend="run it again") from error
        if held.get(item.key) == hashlib.md5(content, usedforsecurity=False).hexdigest():
            return
        client.put_object(
            Bucket=bucket,
            Key=item.key,
            Body=content,
            ContentType=item.content_type,
            Metadata=dict(item.metadata),
        )

    with ThreadPoolExecutor(max_workers=_UPLOADS) as pool:
        for _ in pool.map(write, wanted.values()):
            pass


def _listing(client: "S3Client", bucket: str) -> dict[str, str]:
    """ETag by key."""
    found: dict[str, str] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            found[item.get("Key", "")] = item.get("ETag", "").strip('"')
    return found


def _write_large(client: "S3Client", bucket: str, files: Sequence[RealFile], size_bytes: int) -> None:
    stream = io.BufferedReader(Concatenated(files, size_bytes), buffer_size=1024 * 1024)
    client.upload_fileobj(
        stream,
        bucket,
        LARGE_KEY,
        ExtraArgs={"ContentType": "application/x-binary", "Metadata": {"origin": quote(str(ROOTS[0]))}},
        Config=TransferConfig(multipart_chunksize=_PART_BYTES, multipart_threshold=_PART_BYTES, max_concurrency=4),
    )
