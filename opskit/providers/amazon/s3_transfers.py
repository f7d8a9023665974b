"""Files into S3 and out of it: from this host, and over SFTP."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.providers.amazon.s3_hook import S3Hook
from opskit.providers.sftp import SFTPHook


class LocalFilesystemToS3Operator(BaseOperator):
    """Upload a file of this host. `dest_key` may be a whole URL without `dest_bucket`."""

    template_fields: Sequence[str] = ("filename", "dest_key", "dest_bucket", "aws_conn_id")

    def __init__(
        self,
        *,
        filename: str,
        dest_key: str,
        dest_bucket: str | None = None,
        aws_conn_id: str | None = "aws_default",
        verify: str | bool | None = None,
        replace: bool = False,
        encrypt: bool = False,
        gzip: bool = False,
        acl_policy: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filename = filename
        self.dest_key = dest_key
        self.dest_bucket = dest_bucket
        self.aws_conn_id = aws_conn_id
        self.verify = verify
        self.replace = replace
        self.encrypt = encrypt
        self.gzip = gzip
        self.acl_policy = acl_policy

    def execute(self, context: Any) -> None:
        bucket, key = S3Hook.get_s3_bucket_key(self.dest_bucket, self.dest_key, "dest_bucket", "dest_key")
        S3Hook(aws_conn_id=self.aws_conn_id, verify=self.verify).load_file(
            self.filename, key, bucket, self.replace, self.encrypt, self.gzip, self.acl_policy
        )


class S3ToSFTPOperator(BaseOperator):
    """Copy one object to a host."""

    template_fields: Sequence[str] = ("s3_key", "sftp_path", "s3_bucket", "sftp_conn_id", "aws_conn_id")

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        sftp_path: str,
        sftp_conn_id: str = "ssh_default",
        sftp_remote_host: str = "",
        aws_conn_id: str | None = "aws_default",
        confirm: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.sftp_path = sftp_path
        self.sftp_conn_id = sftp_conn_id
        self.sftp_remote_host = sftp_remote_host
        self.aws_conn_id = aws_conn_id
        self.confirm = confirm

    def execute(self, context: Any) -> None:
        with TemporaryFile(prefix="opskit-") as file:
            S3Hook(self.aws_conn_id).conn.download_fileobj(self.s3_bucket, _key(self.s3_key), file)
            file.seek(0)
            hook = SFTPHook(self.sftp_conn_id, remote_host=self.sftp_remote_host)
            hook.store_file(self.sftp_path, file, confirm=self.confirm)


class SFTPToS3Operator(BaseOperator):
    """Copy one file of a host into S3."""

    template_fields: Sequence[str] = ("s3_key", "sftp_path", "s3_bucket", "sftp_conn_id", "aws_conn_id")

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_key: str,
        sftp_path: str,
        sftp_conn_id: str = "ssh_default",
        sftp_remote_host: str = "",
        aws_conn_id: str | None = "aws_default",
        s3_conn_id: str | None = None,
        use_temp_file: bool = True,
        fail_on_file_not_exist: bool = True,
        replace: bool = False,
        encrypt: bool = False,
        acl_policy: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.sftp_path = sftp_path
        self.sftp_conn_id = sftp_conn_id
        self.sftp_remote_host = sftp_remote_host
        self.aws_conn_id = s3_conn_id or aws_conn_id
        self.fail_on_file_not_exist = fail_on_file_not_exist
        self.replace = replace
        self.encrypt = encrypt
        self.acl_policy = acl_policy

    def execute(self, context: Any) -> None:
        with TemporaryFile(prefix="opskit-") as file:
            try:
                SFTPHook(self.sftp_conn_id, remote_host=self.sftp_remote_host).retrieve_file(self.sftp_path, file)
            except FileNotFoundError:
                if self.fail_on_file_not_exist:
                    raise
                self.log.info("File %s not found on SFTP server. Skipping transfer.", self.sftp_path)
                return
            file.seek(0)
            S3Hook(self.aws_conn_id).load_file_obj(
                file, _key(self.s3_key), self.s3_bucket, self.replace, self.encrypt, self.acl_policy
            )


def _key(key: str) -> str:
    """The key, which may be given as a whole URL."""
    return S3Hook.parse_s3_url(key)[1] if "://" in key else key
