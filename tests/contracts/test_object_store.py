"""What every object store guarantees, on a folder and on an S3 API."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import ConfigError, UsageError
from opskit.system.object_store import (
    LARGEST_OBJECT_BYTES,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    StoreError,
    first_part_size,
    open_store,
    part_size,
)
from tests.proxy import Proxy

MIB = 1 << 20


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "store" / "deep"))
    s3 = request.getfixturevalue("s3")
    bucket = s3.make_bucket()
    return open_store(f"s3://{bucket}/some/prefix", endpoint_url=s3.endpoint_url, part_size_bytes=5 * MIB)


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.objects(prefix)]


def read(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.get(key))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB, 5 * MIB + 1, 12 * MIB])
def test_an_object_comes_back_as_it_was_put(store: ObjectStore, size: int) -> None:
    content = noise(size)
    pieces = (content[start : start + 700_001] for start in range(0, size, 700_001))
    stored = store.put("a/b.bin", pieces)
    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert read(store, "a/b.bin") == content
    info = store.head("a/b.bin")
    assert info is not None and (info.key, info.size_bytes) == ("a/b.bin", size)
    assert info.modified_at.tzinfo is not None


def test_a_later_put_replaces_the_object(store: ObjectStore) -> None:
    store.put("a", [b"one"])
    store.put("a", [b"two", b"three"])
    assert read(store, "a") == b"twothree"
    assert keys(store) == ["a"]


def test_a_conditional_put_never_replaces(store: ObjectStore) -> None:
    store.put("a", [b"one"], new=True)
    with pytest.raises(ObjectExists):
        store.put("a", [b"two"], new=True)
    assert read(store, "a") == b"one"
    assert store.stale_uploads() == []


def test_of_many_conditional_puts_at_once_one_wins(store: ObjectStore) -> None:
    won: list[bytes] = []
    start = threading.Barrier(8)

    def attempt(content: bytes) -> None:
        start.wait()
        try:
            store.put("only", [content], new=True)
            won.append(content)
        except ObjectExists:
            pass

    threads = [threading.Thread(target=attempt, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [read(store, "only")]


def test_a_missing_object_is_said_at_once(store: ObjectStore) -> None:
    assert store.head("nothing") is None
    with pytest.raises(ObjectMissing):
        store.get("nothing")


def test_a_range_of_an_object_is_read_alone(store: ObjectStore) -> None:
    store.put("a", [b"0123456789"])
    assert store.get_range("a", 3, 4) == b"3456"
    assert store.get_range("a", 8, 100) == b"89"
    with pytest.raises(ObjectMissing):
        store.get_range("b", 0, 1)


def test_objects_are_listed_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ("b/2", "a/1", "b/1", "b-x", "c"):
        store.put(key, [key.encode()])
    assert keys(store) == sorted(["b/2", "a/1", "b/1", "b-x", "c"])
    assert keys(store, "b/") == ["b/1", "b/2"]
    assert keys(store, "nothing/") == []


def test_an_empty_store_lists_nothing(store: ObjectStore) -> None:
    assert keys(store) == []
    assert store.stale_uploads() == []


def test_more_objects_than_one_page_of_a_listing_are_all_listed(store: ObjectStore) -> None:
    client = getattr(store, "_client", None)
    if client:  # pages of 20 instead of 1,000
        small = {"MaxKeys": 20}
        client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, **small})
    wanted = [f"many/{number:04}" for number in range(50)]
    for key in wanted:
        store.put(key, [b""])
    assert keys(store, "many/") == wanted


def test_a_delete_is_final_and_a_second_one_does_nothing(store: ObjectStore) -> None:
    store.put("a/b/c", [b"x"])
    store.delete("a/b/c")
    store.delete("a/b/c")
    assert keys(store) == []


@pytest.mark.parametrize("before", [0, 3 * MIB, 11 * MIB])
def test_a_stream_that_fails_leaves_nothing(store: ObjectStore, before: int) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(before // MIB):
            yield noise(MIB)
        raise RuntimeError("the dump failed")

    with pytest.raises(RuntimeError, match="the dump failed"):
        store.put("a/b", stream())
    assert keys(store) == []
    assert store.stale_uploads() == []


PUT_AND_DIE = """
import json, os, sys
from opskit.system.object_store import open_store

def stream():
    for _ in range(12):
        yield os.urandom(1 << 20)
    os.kill(os.getpid(), 9)

