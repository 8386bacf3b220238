"""Records that could not be delivered wait here, on a volume that outlives the pod, so that no evidence is lost."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aivo_backup.errors import ConfigurationError


class Spool:
    """A folder of undelivered records, one file each, written atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, body: dict[str, Any]) -> Path:
        """Keeps a record for the next run.

        Args:
            key: the object key it is meant for.
            body: its JSON form.

        Raises:
            ConfigurationError: the folder cannot be written (a full or read-only volume).
        """
        target = self._folder / key.replace("/", "~")
        partial = target.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                json.dump({"key": key, "body": body}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:
            raise ConfigurationError(
                f"the spool {self._folder} cannot be written: {error.strerror}",
                mend="free space or mount a writable volume there",
            ) from error
        return target

    def waiting(self) -> Iterator[tuple[Path, str, dict[str, Any]]]:
        """Every undelivered record as (file, key, body), oldest name first."""
        if not self._folder.is_dir():
            return
        for file in sorted(self._folder.glob("*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            yield file, content["key"], content["body"]
