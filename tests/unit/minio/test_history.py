"""Whatever happens at the source and to the runs, every point that exists restores exactly what was there."""

import os
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aivo_backup.errors import BackupError
from aivo_backup.policy.environment import BackupKind
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.port import TakenBackup
from tests.unit.minio.memory import MemoryStore, no_fault
from tests.unit.minio.world import BUCKET, SETTINGS, World, failed

Contents = dict[str, tuple[bytes, Attributes]]
# Few, so that one history does much to each: neighbours in order, equal to the eye, a folder, and too long to mirror.
_KEYS = st.sampled_from(["a-b", "a/b", "caf\u00e9", "cafe\u0301", "folder/", "\u00fc" * 512])
# Up to several parts of eight bytes, and few enough that content returns to what it was.
_BODIES = st.sampled_from([b"", b"x", b"one part", b"some more than two"])
_ATTRIBUTES = st.builds(
    Attributes,
    content_type=st.sampled_from(["text/plain", "image/png"]),
    metadata=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"])),
)


class Killed(BaseException):
    """The process died: nothing after this moment happened, and no handler ran usefully."""


class History(RuleBasedStateMachine):
    """A source that changes, runs that succeed or die at any step, and a model of what each point must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(settings=replace(SETTINGS, deletion_guard_share=1.0))
        self.points: list[tuple[TakenBackup, Contents]] = []
        self.dead = False

    @rule(key=_KEYS, body=_BODIES, attributes=_ATTRIBUTES)
    def write(self, key: str, body: bytes, attributes: Attributes) -> None:
        self.world.put(key, body, attributes)

    @rule(key=_KEYS, attributes=_ATTRIBUTES)
    def rewrite_with_other_metadata(self, key: str, attributes: Attributes) -> None:
        body, _ = self.world.source.contents("docs").get(key, (b"", None))
        self.world.put(key, body, attributes)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        self.world.source.remove("docs", key)

    @rule(key=_KEYS)
    def someone_deletes_a_backup(self, key: str) -> None:
        """A delete marker, as anybody with the right to delete can leave; the next full run mends it."""
        self.world.target.remove(BUCKET, f"minio-data/docs/{key}")

    @rule(kind=st.sampled_from(BackupKind))
    def backup(self, kind: BackupKind) -> None:
        self.world.beat()
        taken = self.world.backup(kind)
        self.points.append((taken, self.world.source.contents("docs")))
        if kind is BackupKind.FULL:
            self._target_mirrors_source()

    @rule(kind=st.sampled_from(BackupKind), step=st.integers(min_value=0, max_value=40))
    def backup_that_dies(self, kind: BackupKind, step: int) -> None:
        """At the ``step``-th operation on the target, and from then on every operation fails."""
        left = [step]

        def die(_operation: str, _bucket: str, _key: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        known = self.world.store.held_points()
        self.world.target.hook = die
        try:
            taken = self.world.backup(kind)
        except Killed:
            self.world.target.hook = no_fault
            assert self.world.store.held_points() == known
        else:
            self.world.target.hook = no_fault
            self.points.append((taken, self.world.source.contents("docs")))

    @precondition(lambda self: bool(self.points))
    @rule(pick=st.randoms(use_true_random=False))
    def restore_any_point(self, pick: Random) -> None:
        self._restores(*pick.choice(self.points))

    @precondition(lambda self: bool(self.points))
    @rule(pick=st.randoms(use_true_random=False))
    def restore_in_place_exactly(self, pick: Random) -> None:
        """The source itself becomes what any point holds; done twice, the second time changes nothing."""
        taken, contents = pick.choice(self.points)
        self.world.restore(taken.point, self.world.source, exact=True, overwrite_newer=True)
        assert self.world.source.contents("docs") == contents
        again = self.world.restore(taken.point, self.world.source, exact=True, overwrite_newer=True)
        assert again.bytes_written == 0
        assert set(again.changes) <= {"equal"}

    @invariant()
    def exactly_the_finished_runs_are_points(self) -> None:
        held = [point.point for point in self.world.store.held_points()]
        assert held == [taken.point for taken, _ in self.points]

    def teardown(self) -> None:
        for taken, contents in self.points:
            assert failed(self.world.restore_test(taken)) == {}
            self._restores(taken, contents)

    def _restores(self, taken: TakenBackup, contents: Contents) -> None:
        empty = MemoryStore(name="empty")
        self.world.restore(taken.point, empty)
        assert empty.contents("docs") == contents

    def _target_mirrors_source(self) -> None:
        """After a full run S3 would expire exactly what no longer is at the source."""
        mirrored = {
            key.removeprefix("minio-data/docs/"): body
            for key, (body, _) in self.world.target.contents(BUCKET).items()
            if key.startswith("minio-data/docs/")
        }
        source = {
            key: body for key, (body, _) in self.world.source.contents("docs").items() if len(key.encode()) < 1000
        }
        assert {key: body for key, body in mirrored.items() if len(key.encode()) < 1000} == source


_FULL = os.environ.get("AIVO_BACKUP_TESTS") == "full"


@pytest.mark.timeout(1800 if _FULL else 300)
class TestHistory(History.TestCase):
    settings = settings(
        max_examples=500 if _FULL else 30,
        stateful_step_count=40 if _FULL else 25,
        deadline=None,
        derandomize=not _FULL,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_a_crash_error_is_not_one_of_ours() -> None:
    assert not issubclass(Killed, BackupError)
