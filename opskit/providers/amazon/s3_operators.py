"""Operators for buckets and objects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from opskit.core.dag.exceptions import AirflowException
from opskit.providers.amazon.base import AwsBaseOperator, AwsGenericHook, aws_template_fields
from opskit.providers.amazon.s3_hook import S3Hook


class _S3Operator(AwsBaseOperator):
    aws_hook_class: ClassVar[type[AwsGenericHook]] = S3Hook


class S3CreateBucketOperator(_S3Operator):
    """Make a bucket, unless it is there."""

    template_fields: Sequence[str] = aws_template_fields("bucket_name")

    def __init__(self, *, bucket_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_name = bucket_name

    def execute(self, context: Any) -> None:
        if self.hook.check_for_bucket(self.bucket_name):
            self.log.info("Bucket with name: %s already exists", self.bucket_name)
            return
        self.hook.create_bucket(bucket_name=self.bucket_name, region_name=self.region_name)


class S3DeleteBucketOperator(_S3Operator):
    """Remove a bucket where it is there; with force_delete all that is in it."""

    template_fields: Sequence[str] = aws_template_fields("bucket_name")

    def __init__(self, *, bucket_name: str, force_delete: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_name = bucket_name
        self.force_delete = force_delete

    def execute(self, context: Any) -> None:
        if self.hook.check_for_bucket(self.bucket_name):
            self.hook.delete_bucket(bucket_name=self.bucket_name, force_delete=self.force_delete)
        else:
            self.log.info("Bucket with name: %s doesn't exist", self.bucket_name)


class S3CopyObjectOperator(_S3Operator):
    """Copy an object. A key may be a whole URL where its bucket is not given."""

    template_fields: Sequence[str] = aws_template_fields(
        "source_bucket_key", "dest_bucket_key", "source_bucket_name", "dest_bucket_name"
    )

    def __init__(
        self,
        *,
        source_bucket_key: str,
        dest_bucket_key: str,
        source_bucket_name: str | None = None,
        dest_bucket_name: str | None = None,
        source_version_id: str | None = None,
        acl_policy: str | None = None,
        meta_data_directive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_bucket_key = source_bucket_key
        self.dest_bucket_key = dest_bucket_key
        self.source_bucket_name = source_bucket_name
        self.dest_bucket_name = dest_bucket_name
        self.source_version_id = source_version_id
        self.acl_policy = acl_policy
        self.meta_data_directive = meta_data_directive

    def execute(self, context: Any) -> None:
        self.hook.copy_object(
            self.source_bucket_key,
            self.dest_bucket_key,
            self.source_bucket_name,
            self.dest_bucket_name,
            self.source_version_id,
            self.acl_policy,
            self.meta_data_directive,
        )


class S3CreateObjectOperator(_S3Operator):
    """Write `data` (a text or bytes) into an object."""

    template_fields: Sequence[str] = aws_template_fields("s3_bucket", "s3_key", "data")

    def __init__(
        self,
        *,
        s3_bucket: str | None = None,
        s3_key: str,
        data: str | bytes,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
        encoding: str | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.data = data
        self.replace = replace
        self.encrypt = encrypt
        self.acl_policy = acl_policy
        self.encoding = encoding
        self.compression = compression

    def execute(self, context: Any) -> None:
        bucket, key = S3Hook.get_s3_bucket_key(self.s3_bucket, self.s3_key, "dest_bucket", "dest_key")
        if isinstance(self.data, str):
            self.hook.load_string(
                self.data, key, bucket, self.replace, self.encrypt, self.encoding, self.acl_policy, self.compression
            )
        else:
            self.hook.load_bytes(self.data, key, bucket, self.replace, self.encrypt, self.acl_policy)


class S3ReadObjectOperator(_S3Operator):
    """Push the content of an object as text."""

    template_fields: Sequence[str] = aws_template_fields("s3_bucket", "s3_key")

    def __init__(self, *, s3_bucket: str | None = None, s3_key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key

    def execute(self, context: Any) -> str:
        bucket, key = S3Hook.get_s3_bucket_key(self.s3_bucket, self.s3_key, "s3_bucket", "s3_key")
        return str(self.hook.read_key(key, bucket))


class S3DeleteObjectsOperator(_S3Operator):
    """Remove the objects that are named (`keys`), or those that start with `prefix` and were changed between two
    moments."""

    template_fields: Sequence[str] = aws_template_fields("keys", "bucket", "prefix", "from_datetime", "to_datetime")

    def __init__(
        self,
        *,
        bucket: str,
        keys: str | list[str] | None = None,
        prefix: str | None = None,
        from_datetime: datetime | str | None = None,
        to_datetime: datetime | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.keys = keys
        self.prefix = prefix
        self.from_datetime = from_datetime
        self.to_datetime = to_datetime

    def execute(self, context: Any) -> None:
        selected = any(value is not None for value in (self.prefix, self.from_datetime, self.to_datetime))
        if (self.keys is None) != selected:
            raise AirflowException("Either keys or at least one of prefix, from_datetime, to_datetime should be set.")
        keys = self.keys
        if selected:
            keys = self.hook.list_keys(
                bucket_name=self.bucket,
                prefix=self.prefix,
                from_datetime=_moment(self.from_datetime),
                to_datetime=_moment(self.to_datetime),
            )
        if keys:
            self.hook.delete_objects(bucket=self.bucket, keys=keys)


class S3ListOperator(_S3Operator):
    """Push the keys that start with `prefix` (with apply_wildcard, that fit it)."""

    template_fields: Sequence[str] = aws_template_fields("bucket", "prefix", "delimiter")
    ui_color = "#ffd700"

    def __init__(
        self, *, bucket: str, prefix: str = "", delimiter: str = "", apply_wildcard: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.apply_wildcard = apply_wildcard

    def execute(self, context: Any) -> list[str]:
        keys: list[str] = self.hook.list_keys(
            bucket_name=self.bucket, prefix=self.prefix, delimiter=self.delimiter, apply_wildcard=self.apply_wildcard
        )
        return keys


class S3ListPrefixesOperator(_S3Operator):
    """Push the common prefixes up to the delimiter: what looks like folders."""

    template_fields: Sequence[str] = aws_template_fields("bucket", "prefix", "delimiter")
    ui_color = "#ffd700"

    def __init__(self, *, bucket: str, prefix: str, delimiter: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter

    def execute(self, context: Any) -> list[str]:
        prefixes: list[str] = self.hook.list_prefixes(
            bucket_name=self.bucket, prefix=self.prefix, delimiter=self.delimiter
        )
        return prefixes


class S3FileTransformOperator(AwsBaseOperator):
    """Download an object, run `transform_script source target *script_args` on it, and upload what the script wrote.
    Keys are whole URLs. `select_expression` downloads what S3 Select finds instead of the whole."""

    template_fields: Sequence[str] = aws_template_fields(
        "source_s3_key", "dest_s3_key", "script_args", "source_aws_conn_id", "dest_aws_conn_id"
    )
    template_ext: Sequence[str] = ()
    ui_color = "#f9c915"

    def __init__(
        self,
        *,
        source_s3_key: str,
        dest_s3_key: str,
        transform_script: str | None = None,
        select_expression: str | None = None,
        select_expr_serialization_config: dict[str, Any] | None = None,
        script_args: Sequence[str] | None = None,
        source_aws_conn_id: str | None = "aws_default",
        source_verify: bool | str | None = None,
        dest_aws_conn_id: str | None = "aws_default",
        dest_verify: bool | str | None = None,
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_s3_key = source_s3_key
        self.dest_s3_key = dest_s3_key
        self.transform_script = transform_script
        self.select_expression = select_expression
        self.select_expr_serialization_config = select_expr_serialization_config or {}
        self.script_args = list(script_args or ())
        self.source_aws_conn_id = source_aws_conn_id
        self.source_verify = source_verify
        self.dest_aws_conn_id = dest_aws_conn_id
        self.dest_verify = dest_verify
        self.replace = replace
        self._running: Any = None

    def execute(self, context: Any) -> None:
        import os
        from tempfile import TemporaryDirectory

        from opskit.core.dag.hooks.subprocess import SubprocessHook

        if self.transform_script is None and self.select_expression is None:
            raise AirflowException("Either transform_script or select_expression must be specified")
        source = S3Hook(aws_conn_id=self.source_aws_conn_id, verify=self.source_verify)
        target = S3Hook(aws_conn_id=self.dest_aws_conn_id, verify=self.dest_verify)
        if not source.check_for_key(self.source_s3_key):
            raise AirflowException(f"The source key {self.source_s3_key} does not exist")
        with TemporaryDirectory(prefix="opskit-") as folder:
            before, after = os.path.join(folder, "source"), os.path.join(folder, "target")
            if self.select_expression is not None:
                found = source.select_key(
                    self.source_s3_key, expression=self.select_expression, **self.select_expr_serialization_config
                )
                with open(before, "w", encoding="utf-8") as file:
                    file.write(found)
            else:
                source.get_key(self.source_s3_key).download_file(before)
            if self.transform_script is None:
                after = before
            else:
                with open(after, "wb"):
                    pass
                self._running = SubprocessHook()
                done = self._running.run_command(
                    [self.transform_script, before, after, *map(str, self.script_args)], cwd=folder
                )
                if done.exit_code != 0:
                    raise AirflowException(f"Transform script failed: {done.exit_code}")
            target.load_file(filename=after, key=self.dest_s3_key, replace=self.replace)

    def on_kill(self) -> None:
        if self._running is not None:
            self._running.send_sigterm()


def _moment(value: datetime | str | None) -> datetime | None:
    if not isinstance(value, str):
        return value
    import pendulum

    parsed: Any = pendulum.parse(value)
    return parsed  # type: ignore[no-any-return]
