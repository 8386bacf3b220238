"""One lease per component keeps runs apart, across CronJobs, operators and hosts.

The lease is the object ``leases/<component>`` in the component's own bucket: taken with ``If-None-Match: *``, renewed,
freed and taken over with ``If-Match`` writes, never deleted, so the identity that backs up needs no delete permission.
``concurrencyPolicy: Forbid`` knows only its own CronJob, and pgBackRest's lock would fail the Sunday incremental that
meets a long full.

A lease that its holder could not free, because it was killed, runs out with its term; on the holder's own machine it is
seen to be dead and taken over at once.
"""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from aivo_backup.errors import BackupError, ConfigurationError, RefusedError
from aivo_backup.liveness import is_dead, this_process
from aivo_backup.policy.codec import format_time, parse_time
from aivo_backup.policy.environment import Component
from aivo_backup.stores.aws import translated
from aivo_backup.stores.port import Clock

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

TERM = timedelta(seconds=120)
"""How long a lease holds without being renewed: a killed run blocks the next one, elsewhere, for two minutes at
most."""

_LOOK_SECONDS = 5.0

RESTORE = "restore"
"""The purpose of leases that keep restores into one production store apart; a backup may run meanwhile."""


class LeaseHeldError(RefusedError):
    """Another run holds the component's lease."""


class LeaseLostError(BackupError):
    """The lease was taken over while the run was going on."""


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What the object says. ``process`` is empty in one that an older version wrote."""

    holder: str
    until: datetime
    process: str
    etag: str


class Lease:
    """The lease of one component.

    Args:
        purpose: what it keeps apart besides backup runs, which have the lease without a purpose.
    """

    def __init__(
        self, *, s3: "S3Client", bucket: str, component: Component, kms_key: str, clock: Clock, purpose: str = ""
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = f"leases/{purpose}{'-' if purpose else ''}{component.value}"
        self._kms_key = kms_key
        self._clock = clock

    @contextmanager
    def held(self, holder: str, *, sleep: Callable[[float], None] | None = None) -> Generator[None]:
        """Holds the lease for the block, renewing it in the background.

        Args:
            holder: who holds it: the id of the run.
            sleep: waits so many seconds. When given, a lease that nobody renews is waited for until it runs out, which
                takes two minutes at most; one that is renewed is seen to be so within half a minute.

        Raises:
            LeaseHeldError: another run holds it; nothing was changed.
            LeaseLostError: it was lost while the block ran (a clock far off, or AWS away for longer than the term).
        """
        etag = self._take(holder) if sleep is None else self._take_unless_renewed(holder, sleep)
        done, lost = threading.Event(), threading.Event()
        state = {"etag": etag}

        def renew() -> None:
            while not done.wait(TERM.total_seconds() / 4):
                try:
                    state["etag"] = self._write(holder, self._clock() + TERM, if_match=state["etag"])
                except LeaseHeldError:
                    lost.set()
                    return
                except BackupError:
                    # Unreachable for a moment: try again until the term is over; the next holder decides then.
                    continue

        renewer = threading.Thread(target=renew, name=f"renew {self._key}", daemon=True)
        renewer.start()
        try:
            yield
        finally:
            done.set()
            renewer.join()
            if not lost.is_set():
                self._free(holder, state["etag"])
        if lost.is_set():
            raise LeaseLostError(f"{self._key} was taken over while {holder} ran", mend="see the run that holds it now")

    def _take_unless_renewed(self, holder: str, sleep: Callable[[float], None]) -> str:
        first = self._current()
        # A clock that is behind the holder's must not wait for ever.
        for _ in range(round(2 * TERM.total_seconds() / _LOOK_SECONDS)):
            try:
                return self._take(holder)
            except LeaseHeldError:
                current = self._current()
                if first is None or current is None or current.etag != first.etag:
                    raise
            sleep(_LOOK_SECONDS)
        return self._take(holder)

    def _take(self, holder: str) -> str:
        current = self._current()
        if current is None:
            return self._write(holder, self._clock() + TERM, if_match=None)
        if current.until > self._clock() and current.holder != holder and not is_dead(current.process):
            raise LeaseHeldError(
                f"{self._key} is held by {current.holder} until {format_time(current.until)}",
                mend="wait for that run to end",
            )
        return self._write(holder, self._clock() + TERM, if_match=current.etag)

    def _current(self) -> _Written | None:
        with translated(f"s3://{self._bucket}/{self._key}"):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    return None
                raise
            body = answer["Body"].read()
        try:
            content = json.loads(body)
            return _Written(
                holder=content["holder"],
                until=parse_time(content["until"]),
                process=content.get("process", ""),
                etag=answer["ETag"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"s3://{self._bucket}/{self._key} is not a lease ({error})",
                mend="see that no run is under way, then bring its older version back",
            ) from error

    def _write(self, holder: str, until: datetime, *, if_match: str | None) -> str:
        text = {"holder": holder, "until": format_time(until), "process": this_process()}
        body = json.dumps(text).encode()
        condition: dict[str, str] = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        with translated(f"s3://{self._bucket}/{self._key}"):
            try:
                answer = self._s3.put_object(
                    Bucket=self._bucket,
                    Key=self._key,
                    Body=body,
                    ServerSideEncryption="aws:kms",
                    SSEKMSKeyId=self._kms_key,
                    **condition,  # pyright: ignore[reportArgumentType] -- the stubs want the literal keys
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict"):
                    current = self._current()
                    if current is not None and (current.holder, current.until) == (holder, _as_written(until)):
                        # The write had gone through and only its answer was lost: a retry met our own lease.
                        return current.etag
                    raise LeaseHeldError(
                        f"{self._key} was taken by another run just now", mend="wait for that run to end"
                    ) from error
                raise
        return answer["ETag"]

    def _free(self, holder: str, etag: str) -> None:
        # Whoever took it over meanwhile keeps it, and one that cannot be freed now runs out with its term.
        try:
            self._write(holder, self._clock(), if_match=etag)
        except BackupError:
            return


def _as_written(moment: datetime) -> datetime:
    return parse_time(format_time(moment))
