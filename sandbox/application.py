"""A small application that uses all three stores, as a shop would: an order in PostgreSQL refers to a receipt in MinIO
and to a document in OpenSearch. Recoveries stop it, start it again, and follow its references.

``python -m sandbox.application`` places orders until it is asked to end; a store that is away is tried again.
"""

import signal
import threading
from datetime import datetime
from types import FrameType

import psycopg

from aivo_backup.composition import App, utc_now
from aivo_backup.errors import BackupError
from aivo_backup.policy.codec import format_time
from aivo_backup.stores.aws import translated
from aivo_backup.stores.postgres.archive import connect

BUCKET = "receipts"
INDEX = "orders"
TABLE = "shop.orders"
REFERENCES = {
    "receipts": {"query": f"SELECT receipt FROM {TABLE}", "bucket": BUCKET},  # noqa: S608 - a constant's name
    "orders": {"query": f"SELECT id::text FROM {TABLE}", "index": INDEX},  # noqa: S608
}
"""The setting ``recovery.references`` of this application."""

_PAUSE_SECONDS = 0.2


def prepare(app: App) -> None:
    """Makes its table, bucket and index where they are missing.

    Raises:
        UnreachableError: a store does not answer.
    """
    with connect(app.postgres_login) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS shop")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} "
            "(id bigserial PRIMARY KEY, receipt text NOT NULL, total int NOT NULL, at timestamptz NOT NULL)"
        )
    source = app.minio_source
    with translated(f"MinIO bucket {BUCKET}"):
        if BUCKET not in {bucket.get("Name") for bucket in source.list_buckets().get("Buckets", [])}:
            source.create_bucket(Bucket=BUCKET)
    if not app.opensearch_cluster.exists(INDEX):
        settings = {"settings": {"number_of_shards": 1, "number_of_replicas": 0}}
        app.opensearch_cluster.put(INDEX, what=f"making the index {INDEX}", body=settings)


def place_orders(app: App, number: int, *, now: datetime) -> None:
    """Places orders: receipts and documents first, so that what an order refers to is always there.

    Raises:
        UnreachableError, BackupError: a store does not take it.
    """
    with connect(app.postgres_login) as connection:
        try:
            ids = [
                int(str(row[0]))
                for row in connection.execute(
                    "SELECT nextval('shop.orders_id_seq') FROM generate_series(1, %s)", [number]
                ).fetchall()
            ]
        except psycopg.Error as error:
            raise BackupError(f"PostgreSQL takes no order: {error}") from error
        for order in ids:
            key, total = f"{order // 100:05d}/{order:08d}.txt", order % 97
            with translated(f"MinIO object {BUCKET}/{key}"):
                app.minio_source.put_object(Bucket=BUCKET, Key=key, Body=f"order {order}: {total}\n".encode())
            app.opensearch_cluster.put(
                INDEX, "_doc", str(order), what=f"order {order}", body={"total": total, "at": format_time(now)}
            )
            try:
                connection.execute(
                    f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s)",  # noqa: S608 - a constant's name
                    [order, key, total, now],
                )
            except psycopg.Error as error:
                raise BackupError(f"PostgreSQL takes no order: {error}") from error


def main() -> None:
    """Places an order now and then until SIGTERM."""
    from sandbox import lifecycle

    done = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        done.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    app = lifecycle.open_app()
    while not done.wait(_PAUSE_SECONDS):
        try:
            place_orders(app, 1, now=utc_now())
        except BackupError as error:
            print(f"no order: {error}", flush=True)


if __name__ == "__main__":
    main()
