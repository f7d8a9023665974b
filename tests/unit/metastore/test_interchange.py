"""Airflow's export files, read and written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.core.dag.connection import Connection
from opskit.core.metastore import interchange
from opskit.core.metastore.interchange import PoolFields
from opskit.core.metastore.variables import Variable
from opskit.errors import OpskitError, UsageError

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_some_text = st.none() | _text
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_conn_ids = st.from_regex(r"[A-Za-z0-9_.:\-]{1,20}", fullmatch=True)


@st.composite
def _connections(draw: st.DrawFn) -> list[Connection]:
    return [
        Connection(
            conn_id=conn_id,
            conn_type=draw(st.none() | st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)),
            description=draw(_some_text),
            host=draw(_some_text),
            login=draw(_some_text),
            password=draw(_some_text),
            schema=draw(_some_text),
            port=draw(st.none() | st.integers(1, 65535)),
            extra=draw(st.none() | st.dictionaries(_text, _json, max_size=3)),
        )
        for conn_id in draw(st.lists(_conn_ids, max_size=4, unique=True))
    ]


@given(items=_connections(), kind=st.sampled_from(["json", "yaml"]))
def test_connections_survive_export_and_import_and_the_second_export_is_the_same(
    items: list[Connection], kind: str
) -> None:
    text = interchange.dump_connections(items, kind)
    again = interchange.load_connections(text, kind, "file")
    assert again == items
    assert [item.description for item in again] == [item.description for item in items]
    assert interchange.dump_connections(again, kind) == text


@given(items=_connections())
def test_connections_as_json_in_env_survive(items: list[Connection]) -> None:
    text = interchange.dump_connections(items, "env", "json")
    again = interchange.load_connections(text, "env", "file")
    # Empty and missing are one in this form.
    assert [_without_empty(item) for item in again] == [_without_empty(item) for item in items]
    assert interchange.dump_connections(again, "env", "json") == text


def _without_empty(item: Connection) -> dict[str, Any]:
    fields = {**item.to_dict(), "extra": item.extra_dejson or None, "conn_id": item.conn_id}
    return {name: value for name, value in fields.items() if value not in (None, "")}


@given(items=_connections())
def test_a_second_export_as_uris_is_the_same(items: list[Connection]) -> None:
    text = interchange.dump_connections(items, "env", "uri")
    again = interchange.load_connections(text, "env", "file")
    assert [item.conn_id for item in again] == [item.conn_id for item in items]
    assert interchange.dump_connections(again, "env", "uri") == text


@given(
    items=st.dictionaries(
        _text.filter(bool), st.tuples(_text | _json.map(lambda value: json.dumps(value)), _some_text)
    ),
    kind=st.sampled_from(["json", "yaml"]),
)
def test_variables_survive_to_the_character(items: dict[str, tuple[str, str | None]], kind: str) -> None:
    given_items = [Variable(key, value, description or None) for key, (value, description) in items.items()]
    text = interchange.dump_variables(given_items, kind)
    assert interchange.load_variables(text, kind, "file") == given_items


@pytest.mark.parametrize(
    "value", ["1", "01", '"a"', '{"a": 1}', '{\n  "a": 1\n}', "NaN", "[1,2]", "", "1e5", '{"value": 1}']
)
def test_a_value_that_looks_like_json_is_kept_as_it_was(value: str) -> None:
    text = interchange.dump_variables([Variable("k", value)], "json")
    assert interchange.load_variables(text, "json", "file") == [Variable("k", value)]


def test_what_airflow_writes_is_understood() -> None:
    connections = interchange.load_connections(
        """{"pg": {"conn_type": "postgres", "description": "", "login": "u", "password": "p", "host": "h",
            "port": 5432, "schema": "db", "extra": "{\\"sslmode\\": \\"require\\"}"},
            "uri": "http://https%3A%2F%2Fexample.org:8080/path?timeout=3"}""",
        "json",
        "file",
    )
    assert connections[0].extra_dejson == {"sslmode": "require"}
    assert connections[1].port == 8080
    env = '# a comment\n\npg=postgres://u:p%40@h/db\nexport j={"conn_type": "http", "host": "a=b"}\n'
    assert [item.host for item in interchange.load_connections(env, "env", "file")] == ["h", "a=b"]
    values = interchange.load_variables(
        '{"a": "text", "b": {"x": 1}, "c": {"description": "d", "value": "v"}}', "json", "f"
    )
    assert values == [Variable("a", "text"), Variable("b", '{\n  "x": 1\n}'), Variable("c", "v", "d")]
    pools = interchange.load_pools('{"p": {"slots": 3, "description": "d", "include_deferred": false}}', "json", "f")
    assert pools == [PoolFields("p", 3, "d")]
    assert interchange.load_pools(interchange.dump_pools(pools, "yaml"), "yaml", "f") == pools


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{", "json", "no JSON"),
        ("[1]", "json", "an object"),
        ('{"a": 1}', "json", "JSON object is needed"),
        ('{"a": {"hots": "x"}}', "json", "unknown field"),
        ('{"a": {"port": "x"}}', "json", "no number"),
        ('{"a": {}, "a": {}}', "json", "twice"),
        ("a: [", "yaml", "no YAML"),
        ("geheim", "env", "line 1"),
        ("a=http://x\na=http://y", "env", "twice"),
    ],
)
def test_what_can_not_be_read_names_the_file_and_the_place_and_tells_no_secret(text: str, kind: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        interchange.load_connections(text, kind, "my.file")
    assert "my.file" in caught.value.message
    assert "geheim" not in caught.value.message


@pytest.mark.parametrize("slots", ["null", '"3"', "-1", "true", "1.5"])
def test_slots_that_are_no_number_are_refused(slots: str) -> None:
    with pytest.raises(UsageError, match="pool p"):
        interchange.load_pools(f'{{"p": {{"slots": {slots}}}}}', "json", "file")


def test_a_file_of_secrets_is_its_owners_only_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        interchange.write_secret_file(path, "new é\r\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == "new é\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secrets.json"]
    with pytest.raises(OpskitError, match="can't be written"):
        interchange.write_secret_file(tmp_path / "no" / "where", "x")


def test_the_format_is_told_by_the_name_or_by_hand() -> None:
    names = {"a.json": "json", "a.YML": "yaml", "a.yaml": "yaml", "x.env": "env", ".env": "env"}
    assert {name: interchange.format_of(Path(name)) for name in names} == names
    assert interchange.format_of(Path("a"), "yaml") == "yaml"
    with pytest.raises(UsageError):
        interchange.format_of(Path("a.txt"))
