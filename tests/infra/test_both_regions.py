"""No expiry, lifecycle or lock, in either region, takes what a retained point needs, and none leaves what is over."""

import os
import re

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from aivo_backup.policy import expiry, pruning
from sandbox.plan import register
from tests.infra.joint import Played, at_the_end, played, sets_at_the_end
from tests.infra.joint_stores import Decisions, Luck, Numbers
from tests.infra.plans import Mutation, Plan, set_input
from tests.infra.regions import Region
from tests.unit.retention.play import mutated

EXAMPLES = 100 if os.environ.get("AIVO_BACKUP_TESTS") == "full" else 5
DAYS = 90
POLICY = Decisions()
RUNBOOK = Numbers()
OTHERS = Numbers(window_days=21, fulls=9, minio_days=45, opensearch_days=35, increment_hours=72, verified=3)


# Now and then nothing is copied for hours or days, as when a key's permission is lost or a region is away.
_STALLS = st.lists(st.tuples(st.integers(5, 25), st.floats(0.05, 4)), max_size=3).map(
    lambda gaps: tuple((sum(each for each, _ in gaps[: at + 1]), lasts) for at, (_, lasts) in enumerate(gaps))
)
_LUCKS = st.builds(
    Luck,
    seed=st.integers(0, 2**32),
    unlucky=st.sampled_from([0.0, 0.1, 0.4]),
    last_day=st.integers(10, 2 * DAYS),
    unproven_from=st.integers(5, 2 * DAYS),
    stalls=_STALLS,
)


@seed(5)
@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(luck=_LUCKS)
def test_whatever_happens_the_runbooks_numbers_are_kept_in_both_regions(prod: Plan, luck: Luck) -> None:
    assert list(played(luck, RUNBOOK, POLICY, DAYS).findings(prod)) == []


@pytest.fixture(scope="module")
def other() -> Plan:
    """Production with other numbers."""
    overrides = {
        "aivo-backup:postgres": {"full_backups_kept": OTHERS.fulls, "recovery_window_days": OTHERS.window_days},
        "aivo-backup:minio": {"retention_days": OTHERS.minio_days},
        "aivo-backup:opensearch": {"retention_days": OTHERS.opensearch_days},
    }
    return Plan.of("prod", register("prod", overrides=overrides))


