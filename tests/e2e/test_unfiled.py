"""What Jobs that came to nothing leave on record, filed by the agent in the cluster."""

from aivo_backup.catalog.records import Purpose, Restore
from aivo_backup.policy.environment import Component
from tests.e2e.world import NAMESPACE, World


def test_a_restore_test_whose_pod_is_refused_is_a_failed_one_on_record(world: World, refused_restore_test: str) -> None:
    def filed() -> list[Restore]:
        today = world.app.clock().replace(hour=0, minute=0)
        return [it for it in world.app.catalog.restores(since=today) if refused_restore_test in it.error]

    world.wait(f"the failure of {refused_restore_test} on record", lambda: bool(filed()), seconds=240.0)
    (failed,) = filed()
    assert (failed.component, failed.purpose, failed.passed) == (Component.MINIO, Purpose.TEST, False)
    assert (failed.job, failed.recovery_point) == ("restore-test-minio", "")
    assert 'violates PodSecurity "restricted' in failed.error
    world.kubectl("delete", "job", refused_restore_test, f"--namespace={NAMESPACE}", "--wait=false")
