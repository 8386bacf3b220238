"""The expiry as it runs, on repositories of months, with the real pgBackRest: simulated, compared, and done."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from aivo_backup.errors import RefusedError
from aivo_backup.policy.environment import PostgresSettings
from aivo_backup.policy.expiry import ExpiryPlan
from aivo_backup.stores.port import silent
from aivo_backup.stores.postgres.archive import Archive, ArchivedSegment
from aivo_backup.stores.postgres.expiry import Expirer, SetExpiry, check_simulation, read_removed
from aivo_backup.stores.postgres.info import StanzaInfo
from aivo_backup.stores.postgres.inventory import Inventories
from tests.unit.retention.histories import BEGINNING, STANZA, History
from tests.unit.retention.oracle import broken_promises, outlived
from tests.unit.retention.play import PROMISES, Play, author_of, expired, findings
from tests.unit.retention.repository import ForgedRepository

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

SAMPLES = range(1, 61 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 21)
# So long was no expiry run: sets go, whole chains and single increments, and WAL with them.
DAYS, IDLE_DAYS = 70, 16
_NO_S3 = cast("S3Client", None)


@dataclass(frozen=True, kw_only=True)
class FolderArchive(Archive):
    """The archive as a folder lists it instead of S3."""

    repository: ForgedRepository

    def segments(self, archive_id: str, *, since: str = "", folder: str = "") -> Iterator[ArchivedSegment]:
        for name in sorted(self.repository.left().wal):
            if name >= since and name.startswith(folder):
                yield ArchivedSegment(name=name, sha1="", key=f"{archive_id}/{name}", stored=BEGINNING)

    def _newest_timeline(self, info: StanzaInfo) -> int:
        return max(int(name[:8], 16) for name in self.repository.left().wal)


@dataclass(frozen=True, kw_only=True)
class ForgottenInventories(Inventories):
    """There are none."""

    def forget(self, but: Collection[str]) -> int:
        return 0


@cache
def idle(seed: int) -> Play:
    """A history whose expiry has not run for a while; the same one for all tests, which only look at it."""
    play = Play(author_of(seed))
    assert list(findings(play, DAYS)) == []
    for _ in range(IDLE_DAYS):
        play.author.day()
        play.author.verify()
    return play


def expiry_of(repository: ForgedRepository) -> SetExpiry:
    """What the job decides and has simulated."""
    history = repository.history
    expirer = Expirer(
        settings=PostgresSettings(host="unused", sidecar_host="unused", stanza=STANZA),
        pgbackrest=repository.pgbackrest,
        archive=FolderArchive(s3=_NO_S3, bucket="", stanza=STANZA, repository=repository),
        inventories=ForgottenInventories(s3=_NO_S3, bucket="", stanza=STANZA),
    )
    verified = frozenset(entry.label for entry in history.sets if entry.verified)
    return expirer.plan(repository.pgbackrest.info(), now=history.now, verified=lambda _: verified)


@pytest.mark.parametrize("seed", SAMPLES)
def test_pgbackrest_removes_what_was_planned_and_nothing_that_was_promised(seed: int, tmp_path: Path) -> None:
    play = idle(seed)
    held = play.after()
    repository = ForgedRepository(home=tmp_path / "r", history=held)
    expiry = expiry_of(repository)
    assert expiry.plan == play.decide(), "the adapter tells the policy what is so"
    assert repository.left() == held, "a simulation changes nothing"
    gone: list[str] = []
    expiry.carry_out(gone=gone.append, progress=silent)
    left = repository.left()
    assert set(gone) == set(expiry.goes) == {entry.label for entry in held.sets} - {entry.label for entry in left.sets}
    assert left == expired(held, expiry.plan), "the play's words for pgBackRest's rule are pgBackRest's own"
    before = play.author.history()
    assert list(broken_promises(before, left, PROMISES)) == []
    assert list(outlived(before, left, PROMISES)) == []
    assert expiry_of(repository).goes == (), "a second run has nothing left to do"


def test_the_samples_are_worth_it() -> None:
    """Among them: fulls and increments that go, no window yet, an abandoned timeline, damaged sets."""
    plays = [idle(seed) for seed in SAMPLES]
    plans = [play.decide() for play in plays]
    heads = [head for plan in plans for head in plan.heads]
    assert any(head.endswith("I") for head in heads)
    assert any(head.endswith("F") for head in heads)
    assert any(not plan.window_start for plan in plans)
    assert any(play.author.switch and play.decide().goes for play in plays)
    assert any(entry.damaged for play in plays for entry in play.after().sets)


def test_expiry_waits_for_a_full_before_the_window(tmp_path: Path) -> None:
    author = author_of(5, unlucky=0.0)
    for _ in range(10):
        author.day()
    plan = expiry_of(ForgedRepository(home=tmp_path / "r", history=author.history())).plan
    assert (plan.goes, plan.window_start) == ((), "")


def test_an_empty_repository_needs_nothing(tmp_path: Path) -> None:
    history = History(now=BEGINNING, sets=(), wal=frozenset())
    expiry = expiry_of(ForgedRepository(home=tmp_path / "r", history=history))
    expiry.carry_out(gone=lambda label: pytest.fail(label), progress=silent)
    assert (expiry.goes, dict(expiry.kept)) == ((), {})


@pytest.fixture
def simulated(tmp_path: Path) -> tuple[ExpiryPlan, str]:
    """A plan and what pgBackRest says to it, for mutants of either."""
    repository = ForgedRepository(home=tmp_path / "r", history=idle(1).after())
    plan = expiry_of(repository).plan
    calls = [[f"--set={head}"] for head in plan.heads] + [[]]
    said = [
        repository.pgbackrest.run("expire", "--dry-run", *call, f"--repo1-retention-archive={plan.archive_fulls}")
        for call in calls
    ]
    return plan, "".join(said)


def test_a_simulation_that_is_the_plan_passes(simulated: tuple[ExpiryPlan, str]) -> None:
    plan, said = simulated
    check_simulation(plan, read_removed(said))
    assert read_removed(said).wal


def test_a_set_that_only_pgbackrest_would_expire_is_named(simulated: tuple[ExpiryPlan, str]) -> None:
    plan, said = simulated
    kept = next(iter(plan.kept))
    with pytest.raises(RefusedError, match=f"it would also expire {kept}") as refusal:
        check_simulation(plan, read_removed(f"{said}\nP00 INFO: [DRY-RUN] repo1: remove expired backup {kept}"))
    assert refusal.value.exit_code == 6


def test_a_set_that_only_the_plan_expires_is_named(simulated: tuple[ExpiryPlan, str]) -> None:
    plan, said = simulated
    kept = next(iter(plan.kept))
    with pytest.raises(RefusedError, match=f"it would not expire {kept}"):
        check_simulation(replace(plan, goes=(*plan.goes, kept)), read_removed(said))


def test_wal_that_a_kept_set_needs_is_named(simulated: tuple[ExpiryPlan, str]) -> None:
    plan, said = simulated
    need = next(entry for entry in plan.wal if not entry.last)
    line = f"P00 INFO: [DRY-RUN] repo1: 15-1 remove archive, start = {need.first[:16]}, stop = {need.first[:16]}"
    with pytest.raises(RefusedError, match=f"WAL that a kept set needs: 15-1 {need.first[:16]}00000000"):
        check_simulation(plan, read_removed(f"{said}\n{line}"))
    whole = "P00 INFO: [DRY-RUN] repo1: remove archive path /archive/aivo-postgres/15-1"
    with pytest.raises(RefusedError, match="the whole archive 15-1"):
        check_simulation(plan, read_removed(f"{said}\n{whole}"))


def test_a_set_that_builds_on_another_without_its_word_is_refused_by_the_simulation(tmp_path: Path) -> None:
    """pgBackRest takes what builds on a set along; a plan that did not know of it must not pass."""
    repository = ForgedRepository(home=tmp_path / "r", history=idle(1).after())
    expiry = expiry_of(repository)
    full = next(label for label in expiry.kept if label.endswith("F") and any(f"{label}_" in k for k in expiry.kept))
    wrong = replace(expiry, plan=replace(expiry.plan, goes=(*expiry.goes, full), heads=(*expiry.plan.heads, full)))
    with pytest.raises(RefusedError, match=f"it would also expire {full}_"):
        wrong.simulate()
    assert repository.left() == repository.history


def test_the_window_is_measured_from_the_end_of_the_full(tmp_path: Path) -> None:
    author = author_of(1, unlucky=0.0)
    for _ in range(16):
        author.day()
    history = author.history()
    ended = history.sets[0].ended
    for wait, begun in ((timedelta(days=14), False), (timedelta(days=14, seconds=1), True)):
        moved = replace(history, now=ended + wait)
        plan = expiry_of(ForgedRepository(home=tmp_path / f"{begun}", history=moved)).plan
        assert bool(plan.window_start) is begun
