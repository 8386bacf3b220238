"""MinIO: an engine of our own that mirrors buckets into a versioned one and keeps a manifest per run.

::

    backup.py ── decisions.py ── ordered.py       the run: what to do with each object, from ordered streams
        │             └── spool.py
        ├── transfer.py ── reading.py              one object, in one pass, hashed
        └── manifest.py ── points.py               what a point holds
    verify.py, restore.py                          the way back
    objects.py ── s3.py ── lean.py                 the port; S3 through boto3, and without it where it is busy
"""

from aivo_backup.stores.minio.lean import LeanS3ObjectStore
from aivo_backup.stores.minio.objects import ObjectStore
from aivo_backup.stores.minio.plan import Change, PlannedChange, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.s3 import S3ObjectStore
from aivo_backup.stores.minio.store import MinioStore

__all__ = [
    "Change",
    "LeanS3ObjectStore",
    "MinioStore",
    "ObjectStore",
    "PlannedChange",
    "RestorePlan",
    "RestoreRequest",
    "S3ObjectStore",
    "Selection",
]
