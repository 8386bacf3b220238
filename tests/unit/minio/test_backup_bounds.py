"""Listings in their order, and bytes in flight within their bound."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from aivo_backup.stores.minio.objects import Attributes, Condition, ListedObject, ListedVersion, Stored
from aivo_backup.stores.minio.ordered import DisorderedListingError
from aivo_backup.stores.minio.transfer import ByteBudget, HaltedError
from tests.unit.minio.memory import MemoryStore
from tests.unit.minio.world import SETTINGS, World, failed


class Listing(MemoryStore):
    """Lists in an order of its own."""

    order: tuple[str, ...] = ()

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        listed = {item.key: item for item in super().objects(bucket, prefix)}
        yield from (listed[key] for key in self.order if key in listed) if bucket == "docs" else listed.values()


@pytest.mark.parametrize("order", [("a", "c", "b"), ("a", "b", "b", "c"), ("a", "b", "a", "b", "c")])
def test_a_listing_out_of_order_or_repeated_is_an_error(order: tuple[str, ...]) -> None:
    source = Listing(name="source")
    source.order = order
    world = World(source=source)
    for key in "abc":
        world.put(key, b"x")
    with pytest.raises(DisorderedListingError, match="the listing of docs at source"):
        world.backup()
    assert world.store.held_points() == ()


class Measuring(MemoryStore):
    """Knows how many bytes it is being handed at once."""

    held_bytes = 0
    most_bytes = 0

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        attributes: Attributes,
        *,
        sha256: str,
        condition: Condition | None = None,
    ) -> Stored:
        if key.startswith("minio-data/docs/"):
            with self.lock:
                self.held_bytes += len(body)
                self.most_bytes = max(self.most_bytes, self.held_bytes)
            threading.Event().wait(0.01)
            with self.lock:
                self.held_bytes -= len(body)
        return super().put(bucket, key, body, attributes, sha256=sha256, condition=condition)


class Restless(MemoryStore):
    """Lists versions in an order of its own."""

    def versions(self, bucket: str, prefix: str = "") -> Iterator[ListedVersion]:
        return iter(sorted(super().versions(bucket, prefix), key=lambda version: version.key, reverse=True))


def test_a_listing_of_versions_out_of_order_is_an_error() -> None:
    world = World(target=Restless(name="target"))
    for key in "ab":
        world.put(key, b"x")
    world.backup()
    with pytest.raises(DisorderedListingError, match="listing of aivo-backup-minio at target"):
        world.backup()


def test_bytes_in_flight_stay_within_their_bound() -> None:
    target = Measuring(name="target")
    world = World(target=target, settings=replace(SETTINGS, transfers=8, bytes_in_flight=20))
    for number in range(20):
        world.put(f"file-{number}", b"12345678")
    assert failed(world.restore_test(world.backup())) == {}
    assert target.most_bytes == 16, "two fit at once, a third does not"


def test_the_byte_budget_holds_back_what_does_not_fit() -> None:
    budget = ByteBudget(10)
    entered = threading.Event()

    def second() -> None:
        with budget.holding(6):
            entered.set()

    with budget.holding(6):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
        with budget.holding(4):
            pass
    thread.join(5)
    assert entered.is_set()
    with budget.holding(1000):
        pass


def test_who_waits_for_a_budget_that_is_halted_goes_home() -> None:
    budget = ByteBudget(10)
    outcomes: list[str] = []

    def second() -> None:
        try:
            with budget.holding(6):
                outcomes.append("held")
        except HaltedError:
            outcomes.append("halted")

    with budget.holding(6):
        thread = threading.Thread(target=second)
        thread.start()
        budget.halt()
        thread.join(5)
    assert outcomes == ["halted"]
    with pytest.raises(HaltedError), budget.holding(1):
        pass
