"""An object store in an S3 bucket, at AWS or any endpoint that speaks its API."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from opskit.errors import ConfigError
from opskit.system.object_store import (
    CHUNK_BYTES,
    ObjectExists,
    ObjectInfo,
    ObjectLock,
    ObjectMissing,
    StaleUpload,
    StoredObject,
    StoreError,
    check_key,
    first_part_size,
    part_size,
)

_IN_FLIGHT = 2
"""Parts that are sent while the next one is filled: memory is (2 + 1) parts."""
_LONGEST_WAIT_SECONDS = 30.0


class S3Store:
    """Objects of `bucket` whose keys start with `prefix/`. Credentials come from where boto3 looks for them."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str,
        part_size_bytes: int,
        max_parts: int,
        lock: ObjectLock | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"a backup to s3:// needs the Python package {error.name}",
                hint="install it with: pip install 'opskit[s3]'",
            ) from error
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._part_size, self._max_parts, self._lock = part_size_bytes, max_parts, lock
        self._patience_seconds = patience_seconds
        try:
            self._client: Any = boto3.client(
                "s3",
                endpoint_url=endpoint_url or None,
                config=Config(
                    retries={"mode": "standard", "max_attempts": 5},
                    connect_timeout=10,
                    read_timeout=60,
                    # Stores other than AWS don't know the newer checksum trailers; the manifest has SHA-256 of all.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path"} if endpoint_url else {},
                ),
            )
        except (ValueError, BotoCoreError) as error:
            raise ConfigError(f"can't use {self.url}: {error}", hint="check [backup] endpoint_url") from error

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def object_bytes(self) -> int:
        # The parts of the first half are small (see part_size); one stays for what encryption adds.
        return self._part_size * max(1, self._max_parts // 2 - 1)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int = 0, new: bool = False) -> StoredObject:
        smallest = first_part_size(self._part_size, self._max_parts, expected_bytes)
        parts = _Parts(chunks, smallest, self._max_parts)
        with self._explained(f"write {key}"):
            first = parts.next()
            if parts.ended:
                self._put_whole(key, first, new)
            else:
                self._put_parts(key, first, parts, new)
        return StoredObject(key, parts.size_bytes, parts.digest.hexdigest())

    def _put_whole(self, key: str, body: bytearray, new: bool) -> None:
        self._finish(
            self._client.put_object,
            key,
            new,
            Bucket=self._bucket,
            Key=self._full(key),
            Body=body,
            **self._lock_now(body),
        )

    def _lock_now(self, body: bytes | bytearray | None = None) -> dict[str, Any]:
        """What a request that begins an object says of its lock."""
        if self._lock is None:
            return {}
        until = datetime.now(UTC) + timedelta(days=self._lock.days)
        proof = {} if body is None else self._md5_of(body)
        return {"ObjectLockMode": self._lock.mode, "ObjectLockRetainUntilDate": until, **proof}

    def _md5_of(self, body: bytes | bytearray) -> dict[str, str]:
        """S3 asks for it where objects are locked."""
        if self._lock is None:
            return {}
        return {"ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}

    def _put_parts(self, key: str, first: bytearray, parts: _Parts, new: bool) -> None:
        where = {"Bucket": self._bucket, "Key": self._full(key)}
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where, **self._lock_now())["UploadId"]}
        sent: list[Future[dict[str, Any]]] = []
        given_up = threading.Event()

        def send(number: int, body: bytearray) -> dict[str, Any]:
            more = {"PartNumber": number, "Body": body, **self._md5_of(body)}
            answer = self._patiently(lambda: self._client.upload_part(**upload, **more), given_up)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="upload") as senders:
                try:
                    body = first
                    while body:
                        sent.append(senders.submit(send, len(sent) + 1, body))
                        if len(sent) >= _IN_FLIGHT:
                            sent[-_IN_FLIGHT].result()  # no more than these are in memory
                        if len(sent) == self._max_parts and not parts.ended:
                            raise StoreError(f"{key} is larger than {self._max_parts} parts hold")
                        body = bytearray() if parts.ended else parts.next()
                    done = [future.result() for future in sent]
                except BaseException:
                    given_up.set()
                    raise
            complete = self._client.complete_multipart_upload
            self._finish(complete, key, new, **upload, MultipartUpload={"Parts": done})
        except BaseException:
            # Unfinished parts are invisible and cost money for ever. What can't be reached now, a later prune removes.
            with contextlib.suppress(*_passing_errors(), self._client.exceptions.ClientError):
                self._client.abort_multipart_upload(**upload)
            raise

    def _patiently(self, call: Callable[[], Any], given_up: threading.Event) -> Any:
        """Repeat a request that may be repeated, while the store is out of reach, for `patience_seconds`."""
        deadline, wait = time.monotonic() + self._patience_seconds, 0.25
        while True:
            try:
                return call()
            except _passing_errors():
                if time.monotonic() + wait > deadline or given_up.wait(wait):
                    raise
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _finish(self, call: Callable[..., Any], key: str, new: bool, **request: Any) -> None:
        """The request that makes the object visible; with `new`, on the condition that there is none."""
        from botocore.exceptions import ClientError

        if not new:
            call(**request)
            return
        if self.head(key) is not None:
            raise ObjectExists(f"{self.url} has an object {key} already")
        try:
            call(**request, IfNoneMatch="*")
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                raise ObjectExists(f"{self.url} has an object {key} already") from error
            if _code(error) not in ("NotImplemented", "501"):
                raise
            # A store without conditional writes: the look before is all that can be had.
            call(**request)

    def get(self, key: str) -> Iterator[bytes]:
        where = {"Bucket": self._bucket, "Key": self._full(key)}
        with self._explained(f"read {key}"):
            answer = self._client.get_object(**where)

        def pieces() -> Iterator[bytes]:
            body, given = answer["Body"], 0
            with self._explained(f"read {key}"):
                while True:
                    try:
                        for chunk in body.iter_chunks(CHUNK_BYTES):
                            given += len(chunk)
                            yield chunk
                        return
                    except _passing_errors():
                        rest = {"Range": f"bytes={given}-", "IfMatch": answer["ETag"]}
                    finally:
                        body.close()
                    # From where it broke off, of the very same object.
                    again = partial(self._client.get_object, **where, **rest)
                    body = self._patiently(again, threading.Event())["Body"]

        return pieces()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._explained(f"read {key}"):
            wanted = f"bytes={offset}-{offset + length - 1}"
            body = self._client.get_object(Bucket=self._bucket, Key=self._full(key), Range=wanted)["Body"]
            with contextlib.closing(body):
                data: bytes = body.read()
        return data

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._explained(f"look at {key}"):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
        except ObjectMissing:
            return None
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"].astimezone(UTC))

    def objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._explained("list"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"][len(self._prefix) :]
                    yield ObjectInfo(key, item["Size"], item["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        with self._explained(f"delete {key}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._full(key))

    def locked_until(self, key: str) -> datetime | None:
        with self._explained(f"look at the lock of {key}"):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
            except self._client.exceptions.ClientError as error:
                if _code(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        if answer.get("ObjectLockLegalHoldStatus") == "ON":
            return datetime.max.replace(tzinfo=UTC)
        return until.astimezone(UTC) if until else None

    def stale_uploads(self, prefix: str = "") -> list[StaleUpload]:
        found = []
        with self._explained("list unended uploads"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Uploads", ()):
                    key = item["Key"][len(self._prefix) :]
                    found.append(StaleUpload(key, item["UploadId"], item["Initiated"].astimezone(UTC)))
        return found

    def abort_upload(self, upload: StaleUpload) -> None:
        with self._explained(f"abort an upload of {upload.key}"):
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._full(upload.key), UploadId=upload.upload_id
            )

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            code, text = _code(error), error.response.get("Error", {}).get("Message", "")
            if code in ("NoSuchKey", "404", "NotFound"):
                raise ObjectMissing(f"{self.url}: can't {what}: there is no such object") from error
            raise StoreError(f"{self.url}: can't {what}: {code} {text}".rstrip(), hint=_HINTS.get(code)) from error
        except NoCredentialsError as error:
            raise StoreError(
                f"{self.url}: can't {what}: no credentials",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role",
            ) from error
        except (BotoCoreError, HTTPError) as error:
            raise StoreError(
                f"{self.url}: can't {what}: {error}", hint="check the network and [backup] endpoint_url"
            ) from error


_HINTS = {
    "NoSuchBucket": "make the bucket first; opskit never makes one",
    "AccessDenied": "the credentials need s3:PutObject, GetObject, ListBucket, AbortMultipartUpload "
    "and ListBucketMultipartUploads there (DeleteObject for prune)",
    "403": "the credentials are wrong, or have no right to this bucket",
    "InvalidAccessKeyId": "the credentials are wrong",
    "SignatureDoesNotMatch": "the credentials are wrong",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}


def _passing_errors() -> tuple[type[Exception], ...]:
    """What a network does, and a store that has too much to do; not what a wrong request gets."""
    from botocore import exceptions

    return (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.ResponseStreamingError,
    )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


class _Parts:
    """Cuts a stream into parts, and hashes it on the way."""

    def __init__(self, chunks: Iterable[bytes], smallest: int, max_parts: int) -> None:
        self._chunks, self._smallest, self._max_parts = iter(chunks), smallest, max_parts
        self._rest = b""
        self._number = 0
        self.ended = False
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def next(self) -> bytearray:
        """The next part; shorter than its size only at the end, when `ended` becomes true."""
        self._number += 1
        size = part_size(self._number, self._smallest, self._max_parts)
        part = bytearray(self._rest[:size])
        self._rest = self._rest[size:]
        while len(part) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.ended = True
                break
            self.digest.update(chunk)
            self.size_bytes += len(chunk)
            take = size - len(part)
            part += chunk[:take]
            self._rest = chunk[take:]
        return part
