"""The three layers of the image, from what changes least to what changes most, each kept for the next build."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aivo_backup.errors import BackupError, ConfigurationError
from aivo_backup.stores.process import run
from images.oci import write_layer

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SUITE = "bookworm"
USER_ID = 1000
_PACKAGES = ("ca-certificates", "pgbackrest", "postgresql-15", "python3", "tzdata")
_PYTHON = "3.11"
_SITE = f"usr/local/lib/python{_PYTHON}/dist-packages"
_COMMAND = "usr/local/bin/aivo-backup"
_PRODUCT = ("aivo_backup", "lambdas")
_SCRIPTS = "usr/local/share/aivo-backup/backup"
"""The runbook's own entry points, for whoever runs the image by hand."""
# Wheels for what Debian's Python and C library can load.
_PLATFORMS = ("manylinux_2_36", "manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
# Kept from the root: manuals nobody reads in a pod, translations, and what PostgreSQL compiles queries with, a quarter
# of the image, which every restore would wait for. Without it PostgreSQL interprets them.
_LEFT_OUT = (
    "/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*",
    "/usr/lib/*/libLLVM-*", "/usr/lib/*/libz3.*", "/usr/lib/postgresql/*/lib/llvmjit*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
)  # fmt: skip
_KEPT = ("/usr/share/doc/*/copyright",)
LOCALES = ("en_US",)
"""Beside C.UTF-8: the one that PostgreSQL's own image gives its databases. One of another cannot be restored here."""
_LOCALE_SOURCES = "usr/share/i18n"
_NO_LOCALE = "cannot open locale definition file"
# What installing leaves behind that is secret (a key pair), of this machine, or different each time.
_REMOVED = (
    "etc/ssl/private/*", "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/machine-id", "etc/hostname", "etc/resolv.conf",
    "etc/*-", "etc/apt/sources.list", "etc/apt/sources.list.d/*", "var/log/*", "var/cache/*", "var/lib/apt/*",
    "var/lib/dpkg/*-old", "var/lib/systemd/*", "var/lib/postgresql/15", "etc/postgresql/15", "run/*", "tmp/*",
    _LOCALE_SOURCES,
)  # fmt: skip
_HOUR = 3600.0
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND_TEXT = """#!/usr/bin/python3 -P
import sys

from aivo_backup.cli import main

sys.exit(main())
"""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and how layers are built.

    Attributes:
        cache: finished layers, by what they are made from.
        epoch: no file in the image is newer, in seconds since 1970.
        locales: language and country of those whose databases can be restored, for example ``en_US``; all in UTF-8.
        anew: build although the cache has it.
    """

    mmdebstrap: Path
    cache: Path
    epoch: int
    locales: tuple[str, ...]
    say: Callable[[str], None]
    anew: bool = False

    def layer(self, name: str, made_from: Sequence[bytes], build: Callable[[Path], None]) -> Path:
        """A layer of the cache, built when it is not there."""
        digest = hashlib.sha256(str(self.epoch).encode())
        for part in made_from:
            digest.update(hashlib.sha256(part).digest())
        target = self.cache / f"{name}-{digest.hexdigest()[:20]}.tar"
        if target.is_file() and not self.anew:
            return target
        self.cache.mkdir(parents=True, exist_ok=True)
        self.say(f"building the layer {name}")
        build(target)
        for other in self.cache.glob(f"{name}-*"):
            if other.stem != target.stem:
                other.unlink(missing_ok=True)
        return target


def debian_layer(workshop: Workshop) -> Path:
    """Debian's packages. Kept until Debian publishes others, as far as this machine's package lists know.

    Raises:
        ConfigurationError: not root, a locale that there is not, or mmdebstrap fails.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("a root file system can only be made by root", mend="run `make image` as root")
    recipe = ["--quiet", "--mode=root", "--variant=essential", "--format=tar", f"--include={','.join(_PACKAGES)}"]
    recipe += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    recipe += [f"--dpkgopt=path-include={pattern}" for pattern in _KEPT]
    recipe += [f"--customize-hook={_user_hook()}"]
    for name in workshop.locales:
        if not re.fullmatch(r"[a-z]{2,3}_[A-Z]{2}(@[a-z]+)?", name):
            raise ConfigurationError(f"{name!r} is no locale", mend="language and country, like de_DE")
        recipe += [f'--customize-hook=chroot "$1" localedef --no-archive -i {name} -f UTF-8 {name}.UTF-8']
    recipe += [f'--customize-hook=cd "$1" && rm -rf {" ".join(_REMOVED)} && touch etc/machine-id']
    published = [file.read_bytes() for file in sorted(Path("/var/lib/apt/lists").glob("*InRelease"))]

    def build(target: Path) -> None:
        unfinished = target.with_suffix(".tmp")
        argv = [str(workshop.mmdebstrap), *recipe, SUITE, str(unfinished)]
        _run(argv, {"SOURCE_DATE_EPOCH": str(workshop.epoch)}, "Debian's packages")
        unfinished.replace(target)

    return workshop.layer("debian", [*map(str.encode, recipe), *published], build)


def python_layer(workshop: Workshop, debian: Path) -> Path:
    """The pinned packages of Python, hashes checked, compiled by the image's own Python.

    Raises:
        ConfigurationError: pip fails.
    """

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="aivo-image-") as work:
            site = Path(work) / "layer" / _SITE
            argv = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
            argv += ["--quiet", "--require-hashes", "--only-binary=:all:", "--python-version", _PYTHON]
            argv += [f"--platform={name}_{os.uname().machine}" for name in _PLATFORMS]
            argv += ["--target", str(site), "-r", str(REQUIREMENTS)]
            _run(argv, {}, "Python's packages")
            for unwanted in ("bin", "__pycache__"):
                shutil.rmtree(site / unwanted, ignore_errors=True)
            forget_scripts(site)
            _compile(Path(work), site, debian)
            write_layer(Path(work) / "layer", target, epoch=workshop.epoch)

    return workshop.layer("python", [debian.name.encode(), REQUIREMENTS.read_bytes(), b"no scripts"], build)


