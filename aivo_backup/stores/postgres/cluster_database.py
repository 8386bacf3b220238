"""The port to a database that a StatefulSet runs: stopped, restored by a Job on its volume, and started again."""

from collections.abc import Sequence
from typing import Protocol

from aivo_backup.stores.port import Progress


class ClusterDatabase(Protocol):
    """One StatefulSet and its volume. Every method may be repeated; none needs what an earlier process knew: the former
    scale is kept at the StatefulSet itself."""

    def check(self) -> bool:
        """Looks whether it may be restored.

        Returns:
            whether it runs, or is to run.

        Raises:
            RefusedError: it is owned by an operator or replicated, or another Job restores on its volume.
            ConfigurationError: there is no such StatefulSet.
            UnreachableError: the cluster does not answer.
        """
        ...

    def stop(self, progress: Progress) -> None:
        """Scales it to nothing, noting its scale at it beforehand, and waits until its pods are gone.

        Raises:
            UnreachableError, BackupError: it does not come to it.
        """
        ...

    def restore(self, name: str, arguments: Sequence[str], progress: Progress) -> str:
        """Runs the Job ``name`` on the volume, or waits for it where it is there already.

        Args:
            arguments: what `aivo-backup` is called with.

        Returns:
            the last line that it printed.

        Raises:
            BackupError: it failed; of the kind and with the line that the Job ended with. The volume is as before.
        """
        ...

    def working(self) -> list[str]:
        """The Jobs that restore on the volume at this moment, by name."""
        ...

    def left(self, name: str) -> bool:
        """Whether a Job of that name is there and has not failed: it works, or has done its work."""
        ...

    def start(self, progress: Progress) -> None:
        """Brings it back to its former scale and waits until it is ready; does nothing to one that stands at it.

        Raises:
            UnreachableError, BackupError: it does not become ready.
        """
        ...
