"""The zip packages of functions, as ``make lambdas`` leaves them, and the refusal of one that is not of this source.

``build/lambdas/packages.json`` names each package's digest, the Python it was made for, and a fingerprint of the
source it was made from. The program compares that fingerprint with the source beside it: a package of yesterday is
never deployed together with the settings of today.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import ConfigurationError
from aivo_backup.policy.codec import from_json
from aivo_backup.policy.names import Function

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "build/lambdas"
MANIFEST = "packages.json"
LARGEST_BYTES = 50 * 1024 * 1024
"""What Lambda takes directly; anything above has to come from an image."""
PACKAGED = tuple(function for function in Function if function is not Function.COMPLIANCE_REPORT)
"""Functions that have a package. The report's plots need matplotlib and numpy, which alone fill one."""

_SOURCES = ("aivo_backup", "lambdas")
RECIPE = ("requirements.txt", "infra/network.py", "infra/packages.py", "sandbox/packages.py")
"""What a package depends on besides our modules."""
_MEND = "run `make lambdas`"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One built package.

    Attributes:
        sha256: hexadecimal digest of the file.
    """

    sha256: str
    size_bytes: int

    @property
    def source_code_hash(self) -> str:
        """The digest as Lambda writes it."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


@dataclass(frozen=True, kw_only=True)
class Packages:
    """What was built.

    Attributes:
        source: fingerprint of the source, see :func:`fingerprint`.
        python: the version that compiled parts were chosen for, for example ``3.11``.
        packages: function to its package.
    """

    source: str
    python: str
    packages: dict[str, Package]

    @property
    def runtime(self) -> str:
        """Lambda's name of that Python."""
        return f"python{self.python}"


def path_of(function: Function) -> str:
    """The package's file, relative to the checkout: an absolute path would differ from machine to machine."""
    return f"{FOLDER}/{function.value}.zip"


def built(root: Path = ROOT) -> Packages:
    """What ``make lambdas`` built from this very source.

    Raises:
        ConfigurationError: nothing was built, or from another source.
    """
    file = root / FOLDER / MANIFEST
    try:
        found = from_json(Packages, json.loads(file.read_text(encoding="utf-8")), where=f"{FOLDER}/{MANIFEST}")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{FOLDER}: the functions are not packaged", mend=_MEND) from error
    if found.source != fingerprint(root):
        raise ConfigurationError(f"{FOLDER}: the packages were made from another source", mend=_MEND)
    missing = [path_of(function) for function in PACKAGED if not (root / path_of(function)).is_file()]
    if missing:
        raise ConfigurationError(f"{missing[0]} is missing", mend=_MEND)
    return found


def fingerprint(root: Path = ROOT) -> str:
    """A digest over everything that a package is made from: our modules, the pinned requirements, the recipe."""
    digest = hashlib.sha256()
    for file in _sources(root):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    for folder in _SOURCES:
        yield from sorted(file for file in (root / folder).rglob("*") if _counts(file))
    yield from (root / name for name in RECIPE)


def _counts(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts
