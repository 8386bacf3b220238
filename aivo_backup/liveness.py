"""Whether a process that left its name somewhere still runs, told by name: its number alone may be another's by now."""

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_OWN_NUMBERS = Path("/proc/self/ns/pid")


def start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of ``pid``; None when it does not run (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field, the program's name, may itself hold blanks and parentheses: count from the last one.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def this_process() -> str:
    """A name for this process that no other ever has: the machine's boot, the container's numbering, number and start.
    Empty where the system does not tell (no Linux)."""
    place, pid = _place(), os.getpid()
    return f"{place} {pid} {start_ticks(pid)}" if place else ""


def is_dead(process: str) -> bool:
    """Whether the process of that name is known to run no more. One of another machine, of another container or of no
    name may run, for all that is known here."""
    place, _, rest = process.partition(" ")
    pid, _, started = rest.partition(" ")
    if not place or place != _place() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, and there
    ticks = start_ticks(int(pid))
    if ticks is not None:
        return str(ticks) != started
    # It is there and shows no start: ended and not yet collected, or hidden from this user and perhaps the one.
    return Path(f"/proc/{pid}").exists()


def _place() -> str:
    try:
        return f"{_BOOT.read_text(encoding='ascii').strip()}/{_OWN_NUMBERS.readlink()}"
    except OSError:
        return ""
