"""The repository's cipher pass, wrapped by KMS.

The pass is random and made once, by ``init``. What is stored is one object in the component's bucket, holding the
pass encrypted under a KMS key of each region; whoever may decrypt with one of these keys can read the repository, and
nobody else. It never lies anywhere in clear. Losing the object means losing every backup, so the pass is made once and
never anew while the repository holds anything; a region that comes later gets the same pass under its own key.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError
from aivo_backup.policy.codec import from_json, to_json
from aivo_backup.policy.pgbackrest import CIPHER
from aivo_backup.stores.aws import MissingError, translated

if TYPE_CHECKING:
    from types_boto3_kms.client import KMSClient
    from types_boto3_s3.client import S3Client

ENVELOPE_KEY = "envelope/cipher-pass.json"

_FORMAT = 1
_PASS_BYTES = 48
# Bound into the ciphertext and shown in CloudTrail. It does not name the bucket: the replica's has another name.
_CONTEXT = {"aivo-backup": "pgbackrest-cipher-pass"}


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """The pass under one key. ``ciphertext`` is base64."""

    key: str
    ciphertext: str


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The object's content. ``wrapped`` is by region."""

    format: int
    cipher: str
    made: datetime
    wrapped: Mapping[str, Wrapped]


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The envelope that is there, and the ETag of the version that was read."""

    envelope: Envelope
    etag: str


@dataclass(frozen=True, kw_only=True)
class RegionKey:
    """A region's key and a client of its KMS."""

    kms: "KMSClient"
    key: str


def seal_new_pass(s3: "S3Client", *, bucket: str, keys: Mapping[str, RegionKey], now: datetime) -> bool:
    """Makes the envelope unless it is there, and wraps the pass for regions that came later. Says whether it was made.

    Args:
        keys: by region; the first is the bucket's own.
        now: UTC.

    Raises:
        RefusedError: there is no envelope, but the repository holds data that an earlier pass encrypted.
        AccessDeniedError, UnreachableError: S3 or KMS.
    """
    if (there := _stored(s3, bucket)) is not None:
        _wrap_for_more(s3, bucket, there, keys)
        return False
    with translated(f"repository in {bucket}"):
        held = s3.list_objects_v2(Bucket=bucket, Prefix="archive/", MaxKeys=1).get("Contents", [])
    if held:
        raise RefusedError(
            f"bucket {bucket} holds an encrypted repository and no {ENVELOPE_KEY}",
            mend="bring back that object's last version; a new pass could not read what is there",
        )
    fresh = secrets.token_urlsafe(_PASS_BYTES)
    envelope = Envelope(
        format=_FORMAT,
        cipher=CIPHER,
        made=now,
        wrapped={region: _wrap(fresh, key) for region, key in keys.items()},
    )
    try:
        with translated(f"cipher envelope in {bucket}"):
            s3.put_object(
                Bucket=bucket,
                Key=ENVELOPE_KEY,
                Body=_body(envelope),
                ContentType="application/json",
                IfNoneMatch="*",
            )
    except BackupError:
        if _stored(s3, bucket) is not None:
            return False  # another init was faster, and its pass is the one that counts
        raise
    return True


def open_pass(s3: "S3Client", *, bucket: str, region: str, kms: "KMSClient") -> str:
    """The cipher pass.

    Raises:
        ConfigurationError: there is no envelope, or none for this region.
        AccessDeniedError, UnreachableError: S3 or KMS.
    """
    envelope = _stored(s3, bucket)
    if envelope is None:
        raise ConfigurationError(f"no cipher envelope in {bucket}", mend="run `aivo-backup init postgres`")
    return _unwrap(envelope.envelope, bucket=bucket, region=region, kms=kms)


def _wrap_for_more(s3: "S3Client", bucket: str, there: _Stored, keys: Mapping[str, RegionKey]) -> None:
    """The pass stays; only who may open it grows. Written over the very version that was read, or not at all."""
    missing = {region: key for region, key in keys.items() if region not in there.envelope.wrapped}
    home = next((region for region in keys if region in there.envelope.wrapped), None)
    if not missing or home is None:
        return
    secret = _unwrap(there.envelope, bucket=bucket, region=home, kms=keys[home].kms)
    added = {region: _wrap(secret, key) for region, key in missing.items()}
    envelope = replace(there.envelope, wrapped={**there.envelope.wrapped, **added})
    with translated(f"cipher envelope in {bucket}"):
        s3.put_object(
            Bucket=bucket,
            Key=ENVELOPE_KEY,
            Body=_body(envelope),
            ContentType="application/json",
            IfMatch=there.etag,
        )


def _unwrap(envelope: Envelope, *, bucket: str, region: str, kms: "KMSClient") -> str:
    wrapped = envelope.wrapped.get(region)
    if wrapped is None:
        raise ConfigurationError(
            f"the cipher envelope in {bucket} is not wrapped for {region}",
            mend=f"use one of {', '.join(envelope.wrapped)}, or run `aivo-backup init postgres --envelope-only`",
        )
    with translated(f"decrypt the cipher envelope of {bucket} with {wrapped.key}"):
        answer = kms.decrypt(
            CiphertextBlob=base64.b64decode(wrapped.ciphertext),
            KeyId=wrapped.key,
            EncryptionContext=_CONTEXT,
        )
    return answer["Plaintext"].decode()


def _body(envelope: Envelope) -> bytes:
    return json.dumps(to_json(envelope), indent=2).encode()


def _wrap(secret: str, key: RegionKey) -> Wrapped:
    with translated(f"wrap the cipher pass with {key.key}"):
        answer = key.kms.encrypt(KeyId=key.key, Plaintext=secret.encode(), EncryptionContext=_CONTEXT)
    return Wrapped(key=key.key, ciphertext=base64.b64encode(answer["CiphertextBlob"]).decode())


def _stored(s3: "S3Client", bucket: str) -> _Stored | None:
    try:
        with translated(f"cipher envelope in {bucket}"):
            answer = s3.get_object(Bucket=bucket, Key=ENVELOPE_KEY)
            body = answer["Body"].read()
    except MissingError as error:
        if "NoSuchBucket" in str(error.__cause__):
            raise
        return None
    try:
        data = json.loads(body)
    except ValueError as error:
        raise ConfigurationError(
            f"{ENVELOPE_KEY} in {bucket} is not JSON", mend="bring back its last version"
        ) from error
    return _Stored(envelope=from_json(Envelope, data, where=ENVELOPE_KEY), etag=answer["ETag"])