def forget_scripts(site: Path) -> None:
    """Takes the scripts that are not in the image out of the lists of installed files.

    Their first line is this checkout's interpreter, so their hashes would make an image of each folder another one.
    """
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("../../bin/", "bin/"))]
        record.write_text("".join(kept), encoding="utf-8")


def product_layer(workshop: Workshop, debian: Path) -> Path:
    """This package, its functions, its command and the runbook's scripts."""
    scripts = sorted((ROOT / "infra" / "backup").glob("*.sh"))
    sources = sorted(
        path
        for name in _PRODUCT
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="aivo-image-") as work:
            layer = Path(work) / "layer"
            for source in sources:
                copy = layer / _SITE / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
            (layer / _SCRIPTS).mkdir(parents=True)
            for script in scripts:
                shutil.copyfile(script, layer / _SCRIPTS / script.name)
            command = layer / _COMMAND
            command.parent.mkdir(parents=True)
            command.write_text(_COMMAND_TEXT)
            _compile(Path(work), layer / _SITE, debian)
            _set_modes(layer)
            for executable in (command, *(layer / _SCRIPTS).iterdir()):
                executable.chmod(0o755)
            write_layer(layer, target, epoch=workshop.epoch)

    content = [f"{source.relative_to(ROOT)}".encode() + b"\0" + source.read_bytes() for source in (*sources, *scripts)]
    return workshop.layer("product", [debian.name.encode(), *content], build)


def versions(debian: Path) -> dict[str, str]:
    """Debian package to version, of what the image's labels tell.

    Raises:
        ConfigurationError: the layer holds no such package.
    """
    argv = ["tar", "--extract", "--to-stdout", "--file", str(debian), "./var/lib/dpkg/status"]
    status = _run(argv, {}, "the list of installed packages")
    found: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") in _PACKAGES:
            found[fields["Package"]] = fields["Version"]
    if missing := sorted(set(_PACKAGES) - set(found)):
        raise ConfigurationError(f"{debian} lacks {', '.join(missing)}", mend="remove it, and build again")
    return found


def _user_hook() -> str:
    passwd = f"aivo-backup:x:{USER_ID}:{USER_ID}:aivo-backup:/tmp:/usr/sbin/nologin"
    return f'echo {passwd} >> "$1"/etc/passwd && echo aivo-backup:x:{USER_ID}: >> "$1"/etc/group'


def _compile(work: Path, site: Path, debian: Path) -> None:
    """Compiles modules with the image's Python: a pod's root is read-only, so it could not keep what it compiles.

    By content, not by time, and one file after the other: so that the bytes are the same at every build.
    """
    root = work / "root"
    root.mkdir()
    _run(["tar", "--extract", "--file", str(debian), "--directory", str(root)], {}, "unpacking the Debian layer")
    inside = root / _SITE
    inside.mkdir(parents=True, exist_ok=True)
    inside.rmdir()
    site.rename(inside)
    argv = [
        "/usr/sbin/chroot",
        str(root),
        "/usr/bin/python3",
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode=unchecked-hash",
    ]
    # What is there for Python 2, or to be filled in, does not compile and is never imported.
    run([*argv, f"/{_SITE}"], environment={"PYTHONHASHSEED": "0", "PATH": _ROOT_PATH}, timeout_seconds=_HOUR)
    inside.rename(site)
    _set_modes(site)
    shutil.rmtree(root)


def _set_modes(folder: Path) -> None:
    """The same for whoever builds, whatever their umask."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or ".so" in path.suffixes else 0o644)


def _run(argv: Sequence[str], environment: Mapping[str, str], what: str) -> str:
    try:
        done = run(argv, environment=environment, timeout_seconds=_HOUR)
    except BackupError as error:
        raise ConfigurationError(f"{what}: {error}", mend="run `make image` again") from error
    if done.exit_code != 0:
        said = done.tail()
        mend = "take a locale that Debian has" if _NO_LOCALE in said else "check the network and the free disk space"
        raise ConfigurationError(f"{what}: {said}", mend=mend)
    return done.stdout