open_store(**json.loads(sys.argv[1])).put("a/killed", stream())
"""


def test_a_killed_write_is_invisible_and_can_be_removed(request: pytest.FixtureRequest, store: ObjectStore) -> None:
    arguments: dict[str, Any] = {"url": store.url}
    if store.url.startswith("s3://"):
        arguments |= {"endpoint_url": request.getfixturevalue("s3").endpoint_url, "part_size_bytes": 5 * MIB}
    killed = subprocess.run([sys.executable, "-c", PUT_AND_DIE, json.dumps(arguments)], check=False, timeout=60)
    assert killed.returncode == -9
    assert keys(store) == []
    assert store.head("a/killed") is None
    stale = store.stale_uploads()
    assert [upload.key for upload in stale] == ["a/killed"]
    assert store.stale_uploads("b/") == []
    store.abort_upload(stale[0])
    assert store.stale_uploads() == []


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a/", ".hidden", "a\nb"])
def test_a_key_never_leaves_the_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError):
        store.put(key, [b""])
    with pytest.raises(ValueError):
        store.get(key)


@pytest.mark.parametrize("max_parts", [1_000, 10_000])
@pytest.mark.parametrize("smallest", [5 * MIB, 8 * MIB, 64 * MIB])
def test_parts_grow_so_that_every_store_can_hold_the_largest_object(max_parts: int, smallest: int) -> None:
    sizes = [part_size(number, smallest, max_parts) for number in range(1, max_parts + 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] == smallest == sizes[max_parts // 2 - 1]
    assert sum(sizes) >= LARGEST_OBJECT_BYTES * 0.99
    assert max(sizes) <= 5 << 30


def test_an_expected_size_fits_in_half_of_the_parts() -> None:
    size = first_part_size(8 * MIB, 1_000, 50 << 30)
    assert size * 500 >= 50 << 30
    assert first_part_size(8 * MIB, 10_000, 0) == 8 * MIB


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://", "file://otherhost/x", ""])
def test_a_url_that_names_no_store_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/x").put("a", [b"1"])
    assert (tmp_path / "x" / "a").read_bytes() == b"1"


def test_files_of_a_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    open_store(str(tmp_path / "store")).put("a/b", [b"1"])
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store" / "a" / "b").stat().st_mode & 0o777 == 0o600


def test_a_folder_without_room_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="MiB free"):
        open_store(str(tmp_path)).put("a", [b"1"], expected_bytes=1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        open_store(str(tmp_path / "file" / "below"))


def test_a_missing_bucket_is_an_error_with_advice(s3: Any) -> None:
    with pytest.raises(StoreError) as failed:
        open_store("s3://no-such-bucket/x", endpoint_url=s3.endpoint_url).put("a", [b"1"])
    assert failed.value.exit_code == 13
    assert failed.value.hint == "make the bucket first; opskit never makes one"


def test_an_outage_in_the_middle_of_a_stream_costs_only_the_part_on_its_way(s3: Any) -> None:
    bucket, proxy = s3.make_bucket(), Proxy(s3.endpoint_url)
    store = open_store(f"s3://{bucket}/x", endpoint_url=proxy.url, part_size_bytes=5 * MIB, patience_seconds=60)
    content = noise(26 * MIB)

    def stream() -> Iterator[bytes]:
        for start in range(0, len(content), MIB):
            if start == 13 * MIB:
                proxy.refuse()
                threading.Timer(1.0, proxy.accept).start()
            yield content[start : start + MIB]

    try:
        stored = store.put("a", stream())
        assert stored.sha256 == hashlib.sha256(content).hexdigest()
        assert read(store, "a") == content
        seen = bytearray()
        for chunk in store.get("a"):
            if not seen:
                proxy.refuse()
                proxy.accept()
            seen += chunk
        assert seen == content
    finally:
        proxy.close()
    assert store.url and s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads") is None


def test_an_upload_whose_patience_ends_is_an_error_with_advice(s3: Any) -> None:
    bucket, proxy = s3.make_bucket(), Proxy(s3.endpoint_url)
    store = open_store(f"s3://{bucket}/x", endpoint_url=proxy.url, part_size_bytes=5 * MIB)

    def stream() -> Iterator[bytes]:
        yield noise(6 * MIB)
        proxy.refuse()
        yield noise(6 * MIB)

    with pytest.raises(StoreError, match="can't write a") as failed:
        store.put("a", stream())
    assert failed.value.hint == "check the network and [backup] endpoint_url"
    proxy.close()


def test_an_endpoint_that_is_no_url_is_a_configuration_error(s3: Any) -> None:
    with pytest.raises(ConfigError):
        open_store("s3://bucket", endpoint_url="not a url")
