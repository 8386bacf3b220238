"""The demonstration's data: real, the same each time, and put back after a demonstration has changed it."""

import hashlib
import time
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from botocore.config import Config
from opensearchpy import OpenSearch
from psycopg import sql
from psycopg.conninfo import make_conninfo

from aivo_backup.errors import ConfigurationError, UnreachableError
from sandbox.data import minio, opensearch, postgres
from sandbox.data.files import Concatenated, choose_files
from sandbox.state import REGION, Sandbox
from tests.sandbox.opensearch_world import login

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

FILES = 300
PACKAGES = 4_000
LARGE = 17 * 1024 * 1024


@pytest.fixture
def dsn(sandbox: Sandbox) -> str:
    """A database of the test's own. It stays until the next run resets the sandbox: dropping it waits for the archiver,
    and that for minutes for the sidecar, which comes with provisioned pods only."""
    name = f"data_{uuid.uuid4().hex[:8]}"

    def to(database: str) -> str:
        return make_conninfo(
            host="localhost",
            port=sandbox.ports.postgres,
            user=sandbox.secret("postgres", "username"),
            password=sandbox.secret("postgres", "password"),
            dbname=database,
            sslmode="verify-full",
            sslrootcert=str(sandbox.ca_file),
        )

    with psycopg.connect(to("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return to(name)


@pytest.fixture
def source(sandbox: Sandbox) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=sandbox.minio_url,
        region_name=REGION,
        aws_access_key_id=sandbox.secret("minio-source", "access-key"),
        aws_secret_access_key=sandbox.secret("minio-source", "secret-key"),
        verify=str(sandbox.ca_file),
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
    )


@pytest.fixture
def prefix(sandbox: Sandbox, source: "S3Client") -> Generator[str]:
    """Before the names of buckets and indices of one test; all of them are gone afterwards."""
    text = f"d{uuid.uuid4().hex[:8]}-"
    yield text
    for bucket in (f"{text}{minio.DOCUMENTS}", f"{text}{minio.LIBRARY}"):
        try:
            keys = stored(source, bucket)
        except source.exceptions.NoSuchBucket:
            continue
        for key in keys:
            source.delete_object(Bucket=bucket, Key=key)
        source.delete_bucket(Bucket=bucket)
    search = login(sandbox)
    for row in search.cat.indices(params={"format": "json", "h": "index"}):
        if text in row["index"]:
            search.indices.delete(index=row["index"])


def stored(client: "S3Client", bucket: str) -> dict[str, tuple[int, str]]:
    """Size and ETag by key."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    items = [item for page in pages for item in page.get("Contents", [])]
    return {item.get("Key", ""): (item.get("Size", -1), item.get("ETag", "")) for item in items}


def scalar(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_postgres_holds_the_counted_rows_again_after_a_disaster(sandbox: Sandbox, dsn: str) -> None:
    first = postgres.load_postgres(dsn, postgres_bin=sandbox.tools.postgres_bin, scale=1)
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE reference.countries")
        connection.execute("DELETE FROM pgbench_accounts WHERE aid < 5000")

    again = postgres.load_postgres(dsn, postgres_bin=sandbox.tools.postgres_bin, scale=1)

    assert first == again
    for table, rows in again.rows.items():
        assert scalar(dsn, f"SELECT count(*) FROM {table}") == rows > 0  # noqa: S608 - our own names
    assert again.rows["public.pgbench_accounts"] == 100_000
    assert again.rows["reference.languages"] > 7_000
    assert scalar(dsn, "SELECT name FROM reference.countries WHERE code = 'PY'") == "Paraguay"


def test_the_writer_writes_at_its_rate_until_it_is_stopped(sandbox: Sandbox, dsn: str) -> None:
    tools = sandbox.tools.postgres_bin
    postgres.load_postgres(dsn, postgres_bin=tools, scale=1)
    log = sandbox.logs / "writer.log"
    try:
        writer = postgres.start_writer(sandbox.processes, dsn, postgres_bin=tools, log=log, transactions_per_second=40)
        assert sandbox.secret("postgres", "password") not in command_line(writer.pid)
        deadline = time.monotonic() + 30
        while scalar(dsn, "SELECT count(*) FROM pgbench_history") < 20:
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
    finally:
        assert postgres.stop_writer(sandbox.processes)
    written = scalar(dsn, "SELECT count(*) FROM pgbench_history")
    time.sleep(0.3)
    assert scalar(dsn, "SELECT count(*) FROM pgbench_history") == written
    assert not postgres.stop_writer(sandbox.processes)


def command_line(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:  # noqa: PTH123 - not a file on disk
        return file.read()


def test_minio_holds_real_files_and_every_odd_object(source: "S3Client", prefix: str) -> None:
    data = minio.load_minio(source, files=FILES, large_bytes=LARGE, prefix=prefix)

    documents, library = f"{prefix}{minio.DOCUMENTS}", f"{prefix}{minio.LIBRARY}"
    held = {bucket: stored(source, bucket) for bucket in (documents, library)}
    assert {bucket: len(keys) for bucket, keys in held.items()} == data.objects
    assert data.total > FILES
    assert sum(size for keys in held.values() for size, _ in keys.values()) == data.size_bytes
    assert max(len(key.encode()) for key in held[documents]) == 1024
    assert sum(size == 0 for size, _ in held[documents].values()) >= 3
    assert {"odd/caf\u00e9.txt", "odd/cafe\u0301.txt", "odd/#fragment?query=1.txt"} <= held[documents].keys()
    for keys in held.values():
        assert not [key for key in keys if any(other.startswith(f"{key}/") for other in keys)]
    size, etag = held[library][minio.LARGE_KEY]
    assert size == LARGE
    assert etag.endswith('-2"')
    key = next(key for key in held[documents] if key.startswith("usr/"))
    about = source.head_object(Bucket=documents, Key=key)
    assert about["Metadata"]["origin"].startswith("/usr/")
    assert about["Metadata"].keys() == {"mode", "modified", "origin"}


def test_minio_is_put_back_after_changes_and_what_is_right_is_not_written_again(
    source: "S3Client", prefix: str
) -> None:
    documents = f"{prefix}{minio.DOCUMENTS}"
    minio.load_minio(source, files=FILES, large_bytes=LARGE, prefix=prefix)
    before = stored(source, documents)
    modified = source.head_object(Bucket=documents, Key="empty/one")["LastModified"]

    change = minio.change_minio(source, share=0.1, prefix=prefix)

    after = stored(source, documents)
    assert 0.08 * FILES * 2 / 3 < change.total < 0.2 * FILES
    assert set(change.deleted) == before.keys() - after.keys()
    assert set(change.added) == after.keys() - before.keys()
    assert set(change.overwritten) == {key for key in before.keys() & after.keys() if before[key] != after[key]}
    assert all((change.deleted, change.added, change.overwritten))
    minio.load_minio(source, files=FILES, large_bytes=LARGE, prefix=prefix)
    assert stored(source, documents) == before
    assert source.head_object(Bucket=documents, Key="empty/one")["LastModified"] == modified


def test_opensearch_holds_debians_packages_again_after_a_restore_left_its_traces(sandbox: Sandbox, prefix: str) -> None:
    client: OpenSearch = login(sandbox)
    first = opensearch.load_opensearch(client, packages=PACKAGES, prefix=prefix)
    packages, maintainers = f"{prefix}{opensearch.PACKAGES}", f"{prefix}{opensearch.MAINTAINERS}"
    assert first.total > first.documents[packages] == PACKAGES
    assert first.documents.keys() == {packages, maintainers}
    assert client.get(index=packages, id="adduser")["_source"]["section"] == "admin"
    assert client.count(index=f"{prefix}{opensearch.ALIAS}")["count"] == first.documents[packages]
    client.indices.delete(index=maintainers)
    client.index(index=f"restored-20260131-040000-{maintainers}", body={"name": "left by a restore"})
    assert opensearch.change_opensearch(client, documents=50, prefix=prefix) == 50

    assert opensearch.load_opensearch(client, packages=PACKAGES, prefix=prefix) == first

    for index, documents in first.documents.items():
        assert client.count(index=index)["count"] == documents
    assert not client.indices.exists(index=f"restored-20260131-040000-{maintainers}")
    # What was changed is back, too: nothing but the alias and both indices is left of the first round.
    assert (
        client.search(index=packages, body={"query": {"term": {"priority": "required"}}})["hits"]["total"]["value"] < 50
    )


def test_debian_has_enough_packages_and_too_few_are_told() -> None:
    assert len({package["name"] for package in opensearch.read_packages()}) == 50_000
    with pytest.raises(ConfigurationError, match="apt-get update"):
        opensearch.read_packages(10_000_000)


def test_files_are_chosen_the_same_each_time_and_spread_over_folders() -> None:
    chosen = choose_files(1_000, largest_total_bytes=20_000_000)
    assert chosen == choose_files(1_000, largest_total_bytes=20_000_000)
    assert len({file.name for file in chosen}) == 1_000
    assert sum(file.size_bytes for file in chosen) <= 20_000_000
    assert len({file.path.split("/")[3] for file in chosen}) > 5


def test_a_machine_with_too_few_files_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("content", encoding="utf-8")
    assert [file.size_bytes for file in choose_files(1, largest_total_bytes=10, roots=[tmp_path])] == [7]
    with pytest.raises(ConfigurationError, match=r"do not give 2 of .*apt-get install"):
        choose_files(2, largest_total_bytes=10, roots=[tmp_path])


def test_on_a_machine_whose_files_are_mostly_big_the_small_ones_are_chosen(tmp_path: Path) -> None:
    for number in range(400):
        with (tmp_path / f"big-{number}").open("wb") as file:
            file.truncate(200_000)
    for number in range(20):
        (tmp_path / f"small-{number}").write_bytes(b"x" * 6_000)
    # One big file leaves too little for a single small one.
    chosen = choose_files(20, largest_total_bytes=205_000, roots=[tmp_path])
    assert {file.size_bytes for file in chosen} == {6_000}


def test_a_concatenation_has_its_length_and_is_the_same_each_time() -> None:
    files = choose_files(50, largest_total_bytes=1_000_000)
    contents = [Concatenated(files, 3_000_001).readall() for _ in range(2)]
    assert len(contents[0]) == 3_000_001
    assert hashlib.sha256(contents[0]).digest() == hashlib.sha256(contents[1]).digest()


def test_a_database_that_is_away_is_said_in_one_line(sandbox: Sandbox) -> None:
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        postgres.load_postgres(
            "host=localhost port=9 user=nobody dbname=none", postgres_bin=sandbox.tools.postgres_bin, scale=1
        )
    assert "\n" not in str(caught.value)


def test_missing_iso_codes_are_told_before_anything_is_changed(sandbox: Sandbox, dsn: str) -> None:
    missing = sandbox.home / "no-such-folder"
    with pytest.raises(ConfigurationError, match="apt-get install iso-codes"):
        postgres.load_postgres(dsn, postgres_bin=sandbox.tools.postgres_bin, scale=1, iso_codes=missing)
    assert scalar(dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
