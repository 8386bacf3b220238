"""`python -m images.build`: writes the image as an OCI layout to ``build/image``. The same content, the same bytes."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from aivo_backup import __version__
from aivo_backup.errors import BackupError, ConfigurationError, ExitCode
from aivo_backup.policy.pgbackrest import Version
from aivo_backup.stores.process import run
from images.layers import LOCALES, ROOT, SUITE, USER_ID, Workshop, debian_layer, product_layer, python_layer, versions
from images.oci import ImageConfig, write_layout
from sandbox.setup.common import Context
from sandbox.setup.debian import program

LAYOUT = ROOT / "build" / "image"
NAME = "docker.io/library/aivo-backup:local"
"""What containerd makes of the reference in the stack `local`, ``aivo-backup:local``."""
PGBACKREST_LABEL = "com.aivo.backup.pgbackrest"
POSTGRES_LABEL = "com.aivo.backup.postgresql"
_EPOCH = 1767225600  # 2026-01-01: any fixed moment does
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/lib/postgresql/15/bin"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished image.

    Attributes:
        digest: of its manifest, what a stack pins it by.
    """

    layout: Path
    digest: str
    pgbackrest: str


def build(workshop: Workshop, layout: Path = LAYOUT) -> Built:
    """Builds what has changed, and writes the layout.

    Raises:
        ConfigurationError: not root, or a package cannot be had.
    """
    debian = debian_layer(workshop)
    installed = versions(debian)
    layers = [debian, python_layer(workshop, debian), product_layer(workshop, debian)]
    pgbackrest = str(Version.parse(installed["pgbackrest"]))
    config = ImageConfig(
        machine=os.uname().machine,
        created=datetime.fromtimestamp(workshop.epoch, UTC).isoformat().replace("+00:00", "Z"),
        user=f"{USER_ID}:{USER_ID}",
        # Everything is compiled, and a pod's root cannot be written to anyway.
        environment={"PATH": _PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},  # noqa: S108
        entrypoint=["aivo-backup"],
        labels=_labels(installed, pgbackrest),
    )
    return Built(
        layout=layout, digest=write_layout(layout, name=NAME, config=config, layers=layers), pgbackrest=pgbackrest
    )


def _labels(installed: dict[str, str], pgbackrest: str) -> dict[str, str]:
    labels = {
        "org.opencontainers.image.title": "aivo-backup",
        "org.opencontainers.image.description": "Jobs, sidecar and functions of aivo-backup",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.base.name": f"debian:{SUITE}",
        PGBACKREST_LABEL: pgbackrest,
        POSTGRES_LABEL: installed["postgresql-15"],
    }
    commit = run(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) if shutil.which("git") else None
    if commit is not None and commit.exit_code == 0:
        labels["org.opencontainers.image.revision"] = commit.stdout.strip()
    return labels


def workshop_of(checkout: Path, *, anew: bool = False, locales: Sequence[str] = LOCALES) -> Workshop:
    """The workshop of a checkout, with the tool cache that all checkouts share.

    Raises:
        ConfigurationError: the set-up has not provided what it takes.
    """
    mmdebstrap = program("mmdebstrap")
    if mmdebstrap is None:
        raise ConfigurationError("mmdebstrap is missing", mend="run `make image`, which sets it up")
    return Workshop(
        mmdebstrap=mmdebstrap,
        cache=Context.of(checkout).cache / "image-layers",
        epoch=int(os.environ.get("SOURCE_DATE_EPOCH") or _EPOCH),
        locales=tuple(dict.fromkeys(locales)),
        say=lambda line: print(f"image: {line}", flush=True),
        anew=anew,
    )


def differences(workshop: Workshop) -> list[str]:
    """Builds everything a second time from nothing, and names the blobs that came out otherwise than in the cache."""
    with tempfile.TemporaryDirectory(prefix="aivo-image-", dir=workshop.cache.parent) as folder:
        first = build(workshop, Path(folder) / "first")
        second = build(replace(workshop, cache=Path(folder) / "cache", anew=True), Path(folder) / "second")
        blobs = [{file.name for file in (built.layout / "blobs" / "sha256").iterdir()} for built in (first, second)]
    return sorted(blobs[0] ^ blobs[1])


def main(arguments: Sequence[str]) -> int:
    """The command behind `make image`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m images.build", description=__doc__)
    parser.add_argument("--anew", action="store_true", help="build every layer, also those that have not changed")
    parser.add_argument("--check", action="store_true", help="build all of it twice, and fail unless the bytes agree")
    words = "a further locale of databases, for example de_DE"
    parser.add_argument("--locale", action="append", default=[], metavar="NAME", help=words)
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    try:
        workshop = workshop_of(ROOT, anew=options.anew, locales=(*LOCALES, *options.locale))
        built = build(workshop)
        if options.check and (found := differences(workshop)):
            sys.stderr.write(f"image: not reproducible: {', '.join(found)} differ\n")
            return ExitCode.FAILED
    except BackupError as error:
        sys.stderr.write(f"image: {error}\n")
        return error.exit_code
    print(f"image: {built.layout.relative_to(ROOT)} is aivo-backup@{built.digest} ({time.monotonic() - begun:.1f} s)")
    print(f"image: its pgBackRest is {built.pgbackrest}; a stack names it as cluster.pgbackrest_version")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
