"""The drills, begun beside the other tests, have ended by now. After them, the stores themselves are restored."""

from aivo_backup.catalog.records import Purpose
from aivo_backup.policy.names import DOCUMENTS, DRILL_BUCKETS, REVIEWS_PREFIX
from aivo_backup.stores.opensearch.recovery import existing
from tests.e2e.world import World


def test_drills_restore_beside_the_stores_file_it_and_leave_nothing(world: World, drills: dict[str, str]) -> None:
    assert set(drills) == {"drill-annual", "drill-monthly", "drill-quarterly"}
    for name, job in drills.items():
        assert world.ended(job) == "Complete", f"{name}: {world.logs(job)}"
    app = world.app
    records = app.catalog.recoveries(Purpose.DRILL, since=app.clock().replace(hour=0, minute=0))
    assert {(record.exercise, record.scenario, record.from_replica) for record in records if record.passed} == {
        ("monthly", "storage-failure", False),
        ("quarterly", "database-corruption", True),
        ("quarterly", "storage-failure", True),
    }
    buckets = [bucket.get("Name", "") for bucket in app.minio_source.list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith(DRILL_BUCKETS)]
    assert not existing(app.opensearch_cluster, "verify-*")
    reviews = app.s3.list_objects_v2(Bucket=app.environment.buckets[DOCUMENTS], Prefix=REVIEWS_PREFIX)
    assert reviews.get("Contents"), "the yearly review is among the documents"
