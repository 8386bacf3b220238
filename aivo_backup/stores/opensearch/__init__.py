"""OpenSearch: its own snapshot API, taken, listed, restored and tested by us."""

from aivo_backup.stores.opensearch.client import ClusterError, connect
from aivo_backup.stores.opensearch.cluster import Cluster
from aivo_backup.stores.opensearch.plan import PlannedIndex, RestoreMode, RestorePlan, RestoreRequest
from aivo_backup.stores.opensearch.restore import RestoredIndex, RestoreResult
from aivo_backup.stores.opensearch.snapshots import PartialSnapshotError
from aivo_backup.stores.opensearch.store import BackupPlace, OpenSearchStore

__all__ = [
    "BackupPlace",
    "Cluster",
    "ClusterError",
    "OpenSearchStore",
    "PartialSnapshotError",
    "PlannedIndex",
    "RestoreMode",
    "RestorePlan",
    "RestoreRequest",
    "RestoreResult",
    "RestoredIndex",
    "connect",
]
