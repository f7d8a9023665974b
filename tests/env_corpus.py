"""Connections and variables as they are really used, with secrets planted wherever such things keep theirs."""

from __future__ import annotations

import json
from typing import Any

MARK = "geheim"
"""In every planted secret, and nowhere else."""

_PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\n{s}\n-----END OPENSSH PRIVATE KEY-----\n"
_CONNECTIONS: tuple[dict[str, Any], ...] = (
    {"conn_type": "postgres", "login": "etl", "password": "{s}", "extra": {"sslmode": "require", "sslpassword": "{s}"}},
    {"conn_type": "mysql", "password": "{s}", "extra": {"ssl": {"ca": "/etc/ca.pem", "key": "{s}"}}},
    {
        "conn_type": "aws",
        "login": "AKIAIOSFODNN7EXAMPLE",
        "password": "{s}",
        "extra": {"region_name": "eu-central-1", "aws_session_token": "{s}", "config_kwargs": {"proxy_pass": "{s}"}},
    },
    {
        "conn_type": "google_cloud_platform",
        "extra": {
            "project": "p",
            "keyfile_dict": '{"type": "service_account", "private_key_id": "1", "private_key": "{s}"}',
            "extra__google_cloud_platform__keyfile_dict": {"private_key": "{s}", "client_email": "a@b"},
        },
    },
    {"conn_type": "ssh", "login": "root", "extra": {"private_key": _PEM, "private_key_passphrase": "{s}"}},
    {"conn_type": "sftp", "password": "{s}", "extra": {"look_for_keys": False, "my_identity": _PEM}},
    {"conn_type": "slack", "password": "{s}", "extra": {"timeout": 30}},
    {"conn_type": "slackwebhook", "extra": {"webhook_token": "{s}", "webhook_url": "https://example.org/{s}"}},
    {
        "conn_type": "http",
        "host": "https://api.example.org",
        "extra": {"Authorization": "Bearer {s}", "X-API-Key": "{s}", "Cookie": "id={s}", "accept": "text/plain"},
    },
    {
        "conn_type": "snowflake",
        "password": "{s}",
        "extra": {"account": "ab12345", "private_key_content": "{s}", "session_parameters": {"QUERY_TAG": "x"}},
    },
    {
        "conn_type": "kubernetes",
        "extra": {"in_cluster": False, "namespace": "etl", "kube_config": "users: [{user: {token: {s}}}]"},
    },
    {"conn_type": "kubernetes", "extra": {"extra__kubernetes__kube_config": {"users": [{"user": {"token": "{s}"}}]}}},
    {
        "conn_type": "wasb",
        "extra": {"connection_string": "AccountName=a;AccountKey={s}", "sas_token": "{s}", "client_secret": "{s}"},
    },
    {"conn_type": "azure_data_lake", "extra": {"tenant": "t", "shared_access_key": "{s}", "account_key": "{s}"}},
    {"conn_type": "databricks", "extra": {"token": "{s}", "azure_tenant_id": "t"}},
    {"conn_type": "salesforce", "extra": {"security_token": "{s}", "consumer_key": "k", "private_key": "{s}"}},
    {"conn_type": "datadog", "extra": {"api_key": "{s}", "app_key": "{s}", "api_host": "h"}},
    {"conn_type": "pagerduty", "extra": {"routing_key": "{s}", "integration_key": "{s}"}},
    {"conn_type": "odbc", "extra": {"connect_kwargs": {"pwd": "{s}"}, "dsn_text": "Driver=x;Server=y;Pwd={s};"}},
    {"conn_type": "vault", "login": "role", "extra": {"auth_type": "approle", "secret_id": "{s}", "role_id": "{s}"}},
    {
        "conn_type": "kafka",
        "extra": {"sasl.password": "{s}", "sasl.jaas.config": 'Module required username="u" password="{s}";'},
    },
    {"conn_type": "spark", "extra": {"conf": {"spark.hadoop.fs.s3a.secret.key": "{s}", "spark.executor.cores": "2"}}},
    {"conn_type": "openai", "extra": {"openai_client_kwargs": {"api_key": "{s}"}}},
    {"conn_type": "yandexcloud", "extra": {"service_account_json": '{"private_key": "{s}"}'}},
    {"conn_type": "elasticsearch", "extra": {"hosts": ["https://elastic:{s}@node1:9200", "https://node2:9200"]}},
    {"conn_type": "trino", "extra": {"auth": "jwt", "jwt__token": "{s}"}},
    {"conn_type": "oracle", "extra": {"wallet_password": "{s}", "nested": [{"deeper": {"Credentials": "{s}"}}]}},
    {"conn_type": "generic", "extra": {"clientKeyData": "{s}", "dbPassCode": "{s}", "settings": '{"token": "{s}"}'}},
)
_VARIABLES = (
    ("db_password_{n}", "{s}"),
    ("slack_webhook_{n}", "https://example.org/{s}"),
    ("warehouse_{n}", "postgresql://etl:{s}@db/warehouse"),
    ("settings_{n}", '{"region": "eu", "ftp": {"token": "{s}"}}'),
    ("targets_{n}", '[{"url": "https://a:{s}@b/"}]'),
    ("curl_{n}", "https://api.example.org/v1?format=csv&api_key={s}"),
)


def planted(secrets: int) -> tuple[dict[str, dict[str, dict[str, Any]]], list[str]]:
    """Objects with at least so many secrets planted in them, and the secrets."""
    objects: dict[str, dict[str, dict[str, Any]]] = {"connections": {}, "variables": {}}
    known: list[str] = []

    def fill(value: Any) -> Any:
        if isinstance(value, str) and "{s}" in value:
            known.append(f"{MARK}-{len(known):04d}")
            return value.replace("{s}", known[-1])
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    number = 0
    empty = dict.fromkeys(("description", "host", "login", "password", "schema", "port"))
    while len(known) < secrets:
        for index, connection in enumerate(_CONNECTIONS):
            fields = {**empty, "extra": {}, "host": "db.example.org", **fill(connection)}
            objects["connections"][f"{connection['conn_type']}_{number}_{index}"] = fields
        for name, value in _VARIABLES:
            objects["variables"][name.replace("{n}", str(number))] = {"value": fill(value), "description": None}
        number += 1
    return objects, known


def as_airflow(connections: dict[str, dict[str, Any]]) -> str:
    """The text of `airflow connections export`."""
    return json.dumps({name: {**fields, "extra": json.dumps(fields["extra"])} for name, fields in connections.items()})
