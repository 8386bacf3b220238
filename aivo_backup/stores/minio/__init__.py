"""MinIO: an engine of our own that mirrors buckets into a versioned one and keeps a manifest per run.

::

    backup.py ── decisions.py ── ordered.py       the run: what to do with each object, from ordered streams
        │             └── spool.py
        ├── transfer.py ── reading.py              one object, in one pass, hashed
        └── manifest.py ── points.py               what a point holds
    verify.py, restore.py                          the way back
    objects.py ── s3.py                            the port, and S3
"""

from aivo_backup.stores.minio.objects import ObjectStore
from aivo_backup.stores.minio.restore import Change, PlannedChange, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.minio.store import MinioStore

__all__ = [
    "Change",
    "MinioStore",
    "ObjectStore",
    "PlannedChange",
    "RestorePlan",
    "RestoreRequest",
    "S3ObjectStore",
    "Selection",
]
