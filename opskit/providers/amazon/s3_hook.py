"""S3Hook: buckets and objects, with Airflow's method names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.providers.amazon.base import AwsBaseHook
from opskit.providers.optional import library

_DELETED_AT_ONCE = 1000
"""Objects that the API removes in one request."""


class S3Hook(AwsBaseHook):
    """Keys are names in `bucket_name`, or whole URLs (`s3://bucket/key`) without it; a bucket may be set in the
    connection (`service_config`). `extra_args` go to uploads and downloads, `transfer_config_args` to boto3's
    TransferConfig."""

    def __init__(
        self,
        aws_conn_id: str | None = AwsBaseHook.default_conn_name,
        transfer_config_args: dict[str, Any] | None = None,
        extra_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["client_type"] = "s3"
        super().__init__(aws_conn_id, **kwargs)
        self._transfer_config_args = transfer_config_args or {}
        self._extra_args = extra_args or {}

    @property
    def extra_args(self) -> dict[str, Any]:
        return dict(self._extra_args)

    @property
    def transfer_config(self) -> Any:
        module = library("boto3.s3.transfer", extra="s3", needed_by="S3Hook")
        return module.TransferConfig(**self._transfer_config_args)

    @cached_property
    def resource(self) -> Any:
        """boto3's resource for the same place."""
        return self.get_session().resource(
            "s3", endpoint_url=self._endpoint_url(), config=self.config, verify=self.verify
        )

    @staticmethod
    def parse_s3_url(s3url: str) -> tuple[str, str]:
        """(bucket, key) of `s3://bucket/key`, or of an HTTPS URL of either style."""
        parts = urlsplit(s3url)
        path = parts.path.lstrip("/")
        if "://" not in s3url or not parts.netloc:
            raise AirflowException(f'Please provide a bucket name using a valid format: "{s3url}"')
        if parts.scheme in ("http", "https"):
            host = parts.netloc.split(".")
            if host[0] == "s3":
                bucket, _, key = path.partition("/")
                return bucket, key
            if len(host) > 1 and host[1].startswith("s3"):
                return host[0], path
            raise AirflowException(f'Please provide a bucket name using a valid virtually hosted format: "{s3url}"')
        return parts.netloc, path + (f"?{parts.query}" if parts.query else "")

    @staticmethod
    def get_s3_bucket_key(
        bucket: str | None, key: str, bucket_param_name: str = "bucket", key_param_name: str = "key"
    ) -> tuple[str, str]:
        """(bucket, key), where the key may be a whole URL instead. TypeError when both name the bucket."""
        if bucket is None:
            return S3Hook.parse_s3_url(key)
        if urlsplit(key).netloc and urlsplit(key).scheme:
            raise TypeError(
                f"If `{bucket_param_name}` is provided, {key_param_name} should be a relative path "
                "from root level, rather than a full s3:// url"
            )
        return bucket, key

    def _bucket(self, bucket_name: str | None) -> str:
        found = bucket_name or self.service_config.get("bucket_name")
        if not found:
            raise AirflowException(
                "the bucket is not named: neither in bucket_name, nor in the key, nor in the connection"
            )
        return str(found)

    def _place(self, key: str, bucket_name: str | None) -> tuple[str, str]:
        if not bucket_name and "://" in key:
            return self.parse_s3_url(key)
        return self._bucket(bucket_name), key

    def check_for_bucket(self, bucket_name: str | None = None) -> bool:
        """Whether the bucket is there, and ours."""
        error_class = _client_error()
        try:
            self.conn.head_bucket(Bucket=self._bucket(bucket_name))
        except error_class as error:
            if _status(error) in (403, 404):
                self.log.info("Bucket %s: %s", bucket_name, error)
                return False
            raise
        return True

    def get_bucket(self, bucket_name: str | None = None) -> Any:
        return self.resource.Bucket(self._bucket(bucket_name))

    def create_bucket(self, bucket_name: str | None = None, region_name: str | None = None) -> None:
        region = region_name or self.conn_region_name
        options = {} if region in ("us-east-1", "aws-global") else {
            "CreateBucketConfiguration": {"LocationConstraint": region}
        }  # fmt: skip
        self.conn.create_bucket(Bucket=self._bucket(bucket_name), **options)

    def check_for_prefix(self, prefix: str, delimiter: str, bucket_name: str | None = None) -> bool:
        """Whether keys start with this prefix, up to the delimiter."""
        bucket, prefix = self._place(prefix, bucket_name)
        if not prefix.endswith(delimiter):
            prefix += delimiter
        start = delimiter.join(prefix.split(delimiter)[:-2])
        return prefix in self.list_prefixes(bucket, f"{start}{delimiter}" if start else start, delimiter)

    def _pages(
        self, bucket: str, prefix: str | None, page_size: int | None, max_items: int | None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        paginator = self.conn.get_paginator("list_objects_v2")
        limits = {"PageSize": page_size, "MaxItems": max_items}
        yield from paginator.paginate(Bucket=bucket, Prefix=prefix or "", PaginationConfig=limits, **options)

    def list_prefixes(
        self,
        bucket_name: str | None = None,
        prefix: str | None = None,
        delimiter: str | None = None,
        page_size: int | None = None,
        max_items: int | None = None,
    ) -> list[str]:
        """The common prefixes up to the delimiter: what looks like folders."""
        pages = self._pages(self._bucket(bucket_name), prefix, page_size, max_items, Delimiter=delimiter or "")
        return [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]

    def list_keys(
        self,
        bucket_name: str | None = None,
        prefix: str | None = None,
        delimiter: str | None = None,
        page_size: int | None = None,
        max_items: int | None = None,
        start_after_key: str | None = None,
        from_datetime: datetime | None = None,
        to_datetime: datetime | None = None,
        object_filter: Callable[..., list[Any]] | None = None,
        apply_wildcard: bool = False,
    ) -> list[str]:
        """The keys that start with `prefix` (with apply_wildcard, that fit it), changed between two moments;
        `object_filter(entries)` chooses further."""
        pattern = prefix if apply_wildcard and prefix and any(mark in prefix for mark in "*?[") else None
        if pattern is not None:
            prefix = _before_wildcard(pattern)
        pages = self._pages(
            self._bucket(bucket_name), prefix, page_size, max_items,
            Delimiter=delimiter or "", StartAfter=start_after_key or "",
        )  # fmt: skip
        entries = [entry for page in pages for entry in page.get("Contents", ())]
        if object_filter is not None:
            entries = object_filter(entries)
        return [
            entry["Key"]
            for entry in entries
            if (pattern is None or fnmatch(entry["Key"], pattern))
            and (from_datetime is None or entry["LastModified"] > _aware(from_datetime))
            and (to_datetime is None or entry["LastModified"] < _aware(to_datetime))
        ]

    def iter_file_metadata(
        self,
        prefix: str,
        bucket_name: str | None = None,
        page_size: int | None = None,
        max_items: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        for page in self._pages(self._bucket(bucket_name), prefix, page_size, max_items):
            yield from page.get("Contents", ())

    def get_file_metadata(
        self,
        prefix: str,
        bucket_name: str | None = None,
        page_size: int | None = None,
        max_items: int | None = None,
    ) -> list[dict[str, Any]]:
        """Key, Size, LastModified, ETag … of the objects whose keys start with the prefix."""
        return list(self.iter_file_metadata(prefix, bucket_name, page_size, max_items))

    def head_object(self, key: str, bucket_name: str | None = None) -> dict[str, Any] | None:
        """What S3 knows about an object; None without it."""
        bucket, key = self._place(key, bucket_name)
        error_class = _client_error()
        try:
            return dict(self.conn.head_object(Bucket=bucket, Key=key))
        except error_class as error:
            if _status(error) == 404:
                return None
            raise

    def check_for_key(self, key: str, bucket_name: str | None = None) -> bool:
        return self.head_object(key, bucket_name) is not None

    def get_key(self, key: str, bucket_name: str | None = None) -> Any:
        """boto3's Object, loaded."""
        bucket, key = self._place(key, bucket_name)
        found = self.resource.Object(bucket, key)
        found.load()
        return found

    def read_key(self, key: str, bucket_name: str | None = None) -> str:
        """The content as UTF-8 text."""
        bucket, key = self._place(key, bucket_name)
        return str(self.conn.get_object(Bucket=bucket, Key=key)["Body"].read().decode("utf-8"))

    def select_key(
        self,
        key: str,
        bucket_name: str | None = None,
        expression: str | None = None,
        expression_type: str | None = None,
        input_serialization: dict[str, Any] | None = None,
        output_serialization: dict[str, Any] | None = None,
    ) -> str:
        """What S3 Select finds in an object, as text."""
        bucket, key = self._place(key, bucket_name)
        response = self.conn.select_object_content(
            Bucket=bucket,
            Key=key,
            Expression=expression or "SELECT * FROM S3Object",
            ExpressionType=expression_type or "SQL",
            InputSerialization=input_serialization or {"CSV": {}},
            OutputSerialization=output_serialization or {"CSV": {}},
        )
        return b"".join(event["Records"]["Payload"] for event in response["Payload"] if "Records" in event).decode()

    def check_for_wildcard_key(self, wildcard_key: str, bucket_name: str | None = None, delimiter: str = "") -> bool:
        return self.get_wildcard_key(wildcard_key, bucket_name, delimiter) is not None

    def get_wildcard_key(self, wildcard_key: str, bucket_name: str | None = None, delimiter: str = "") -> Any:
        """The first object whose key fits; None without one."""
        bucket, pattern = self._place(wildcard_key, bucket_name)
        keys = self.list_keys(bucket, _before_wildcard(pattern), delimiter)
        found = next((key for key in keys if fnmatch(key, pattern)), None)
        return None if found is None else self.get_key(found, bucket)

    def load_file(
        self,
        filename: Path | str,
        key: str,
        bucket_name: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        gzip: bool = False,
        acl_policy: str | None = None,
    ) -> None:
        """Upload a file. ValueError when the key is there and is not to be replaced."""
        import gzip as compression
        import shutil
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="opskit-") as folder:
            path = os.fspath(filename)
            if gzip:
                target = os.path.join(folder, "file.gz")
                with open(path, "rb") as source, compression.open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                path = target
            with open(path, "rb") as file_obj:
                self._upload_file_obj(file_obj, key, bucket_name, replace, encrypt, acl_policy)

    def load_string(
        self,
        string_data: str,
        key: str,
        bucket_name: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        encoding: str | None = None,
        acl_policy: str | None = None,
        compression: str | None = None,
    ) -> None:
        """Upload a text, in UTF-8 unless `encoding` says otherwise; `compression` may be gzip."""
        data = string_data.encode(encoding or "utf-8")
        if compression not in (None, "gzip"):
            raise NotImplementedError(
                f"Received {compression} compression type. String can currently be compressed in gzip"
            )
        if compression:
            import gzip

            data = gzip.compress(data)
        self.load_bytes(data, key, bucket_name, replace, encrypt, acl_policy)

    def load_bytes(
        self,
        bytes_data: bytes,
        key: str,
        bucket_name: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
    ) -> None:
        self._upload_file_obj(BytesIO(bytes_data), key, bucket_name, replace, encrypt, acl_policy)

    def load_file_obj(
        self,
        file_obj: Any,
        key: str,
        bucket_name: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
    ) -> None:
        """Upload what an open binary file holds."""
        self._upload_file_obj(file_obj, key, bucket_name, replace, encrypt, acl_policy)

    def _upload_file_obj(
        self,
        file_obj: Any,
        key: str,
        bucket_name: str | None = None,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
    ) -> None:
        bucket, key = self._place(key, bucket_name)
        if not replace and self.check_for_key(key, bucket):
            raise ValueError(f"The key {key} already exists.")
        options = self.extra_args
        if encrypt:
            options["ServerSideEncryption"] = "AES256"
        if acl_policy:
            options["ACL"] = acl_policy
        self.conn.upload_fileobj(file_obj, bucket, key, ExtraArgs=options, Config=self.transfer_config)

    def copy_object(
        self,
        source_bucket_key: str,
        dest_bucket_key: str,
        source_bucket_name: str | None = None,
        dest_bucket_name: str | None = None,
        source_version_id: str | None = None,
        acl_policy: str | None = None,
        meta_data_directive: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Copy an object within S3 (up to 5 GB)."""
        dest_bucket, dest_key = self.get_s3_bucket_key(
            dest_bucket_name, dest_bucket_key, "dest_bucket_name", "dest_bucket_key"
        )
        bucket, key = self.get_s3_bucket_key(
            source_bucket_name, source_bucket_key, "source_bucket_name", "source_bucket_key"
        )
        source = {"Bucket": bucket, "Key": key}
        if source_version_id:
            source["VersionId"] = source_version_id
        if acl_policy:
            kwargs["ACL"] = acl_policy
        if meta_data_directive:
            kwargs["MetadataDirective"] = meta_data_directive
        return self.conn.copy_object(Bucket=dest_bucket, Key=dest_key, CopySource=source, **kwargs)

    def delete_objects(self, bucket: str, keys: str | Iterable[str]) -> None:
        """Remove objects. AirflowException when some could not be."""
        todo = [keys] if isinstance(keys, str) else list(keys)
        for start in range(0, len(todo), _DELETED_AT_ONCE):
            part = todo[start : start + _DELETED_AT_ONCE]
            answer = self.conn.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in part]})
            self.log.info("Deleted: %s", [entry["Key"] for entry in answer.get("Deleted", ())])
            if answer.get("Errors"):
                raise AirflowException(f"Errors when deleting: {[entry['Key'] for entry in answer['Errors']]}")

    def delete_bucket(self, bucket_name: str, force_delete: bool = False, max_retries: int = 5) -> None:
        """Remove a bucket; with force_delete all that is in it, old versions too."""
        if force_delete:
            self.get_bucket(bucket_name).object_versions.delete()
            self.get_bucket(bucket_name).objects.all().delete()
        self.conn.delete_bucket(Bucket=bucket_name)

    def download_file(
        self,
        key: str,
        bucket_name: str | None = None,
        local_path: str | None = None,
        preserve_file_name: bool = False,
        use_autogenerated_subdir: bool = True,
    ) -> str:
        """The path of the file that the object was written to: below `local_path`, or the folder for temporary files.
        Its name is a new one, or with preserve_file_name the last part of the key (in a folder of its own, unless
        use_autogenerated_subdir=False). AirflowNotFoundException without such a key."""
        import tempfile

        bucket, key = self._place(key, bucket_name)
        if not self.check_for_key(key, bucket):
            raise AirflowNotFoundException(f"The source file in Bucket {bucket} with path {key} does not exist")
        folder = local_path or tempfile.gettempdir()
        if preserve_file_name:
            if use_autogenerated_subdir:
                folder = tempfile.mkdtemp(prefix="airflow_tmp_dir_", dir=folder)
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, key.rsplit("/", 1)[-1])
            if os.path.exists(path):
                raise FileExistsError(f"{path} is there already")
        else:
            descriptor, path = tempfile.mkstemp(prefix="airflow_tmp_", dir=folder)
            os.close(descriptor)
        self.conn.download_file(bucket, key, path, ExtraArgs=self.extra_args or None, Config=self.transfer_config)
        return path

    def generate_presigned_url(
        self,
        client_method: str,
        params: dict[str, Any] | None = None,
        expires_in: int = 3600,
        http_method: str | None = None,
    ) -> str:
        """A URL by which anybody may do this one thing, for `expires_in` seconds."""
        return str(
            self.conn.generate_presigned_url(
                ClientMethod=client_method, Params=params, ExpiresIn=expires_in, HttpMethod=http_method
            )
        )

    def get_bucket_tagging(self, bucket_name: str | None = None) -> list[dict[str, str]]:
        return list(self.conn.get_bucket_tagging(Bucket=self._bucket(bucket_name))["TagSet"])

    def put_bucket_tagging(
        self,
        tag_set: Mapping[str, str] | list[dict[str, str]] | None = None,
        key: str | None = None,
        value: str | None = None,
        bucket_name: str | None = None,
    ) -> None:
        """Set the tags of a bucket; what it had goes."""
        tags = [{"Key": name, "Value": text} for name, text in tag_set.items()] if isinstance(tag_set, Mapping) else [
            *(tag_set or ())
        ]  # fmt: skip
        if key and value:
            tags.append({"Key": key, "Value": value})
        if not tags:
            raise ValueError("put_bucket_tagging() requires either a tag_set, or a key and a value")
        self.conn.put_bucket_tagging(Bucket=self._bucket(bucket_name), Tagging={"TagSet": tags})

    def delete_bucket_tagging(self, bucket_name: str | None = None) -> None:
        self.conn.delete_bucket_tagging(Bucket=self._bucket(bucket_name))


def _client_error() -> Any:
    return library("botocore.exceptions", extra="s3", needed_by="S3Hook").ClientError


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _before_wildcard(pattern: str) -> str:
    for place, letter in enumerate(pattern):
        if letter in "*?[":
            return pattern[:place]
    return pattern


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
