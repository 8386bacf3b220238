"""What the engine takes for granted of object storage: one set of tests for every implementation of the port."""

import hashlib
import os

import pytest

from aivo_backup.stores.minio.objects import (
    ABSENT,
    AbsentError,
    Attributes,
    ChangedError,
    Condition,
    ObjectStore,
    Stored,
)

BUCKET = "contract"
PAGE = 10

# Every key here is one that MinIO takes: no `//`, no `.` or `..` between slashes, no key below another.
ODD_KEYS = (
    "plain",
    "with space",
    "plus+plus",
    "per%cent",
    "per%20cent",
    "caf\u00e9",
    "cafe\u0301",
    "emoji\U0001f600",
    "\uffee half width",
    "tab\tkey",
    "quote'\"<&>",
    "folder/",
    "folder/child",
    "a-b",
    "a/b",
    "a.b",
    "a:b;c=d,e@f$g!h*i(j)",
    "question?mark#hash",
    "~tilde",
    "/".join((*("k" * 250 for _ in range(4)), "z" * 20)),
)
assert max(len(key.encode()) for key in ODD_KEYS) == 1024


def put(store: ObjectStore, key: str, body: bytes, attributes: Attributes | None = None) -> Stored:
    """Writes with the right checksum."""
    sha256 = hashlib.sha256(body).hexdigest()
    return store.put(BUCKET, key, body, attributes or Attributes(content_type="text/plain"), sha256=sha256)


def read(store: ObjectStore, key: str, *, version_id: str = "", if_match: str = "") -> bytes:
    """Reads to the end."""
    reading = store.open(BUCKET, key, version_id=version_id, if_match=if_match)
    chunks: list[bytes] = []
    while chunk := reading.read(1_000_000):
        chunks.append(chunk)
    reading.close()
    return b"".join(chunks)


