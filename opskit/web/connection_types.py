"""What the fields of a connection mean, by its type: for the form that one is written into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opskit.providers.registry import HOOKS


@dataclass(frozen=True, slots=True)
class ConnectionType:
    """Labels of the fields that a type uses; an empty one: it does not use it."""

    name: str
    title: str
    host: str = "Host"
    schema: str = ""
    login: str = "Login"
    password: str = "Password"  # noqa: S105 - a label
    port: str = "Port"
    usual_port: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """Key → what it means."""


_TYPES = (
    ConnectionType(
        "aws",
        "Amazon Web Services",
        host="",
        login="Access key id",
        password="Secret access key",  # noqa: S106 - a label
        port="",
        extra={
            "region_name": "such as eu-central-1",
            "role_arn": "role to assume",
            "endpoint_url": "for another S3 than Amazon's",
        },
    ),
    ConnectionType(
        "docker", "Docker registry", host="Registry", extra={"email": "of the account", "reauth": "true|false"}
    ),
    ConnectionType("ftp", "FTP", usual_port=21, extra={"passive": "true|false", "encoding": "of file names"}),
    ConnectionType(
        "google_cloud_platform",
        "Google Cloud",
        host="",
        login="",
        password="",
        port="",
        extra={"keyfile_dict": "the key of a service account, as JSON", "key_path": "or the path of its file"},
    ),
    ConnectionType(
        "http", "HTTP", host="Base URL", schema="Scheme (http or https)", extra={"any key": "a header of each request"}
    ),
    ConnectionType(
        "kubernetes",
        "Kubernetes",
        host="",
        login="",
        password="",
        port="",
        extra={"in_cluster": "true|false", "kube_config_path": "path of a kubeconfig", "namespace": "where pods run"},
    ),
    ConnectionType(
        "mysql", "MySQL, MariaDB", schema="Database", usual_port=3306, extra={"charset": "utf8mb4", "ssl": "a dict"}
    ),
    ConnectionType(
        "postgres",
        "PostgreSQL",
        schema="Database",
        usual_port=5432,
        extra={"sslmode": "such as require", "options": "such as -c search_path=…"},
    ),
    ConnectionType(
        "sftp",
        "SFTP",
        usual_port=22,
        extra={
            "key_file": "path of a private key",
            "private_key": "its text",
            "host_key": "that the server has to show",
        },
    ),
    ConnectionType("slack", "Slack API", host="", login="", password="Token", port=""),  # noqa: S106 - a label
    ConnectionType("slackwebhook", "Slack webhook", login="", password="Webhook URL or its path", port=""),  # noqa: S106 - a label
    ConnectionType(
        "smtp",
        "SMTP",
        usual_port=587,
        extra={"from_email": "sender", "disable_tls": "true|false", "disable_ssl": "true|false"},
    ),
    ConnectionType(
        "spark",
        "Spark",
        host="Master, such as spark://host or yarn",
        extra={"deploy-mode": "client|cluster", "queue": "of YARN"},
    ),
    ConnectionType("sqlite", "SQLite", host="Path of the file", login="", password="", port=""),
    ConnectionType(
        "ssh",
        "SSH",
        usual_port=22,
        extra={
            "key_file": "path of a private key",
            "private_key": "its text",
            "host_key": "that the server has to show",
        },
    ),
)
_BY_NAME = {one.name: one for one in _TYPES}


def describe(name: str) -> ConnectionType:
    """Of any type; one that is not known has all fields."""
    return _BY_NAME.get(name) or ConnectionType(name, name, schema="Schema")


def choices() -> list[tuple[str, str]]:
    """(name, title) of the types that there is a hook for, by title."""
    names = sorted(HOOKS, key=lambda name: describe(name).title.lower())
    return [(name, describe(name).title if describe(name).title != name else name) for name in names]
