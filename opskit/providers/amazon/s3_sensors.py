"""Sensors for objects in S3."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cached_property
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.errors import DagInvalid
from opskit.providers.amazon.base import aws_template_fields
from opskit.providers.amazon.s3_hook import S3Hook


class _S3Sensor(BaseSensorOperator):
    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: str | bool | None = None,
        botocore_config: dict[str, Any] | None = None,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> S3Hook:
        return S3Hook(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify, config=self.botocore_config
        )


class S3KeySensor(_S3Sensor):
    """Waits until all keys of `bucket_key` (one or a list; names in `bucket_name`, or whole URLs) are there; with
    wildcard_match shell patterns, with use_regex regular expressions. `check_fn(files)`, where it is given, must be
    true, too: for each key it gets a list of `{"Size": bytes}`, or of the `metadata_keys` ("*": all that is known)."""

    template_fields: Sequence[str] = aws_template_fields("bucket_key", "bucket_name")

    def __init__(
        self,
        *,
        bucket_key: str | list[str],
        bucket_name: str | None = None,
        wildcard_match: bool = False,
        check_fn: Callable[..., bool] | None = None,
        use_regex: bool = False,
        metadata_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if wildcard_match and use_regex:
            raise DagInvalid(f"task {self.task_id}: wildcard_match and use_regex exclude each other")
        self.bucket_key = bucket_key
        self.bucket_name = bucket_name
        self.wildcard_match = wildcard_match
        self.check_fn = check_fn
        self.use_regex = use_regex
        self.metadata_keys = metadata_keys or ["Size"]

    def poke(self, context: Any) -> bool:
        keys = [self.bucket_key] if isinstance(self.bucket_key, str) else self.bucket_key
        return all(self._check_key(key, context) for key in keys)

    def _check_key(self, key: str, context: Any) -> bool:
        bucket, key = S3Hook.get_s3_bucket_key(self.bucket_name, key, "bucket_name", "bucket_key")
        self.log.info("Poking for key : s3://%s/%s", bucket, key)
        if self.wildcard_match:
            start = re.split(r"[\[*?]", key, maxsplit=1)[0]
            found = [file for file in self.hook.get_file_metadata(start, bucket) if fnmatch(file["Key"], key)]
        elif self.use_regex:
            found = [file for file in self.hook.get_file_metadata("", bucket) if re.match(key, file["Key"])]
        else:
            head = self.hook.head_object(key, bucket)
            found = [] if head is None else [{"Key": key, "Size": head["ContentLength"], **head}]
        if not found:
            return False
        if self.check_fn is None:
            return True
        files = [self._facts(file, bucket) for file in found]
        parameters = inspect.signature(self.check_fn).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return bool(self.check_fn(files, **context))
        return bool(self.check_fn(files))

    def _facts(self, file: dict[str, Any], bucket: str) -> dict[str, Any]:
        if "*" in self.metadata_keys:
            return {**file, **(self.hook.head_object(file["Key"], bucket) or {})}
        if any(name not in file for name in self.metadata_keys):
            file = {**(self.hook.head_object(file["Key"], bucket) or {}), **file}
        return {name: file.get(name) for name in self.metadata_keys}


class S3PrefixSensor(_S3Sensor):
    """Waits until keys start with each prefix (one or a list), up to the delimiter."""

    template_fields: Sequence[str] = ("prefix", "bucket_name")

    def __init__(self, *, bucket_name: str, prefix: str | list[str], delimiter: str = "/", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket_name = bucket_name
        self.prefix = [prefix] if isinstance(prefix, str) else prefix
        self.delimiter = delimiter

    def poke(self, context: Any) -> bool:
        return all(
            self.hook.check_for_prefix(prefix=prefix, delimiter=self.delimiter, bucket_name=self.bucket_name)
            for prefix in self.prefix
        )


class S3KeysUnchangedSensor(_S3Sensor):
    """Waits until at least `min_objects` keys start with `prefix`, and none came for `inactivity_period` seconds. Keys
    that go fail it, unless allow_delete: then the time starts anew. What it has seen is in the memory of the process,
    so it works in poke mode only."""

    template_fields: Sequence[str] = aws_template_fields("bucket_name", "prefix")

    def __init__(
        self,
        *,
        bucket_name: str,
        prefix: str,
        inactivity_period: float = 60 * 60,
        min_objects: int = 1,
        previous_objects: set[str] | None = None,
        allow_delete: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.reschedule:
            raise DagInvalid(f"task {self.task_id}: S3KeysUnchangedSensor works in mode poke only")
        if inactivity_period < 0:
            raise ValueError("inactivity_period must be non-negative")
        self.bucket_name = bucket_name
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.previous_objects = set(previous_objects or ())
        self.allow_delete = allow_delete
        self.last_activity_time: datetime | None = None

    def poke(self, context: Any) -> bool:
        return self.is_keys_unchanged(set(self.hook.list_keys(self.bucket_name, prefix=self.prefix)))

    def is_keys_unchanged(self, current_objects: set[str]) -> bool:
        """Whether the wait is over, given what is there now."""
        now = datetime.now(UTC)
        gone = self.previous_objects - current_objects
        if gone and not self.allow_delete:
            raise AirflowException(f"Objects were deleted between pokes: {', '.join(sorted(gone))}")
        if self.last_activity_time is None or current_objects != self.previous_objects:
            self.log.info("%s objects at s3://%s/%s", len(current_objects), self.bucket_name, self.prefix)
            self.previous_objects = current_objects
            self.last_activity_time = now
        quiet = (now - self.last_activity_time).total_seconds()
        return quiet >= self.inactivity_period and len(current_objects) >= self.min_objects