@seed(5)
@settings(max_examples=EXAMPLES // 2, deadline=None, database=None)
@given(luck=_LUCKS)
def test_so_are_other_numbers(other: Plan, luck: Luck) -> None:
    assert list(played(luck, OTHERS, POLICY, DAYS).findings(other)) == []


@pytest.fixture(scope="module")
def smooth() -> Played:
    """Without mishaps."""
    return played(Luck(smooth=True), RUNBOOK, POLICY, 66)


@pytest.mark.parametrize("region", Region)
def test_without_mishaps_exactly_the_runbooks_table_is_there(prod: Plan, smooth: Played, region: Region) -> None:
    assert list(smooth.findings(prod)) == []
    left = sets_at_the_end(smooth.postgres, prod, region)
    fulls = sum(not entry.references for entry in left.sets)
    # The increments of one week go together, when the last of them is past the fourteen days.
    assert (fulls, 14 <= len(left.sets) - fulls <= 14 + 6) == (7, True)
    for store, prefix, suffix in (
        (smooth.minio, "metadata/minio/", "/summary.json"),
        (smooth.opensearch, "snapshots/snap-", ".dat"),
    ):
        keys = [key for key in at_the_end(store, prod, region).current if key.endswith(suffix)]
        daily = [key for key in keys if store.points.points[key.removeprefix(prefix).removesuffix(suffix)].daily]
        assert (len(daily), len(keys) - len(daily)) == (30, 6)


def lifecycle(name: str, *path: str | int, value: object) -> Mutation:
    return set_input(":BucketLifecycleConfiguration", f"{name}-lifecycle", ("rules", *path), value)


def replication(use: str, *path: str, value: object) -> Mutation:
    return set_input(":BucketReplicationConfig", f"{use}-replication", ("rules", 0, *path), value)


def expiring(name: str, prefix: str, days: int) -> Mutation:
    """A rule more: what a well-meaning hand adds to save room."""

    def mutate(plan: Plan) -> None:
        rule = {"id": "tidy", "status": "Enabled", "filter": {"prefix": prefix}, "expiration": {"days": days}}
        plan.one(":BucketLifecycleConfiguration", f"{name}-lifecycle").inputs["rules"].append(rule)

    return mutate


_NONCURRENT = (0, "noncurrentVersionExpiration", "noncurrentDays")
RULES: dict[str, tuple[Mutation, str]] = {
    "the copy's versions go a day early": (lifecycle("minio-replica", *_NONCURRENT, value=29), "SECOND.* is lost"),
    "versions go a day early at home": (lifecycle("minio", *_NONCURRENT, value=29), "HOME.* is lost"),
    "the copy's versions stay": (
        lifecycle("opensearch-replica", 0, "noncurrentVersionExpiration", value=None),
        "SECOND.* outlives",
    ),
    "versions stay two days longer": (lifecycle("postgres", *_NONCURRENT, value=16), "HOME.* outlives"),
    "what is rarely rewritten expires": (expiring("postgres", "archive/", 60), "archive.info is lost"),
    "blobs expire that snapshots share": (expiring("opensearch-replica", "snapshots/", 30), "SECOND.* is lost"),
    "manifests expire by lifecycle": (expiring("minio", "metadata/", 29), "HOME.* is lost"),
    "deletions are not copied": (
        replication("minio", "deleteMarkerReplication", "status", value="Disabled"),
        "the regions differ",
    ),
    "what is under KMS is not copied": (
        replication("postgres", "sourceSelectionCriteria", "sseKmsEncryptedObjects", "status", value="Disabled"),
        "SECOND.* is lost",
    ),
    "backups are copied and no WAL": (replication("postgres", "filter", "prefix", value="backup/"), "SECOND.* lost"),
    "records are not copied": (replication("compliance", "status", value="Disabled"), "compliance is not copied whole"),
    "a lock is over too early": (
        set_input(":BucketObjectLockConfiguration", "audit-lock", ("rule", "defaultRetention", "days"), 1000),
        "audit of .* stays 1000",
    ),
    "a lock outlives its class": (
        set_input(":BucketObjectLockConfiguration", "dr-documents-lock", ("rule", "defaultRetention", "days"), 2557),
        "dr-documents of .* stays 2557",
    ),
    "the vault's copy is kept for ever": (
        lifecycle("vault-replica", 0, "expiration", value=None),
        "SECOND: vault .* None",
    ),
    "what expired is kept a second time": (
        lifecycle("compliance", *_NONCURRENT, value=2557),
        "HOME: compliance of .* stays 5114",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RULES))
def test_a_wrong_rule_is_caught(prod: Plan, smooth: Played, name: str) -> None:
    mutation, told = RULES[name]
    mutant = prod.copy()
    mutation(mutant)
    assert any(re.search(told, finding) for finding in smooth.findings(mutant))


POLICIES = {
    "one full fewer": Decisions(sets=mutated(expiry, "[-fulls_kept:]", "[1 - fulls_kept :]").plan_expiry),
    "increments stay a day less": Decisions(
        sets=mutated(expiry, "if entry.ended > cutoff}", "if entry.ended > cutoff + timedelta(days=1)}").plan_expiry
    ),
    "a base goes by its age": Decisions(
        points=mutated(pruning, "reasons[needed] = Because.NEEDED", "pass").decide,
    ),
    "daily points stay a day too long": Decisions(
        points=mutated(
            pruning, "now - point.taken < kept_for", "now - point.taken - timedelta(days=1) < kept_for"
        ).decide,
    ),
}


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_wrong_policy_is_caught(prod: Plan, name: str) -> None:
    lucks = [Luck(seed=number, unlucky=0.1 * (number % 2), last_day=50, unproven_from=20) for number in range(8)]
    assert any(any(played(luck, RUNBOOK, POLICIES[name], DAYS).findings(prod)) for luck in lucks)
