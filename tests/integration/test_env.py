"""Environments on real metastores: what is exported, applied and taken back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from opskit import config as configuration
from opskit import platforms
from opskit.core.dag.connection import Connection
from opskit.core.metastore import interchange, objects, tables
from opskit.core.metastore.crypto import Cipher, new_key
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.errors import ConfigError, GuardRefused, NotFound, UsageError
from opskit.ops import env, env_apply, env_document, env_plan_file
from opskit.ops.env_apply import ApplyReport
from opskit.ops.env_document import Document
from opskit.ops.env_plan import Plan, Policy, decide
from opskit.ops.env_secrets import Fingerprints, Rules, open_fingerprints
from opskit.ops.env_sources import Access, Environment, open_environment
from opskit.platforms import Platform
from opskit.platforms.configuration import KINDS, Write
from tests.databases import Databases
from tests.env_corpus import as_airflow, planted
from tests.metastore_rows import store_dag

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
KEY = Fingerprints("ab" * 32, "the test")


# --- the round trip ---

_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
_maybe = st.none() | _text
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_text, below, max_size=3),
    max_leaves=6,
)
_names = st.from_regex(r"[\w#!()\-.:/\\]{1,20}", fullmatch=True)
_fields = st.fixed_dictionaries(
    {
        "conn_type": _text,
        "description": _maybe.map(lambda text: text or None),
        **dict.fromkeys(("host", "login", "password", "schema"), _maybe),
        "port": st.none() | st.integers(0, 65535),
        "extra": st.dictionaries(_text | st.just("$secret"), _json, max_size=3),
    }
)
_objects = st.fixed_dictionaries(
    {
        "connections": st.dictionaries(_names, _fields, max_size=3),
        "variables": st.dictionaries(
            _text.filter(bool),
            st.fixed_dictionaries({"value": _text | _json.map(json.dumps), "description": st.none()}),
            max_size=3,
        ),
        "pools": st.dictionaries(
            _text.filter(bool),
            st.fixed_dictionaries({"slots": st.integers(0, 9), "description": st.none()}),
            max_size=2,
        ),
        "dags": st.just({}),
    }
)
CIPHER = Cipher([new_key()], "the test")


@pytest.fixture(scope="module")
def memory() -> Iterator[Engine]:
    engine = open_engine("sqlite://")
    with transaction(engine) as database:
        tables.metadata.create_all(database)
    yield engine
    engine.dispose()


def _stored(engine: Engine, wanted: dict[str, Any]) -> Document:
    """What an empty metastore holds after these objects were written to it."""
    with transaction(engine) as database:
        for table in (tables.connection, tables.variable, tables.pool):
            database.execute(table.delete())
        writes = [Write(kind, name, fields) for kind, items in wanted.items() for name, fields in items.items()]
        objects.write_objects(database, CIPHER, writes, NOW)
        return Document("dev", objects.read_objects(database, CIPHER))


def _brought(document: Document, engine: Engine) -> Document:
    """What an empty environment holds after a document was applied to it."""
    empty = Environment("b", "dev", False, Document("dev", {kind: {} for kind in KINDS}))
    made = decide(Environment("a", "dev", False, document), empty, Policy(), Rules(), KEY, lambda *_: "", NOW)
    assert made.blocked == {}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for change in made.changes:
        found[change.kind][change.name] = change.after
    return _stored(engine, found)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_objects)
def test_what_is_exported_and_imported_is_exported_again_to_the_byte(memory: Engine, wanted: dict[str, Any]) -> None:
    before = _stored(memory, wanted)
    text = env_document.dump(before, Rules(), None)
    loaded = env_document.load(json.loads(text.encode()), "file")
    assert env_document.dump(loaded, Rules(), None) == text
    after = _brought(loaded, memory)
    assert env_document.dump(after, Rules(), None).encode() == text.encode()
    redacted = env_document.dump(before, Rules(), KEY)
    assert env_document.dump(after, Rules(), KEY) == redacted
    assert env_document.dump(env_document.load(json.loads(redacted), "file"), Rules(), KEY) == redacted


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_names, _fields, max_size=3), st.sampled_from(["postgres", "google_cloud_platform", "http", ""]))
def test_every_form_of_airflow_s_files_leads_to_the_same_bytes(
    memory: Engine, wanted: dict[str, Any], conn_type: str
) -> None:
    for fields in wanted.values():
        fields["conn_type"] = conn_type  # a URI takes no other characters there
    items = [objects.connection_of(name, fields) for name, fields in wanted.items()]
    texts = {}
    for kind in ("json", "yaml"):
        found = interchange.load_fields("connections", interchange.dump_connections(items, kind), kind, "file")
        texts[kind] = env_document.dump(_stored(memory, {"connections": found}), Rules(), None)
    assert texts["json"] == texts["yaml"] == env_document.dump(_stored(memory, {"connections": wanted}), Rules(), None)
    # A URI can't tell everything apart; but what it leads to, it leads to again.
    uris = {str(item.conn_id): item.get_uri() for item in items}
    first = {name: Connection(name, uri=uri) for name, uri in uris.items()}
    once = interchange.load_fields("connections", json.dumps(uris), "json", "file")
    again = {name: {**fields, "description": None} for name, fields in once.items()}
    document = _stored(memory, {"connections": again})
    assert {name: item.get_uri() for name, item in first.items()} == {
        name: objects.connection_of(name, fields).get_uri() for name, fields in document.objects["connections"].items()
    }
    assert env_document.dump(_brought(document, memory), Rules(), None) == env_document.dump(document, Rules(), None)


# --- on the three databases ---


def _platform(url: str, home: Path, **values: Any) -> Platform:
    home.mkdir(parents=True, exist_ok=True)
    config = configuration.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url})
    named = {f"env.{name}": value for name, value in values.items()}
    return platforms.find(dataclasses.replace(config, values={**config.values, **named}))


def _put(platform: Platform, wanted: dict[str, dict[str, Any]]) -> None:
    writes = [Write(kind, name, fields) for kind, items in wanted.items() for name, fields in items.items()]
    platform.configuration.write(writes, lambda *_: True, NOW, "test", {})


_ticks = itertools.count()


def _tick() -> datetime:
    return NOW + timedelta(seconds=next(_ticks))


def _plan(platform: Platform, source: str, **options: Any) -> tuple[Plan, Fingerprints]:
    access = Access(platform)
    return env.make_plan(access, open_environment(source, access), open_environment(".", access), NOW, **options)


def _apply(platform: Platform, source: str, **options: Any) -> ApplyReport:
    made, fingerprints = _plan(platform, source, **options)
    return env_apply.apply(platform, made, fingerprints, _tick(), allow="prod", max_percent=100)


def test_a_thousand_connections_are_promoted_on_every_database_and_taken_back(
    databases: Databases, metastore_url: str, tmp_path: Path
) -> None:
    found, _ = planted(2_000)
    some = dict(list(found["connections"].items())[:1000])
    assert len(some) == 1000
    file = tmp_path / "connections.json"
    file.write_text(as_airflow(some))
    platform = _platform(metastore_url, tmp_path / "home")
    engine = open_engine(metastore_url)
    with transaction(engine) as database:
        store_dag(database, "d1")
    pools = tmp_path / "pools.json"
    pools.write_text('{"etl": {"slots": 3, "description": "d"}}')
    assert _apply(platform, str(pools)).created == 1
    report = _apply(platform, str(file))
    assert (report.created, report.blocked) == (1000, ())
    stored = platform.configuration.read()
    assert stored["connections"] == dict(sorted(some.items()))
    again = _apply(platform, str(file))
    assert (again.created, again.updated, again.unchanged, again.snapshot) == (0, 0, 1000, "")
    with reading(engine) as database:
        tokens = [row.password for row in database.execute(select(tables.connection)) if row.password]
    assert tokens and all(token.startswith("gAAAA") for token in tokens)
    # The other way: from this installation's file, with a change and a pause, into itself.
    text = env.export(Access(platform), ".").content
    document = json.loads(text)
    assert document["dags"] == {"d1": {"paused": False}}
    document["dags"]["d1"]["paused"] = True
    name = next(iter(some))
    document["connections"][name]["host"] = "elsewhere"
    document["pools"]["etl"]["slots"] = 4
    changed = tmp_path / "env.json"
    changed.write_text(json.dumps(document))
    report = _apply(platform, str(changed))
    assert (report.created, report.updated) == (0, 3)
    now_there = platform.configuration.read()
    assert now_there["connections"][name] == {**some[name], "host": "elsewhere"}
    assert now_there["dags"] == {"d1": {"paused": True}} and now_there["pools"]["etl"]["slots"] == 4
    fingerprints = open_fingerprints(platform.config)
    entry, undone = env_apply.undo(platform, fingerprints, NOW)
    assert entry.id == report.snapshot and undone.updated == 3
    assert env.export(Access(platform), ".").content == text
    _, undone = env_apply.undo(platform, fingerprints, NOW)
    assert undone.deleted == 1000
    assert platform.configuration.read()["connections"] == {}
    engine.dispose()


# --- on one ---


@pytest.fixture
def platform(databases: Databases, tmp_path: Path) -> Iterator[Platform]:
    url = databases.migrated("sqlite")
    yield _platform(url, tmp_path / "home", name="dev")
    databases.drop(url)


def _values(**values: str) -> dict[str, dict[str, Any]]:
    return {"variables": {name: {"value": value, "description": None} for name, value in values.items()}}


def _file(path: Path, **values: str) -> str:
    path.write_text(json.dumps(values))
    return str(path)


def test_a_plan_is_a_file_that_tells_no_secret_and_is_applied_as_it_was_seen(
    platform: Platform, tmp_path: Path
) -> None:
    source = _file(tmp_path / "variables.json", api_key="geheim", region="eu")
    made, fingerprints = _plan(platform, source)
    path = tmp_path / "today.plan"
    env_plan_file.save(made, path, platform.configuration, fingerprints)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "geheim" not in path.read_text() and "eu" in path.read_text()
    os.unlink(source)
    loaded = env_plan_file.load(path, platform.configuration, fingerprints)
    assert env_apply.apply(platform, loaded, fingerprints, NOW).created == 2
    assert platform.configuration.read()["variables"]["api_key"]["value"] == "geheim"
    with pytest.raises(GuardRefused, match="have changed since"):
        env_apply.apply(platform, loaded, fingerprints, NOW)
    with pytest.raises(UsageError, match="is there already"):
        env_plan_file.save(made, path, platform.configuration, fingerprints)


def test_a_plan_that_was_altered_or_is_for_another_place_is_refused(platform: Platform, tmp_path: Path) -> None:
    made, fingerprints = _plan(platform, _file(tmp_path / "variables.json", a="1"))
    path = tmp_path / "today.plan"
    env_plan_file.save(made, path, platform.configuration, fingerprints)
    text = path.read_text()
    for before, after, says in (
        ('"present": 0', '"present": 1000', "not as it was written"),
        ("sqlite:///", "sqlite:////elsewhere", "not as it was written"),
    ):
        path.write_text(text.replace(before, after))
        with pytest.raises(GuardRefused, match=says):
            env_plan_file.load(path, platform.configuration, fingerprints)
    path.write_text(text)
    elsewhere = _platform("sqlite:////nowhere/x.db", tmp_path / "other")
    with pytest.raises(GuardRefused, match="is a plan for"):
        env_plan_file.load(path, elsewhere.configuration, fingerprints)
    with pytest.raises(ConfigError, match="another fingerprint key"):
        env_plan_file.load(path, platform.configuration, KEY)


def test_a_plan_is_stale_when_one_of_its_objects_moved_and_only_then(platform: Platform, tmp_path: Path) -> None:
    _put(platform, _values(a="1", other="1"))
    made, fingerprints = _plan(platform, _file(tmp_path / "variables.json", a="2"))
    _put(platform, _values(other="2"))
    assert env_apply.apply(platform, made, fingerprints, NOW).updated == 1
    made, fingerprints = _plan(platform, _file(tmp_path / "variables.json", a="3"))
    _put(platform, _values(a="somebody's"))
    with pytest.raises(GuardRefused, match="variables/a"):
        env_apply.apply(platform, made, fingerprints, NOW)
    assert platform.configuration.read()["variables"]["a"]["value"] == "somebody's"


def test_a_change_between_the_look_and_the_write_is_seen_inside_of_the_transaction(platform: Platform) -> None:
    _put(platform, _values(a="1"))
    with pytest.raises(GuardRefused, match="have changed"):
        platform.configuration.write(
            [Write("variables", "b", {"value": "x", "description": None}), Write("variables", "a", None)],
            lambda kind, name, fields: fields is None,
            NOW,
            "test",
            {},
        )
    assert set(platform.configuration.read()["variables"]) == {"a"}


def test_an_object_that_somebody_makes_at_the_same_moment_is_not_overwritten(
    databases: Databases, tmp_path: Path
) -> None:
    url = databases.migrated("postgresql")
    platform, other = _platform(url, tmp_path / "home"), _platform(url, tmp_path / "home")

    def accept(kind: str, name: str, fields: Any) -> bool:
        _put(other, _values(a="theirs"))
        return fields is None

    with pytest.raises(GuardRefused, match="at the same moment"):
        platform.configuration.write(
            [Write("variables", "a", _values(a="x")["variables"]["a"])], accept, NOW, "test", {}
        )
    assert platform.configuration.read()["variables"] == _values(a="theirs")["variables"]
    with pytest.raises(UsageError, match="zero byte"):
        _put(platform, _values(a="x\0"))
    databases.drop(url)


def test_a_write_that_fails_leaves_everything_as_it_was_and_no_snapshot(platform: Platform, tmp_path: Path) -> None:
    _put(platform, _values(a="1"))
    before = env.export(Access(platform), ".").content
    (tmp_path / "connections.json").write_text('{"good": {"conn_type": "http"}, "not good": {"conn_type": "http"}}')
    with pytest.raises(UsageError, match="conn_id"):
        _apply(platform, str(tmp_path / "connections.json"))
    assert env.export(Access(platform), ".").content == before
    assert env_apply.list_undo(platform) == []


def test_undo_is_refused_when_somebody_changed_the_same_objects(platform: Platform, tmp_path: Path) -> None:
    _put(platform, _values(a="1", b="1"))
    _apply(platform, _file(tmp_path / "variables.json", a="2", b="2", c="2"))
    _put(platform, _values(a="somebody's"))
    fingerprints = open_fingerprints(platform.config)
    with pytest.raises(GuardRefused, match="variables/a"):
        env_apply.undo(platform, fingerprints, NOW)
    _, report = env_apply.undo(platform, fingerprints, NOW, force=True, dry_run=True)
    assert (report.updated, report.deleted) == (2, 1)
    entry, _ = env_apply.undo(platform, fingerprints, NOW, force=True)
    assert platform.configuration.read()["variables"] == _values(a="1", b="1")["variables"]
    with pytest.raises(NotFound):
        env_apply.undo(platform, fingerprints, NOW)
    # An undo can be taken back, too, when it is named.
    undone = next(item for item in env_apply.list_undo(platform) if item.what == "undo")
    env_apply.undo(platform, fingerprints, NOW, snapshot=undone.id)
    assert platform.configuration.read()["variables"]["a"]["value"] == "somebody's"
    assert [item.undone_at is not None for item in env_apply.list_undo(platform) if item.id == entry.id] == [True]


def test_drift_knows_a_changed_secret_from_its_fingerprint(platform: Platform, tmp_path: Path) -> None:
    _put(platform, _values(api_key="geheim", region="eu"))
    file = tmp_path / "env.json"
    file.write_bytes(env.export(Access(platform), ".").content)
    assert b"geheim" not in file.read_bytes()
    access = Access(platform)

    def drifted() -> list[tuple[str, str]]:
        report = env.drift(access, open_environment(str(file), access), open_environment(".", access))
        return [(item.object, item.where) for item in report.differences]

    assert drifted() == []
    _put(platform, _values(api_key="other", added="x"))
    assert drifted() == [("variables/added", "only second"), ("variables/api_key", "both")]
    (platform.config.home / "env.key").unlink()
    with pytest.raises(ConfigError, match="were made with the key"):
        drifted()


def test_one_value_that_can_not_be_decrypted_is_named_and_stops_nothing(platform: Platform, tmp_path: Path) -> None:
    _put(platform, _values(good="1"))
    _put(
        platform,
        {
            "connections": {
                "broken": {
                    **dict.fromkeys(("description", "host", "login", "schema", "port")),
                    "conn_type": "http",
                    "password": "geheim",
                    "extra": {},
                }
            }
        },
    )
    engine = open_engine(platform.config.database_url)
    with transaction(engine) as database:
        database.execute(tables.connection.update().values(password="gAAAAgarbage"))
    engine.dispose()
    report = env.export(Access(platform), ".")
    assert report.unreadable == ("connections/broken/password",)
    document = json.loads(report.content)
    assert document["variables"]["good"]["value"] == "1"
    document["connections"]["broken"]["host"] = "new"
    (tmp_path / "env.json").write_text(json.dumps(document))
    assert _apply(platform, str(tmp_path / "env.json")).updated == 1
    engine = open_engine(platform.config.database_url)
    with reading(engine) as database:
        row = database.execute(select(tables.connection)).one()
    engine.dispose()
    assert (row.host, row.password) == ("new", "gAAAAgarbage")


def test_what_no_environment_can_be_is_said_with_its_name(platform: Platform, tmp_path: Path) -> None:
    access = Access(platform)
    (tmp_path / "x.json").write_text('{"a": "b"}')
    (tmp_path / "y.json").write_text("{")
    (tmp_path / "z.json").write_text('{"format": "opskit-env/9"}')
    (tmp_path / "w.json").write_text('{"format": "opskit-env/1", "pools": {"p": {"slots": "3"}}}')
    for name, says in (
        ("none.json", "can't be read"),
        ("x.json", "does not tell what"),
        ("y.json", "no JSON"),
        ("z.json", "opskit-env/9"),
        ("w.json", "pools/p: slots can't be str"),
    ):
        with pytest.raises(UsageError, match=says):
            open_environment(str(tmp_path / name), access)
    with pytest.raises(UsageError, match="OPSKIT_NONE is not set"):
        open_environment("env:OPSKIT_NONE", access)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("variables.yaml", "region: eu\nsettings:\n  a: 1\n", {"region", "settings"}),
        ("pools.json", '[{"name": "etl", "slots": 3, "description": "", "include_deferred": false}]', {"etl"}),
        ("pools2.json", '{"etl": {"slots": 3, "description": "", "include_deferred": false}}', {"etl"}),
        ("my.env", "pg=postgres://u:p@h/db\n", {"pg"}),
        ("conn.yaml", "pg: postgres://u:p@h/db\nsome: [http://h]\n", {"pg", "some"}),
        (
            "connections.json",
            '[{"id": "1", "conn_id": "pg", "conn_type": "ftp", "port": "", "extra_dejson": {"a": 1}, "get_uri": "x"}]',
            {"pg"},
        ),
        (
            "connections2.json",
            '{"connections": [{"connection_id": "pg", "conn_type": "x"}], "total_entries": 1}',
            {"pg"},
        ),
        ("variables.json", '[{"id": "1", "key": "k", "val": "v", "is_encrypted": "True"}]', {"k"}),
    ],
)
def test_airflow_s_files_are_environments(
    platform: Platform, tmp_path: Path, name: str, text: str, found: set[str]
) -> None:
    (tmp_path / name).write_text(text)
    report = _apply(platform, str(tmp_path / name))
    assert report.created == len(found) and report.blocked == ()
    kind = {"v": "variables", "p": "pools"}.get(name[0], "connections")
    assert found <= set(platform.configuration.read()[kind])
    assert _apply(platform, str(tmp_path / name)).snapshot == ""
