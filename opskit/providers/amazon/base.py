"""AwsGenericHook: boto3 sessions, clients and resources as an Airflow connection says; AwsBaseOperator over it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library


class AwsGenericHook(BaseHook):
    """Clients (`client_type`) or resources (`resource_type`) of a service. The connection holds an access key (login
    and password) or none: then boto3 looks where it always does (environment, profile, instance). So it does without
    a connection, and when there is none of that id.

    Extras: region_name, aws_session_token, profile_name, role_arn (with assume_role_kwargs, external_id), endpoint_url,
    verify, config_kwargs (of botocore), service_config (`{"s3": {"endpoint_url": …, "bucket_name": …}}`)."""

    conn_name_attr: ClassVar[str] = "aws_conn_id"
    default_conn_name: ClassVar[str] = "aws_default"
    conn_type: ClassVar[str] = "aws"
    hook_name: ClassVar[str] = "Amazon Web Services"

    def __init__(
        self,
        aws_conn_id: str | None = default_conn_name,
        verify: bool | str | None = None,
        region_name: str | None = None,
        client_type: str | None = None,
        resource_type: str | None = None,
        config: Any = None,
    ) -> None:
        super().__init__()
        self.aws_conn_id = aws_conn_id
        self.client_type = client_type
        self.resource_type = resource_type
        self._verify = verify
        self._region_name = region_name
        self._config = config

    @cached_property
    def conn_config(self) -> Connection:
        """The connection; an empty one without it."""
        if self.aws_conn_id:
            try:
                return self.get_connection(self.aws_conn_id)
            except AirflowNotFoundException:
                self.log.warning("Unable to find AWS Connection ID '%s', switching to empty.", self.aws_conn_id)
        return Connection(self.aws_conn_id, conn_type="aws")

    @property
    def _extra(self) -> dict[str, Any]:
        return self.conn_config.extra_dejson

    @property
    def service_name(self) -> str | None:
        return self.client_type or self.resource_type

    @property
    def service_config(self) -> dict[str, Any]:
        """What the connection says about this service."""
        return dict(self._extra.get("service_config", {}).get(self.service_name or "", {}))

    @property
    def region_name(self) -> str | None:
        return (
            self._region_name
            or self._extra.get("region_name")
            or self._extra.get("session_kwargs", {}).get("region_name")
        )

    @property
    def verify(self) -> bool | str | None:
        return self._extra.get("verify") if self._verify is None else self._verify

    @property
    def config(self) -> Any:
        """`botocore.config.Config`: the argument's, with the connection's behind it."""
        config_class = library("botocore.config", extra="s3", needed_by=type(self).__name__).Config
        options = dict(self._extra.get("config_kwargs", {}))
        if options.get("signature_version") == "unsigned":
            options["signature_version"] = library("botocore", extra="s3", needed_by="AwsBaseHook").UNSIGNED
        made = config_class(**options) if options else None
        given = config_class(**self._config) if isinstance(self._config, dict) else self._config
        if given is None or made is None:
            return made if given is None else given
        return made.merge(given)

    def _endpoint_url(self) -> str | None:
        # Connections of old keep it in "host", which boto3 has no other use for.
        return self.service_config.get("endpoint_url") or self._extra.get("endpoint_url") or self._extra.get("host")

    def get_session(self, region_name: str | None = None) -> Any:
        """A `boto3.session.Session`, in the role of the connection where it names one."""
        boto3 = library("boto3", extra="s3", needed_by=type(self).__name__)
        conn, extra = self.conn_config, self._extra
        options: dict[str, Any] = dict(extra.get("session_kwargs", {}))
        region = region_name or self.region_name
        if region:
            options["region_name"] = region
        if conn.login:
            options["aws_access_key_id"] = conn.login
            options["aws_secret_access_key"] = conn.password
            if extra.get("aws_session_token"):
                options["aws_session_token"] = extra["aws_session_token"]
        if extra.get("profile_name"):
            options.setdefault("profile_name", extra["profile_name"])
        session = boto3.session.Session(**options)
        return self._in_role(session) if self._role() else session

    def _role(self) -> str | None:
        extra = self._extra
        if extra.get("role_arn"):
            return str(extra["role_arn"])
        if extra.get("aws_account_id") and extra.get("aws_iam_role"):
            return f"arn:aws:iam::{extra['aws_account_id']}:role/{extra['aws_iam_role']}"
        return None

    def _in_role(self, session: Any) -> Any:
        """The same with the credentials of the role, which are renewed before they run out."""
        extra = self._extra
        method = extra.get("assume_role_method", "assume_role")
        if method != "assume_role":
            raise AirflowException(
                f"connection {self.aws_conn_id}: assume_role_method is {method!r}, only assume_role is supported"
            )
        credentials = library("botocore.credentials", extra="s3", needed_by="AwsBaseHook")
        arguments = {
            "RoleArn": self._role(),
            "RoleSessionName": "opskit",
            **({"ExternalId": extra["external_id"]} if extra.get("external_id") else {}),
            **extra.get("assume_role_kwargs", {}),
        }
        sts_config = extra.get("service_config", {}).get("sts", {})
        # An endpoint for everything is one for the role, too.
        sts = session.client(
            "sts", endpoint_url=sts_config.get("endpoint_url") or extra.get("endpoint_url"), config=self.config
        )

        def fetch() -> dict[str, str]:
            found = sts.assume_role(**arguments)["Credentials"]
            return {
                "access_key": found["AccessKeyId"],
                "secret_key": found["SecretAccessKey"],
                "token": found["SessionToken"],
                "expiry_time": found["Expiration"].isoformat(),
            }

        inner = library("botocore.session", extra="s3", needed_by="AwsBaseHook").get_session()
        inner._credentials = credentials.DeferredRefreshableCredentials(fetch, "sts-assume-role")
        inner.set_config_variable("region", session.region_name)
        return library("boto3", extra="s3", needed_by="AwsBaseHook").session.Session(botocore_session=inner)

    def get_client_type(self, region_name: str | None = None, config: Any = None) -> Any:
        """A client of the service."""
        return self.get_session(region_name).client(
            self.client_type, endpoint_url=self._endpoint_url(), config=config or self.config, verify=self.verify
        )

    def get_resource_type(self, region_name: str | None = None, config: Any = None) -> Any:
        """A resource of the service."""
        return self.get_session(region_name).resource(
            self.resource_type, endpoint_url=self._endpoint_url(), config=config or self.config, verify=self.verify
        )

    @cached_property
    def conn(self) -> Any:
        """The client or resource that the hook is for; made once."""
        if bool(self.client_type) == bool(self.resource_type):
            raise ValueError("either client_type='…' or resource_type='…' must be given to the hook")
        return self.get_client_type() if self.client_type else self.get_resource_type()

    def get_conn(self) -> Any:
        return self.conn

    @property
    def conn_client_meta(self) -> Any:
        return self.conn.meta if self.client_type else self.conn.meta.client.meta

    @property
    def conn_region_name(self) -> str:
        return str(self.conn_client_meta.region_name)

    @property
    def conn_partition(self) -> str:
        return str(self.conn_client_meta.partition)

    @property
    def account_id(self) -> str:
        return str(self._other_client("sts").get_caller_identity()["Account"])

    def _other_client(self, service: str) -> Any:
        return AwsGenericHook(self.aws_conn_id, self._verify, self._region_name, client_type=service).conn

    def get_credentials(self, region_name: str | None = None) -> Any:
        """access_key, secret_key and token as they are now."""
        found = self.get_session(region_name).get_credentials()
        if found is None:
            raise AirflowException("boto3 finds no AWS credentials: neither in the connection nor in the environment")
        return found.get_frozen_credentials()

    def expand_role(self, role: str, region_name: str | None = None) -> str:
        """The ARN of a role that was named by its name."""
        if "/" in role:
            return role
        client = self.get_session(region_name).client("iam", endpoint_url=self._endpoint_url(), config=self.config)
        return str(client.get_role(RoleName=role)["Role"]["Arn"])

    def get_waiter(self, waiter_name: str, client: Any = None) -> Any:
        return (client or self.conn).get_waiter(waiter_name)

    def list_waiters(self) -> list[str]:
        return list(self.conn.waiter_names)

    def test_connection(self) -> tuple[bool, str]:
        """Whether AWS knows who we are, and the error when it does not."""
        try:
            return True, ", ".join(
                f"{key}={value!r}"
                for key, value in self._other_client("sts").get_caller_identity().items()
                if key != "ResponseMetadata"
            )
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)


class AwsBaseHook(AwsGenericHook):
    """The name that DAG files use."""


def aws_template_fields(*names: str) -> tuple[str, ...]:
    """The template fields of an operator with those that all of them have, sorted."""
    return tuple(sorted({"aws_conn_id", "region_name", "verify", *names}))


class AwsBaseOperator(BaseOperator):
    """What all operators for AWS take. `aws_hook_class` is their hook, `self.hook` one of it."""

    aws_hook_class: ClassVar[type[AwsGenericHook]] = AwsBaseHook
    template_fields: Sequence[str] = aws_template_fields()

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    @cached_property
    def hook(self) -> Any:
        return self.aws_hook_class(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify, config=self.botocore_config
        )
