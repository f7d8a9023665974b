"""Keeps a folder equal to the objects below a prefix of a bucket; only objects that have changed are fetched."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from opskit.errors import ConfigError, GuardRefused, RemoteError, UsageError

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Mirrored:
    folder: Path
    """The files, below it, by their keys."""
    version: str
    """A digest of all keys and ETags, 12 hex digits: the same for the same objects."""
    objects: int
    fetched: int


def mirror(url: str, cache: Path, *, endpoint_url: str = "") -> Mirrored:
    """Make `cache/tree` what `s3://bucket/prefix` holds. Credentials come from where boto3 looks for them.

    An object that changes between its listing and its transfer fails the whole: nothing mixed is ever returned.
    UsageError for another URL, RemoteError for a store that is out of reach or refuses, GuardRefused for keys that
    would leave the folder.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{url!r} names no bucket", hint="for example s3://bucket/dags")
    prefix = unquote(parts.path).strip("/")
    client, failures = _client(endpoint_url)
    tree, index_path = cache / "tree", cache / "index.json"
    tree.mkdir(parents=True, exist_ok=True)
    known: dict[str, list[Any]] = json.loads(index_path.read_bytes()) if index_path.exists() else {}
    try:
        listed = _listed(client, parts.netloc, f"{prefix}/" if prefix else "")
        stale = {key: tag for key, tag in listed.items() if not _is_fresh(tree / key, tag, known.get(key))}
        # What is about to change must not look fresh when this is interrupted.
        _write_index(index_path, {key: entry for key, entry in known.items() if key in listed and key not in stale})
        _remove_others(tree, set(listed))

        def fetch(key: str) -> None:
            place = tree / key
            place.parent.mkdir(parents=True, exist_ok=True)
            full = f"{prefix}/{key}" if prefix else key
            body = client.get_object(Bucket=parts.netloc, Key=full, IfMatch=stale[key])["Body"]
            temporary = place.with_name(f".{place.name}.fetching")
            with temporary.open("wb") as file:
                for chunk in body.iter_chunks(1 << 20):
                    file.write(chunk)
            temporary.rename(place)

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mirror") as pool:
            list(pool.map(fetch, stale))
    except failures as error:
        raise RemoteError(
            f"{url}: {error}", hint="check the bucket, the credentials, and [deploy] endpoint_url"
        ) from error
    _write_index(index_path, {key: _entry(tree / key, tag) for key, tag in listed.items()})
    digest = hashlib.sha256(json.dumps(sorted(listed.items())).encode()).hexdigest()[:12]
    return Mirrored(tree, digest, len(listed), len(stale))


def _client(endpoint_url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"s3:// needs the Python package {error.name}", hint="install it with: pip install 'opskit[s3]'"
        ) from error
    try:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint_url or None,
            config=Config(
                retries={"mode": "standard", "max_attempts": 5},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=_AT_ONCE,
                s3={"addressing_style": "path"} if endpoint_url else {},
            ),
        )
    except (ValueError, BotoCoreError) as error:
        raise ConfigError(f"S3 can't be used: {error}", hint="check [deploy] endpoint_url") from error
    return client, (BotoCoreError, ClientError)


def _listed(client: Any, bucket: str, prefix: str) -> dict[str, str]:
    """Key below the prefix → ETag."""
    found: dict[str, str] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            key = item["Key"][len(prefix) :]
            if not key or key.endswith("/"):
                continue  # what consoles show as an empty folder
            if any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
                raise GuardRefused(f"the object {key!r} can't become a file", hint="rename it in the bucket")
            found[key] = item["ETag"]
    return found


def _entry(path: Path, tag: str) -> list[Any]:
    info = path.stat()
    return [tag, info.st_size, info.st_mtime_ns]


def _is_fresh(path: Path, tag: str, known: list[Any] | None) -> bool:
    try:
        return known is not None and _entry(path, tag) == known
    except OSError:
        return False


def _remove_others(tree: Path, keys: set[str]) -> None:
    for folder, names, files in os.walk(tree, topdown=False):
        for name in files:
            path = Path(folder, name)
            if str(path.relative_to(tree)) not in keys:
                path.unlink()
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()


def _write_index(path: Path, index: dict[str, list[Any]]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(index))
    temporary.rename(path)
