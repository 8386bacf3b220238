"""Whether the stores fit together after a restore: what the database refers to is looked up where it must be.

The references are settings: a query gives object keys of a bucket, or document ids of an index. Rows are streamed, so
memory is bounded by one batch however large a table is.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import psycopg

from aivo_backup.catalog.records import Check
from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.policy.recovery import ReferenceSettings
from aivo_backup.stores.minio.objects import AbsentError, ObjectStore
from aivo_backup.stores.opensearch.cluster import Cluster

_BATCH = 1000
_READERS = 16
_TOLD = 20
_STATEMENT_TIMEOUT = "600s"


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """One kind of reference, followed.

    Attributes:
        followed: how many references there were.
        missing: how many lead to nothing; ``examples`` the first of them.
    """

    name: str
    into: str
    followed: int
    missing: int
    examples: tuple[str, ...]

    @property
    def check(self) -> Check:
        """The same as a check: passed when nothing is missing."""
        if not self.missing:
            return Check(name=f"references.{self.name}", passed=True, detail=f"all {self.followed} are in {self.into}")
        more = f" and {self.missing - len(self.examples)} more" if self.missing > len(self.examples) else ""
        return Check(
            name=f"references.{self.name}",
            passed=False,
            detail=f"{self.missing} of {self.followed} are missing in {self.into}: {', '.join(self.examples)}{more}",
        )


def reconcile(
    references: Mapping[str, ReferenceSettings],
    *,
    connection: "psycopg.Connection[tuple[object, ...]]",
    objects: ObjectStore,
    cluster: Cluster,
) -> tuple[Reconciled, ...]:
    """Follows every configured reference.

    Raises:
        ConfigurationError: a reference names neither or both of bucket and index, or its query fails.
        UnreachableError: a store does not answer.
    """
    return tuple(
        _follow(name, reference, connection=connection, objects=objects, cluster=cluster)
        for name, reference in references.items()
    )


def _follow(
    name: str,
    reference: ReferenceSettings,
    *,
    connection: "psycopg.Connection[tuple[object, ...]]",
    objects: ObjectStore,
    cluster: Cluster,
) -> Reconciled:
    if bool(reference.bucket) == bool(reference.index):
        raise ConfigurationError(f"recovery.references.{name} must name a bucket or an index", mend="name one of them")
    followed, missing = 0, 0
    examples: list[str] = []
    try:
        with connection.transaction(), connection.cursor(f"references_{name}") as cursor:
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'")
            cursor.execute(reference.query.encode())
            rows = (str(row[0]) for row in cursor if row[0] is not None)
            for batch in _batches(rows):
                absent = (
                    _absent_objects(objects, reference.bucket, batch)
                    if reference.bucket
                    else _absent_documents(cluster, reference.index, batch)
                )
                followed += len(batch)
                missing += len(absent)
                examples += absent[: _TOLD - len(examples)]
    except psycopg.Error as error:
        raise ConfigurationError(
            f"recovery.references.{name}: its query fails: {error}", mend="mend the query in the settings"
        ) from error
    return Reconciled(
        name=name,
        into=f"bucket {reference.bucket}" if reference.bucket else f"index {reference.index}",
        followed=followed,
        missing=missing,
        examples=tuple(examples),
    )


def _batches(rows: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _absent_objects(objects: ObjectStore, bucket: str, keys: Sequence[str]) -> list[str]:
    def absent(key: str) -> bool:
        try:
            objects.info(bucket, key)
        except AbsentError:
            return True
        return False

    with ThreadPoolExecutor(_READERS) as pool:
        return [key for key, gone in zip(keys, pool.map(absent, keys), strict=True) if gone]


def _absent_documents(cluster: Cluster, index: str, ids: Sequence[str]) -> list[str]:
    if not cluster.exists(index):
        return list(ids)
    answer = cluster.post(
        index, "_mget", what=f"looking for documents in {index}", body={"ids": list(ids)}, params={"_source": "false"}
    )
    found = {item["_id"] for item in answer["docs"] if item.get("found")}
    if len(answer["docs"]) != len(ids):
        raise BackupError(f"{index} answered {len(answer['docs'])} of {len(ids)} questions")
    return [name for name in ids if name not in found]
