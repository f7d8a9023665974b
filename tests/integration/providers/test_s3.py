"""S3 against a real API, moto's."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG, chain
from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.providers.amazon.base import AwsBaseHook, AwsBaseOperator
from opskit.providers.amazon.s3_hook import S3Hook
from opskit.providers.amazon.s3_operators import (
    S3CopyObjectOperator,
    S3CreateBucketOperator,
    S3CreateObjectOperator,
    S3DeleteBucketOperator,
    S3DeleteObjectsOperator,
    S3FileTransformOperator,
    S3ListOperator,
    S3ListPrefixesOperator,
    S3ReadObjectOperator,
)
from opskit.providers.amazon.s3_sensors import S3KeySensor, S3KeysUnchangedSensor, S3PrefixSensor
from opskit.providers.amazon.s3_transfers import LocalFilesystemToS3Operator, S3ToSFTPOperator, SFTPToS3Operator
from tests.moto_server import S3
from tests.sshd import Node


def _always(hook: S3Hook) -> type[S3Hook]:
    """A class whose every instance is this one."""
    return type("Same", (S3Hook,), {"__new__": lambda *_, **__: hook, "__init__": lambda *_, **__: None})


_HOOKS: dict[str, S3Hook] = {}
"""One per server: to make a client takes longer than all that is done with it here."""


@pytest.fixture
def hook(s3: S3, store: runtime.MemoryStore) -> S3Hook:
    """A hook over the connection aws_default, with a bucket `data`."""
    store.connections["aws_default"] = Connection(
        "aws_default", conn_type="aws", login="key", password="secret",
        extra={"endpoint_url": s3.endpoint_url, "region_name": "us-east-1"},
    )  # fmt: skip
    made = _HOOKS.setdefault(s3.endpoint_url, S3Hook())
    made.conn.create_bucket(Bucket="data")
    return made


def test_objects_are_written_read_listed_and_removed(hook: S3Hook, tmp_path: Path) -> None:
    hook.load_string("grüße", "in/a.txt", "data")
    with pytest.raises(ValueError, match="already exists"):
        hook.load_string("x", "in/a.txt", "data")
    hook.load_string("new", key="s3://data/in/a.txt", replace=True)
    hook.load_bytes(b"b", "in/b.csv", "data", encrypt=True)
    hook.load_file_obj(io.BytesIO(b"c"), "in/deep/c.csv", "data")
    (tmp_path / "file").write_text("from a file")
    hook.load_file(tmp_path / "file", "file.gz", bucket_name="data", gzip=True)
    hook.load_string("packed", "text.gz", "data", compression="gzip")
    assert hook.read_key("in/a.txt", "data") == "new"
    assert hook.read_key("s3://data/in/b.csv") == "b"
    assert gzip.decompress(hook.get_key("file.gz", "data").get()["Body"].read()) == b"from a file"
    assert gzip.decompress(hook.get_key("text.gz", "data").get()["Body"].read()) == b"packed"
    assert hook.list_keys("data", prefix="in/") == ["in/a.txt", "in/b.csv", "in/deep/c.csv"]
    assert hook.list_keys("data", prefix="in/", delimiter="/", page_size=1) == ["in/a.txt", "in/b.csv"]
    assert hook.list_keys("data", prefix="in/*.csv", apply_wildcard=True) == ["in/b.csv", "in/deep/c.csv"]
    assert hook.list_keys("data", prefix="in/", start_after_key="in/b.csv") == ["in/deep/c.csv"]
    assert hook.list_keys("data", from_datetime=datetime.now(UTC) + timedelta(hours=1)) == []
    assert hook.list_keys("data", object_filter=lambda entries: entries[:1]) == ["file.gz"]
    assert hook.list_prefixes("data", prefix="in/", delimiter="/") == ["in/deep/"]
    assert hook.check_for_prefix("in", "/", "data")
    assert not hook.check_for_prefix("out", "/", "data")
    assert [hook.check_for_key("in/a.txt", "data"), hook.check_for_key("nothing", "data")] == [True, False]
    assert hook.get_wildcard_key("s3://data/in/*/c.*").key == "in/deep/c.csv"
    assert not hook.check_for_wildcard_key("in/*.xml", "data")
    assert [entry["Size"] for entry in hook.get_file_metadata("in/", "data")] == [3, 1, 1]
    assert Path(hook.download_file("in/a.txt", "data", str(tmp_path))).read_text() == "new"
    kept = Path(hook.download_file("in/a.txt", "data", str(tmp_path), preserve_file_name=True))
    assert (kept.name, kept.read_text()) == ("a.txt", "new")
    with pytest.raises(AirflowNotFoundException):
        hook.download_file("nothing", "data")
    hook.copy_object("in/a.txt", "s3://data/copy.txt", source_bucket_name="data")
    assert hook.read_key("copy.txt", "data") == "new"
    assert "copy.txt" in hook.generate_presigned_url("get_object", {"Bucket": "data", "Key": "copy.txt"})
    hook.delete_objects("data", hook.list_keys("data"))
    assert hook.list_keys("data") == []


def test_buckets_are_made_tagged_and_removed(hook: S3Hook) -> None:
    assert not hook.check_for_bucket("other")
    hook.create_bucket("other", region_name="eu-west-1")
    hook.put_bucket_tagging({"team": "data"}, bucket_name="other")
    assert hook.get_bucket_tagging("other") == [{"Key": "team", "Value": "data"}]
    hook.load_string("x", "a", "other")
    with pytest.raises(Exception, match="BucketNotEmpty"):
        hook.delete_bucket("other")
    hook.delete_bucket("other", force_delete=True)
    assert not hook.check_for_bucket("other")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://bucket/deep/key", ("bucket", "deep/key")),
        ("https://s3.eu-west-1.amazonaws.com/bucket/key", ("bucket", "key")),
        ("https://bucket.s3.amazonaws.com/deep/key", ("bucket", "deep/key")),
    ],
)
def test_urls_name_bucket_and_key(url: str, found: tuple[str, str]) -> None:
    assert S3Hook.parse_s3_url(url) == found


def test_a_place_that_is_not_clear_is_refused(hook: S3Hook, store: runtime.MemoryStore) -> None:
    with pytest.raises(TypeError, match="relative path"):
        S3Hook.get_s3_bucket_key("bucket", "s3://bucket/key")
    with pytest.raises(AirflowException, match="valid format"):
        S3Hook.parse_s3_url("key")
    with pytest.raises(AirflowException, match="bucket is not named"):
        hook.read_key("key")
    extra = {**store.connections["aws_default"].extra_dejson, "service_config": {"s3": {"bucket_name": "data"}}}
    store.connections["aws_default"] = Connection("aws_default", login="a", password="b", extra=extra)
    S3Hook().load_string("x", "key")
    assert S3Hook().read_key("key") == "x"


def test_sessions_have_the_credentials_of_the_connection(hook: S3Hook, store: runtime.MemoryStore) -> None:
    credentials = hook.get_credentials()
    assert (credentials.access_key, credentials.secret_key) == ("key", "secret")
    sts = AwsBaseHook(client_type="sts").get_conn()
    assert sts.get_caller_identity()["Account"] == hook.account_id
    with pytest.raises(ValueError, match="client_type"):
        AwsBaseHook().get_conn()
    # Without a connection of that id, boto3 looks where it always does.
    assert S3Hook("nowhere").get_credentials().access_key == "test"
    role = "arn:aws:iam::123456789012:role/loader"
    extra = {**store.connections["aws_default"].extra_dejson, "role_arn": role}
    store.connections["aws_default"].extra = Connection(extra=extra).extra
    identity = AwsBaseHook(client_type="sts").get_conn().get_caller_identity()
    assert identity["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/loader/")
    assert S3Hook().get_credentials().token


def test_an_operator_has_the_hook_that_its_arguments_name(hook: S3Hook) -> None:
    task = S3ListOperator(task_id="t", bucket="data", region_name="eu-west-1", botocore_config={"read_timeout": 7})
    assert task.execute({}) == []
    assert task.hook.get_conn().meta.region_name == "eu-west-1"
    assert task.hook.get_conn().meta.config.read_timeout == 7


def test_operators_do_what_their_names_say(hook: S3Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AwsBaseOperator, "hook", hook)
    monkeypatch.setattr("opskit.providers.amazon.s3_operators.S3Hook", _always(hook))
    monkeypatch.setattr("opskit.providers.amazon.s3_transfers.S3Hook", _always(hook))
    script = tmp_path / "upper.sh"
    script.write_text('#!/bin/sh\ntr a-z A-Z < "$1" > "$2"; printf %s "$3" >> "$2"\n')
    script.chmod(0o755)
    (tmp_path / "local.txt").write_text("local")
    with DAG("d", schedule=None) as dag:
        steps = [
            S3CreateBucketOperator(task_id="make", bucket_name="work"),
            S3CreateBucketOperator(task_id="make_again", bucket_name="work"),
            S3CreateObjectOperator(task_id="put", s3_bucket="work", s3_key="{{ dag.dag_id }}/a", data="text"),
            S3CreateObjectOperator(task_id="put_bytes", s3_key="s3://work/d/b", data=b"bytes"),
            LocalFilesystemToS3Operator(
                task_id="local", filename=str(tmp_path / "local.txt"), dest_key="l", dest_bucket="work"
            ),
            S3CopyObjectOperator(
                task_id="copy", source_bucket_name="work", source_bucket_key="d/a", dest_bucket_key="s3://work/copy"
            ),
            S3FileTransformOperator(
                task_id="transform", source_s3_key="s3://work/copy", dest_s3_key="s3://work/upper",
                transform_script=str(script), script_args=["!"],
            ),
            S3ReadObjectOperator(task_id="read", s3_bucket="work", s3_key="upper"),
            S3ListOperator(task_id="list", bucket="work", prefix=""),
            S3ListPrefixesOperator(task_id="folders", bucket="work", prefix="", delimiter="/"),
            S3DeleteObjectsOperator(task_id="remove", bucket="work", keys=["copy", "upper"]),
            S3DeleteObjectsOperator(task_id="remove_more", bucket="work", prefix="d/"),
            S3ListOperator(task_id="rest", bucket="work"),
            S3DeleteBucketOperator(task_id="drop", bucket_name="work", force_delete=True),
            S3DeleteBucketOperator(task_id="drop_again", bucket_name="work"),
        ]  # fmt: skip
        chain(*steps)
    result = dag.test()
    assert result.state == "success", result.reasons
    values = {task_id: xcoms["return_value"] for task_id, xcoms in result.xcoms.items() if "return_value" in xcoms}
    assert values == {
        "read": "TEXT!", "list": ["copy", "d/a", "d/b", "l", "upper"], "folders": ["d/"], "rest": ["l"],
    }  # fmt: skip
    with pytest.raises(AirflowException, match="Either keys"):
        S3DeleteObjectsOperator(task_id="x", bucket="work").execute({})


def test_sensors_wait_for_keys(hook: S3Hook) -> None:
    def poke(key: Any, **options: Any) -> bool:
        sensor = S3KeySensor(task_id="s", bucket_key=key, **options)
        sensor.__dict__["hook"] = hook
        return sensor.poke({"ds": "2024-01-01"})

    assert not poke("s3://data/in/a.csv")
    hook.load_string("12345", "in/a.csv", "data")
    assert poke("s3://data/in/a.csv")
    assert poke("in/a.csv", bucket_name="data")
    assert not poke(["in/a.csv", "in/b.csv"], bucket_name="data")
    assert poke("in/*.csv", bucket_name="data", wildcard_match=True)
    assert not poke("in/*.xml", bucket_name="data", wildcard_match=True)
    assert poke(r"in/\w\.csv", bucket_name="data", use_regex=True)
    assert poke("in/a.csv", bucket_name="data", check_fn=lambda files: files == [{"Size": 5}])
    assert poke(
        "in/a*", bucket_name="data", wildcard_match=True, metadata_keys=["Key", "Size"],
        check_fn=lambda files, **context: files == [{"Key": "in/a.csv", "Size": 5}] and "ds" in context,
    )  # fmt: skip
    folder = S3PrefixSensor(task_id="p", bucket_name="data", prefix="in")
    folder.__dict__["hook"] = hook
    assert folder.poke({})
    folder.prefix = ["in", "out"]
    assert not folder.poke({})
    quiet = S3KeysUnchangedSensor(
        task_id="u", bucket_name="data", prefix="in/", inactivity_period=0, allow_delete=False
    )
    quiet.__dict__["hook"] = hook
    assert quiet.poke({})
    hook.delete_objects("data", "in/a.csv")
    with pytest.raises(AirflowException, match=r"deleted between pokes: in/a\.csv"):
        quiet.poke({})


def test_files_go_between_hosts_and_s3(hook: S3Hook, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opskit.providers.amazon.s3_transfers.S3Hook", _always(hook))
    hook.load_string("text", "a", "data")
    S3ToSFTPOperator(task_id="there", s3_bucket="data", s3_key="a", sftp_path=f"{node.root}/a").execute({})
    assert (node.root / "a").read_text() == "text"
    SFTPToS3Operator(task_id="back", s3_bucket="data", s3_key="b", sftp_path=f"{node.root}/a").execute({})
    assert hook.read_key("b", "data") == "text"
    missing: dict[str, Any] = {"s3_bucket": "data", "s3_key": "c", "sftp_path": f"{node.root}/nothing"}
    SFTPToS3Operator(task_id="skip", fail_on_file_not_exist=False, **missing).execute({})
    with pytest.raises(FileNotFoundError):
        SFTPToS3Operator(task_id="fail", **missing).execute({})
