"""Ordered streams: the check that they are, and work done in parallel that stays in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from aivo_backup.errors import BackupError
from aivo_backup.stores.minio.objects import ListedObject, ListedVersion, ObjectStore

T = TypeVar("T")
# Results that wait for an earlier, slower one; bounds memory, and is wide enough that one large object holds up no
# other transfer.
_WINDOW_PER_THREAD = 256


class DisorderedListingError(BackupError):
    """A listing repeated a key or went back; what it left out cannot be known."""


def ordered_objects(store: ObjectStore, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
    """A bucket's listing, in strictly rising order of keys.

    Raises:
        DisorderedListingError: it is not.
    """
    previous = ""
    for listed in store.objects(bucket, prefix):
        if listed.key <= previous:
            raise _disordered(store, bucket, listed.key, previous)
        previous = listed.key
        yield listed


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionGroup:
    """All versions and delete markers of one key."""

    key: str
    versions: tuple[ListedVersion, ...]

    @property
    def latest(self) -> ListedVersion | None:
        """The current version, unless that is a delete marker."""
        for version in self.versions:
            if version.is_latest:
                return None if version.is_marker else version
        return None

    def find(self, version_id: str) -> ListedVersion | None:
        """The version of this id, unless it is a delete marker."""
        for version in self.versions:
            if version.version_id == version_id and not version.is_marker:
                return version
        return None


class VersionCursor:
    """Walks once through the versions below a prefix, beside another stream in the same order.

    Memory is bounded by a page, and by the versions of one key.
    """

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._groups = _grouped(store, bucket, prefix)
        self._head = next(self._groups, None)

    def before(self, key: str) -> Iterator[VersionGroup]:
        """Every group not yet walked over whose key comes before ``key``."""
        while self._head is not None and self._head.key < key:
            yield self._step(self._head)

    def at(self, key: str) -> VersionGroup | None:
        """The group of ``key``; those before it are walked over."""
        for _ in self.before(key):
            pass
        if self._head is None or self._head.key != key:
            return None
        return self._step(self._head)

    def rest(self) -> Iterator[VersionGroup]:
        """Every group not yet walked over."""
        while self._head is not None:
            yield self._step(self._head)

    def _step(self, head: VersionGroup) -> VersionGroup:
        self._head = next(self._groups, None)
        return head


def _grouped(store: ObjectStore, bucket: str, prefix: str) -> Iterator[VersionGroup]:
    collected: list[ListedVersion] = []
    for version in store.versions(bucket, prefix):
        if collected and version.key != collected[0].key:
            if version.key < collected[0].key:
                raise _disordered(store, bucket, version.key, collected[0].key)
            yield VersionGroup(key=collected[0].key, versions=tuple(collected))
            collected = []
        collected.append(version)
    if collected:
        yield VersionGroup(key=collected[0].key, versions=tuple(collected))


def _disordered(store: ObjectStore, bucket: str, key: str, previous: str) -> DisorderedListingError:
    return DisorderedListingError(
        f"the listing of {bucket} at {store.name} names {key!r} after {previous!r}",
        mend="check the store; a listing that repeats or goes back cannot be trusted",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready(Generic[T]):
    """A step whose result is there already."""

    result: T


def in_order(
    steps: Iterable[Ready[T] | Callable[[], T]], *, threads: int, halt: Callable[[], None] | None = None
) -> Iterator[T]:
    """Runs steps on ``threads`` threads and yields their results in the steps' order.

    ``steps`` is consumed as fast as the window allows, so that a listing goes on while objects are copied. The first
    exception is raised in its turn; steps not yet begun are then dropped, and those under way are waited for.

    Args:
        halt: called when the steps under way are no longer wanted, so that none is waited for long.
    """
    window = threads * _WINDOW_PER_THREAD
    waiting: deque[Ready[T] | Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="transfer") as pool:
        try:
            for step in steps:
                if isinstance(step, Ready):
                    waiting.append(cast("Ready[T]", step))
                else:
                    waiting.append(pool.submit(step))
                while waiting and (len(waiting) >= window or _is_done(waiting[0])):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        except BaseException:
            # Also where the reader stops, or a person does.
            if halt is not None:
                halt()
            for unfinished in waiting:
                if isinstance(unfinished, Future):
                    unfinished.cancel()
            raise


def _is_done(step: Ready[T] | Future[T]) -> bool:
    return isinstance(step, Ready) or step.done()


def _result(step: Ready[T] | Future[T]) -> T:
    return step.result if isinstance(step, Ready) else step.result()
