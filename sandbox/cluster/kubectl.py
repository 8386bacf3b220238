"""kubectl, as the administrator of the sandbox's cluster."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from aivo_backup.errors import BackupError
from aivo_backup.stores.process import Finished, run
from sandbox.cluster.place import Place
from sandbox.cluster.tools import ClusterTools

FIELD_MANAGER = "aivo-backup"
_POLL_SECONDS = 0.5

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kubectl:
    """One cluster's kubectl."""

    place: Place
    tools: ClusterTools

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 300.0) -> Finished:
        """Runs it; a non-zero exit is the caller's to judge."""
        argv = [self.tools.program("kubectl"), f"--kubeconfig={self.place.kubeconfig}", *arguments]
        return run(argv, stdin=stdin, timeout_seconds=timeout_seconds)

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 300.0) -> str:
        """What it prints.

        Raises:
            BackupError: it fails; the message has its words.
        """
        done = self.run(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.exit_code != 0:
            raise BackupError(f"kubectl {' '.join(arguments[:4])}: {done.tail()}")
        return done.stdout

    def apply(self, documents: Sequence[Document], *, field_manager: str = FIELD_MANAGER) -> list[str]:
        """Applies objects on the server's side, every field known to it. Returns the warnings.

        Raises:
            BackupError: the server refuses one.
        """
        text = yaml.safe_dump_all([dict(document) for document in documents])
        options = ("--server-side", "--validate=strict", f"--field-manager={field_manager}")
        done = self.run("apply", *options, "-f", "-", stdin=text)
        if done.exit_code != 0:
            raise BackupError(f"the cluster refuses an object: {done.tail()}")
        return [line for line in done.stderr.splitlines() if line.startswith("Warning:")]

    def get(
        self, kind: str, name: str = "", *, namespace: str = "", selector: str = "", every_namespace: bool = False
    ) -> Any:
        """An object, or with no name the list of objects.

        Raises:
            BackupError: there is none of that name.
        """
        arguments = ["get", kind, *([name] if name else []), "-o", "json"]
        arguments += [f"--namespace={namespace}"] if namespace else []
        arguments += [f"--selector={selector}"] if selector else []
        arguments += ["--all-namespaces"] if every_namespace else []
        answer = json.loads(self(*arguments))
        return answer if name else answer["items"]

    def wait(self, what: str, condition: Callable[[], bool], *, seconds: float, mend: str = "see the pods") -> None:
        """Waits until something is so.

        Raises:
            BackupError: it is not within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise BackupError(f"{what}: not within {seconds:.0f} s", mend=mend)
            time.sleep(_POLL_SECONDS)
