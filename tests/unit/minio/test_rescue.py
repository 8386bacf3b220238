"""The rescue bundle: what a restore would lose is in a folder before anything changes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError, VerificationError
from aivo_backup.stores.minio.objects import Attributes
from aivo_backup.stores.minio.plan import Change, RestorePlan, RestoreRequest, Selection
from aivo_backup.stores.minio.rescue import MANIFEST
from tests.unit.minio.memory import MemoryStore, no_fault
from tests.unit.minio.world import World

NOTE = Attributes(content_type="text/plain", metadata={"author": "somebody"}, headers={"cache-control": "no-store"})


@pytest.fixture
def world() -> World:
    world = World()
    for key in ("a", "b", "c", "d"):
        world.put(key, key.encode())
    return world


def restored(world: World, point: str, folder: Path) -> RestorePlan:
    request = RestoreRequest(point=point, selection=Selection(bucket="docs"), overwrite_newer=True, exact=True)
    return world.store.restore(request, rescue=folder)


def bundle(folder: Path) -> dict[str, tuple[bytes, dict[str, object]]]:
    lines = [json.loads(line) for line in (folder / "manifest.ndjson").read_text().splitlines()]
    return {line["key"]: ((folder / line["file"]).read_bytes(), line) for line in lines}


def test_newer_and_extra_objects_are_exported_before_they_are_lost(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    world.put("b", b"newer", NOTE)
    world.put("../odd//key", b"after the point")
    world.put("empty", b"")
    plan = restored(world, taken.point, tmp_path / "bundle")
    assert plan.changes == {Change.EQUAL: 3, Change.REPLACE_NEWER: 1, Change.REMOVE: 2}
    assert plan.newer_lost == 3
    assert set(world.source.contents("docs")) == {"a", "b", "c", "d"}
    kept = bundle(tmp_path / "bundle")
    assert {key: body for key, (body, _) in kept.items()} == {
        "b": b"newer",
        "../odd//key": b"after the point",
        "empty": b"",
    }
    line = kept["b"][1]
    assert (line["content_type"], line["metadata"], line["headers"]) == (
        "text/plain",
        {"author": "somebody"},
        {"cache-control": "no-store"},
    )


def test_what_is_written_after_its_export_is_not_lost(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    world.put("b", b"newer")
    world.put("extra", b"extra")
    seen: list[str] = []

    def application(operation: str, bucket: str, key: str) -> None:
        seen.append(operation)
        if operation == "list" and "open" in seen:  # the restore's own listing, after the export
            world.source.hook = no_fault
            for changed in ("b", "extra"):
                world.source.add(bucket, changed, b"written in between")

    world.source.hook = application
    plan = restored(world, taken.point, tmp_path / "bundle")
    assert plan.changes == {Change.EQUAL: 3, Change.KEEP_NEWER: 1, Change.KEEP_EXTRA: 1}
    assert world.source.contents("docs")["b"][0] == b"written in between"
    assert {key: body for key, (body, _) in bundle(tmp_path / "bundle").items()} == {"b": b"newer", "extra": b"extra"}


def test_a_folder_in_use_or_too_small_is_refused_and_nothing_changes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = world.backup()
    world.put("b", b"newer")
    before = world.source.contents("docs")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(RefusedError, match="not empty"):
        restored(world, taken.point, tmp_path / "used")
    with pytest.raises(ConfigurationError, match="Not a directory"):
        restored(world, taken.point, tmp_path / "used" / "file" / "below")

    def tiny(_folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=4)

    monkeypatch.setattr(shutil, "disk_usage", tiny)
    with pytest.raises(RefusedError, match=r"takes 5 bytes, and .* has 4 free"):
        restored(world, taken.point, tmp_path / "small")
    assert world.source.contents("docs") == before


def test_an_export_that_fails_leaves_no_manifest_and_changes_nothing(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    world.put("b", b"newer")
    before = world.source.contents("docs")
    real = Path.mkdir

    def failing(self: Path, mode: int = 0o777, *, parents: bool, exist_ok: bool) -> None:
        if "objects" in self.parts:
            raise OSError(28, "No space left on device")
        real(self, mode, parents=parents, exist_ok=exist_ok)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "mkdir", failing)
        with pytest.raises(BackupError, match="No space left on device"):
            restored(world, taken.point, tmp_path / "bundle")
    assert world.source.contents("docs") == before
    assert not (tmp_path / "bundle" / "manifest.ndjson").exists()


def test_what_was_rescued_comes_back_as_it_was_and_again_changes_nothing(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    large = bytes(range(256)) * 40
    world.put("b", b"newer", NOTE)
    world.put("../odd//key", large)
    before = world.source.contents("docs")
    restored(world, taken.point, tmp_path / "bundle")
    back = world.store.bring_back(tmp_path / "bundle")
    assert back.changes == {Change.CREATE: 1, Change.KEEP_OTHER: 1}
    assert world.source.contents("docs")["b"][0] == b"b"
    back = world.store.bring_back(tmp_path / "bundle", overwrite=True)
    assert back.changes == {Change.EQUAL: 1, Change.REPLACE: 1}
    assert world.source.contents("docs") == before
    assert world.store.bring_back(tmp_path / "bundle", overwrite=True).changes == {Change.EQUAL: 2}


def test_rescued_objects_come_into_another_store_and_bucket(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    world.put("b", b"newer", NOTE)
    restored(world, taken.point, tmp_path / "bundle")
    elsewhere = MemoryStore(name="elsewhere")
    world.store.bring_back(tmp_path / "bundle", to=elsewhere, into="rescued")
    assert elsewhere.contents("rescued") == {"b": (b"newer", NOTE)}


def test_what_is_written_while_it_comes_back_is_kept(world: World, tmp_path: Path) -> None:
    taken = world.backup()
    world.put("new", b"newer")
    restored(world, taken.point, tmp_path / "bundle")

    def application(operation: str, bucket: str, key: str) -> None:
        if operation == "put":
            world.source.hook = no_fault
            world.source.add(bucket, key, b"the application's")

    world.source.hook = application
    assert world.store.bring_back(tmp_path / "bundle", overwrite=True).changes == {Change.KEEP_NEWER: 1}
    assert world.source.contents("docs")["new"][0] == b"the application's"


@pytest.mark.parametrize("damage", [b"", b"newer and more", b"wrong"])
def test_a_damaged_file_is_named_and_not_written(world: World, tmp_path: Path, damage: bytes) -> None:
    taken = world.backup()
    world.put("new", b"newer")
    world.put("other", b"whole")
    restored(world, taken.point, tmp_path / "bundle")
    (tmp_path / "bundle" / "objects" / "000" / "000001").write_bytes(damage)
    with pytest.raises(VerificationError, match=r"1 objects of .* are not as they were exported: new"):
        world.store.bring_back(tmp_path / "bundle")
    assert set(world.source.contents("docs")) == {"a", "b", "c", "d", "other"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "line 1, is of no rescued object"),
        ("[]", "line 1, is of no rescued object"),
        ('{"file": "../../etc/passwd", "key": "k", "bucket": "docs"}', "line 1, is of no rescued object"),
    ],
)
def test_what_is_no_bundle_is_refused(world: World, tmp_path: Path, text: str | None, said: str) -> None:
    before = world.source.contents("docs")
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        world.store.bring_back(tmp_path)
    assert world.source.contents("docs") == before
