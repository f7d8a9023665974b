"""Connections: the URI and JSON forms, and that nothing secret shows."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowNotFoundException
from opskit.core.dag.secret_names import is_secret_name, secret_values
from opskit.errors import UsageError

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
CONNECTIONS = st.builds(
    Connection,
    conn_id=st.just("c"),
    conn_type=st.sampled_from(["postgres", "http", "google_cloud_platform", "aws", None]),
    host=st.none() | TEXT.filter(lambda host: "://" not in host),
    login=st.none() | TEXT,
    password=st.none() | TEXT,
    schema=st.none() | TEXT,
    port=st.none() | st.integers(0, 65535),
    extra=st.none() | st.dictionaries(TEXT, JSON, min_size=1, max_size=3),
)


@given(CONNECTIONS)
@example(Connection("c", "http", host="https://example.org", port=8080, schema="a/b"))
@example(Connection("c", "ftp", port=21))
@example(Connection("c", None, password="only"))
def test_the_uri_form_reads_back_to_the_same_connection(connection: Connection) -> None:
    assert Connection("c", uri=connection.get_uri()) == connection


@given(CONNECTIONS)
def test_the_json_form_reads_back_to_the_same_connection(connection: Connection) -> None:
    assert Connection.from_json(connection.as_json(), "c") == connection


def test_a_uri_is_read_as_airflow_reads_it() -> None:
    uri = "postgresql://User%40x:p%2Fw@Db.Example.org:5432/sales?sslmode=require&timeout=10"
    connection = Connection("db", uri=uri)
    assert connection.conn_type == "postgres"
    assert (connection.login, connection.password) == ("User@x", "p/w")
    assert (connection.host, connection.port, connection.schema) == ("Db.Example.org", 5432, "sales")
    assert connection.extra_dejson == {"sslmode": "require", "timeout": "10"}


def test_a_uri_type_with_dashes_has_underscores() -> None:
    assert Connection("c", uri="google-cloud-platform://").conn_type == "google_cloud_platform"


def test_nested_extras_travel_in_one_argument() -> None:
    connection = Connection("c", "aws", extra={"config": {"retries": 3}})
    assert "__extra__=" in connection.get_uri()
    assert Connection("c", uri=connection.get_uri()).extra_dejson == {"config": {"retries": 3}}


@pytest.mark.parametrize("uri", ["no-uri-at-all", "pg://u:p@h:port/db", "pg://u:p#w@h/db", "pg://u@x://h"])
def test_a_malformed_uri_is_refused_without_showing_it(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        Connection("db", uri=uri)
    assert "db" in caught.value.message
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize("extra", ["not json", "[1]", "3"])
def test_an_extra_that_is_no_json_object_is_refused(extra: str) -> None:
    with pytest.raises(UsageError, match="extra"):
        Connection("c", extra=extra)


def test_unknown_fields_and_wrong_types_are_refused() -> None:
    with pytest.raises(UsageError, match="hst"):
        Connection.from_dict({"hst": "x"}, "c")
    with pytest.raises(UsageError, match="port"):
        Connection("c", port="ssh")
    with pytest.raises(UsageError, match="login"):
        Connection.from_dict({"login": 3}, "c")
    with pytest.raises(UsageError, match="URI"):
        Connection("c", host="h", uri="http://h")


def test_secrets_do_not_show() -> None:
    connection = Connection("c", "http", host="h", login="me", password="s3cr3t", extra={"api_key": "k3y", "a": "open"})
    assert "s3cr3t" not in repr(connection) + str(connection)
    assert "k3y" not in repr(connection)
    assert sorted(connection.secrets()) == ["k3y", "s3cr3t"]


def test_the_environment_comes_before_the_metastore(monkeypatch: pytest.MonkeyPatch) -> None:
    store = runtime.MemoryStore()
    store.connections["db"] = Connection("db", host="from_store")
    runtime.set_store(store)
    try:
        assert Connection.get("db").host == "from_store"
        monkeypatch.setenv("AIRFLOW_CONN_DB", "postgres://from_env")
        assert Connection.get("db").host == "from_env"
        monkeypatch.setenv("OPSKIT_CONN_DB", json.dumps({"conn_type": "pg", "host": "from_json", "extra": {"a": 1}}))
        assert Connection.get("db").host == "from_json"
        with pytest.raises(AirflowNotFoundException, match="nothere"):
            Connection.get("nothere")
    finally:
        runtime.set_store(None)


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "my-api_key", "Authorization", "x_token_y", " secret "])
def test_secret_names_are_known(name: str) -> None:
    assert is_secret_name(name)


def test_values_are_secret_below_a_secret_name() -> None:
    assert is_secret_name("host") is False
    assert secret_values("config", {"password": "a", "plain": "b", "nested": [{"token": ["c"]}]}) == ["a", "c"]
    assert secret_values("my_secret", "d") == ["d"]
