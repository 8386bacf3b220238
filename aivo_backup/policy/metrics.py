"""The names of published metrics: what the agent fills in, and what alert rules and dashboards ask for.

Names that the runbook asks for are as it writes them. Moments are published as timestamps, never as ages: an age
stands still when its publisher does, a timestamp grows old.
"""

from typing import NamedTuple

SOURCE_UP = "backup_source_up"
SOURCE_CHECKED = "backup_source_checked_timestamp_seconds"
JOBS = "backup_jobs_total"
DURATION = "backup_duration_seconds"
BUCKET_SIZE = "s3_bucket_size_bytes"
NEWEST_POINT = "backup_newest_recovery_point_timestamp_seconds"
NEWEST_TEST = "backup_newest_restore_test_timestamp_seconds"
TEST_PASSED = "backup_last_restore_test_passed"
TESTS = "backup_restore_tests_total"
NEWEST_EXPIRY = "backup_newest_expiry_timestamp_seconds"
NEWEST_DRILL = "backup_newest_recovery_drill_timestamp_seconds"
LOSS = "backup_rpo_measured_seconds"
RESTORE_TIME = "backup_rto_measured_seconds"
HEARTBEAT = "backup_heartbeat_timestamp_seconds"
ARCHIVED = "backup_postgres_wal_archived_timestamp_seconds"
WAL_LOST = "backup_postgres_wal_segments_lost"
WAL_WAITING = "backup_postgres_wal_segments_waiting"
ARCHIVE_FAILING = "backup_postgres_wal_archiving_failing"
CLUSTER_STATUS = "backup_opensearch_cluster_status"
CLUSTER_NODES = "backup_opensearch_nodes"
UNASSIGNED_SHARDS = "backup_opensearch_unassigned_shards"
KEY_USABLE = "backup_kms_key_usable"
KEY_GRANTS = "backup_kms_key_grants"

SUCCESS, FAILED, PARTIAL, SUPERSEDED, MISSED = "success", "failed", "partial", "superseded", "missed"
"""Values of the label ``status``. ``missed``: a run that the schedule expected and that never happened."""

DURATION_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1500.0, 3600.0, 7200.0, 10800.0, 14400.0)
"""Upper bounds, seconds: close together below the 25 minutes that an increment may take, then up to a full's hours."""


class Described(NamedTuple):
    """A metric's kind (of Prometheus) and what it means."""

    kind: str
    meaning: str


METRICS: dict[str, Described] = {
    SOURCE_UP: Described("gauge", "1 when the source of other metrics answered, 0 when it failed."),
    SOURCE_CHECKED: Described("gauge", "When the source was asked last."),
    JOBS: Described(
        "counter",
        "Backup runs of the month by how they ended; missed: due by the schedule and never started.",
    ),
    DURATION: Described("histogram", "How long succeeded backup runs of the month took."),
    BUCKET_SIZE: Described("gauge", "Bytes in a bucket, all versions and storage classes; AWS measures once a day."),
    NEWEST_POINT: Described("gauge", "The newest moment that a recovery point brings back."),
    NEWEST_TEST: Described("gauge", "When the newest restore test that passed began."),
    TEST_PASSED: Described("gauge", "1 when the newest restore test passed, 0 when it failed."),
    NEWEST_EXPIRY: Described("gauge", "When the newest expiry that succeeded began."),
    NEWEST_DRILL: Described("gauge", "When the oldest part of the newest recovery drill that passed ended."),
    TESTS: Described("counter", "Restore tests of the month by result."),
    LOSS: Described("gauge", "Loss measured in the newest restore test, from restored heartbeats."),
    RESTORE_TIME: Described("gauge", "How long the restore of the newest restore test took."),
    HEARTBEAT: Described("gauge", "When a heartbeat was written into the store last."),
    ARCHIVED: Described("gauge", "When the repository took its newest WAL segment."),
    WAL_LOST: Described("gauge", "Segments that PostgreSQL says it archived and that the repository does not hold."),
    WAL_WAITING: Described("gauge", "Segments that PostgreSQL has finished and not archived."),
    ARCHIVE_FAILING: Described("gauge", "1 when PostgreSQL's newest attempt to archive failed."),
    CLUSTER_STATUS: Described("gauge", "1 for the status that OpenSearch has (green, yellow or red), 0 for others."),
    CLUSTER_NODES: Described("gauge", "Nodes in the OpenSearch cluster."),
    UNASSIGNED_SHARDS: Described("gauge", "Shards without a node."),
    KEY_GRANTS: Described("gauge", "Grants on the KMS key; this product makes none, so each is somebody else's."),
    KEY_USABLE: Described("gauge", "1 when the KMS key is enabled, 0 when it is not or may not be looked at."),
}
