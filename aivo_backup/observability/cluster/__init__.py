"""The doctor's checks of the cluster: what a person would look at with kubectl at 03:00, judged in one go. Pure.

What is looked at are objects that the cluster's API gave; what they must be is in the environment's settings. What is
well is one line, and what is wrong is one finding for each thing to mend.
"""

from aivo_backup.observability.cluster.judgement import judge_cluster, unknown_cluster
from aivo_backup.observability.cluster.view import CLUSTER, ClusterView, Namespace

__all__ = ["CLUSTER", "ClusterView", "Namespace", "judge_cluster", "unknown_cluster"]
