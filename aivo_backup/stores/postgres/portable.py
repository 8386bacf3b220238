"""pgBackRest for a container whose image is not ours: the program with all of its libraries, and their loader."""

import re
import shutil
from pathlib import Path

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.database_pod import PROGRAM, PROGRAM_FOLDER
from aivo_backup.stores.process import run

_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LOADER = re.compile(r"/ld-[^/]*$")


def install(folder: Path, *, seen_as: str = PROGRAM_FOLDER) -> None:
    """Fills a folder with a pgBackRest that runs under any Linux of this processor, whatever its C library.

    Args:
        seen_as: the folder's path where it will run; libraries are found by it.

    Raises:
        ConfigurationError: pgBackRest is missing here, or the folder cannot be written.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigurationError("pgbackrest is missing in this image", mend="use the image of `make image`")
    libraries = [Path(found) for found in _LIBRARY.findall(run(["ldd", program]).stdout)]
    loader = next((library for library in libraries if _LOADER.search(str(library))), None)
    if loader is None:
        raise ConfigurationError(f"{program} names no loader", mend="use the image of `make image`")
    lib = f"{seen_as}/lib"
    wrapper = f'#!/bin/sh\nexec {lib}/{loader.name} --argv0 {PROGRAM} --library-path {lib} {lib}/{PROGRAM}.bin "$@"\n'
    try:
        (folder / "lib").mkdir(parents=True, exist_ok=True)
        for library in libraries:
            shutil.copy(library, folder / "lib" / library.name)
        shutil.copy(program, folder / "lib" / f"{PROGRAM}.bin")
        target = folder / PROGRAM
        unfinished = target.with_suffix(".tmp")
        unfinished.write_text(wrapper, encoding="utf-8")
        unfinished.chmod(0o755)
        unfinished.replace(target)
    except OSError as error:
        raise ConfigurationError(f"cannot fill {folder}: {error.strerror}", mend="make it writable") from error