class ObjectStoreContract:
    """Subclasses give a fixture ``store`` with an empty, versioned bucket ``contract``; its pages should be small."""

    uploads_prefix = "left/"
    looks_at_conditions_of_uploads = True

    def test_odd_keys_come_back_from_the_listing_in_the_order_of_their_bytes(self, store: ObjectStore) -> None:
        for key in ODD_KEYS:
            put(store, key, key.encode())
        listed = list(store.objects(BUCKET))
        assert [item.key for item in listed] == sorted(ODD_KEYS, key=str.encode) == sorted(ODD_KEYS)
        assert [item.size for item in listed] == [len(item.key.encode()) for item in listed]
        assert all(read(store, key) == key.encode() for key in ODD_KEYS)
        assert sorted({item.key for item in store.versions(BUCKET)}) == sorted(ODD_KEYS)

    def test_a_listing_goes_on_past_its_first_page(self, store: ObjectStore) -> None:
        keys = [f"page/{number:03d}" for number in range(2 * PAGE + 5)]
        for key in keys:
            put(store, key, b"")
        for _ in range(PAGE):
            put(store, keys[PAGE], b"another version")
        store.delete(BUCKET, [keys[1], keys[PAGE]])
        assert [item.key for item in store.objects(BUCKET, "page/")] == [
            key for key in keys if key not in (keys[1], keys[PAGE])
        ]
        versions = [item.key for item in store.versions(BUCKET, "page/")]
        assert versions == sorted([*keys, keys[1], keys[PAGE], *[keys[PAGE]] * PAGE])

    def test_attributes_come_back_as_they_were_given(self, store: ObjectStore) -> None:
        attributes = Attributes(
            content_type="text/html; charset=utf-8",
            metadata={"owner": "a b", "number-2": "2"},
            headers={
                "cache-control": "max-age=60",
                "content-disposition": 'attachment; filename="x"',
                "content-encoding": "gzip",
                "content-language": "de",
            },
        )
        stored = put(store, "whole", b"not really gzip", attributes)
        upload = store.begin_upload(BUCKET, "parts", attributes)
        upload.put_part(b"one part")
        upload.complete()
        assert store.info(BUCKET, "whole").attributes == attributes
        assert store.info(BUCKET, "parts").attributes == attributes
        reading = store.open(BUCKET, "whole", version_id=stored.version_id)
        assert reading.info.attributes == attributes
        assert reading.read(100) == b"not really gzip"
        reading.close()

    def test_etag_and_size_agree_between_write_headers_listing_and_versions(self, store: ObjectStore) -> None:
        stored = put(store, "key", b"12345")
        listed = next(iter(store.objects(BUCKET)))
        version = next(iter(store.versions(BUCKET)))
        info = store.info(BUCKET, "key")
        assert '"' not in stored.etag
        assert {stored.etag, listed.etag, version.etag, info.etag} == {stored.etag}
        assert {listed.size, version.size, info.size} == {5}
        assert {stored.version_id, version.version_id, info.version_id} == {stored.version_id} != {""}
        assert info.last_modified.replace(microsecond=0) == listed.last_modified.replace(microsecond=0)

    def test_an_old_version_stays_readable_under_its_id(self, store: ObjectStore) -> None:
        old = put(store, "key", b"old")
        new = put(store, "key", b"new")
        store.delete(BUCKET, ["key"])
        assert read(store, "key", version_id=old.version_id) == b"old"
        assert read(store, "key", version_id=new.version_id) == b"new"
        history = [(item.version_id, item.is_latest, item.is_marker) for item in store.versions(BUCKET)]
        assert len(history) == 3
        assert (old.version_id, False, False) in history
        assert (new.version_id, False, False) in history
        assert [(latest, marker) for _, latest, marker in history if latest] == [(True, True)]
        assert list(store.objects(BUCKET)) == []
        with pytest.raises(AbsentError):
            store.open(BUCKET, "key")
        with pytest.raises(AbsentError):
            store.info(BUCKET, "key")

    def test_reading_is_conditional_and_can_begin_in_the_middle(self, store: ObjectStore) -> None:
        stored = put(store, "key", b"0123456789")
        assert read(store, "key", if_match=stored.etag) == b"0123456789"
        with pytest.raises(ChangedError):
            store.open(BUCKET, "key", if_match="0" * 32)
        reading = store.open(BUCKET, "key", start=4, if_match=stored.etag)
        assert (reading.info.size, reading.read(100)) == (10, b"456789")
        reading.close()

    def test_what_is_not_there_is_absent(self, store: ObjectStore) -> None:
        stored = put(store, "key", b"")
        with pytest.raises(AbsentError):
            store.open(BUCKET, "other")
        with pytest.raises(AbsentError):
            store.open(BUCKET, "other", version_id=stored.version_id)
        with pytest.raises(AbsentError):
            list(store.objects("no-such-bucket"))
        with pytest.raises(AbsentError):
            list(store.versions("no-such-bucket"))

    def test_a_conditional_write_happens_only_to_a_key_that_is_as_it_says(self, store: ObjectStore) -> None:
        def write(body: bytes, condition: Condition) -> Stored:
            sha256 = hashlib.sha256(body).hexdigest()
            return store.put(BUCKET, "key", body, Attributes(), sha256=sha256, condition=condition)

        first = write(b"first", ABSENT)
        with pytest.raises(ChangedError):
            write(b"second", ABSENT)
        second = write(b"second", Condition(etag=first.etag))
        with pytest.raises(ChangedError):
            write(b"third", Condition(etag=first.etag))
        assert read(store, "key") == b"second"
        write(b"fourth", Condition(etag=second.etag))
        assert read(store, "key") == b"fourth"

    def test_an_upload_is_completed_only_under_its_condition(self, store: ObjectStore) -> None:
        first = put(store, "key", b"first")
        second = put(store, "key", b"second")
        upload = store.begin_upload(BUCKET, "key", Attributes())
        upload.put_part(b"last")
        if self.looks_at_conditions_of_uploads:
            for condition in (ABSENT, Condition(etag=first.etag)):
                with pytest.raises(ChangedError):
                    upload.complete(condition)
        assert read(store, "key") == b"second"
        upload.complete(Condition(etag=second.etag))
        assert read(store, "key") == b"last"

    def test_parts_become_visible_when_they_are_complete(self, store: ObjectStore) -> None:
        size = store.minimum_part_bytes
        body = os.urandom(size + 10)
        upload = store.begin_upload(BUCKET, "large", Attributes(content_type="image/png"))
        upload.put_part(body[:size])
        upload.put_part(body[size:])
        assert list(store.objects(BUCKET)) == []
        stored = upload.complete()
        assert read(store, "large", version_id=stored.version_id) == body
        assert next(iter(store.objects(BUCKET))).etag == stored.etag

    def test_an_aborted_upload_leaves_nothing(self, store: ObjectStore) -> None:
        upload = store.begin_upload(BUCKET, "gone", Attributes())
        upload.put_part(b"x")
        upload.abort()
        upload.abort()
        store.begin_upload(BUCKET, "left/behind", Attributes()).put_part(b"x")
        assert store.abort_uploads(BUCKET, self.uploads_prefix) == 1
        assert store.abort_uploads(BUCKET, self.uploads_prefix) == 0
        assert list(store.objects(BUCKET)) == []

    def test_buckets_and_folders_are_named(self, store: ObjectStore) -> None:
        for key in ("x/b/1", "x/b/2", "x/a-b/1", "x/file", "y/c/1"):
            put(store, key, b"")
        assert store.folders(BUCKET, "x/") == ("a-b", "b")
        store.create_bucket("contract-second")
        store.create_bucket("contract-second")
        assert {BUCKET, "contract-second"} <= set(store.buckets())
        assert store.keeps_versions(BUCKET)
