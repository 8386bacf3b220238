"""The image layout: the same content gives the same bytes, whenever and by whomever it is packed."""

import json
import os
import tarfile
from pathlib import Path

from images.layers import forget_scripts
from images.oci import ImageConfig, labels_of, write_layer, write_layout

EPOCH = 1_700_000_000


def _content(root: Path, *, names: tuple[str, ...], mtime: int) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {Path(name).name}")
        file.chmod(0o644)
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (mtime, mtime))
    return root


def _image(folder: Path, layer: Path, version: str = "2.45") -> str:
    labels = {"com.aivo.backup.pgbackrest": version}
    config = ImageConfig(
        machine="x86_64",
        created="2026-01-01T00:00:00Z",
        user="1000:1000",
        environment={"PATH": "/bin", "HOME": "/tmp"},
        entrypoint=["aivo-backup"],
        labels=labels,
    )
    return write_layout(folder, name="docker.io/library/x:local", config=config, layers=[layer])


def test_order_of_creation_and_time_do_not_show(tmp_path: Path) -> None:
    names = ("a/one", "b/two", "three")
    first = _content(tmp_path / "first", names=names, mtime=EPOCH + 5)
    second = _content(tmp_path / "second", names=tuple(reversed(names)), mtime=EPOCH + 900)
    for root in (first, second):
        write_layer(root, root.with_suffix(".tar"), epoch=EPOCH)
    assert first.with_suffix(".tar").read_bytes() == second.with_suffix(".tar").read_bytes()
    digests = {_image(tmp_path / name, tmp_path / f"{name}.tar") for name in ("first", "second")}
    assert len(digests) == 1


def test_one_changed_byte_is_another_image(tmp_path: Path) -> None:
    root = _content(tmp_path / "root", names=("file",), mtime=EPOCH)
    write_layer(root, tmp_path / "one.tar", epoch=EPOCH)
    (root / "file").write_text("content of filE")
    write_layer(root, tmp_path / "two.tar", epoch=EPOCH)
    assert _image(tmp_path / "one", tmp_path / "one.tar") != _image(tmp_path / "two", tmp_path / "two.tar")


def test_entries_belong_to_root_and_are_not_newer_than_the_epoch(tmp_path: Path) -> None:
    root = _content(tmp_path / "root", names=("folder/file",), mtime=EPOCH + 60)
    write_layer(root, tmp_path / "layer.tar", epoch=EPOCH)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == ["folder", "folder/file"]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, EPOCH)}


def test_the_image_says_who_it_is_and_is_no_root(tmp_path: Path) -> None:
    root = _content(tmp_path / "root", names=("file",), mtime=EPOCH)
    write_layer(root, tmp_path / "layer.tar", epoch=EPOCH)
    layout = tmp_path / "layout"
    digest = _image(layout, tmp_path / "layer.tar", "2.59.1")
    assert labels_of(layout) == {"com.aivo.backup.pgbackrest": "2.59.1"}
    manifest = json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())
    config = json.loads(
        (layout / "blobs" / "sha256" / manifest["config"]["digest"].removeprefix("sha256:")).read_text()
    )
    assert config["config"]["User"] == "1000:1000"


def test_no_list_of_installed_files_tells_the_folder_that_pip_ran_in(tmp_path: Path) -> None:
    """A script's first line is the interpreter that installed it, and its hash is in the list."""
    record = tmp_path / "idna-3.20.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("../../bin/idna,sha256=of-this-checkout,225\nidna/__init__.py,sha256=same,868\n")
    forget_scripts(tmp_path)
    assert record.read_text() == "idna/__init__.py,sha256=same,868\n"
