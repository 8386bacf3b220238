"""The applications that use the stores: stopped while a store is replaced, and always started again as they were."""

from collections.abc import Mapping
from typing import Protocol

from aivo_backup.catalog.records import Fact
from aivo_backup.errors import BackupError
from aivo_backup.stores.port import Progress

_SCALE = "scale "


class Applications(Protocol):
    """The workloads of an environment that carry the label of applications to stop (a setting)."""

    def scales(self) -> Mapping[str, int]:
        """How many replicas each workload is to have now, by its name, for example ``aivo/deployment/api``: 3.

        Raises:
            UnreachableError: the cluster does not answer.
        """
        ...

    def scale(self, workload: str, replicas: int, progress: Progress) -> None:
        """Sets a workload's replicas and waits until it is so. Repeating it changes nothing.

        Raises:
            UnreachableError: the cluster does not answer.
            BackupError: it did not come to it in time.
        """
        ...


class NoApplications:
    """An environment without applications, or a drill, which must not stop any."""

    def scales(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def scale(self, workload: str, replicas: int, progress: Progress) -> None:
        """There is nothing to scale."""


class Keep(Protocol):
    """Keeps facts durably."""

    def __call__(self, **notes: Fact) -> None:
        """Keeps them."""
        ...


def stop_all(applications: Applications, noted: Mapping[str, Fact], keep: Keep, progress: Progress) -> None:
    """Notes every workload's scale, then scales all of them to nothing.

    What an earlier attempt noted counts: by now the workloads may stand at nothing because of it.

    Raises:
        UnreachableError, BackupError: see :class:`Applications`.
    """
    known = former(noted)
    scales = {name: replicas for name, replicas in applications.scales().items() if replicas > 0}
    fresh = {name: replicas for name, replicas in scales.items() if name not in known}
    if fresh:
        keep(**{f"{_SCALE}{name}": replicas for name, replicas in fresh.items()})
    for name, replicas in scales.items():
        progress(f"stopping {name} ({replicas} replicas)")
        applications.scale(name, 0, progress)


def former(noted: Mapping[str, Fact]) -> dict[str, int]:
    """The scales that :func:`stop_all` noted, by workload."""
    return {name.removeprefix(_SCALE): int(value) for name, value in noted.items() if name.startswith(_SCALE)}


def start_again(applications: Applications, scales: Mapping[str, int], progress: Progress) -> None:
    """Brings every workload back to its former scale; one that does not start does not keep the others from it.

    Raises:
        BackupError: some did not start; the message names them.
    """
    failed: list[str] = []
    for name, replicas in scales.items():
        progress(f"starting {name} ({replicas} replicas)")
        try:
            applications.scale(name, replicas, progress)
        except BackupError as error:
            failed.append(f"{name}: {error}")
    if failed:
        raise BackupError("; ".join(failed), mend="start them by hand")
