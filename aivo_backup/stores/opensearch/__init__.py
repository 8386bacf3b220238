"""OpenSearch: its own snapshot API, taken, listed, restored and tested by us.

What the user needs of the security plugin (action groups of OpenSearch 3):

* cluster: ``cluster_monitor``, ``cluster:admin/repository/*``, ``cluster:admin/snapshot/`` with ``create``, ``get``,
  ``restore`` and ``status`` (the group ``manage_snapshots`` would also let it delete snapshots),
  ``cluster:admin/settings/update`` (the recovery rate, when registering), ``cluster:monitor/allocation/explain``;
* indices, all but system ones: ``indices_monitor``, ``indices:admin/resolve/index``, ``indices:admin/refresh*``,
  ``indices:admin/data_stream/get``, ``read`` (counts and samples);
* for restores and restore tests, on the cluster where they run: ``create_index``, ``manage``, ``manage_aliases``,
  ``indices:data/write/*`` and, of the cluster, ``cluster_composite_ops`` (scrolls and bulk writes, when documents are
  compared, rescued or put back). A restore test makes and deletes ``verify-…`` only, so there the pattern ``verify-*``
  is enough;
* for the job that prunes, under a login of its own: ``cluster_monitor``, ``cluster:admin/snapshot/get``,
  ``cluster:admin/snapshot/delete``, and nothing of any index.
"""

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
