"""Fetches a backup set's files, and names what is damaged when that fails."""

import re
from collections.abc import Sequence
from pathlib import Path

from aivo_backup.errors import BackupError, VerificationError
from aivo_backup.stores.postgres.failures import DATA_CODES, Failure, as_error, read_failure
from aivo_backup.stores.postgres.info import BackupSet
from aivo_backup.stores.postgres.inventory import Inventories
from aivo_backup.stores.postgres.owner import give_to_owner_of
from aivo_backup.stores.postgres.pgbackrest import PgBackRest

_NAMED_AT_MOST = 5


def fetch(
    pgbackrest: PgBackRest,
    backup: BackupSet,
    data: Path,
    *options: str,
    inventories: Inventories,
    tablespaces: Path,
) -> None:
    """Restores a set's files into ``data``, which is made, and sets up the replay of WAL.

    Args:
        options: more options of ``pgbackrest restore``: where recovery stops, for example.
        tablespaces: folder that takes the tablespaces, if the database has any.

    Raises:
        VerificationError: the repository's data is damaged or gone; the message names the object.
        UnreachableError, AccessDeniedError, ConfigurationError, BackupError: something else failed.
    """
    data.mkdir(mode=0o700, exist_ok=True)
    give_to_owner_of(pgbackrest.owner, data)
    done = pgbackrest.try_run(
        "restore",
        f"--set={backup.label}",
        f"--tablespace-map-all={tablespaces}",
        *options,
    )
    if done.exit_code == 0:
        return
    failure = read_failure(done.exit_code, f"{done.stdout}\n{done.stderr}")
    if not _about_data(failure):
        raise as_error("pgbackrest restore", failure)
    named = damaged_objects(pgbackrest, backup, inventories)
    raise VerificationError(f"backup set {backup.label} cannot be restored: {named or failure.text}")


def _about_data(failure: Failure) -> bool:
    if failure.code in DATA_CODES:
        return "certificate" not in failure.text
    # A truncated object has no bytes where the manifest says that a file lies.
    return "416" in failure.text and "InvalidRange" in failure.text


def damaged_objects(pgbackrest: PgBackRest, backup: BackupSet, inventories: Inventories) -> str:
    """Names what is wrong with a set that does not restore, as objects of the bucket; empty when nothing is found.

    pgBackRest's own words name the file only sometimes, so its ``verify`` reads everything once more, and what is
    wrong inside a bundle is led back to the bundle.
    """
    said = pgbackrest.try_run("verify", "--log-level-console=info", "--log-level-stderr=warn")
    wrong: list[str] = []
    for label, path in re.findall(r"(?:invalid checksum|missing file|invalid size) '([^'/]+)/([^']+)'", said.stdout):
        key = f"backup/{pgbackrest.stanza}/{label}/{path}"
        bundle = _bundle_of(pgbackrest, label, path)
        wrong.append(f"{key} is damaged" if not bundle else f"{bundle} is damaged ({path})")
    stored = inventories.stored()
    for label in (backup.label, *backup.references):
        if label in stored:
            wrong += inventories.differences(inventories.read(stored[label]))
    return some(list(dict.fromkeys(wrong)))


def _bundle_of(pgbackrest: PgBackRest, label: str, path: str) -> str:
    file = re.sub(r"\.(?:zst|gz|lz4|bz2)$", "", path)
    try:
        manifest = pgbackrest.read_file(f"backup/{pgbackrest.stanza}/{label}/backup.manifest")
    except BackupError:
        return ""
    entry = re.search(rf'^{re.escape(file)}=\{{"bni":(\d+)', manifest, re.MULTILINE)
    return f"backup/{pgbackrest.stanza}/{label}/bundle/{entry[1]}" if entry else ""


def some(names: Sequence[str]) -> str:
    """Names joined, the first few of them, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return "; ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
