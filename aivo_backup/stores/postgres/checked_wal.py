"""A ``restore_command`` that compares each WAL segment with the digest in its archived name.

pgBackRest names an archived segment by the SHA-1 of its content, and does not compare when it gets it. A byte that
turned at rest can then decode to other WAL, of which PostgreSQL's own CRC sees only what lies inside a record.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path

from aivo_backup.stores.postgres.archive import ArchivedSegment
from aivo_backup.stores.postgres.pgbackrest import PROGRAM, PgBackRest

# PostgreSQL runs restore_command by a shell anyway. What is not in the list (history files, segments archived since)
# passes as it came. Exit 1 is the end of WAL to PostgreSQL; how far it went is compared afterwards.
_SCRIPT = """#!/bin/sh
{command} archive-get "$1" "$2" || exit $?
wanted=$(grep "^$1 " {digests} | cut -d" " -f2)
[ -z "$wanted" ] && exit 0
found=$(sha1sum < "$2" | cut -d" " -f1)
[ "$found" = "$wanted" ] && exit 0
echo "WAL segment $1 is not what its name says: SHA-1 $found" >&2
rm -f "$2"
exit 1
"""


def checked_restore_command(pgbackrest: PgBackRest, segments: Iterable[ArchivedSegment], folder: Path) -> str:
    """Writes the script and the digests into ``folder``; answers the ``restore_command`` that uses them."""
    digests = folder / "digests"
    digests.write_text("".join(f"{entry.name} {entry.sha1}\n" for entry in segments), encoding="ascii")
    command = shlex.join([PROGRAM, f"--config={pgbackrest.config}", f"--stanza={pgbackrest.stanza}"])
    script = folder / "get-wal"
    script.write_text(_SCRIPT.format(command=command, digests=shlex.quote(str(digests))), encoding="utf-8")
    script.chmod(0o755)
    return f'{shlex.quote(str(script)).replace("%", "%%")} %f "%p"'
