"""Connections, variables, pools, import errors, audit log, configuration and assets as pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from opskit.core.dag.connection import Connection
from opskit.core.metastore import asset_rows, audit, connections, crypto, dag_loads, tables, variables
from opskit.core.metastore.engine import transaction
from opskit.web.identity import Who
from tests.databases import KINDS, Databases
from tests.metastore_rows import NOW, dag_data, loaded_file
from tests.page_site import PageSite, page_site

SECRETS = ("S3CR3T-password", "S3CR3T-extra", "S3CR3T-token", "S3CR3T-inner", "S3CR3T-setting")
PAGES = (
    "/connections",
    "/connections/new",
    "/connections/new?conn_type=postgres",
    "/connections/edit?conn_id=warehouse",
    "/variables",
    "/variables/new",
    "/variables/edit?key=api_token",
    "/variables/edit?key=limits",
    "/pools",
    "/pools/new",
    "/pools/edit?pool=default_pool",
    "/import-errors",
    "/audit",
    "/configuration",
    "/datasets",
    "/datasets/view?uri=s3://lake/orders",
)
ONCE = pytest.mark.parametrize("site", ["sqlite"], indirect=True)  # what no database makes different


def cipher_of(site: PageSite) -> crypto.Cipher:
    return crypto.open_cipher(site.config)


def fill(site: PageSite) -> None:
    cipher = cipher_of(site)
    with transaction(site.engine) as connection:
        extra = json.dumps({"sslmode": "require", "api_key": "S3CR3T-extra"})
        stored = Connection(
            conn_id="warehouse", conn_type="postgres", host="dwh", login="etl", password="S3CR3T-password", extra=extra
        )
        connections.put_connection(connection, cipher, stored)
        variables.set_variable(connection, cipher, "api_token", "S3CR3T-token", "of the partner")
        variables.set_variable(connection, cipher, "limits", '{"rows": 10, "password": "S3CR3T-inner"}')
        variables.set_variable(connection, cipher, "region", "eu <west>")
        dag_loads.store_loaded_files(connection, [loaded_file("maker.py", dag_data("maker"))], NOW)
        dag_loads.store_loaded_files(
            connection,
            [dag_loads.LoadedFile("broken.py", "1" * 64, import_error="Traceback …\nSyntaxError: <invalid> syntax")],
            NOW,
        )
        uri = "s3://lake/orders"
        asset_rows.ensure_assets(connection, [asset_rows.NewAsset(uri, uri, "asset", {})], NOW)
        number = connection.execute(select(tables.asset.c.id)).scalar_one()
        connection.execute(
            insert(tables.asset_reference).values(
                dag_id="maker", task_id="a", role="outlet", hash=asset_rows.asset_hash(uri, uri), kind="asset",
                name=uri, uri=uri,
            )
        )  # fmt: skip
        connection.execute(
            insert(tables.asset_event).values(
                asset_id=number, at=NOW, source_dag_id="maker", source_task_id="a", source_run_id="r", extra='{"n": 1}'
            )
        )
        for number in range(130):
            audit.write(
                connection, "dags pause" if number % 2 else "dags trigger", NOW, owner="ada", dag_id=f"d{number}"
            )


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageSite]:
    url = databases.migrated(request.param)
    home: Path = tmp_path_factory.mktemp("home")
    with page_site(home, url, {"OPSKIT__SMTP__SMTP_PASSWORD": "S3CR3T-setting"}) as made:
        fill(made)
        yield made
    databases.drop(url)


def test_no_page_holds_a_secret(site: PageSite) -> None:
    for path in PAGES:
        text = site.get(path)
        assert not [one for one in SECRETS if one in text], path


@ONCE
def test_the_number_of_statements_of_a_page_is_small(site: PageSite) -> None:
    for path in PAGES:
        site.forget()
        site.get(path)
        assert len([one for one in site.statements if not one.startswith("BEGIN")]) <= 8, path


@ONCE
def test_a_viewer_sees_neither_secrets_nor_doors(site: PageSite) -> None:
    for path in ("/connections", "/variables", "/audit", "/configuration"):
        site.get(path, role="Viewer", status=403)
    text = site.get("/pools", role="Viewer")
    assert "default_pool" in text and "/pools/new" not in text and "/pools/delete" not in text
    for path, fields in (
        ("/connections/new", {"conn_id": "x", "conn_type": "http"}),
        ("/connections/edit", {"conn_id": "warehouse"}),
        ("/connections/delete", {"conn_id": "warehouse"}),
        ("/connections/test", {"conn_id": "warehouse"}),
        ("/variables/new", {"key": "x", "value": "y"}),
        ("/variables/delete", {"key": "region"}),
        ("/pools/new", {"pool": "x", "slots": "1"}),
        ("/pools/edit", {"pool": "default_pool", "slots": "1"}),
    ):
        site.post(path, role="Viewer", status=403, **fields)
    nav = site.get("/datasets", role="Viewer").split("</nav>")[0]
    assert 'href="/pools"' in nav and 'href="/connections"' not in nav and 'href="/audit"' not in nav


def test_a_connection_is_written_kept_and_deleted(site: PageSite) -> None:
    def stored(conn_id: str) -> Connection:
        with transaction(site.engine) as connection:
            return connections.get_connection(connection, cipher_of(site), conn_id)

    fields = {"conn_id": "a/b", "conn_type": "http", "host": "https://x", "port": "443", "extra": '{"k": "v"}'}
    site.post("/connections/new", password="first", **fields)
    assert (stored("a/b").password, stored("a/b").port, stored("a/b").extra_dejson) == ("first", 443, {"k": "v"})
    site.post("/connections/new", status=409, **fields)
    edited = {"conn_id": "a/b", "conn_type": "http", "host": "https://y", "extra": '{"k": "***", "new": 1}'}
    site.post("/connections/edit", password="", **edited)
    now = stored("a/b")
    assert (now.host, now.password, now.port, now.extra_dejson) == ("https://y", "first", None, {"k": "v", "new": 1})
    site.post("/connections/edit", remove_password="true", **edited)
    assert stored("a/b").password is None
    site.post("/connections/delete", conn_id="a/b")
    site.get("/connections/edit?conn_id=a/b", status=404)


@ONCE
def test_what_is_wrong_with_a_connection_is_told_without_its_secrets(site: PageSite) -> None:
    fields = {"conn_id": "wrong", "conn_type": "http", "password": "S3CR3T-typed"}
    for more, said in (
        ({"port": "99999"}, "port: a number from 0 to 65535"),
        ({"extra": '{"key": S3CR3T-typed'}, "extra: this is no JSON"),
        ({"extra": '["S3CR3T-typed"]'}, "a JSON object is needed"),
        ({"conn_id": "has space"}, "has space"),
        ({"conn_type": ""}, "conn_type is missing"),
    ):
        text = site.post("/connections/new", status=400, **{**fields, **more}).text
        assert said in text and "S3CR3T-typed" not in text
    answer = site.post("/connections/test", conn_id="warehouse", status=403)
    assert "core.test_connection" in answer.text


def test_a_variable_is_written_and_what_is_masked_is_kept(site: PageSite) -> None:
    def value(key: str) -> str:
        with transaction(site.engine) as connection:
            return variables.get_variable(connection, cipher_of(site), key).value

    site.post("/variables/new", key="greeting", value="line 1\r\nline 2", description="d")
    assert value("greeting") == "line 1\nline 2"
    site.post("/variables/new", key="greeting", value="x", status=409)
    site.post("/variables/edit", key="api_token", value="", hidden="true", description="changed")
    assert value("api_token") == "S3CR3T-token"
    site.post("/variables/edit", key="greeting", value="", description="")
    assert value("greeting") == ""
    site.post("/variables/delete", key="greeting")
    site.post("/variables/delete", key="greeting", status=404)
    assert "eu &lt;west&gt;" in site.get("/variables?search=region")


def test_variables_are_imported_all_or_none(site: PageSite) -> None:
    def send(content: bytes, status: int = 303, **fields: str) -> str:
        answer = site.as_("Admin").post("/variables/import", files={"file": ("v.json", content)}, data=fields)
        assert answer.status_code == status, answer.text
        return answer.text

    both = json.dumps({"imported": {"a": 1}, "region": "us"}).encode()
    assert "region" in send(both, 409)
    assert "No variable fits" in site.get("/variables?search=imported")
    send(both, overwrite="true")
    assert "a&#34;: 1" in site.get("/variables?search=imported")
    for wrong in (b"[1]", b"{", b"\xff\xfe", b'{"a": 1, "a": 2}'):
        send(wrong, 400)
    site.post("/variables/delete", key="imported")
    site.post("/variables/edit", key="region", value="eu <west>")


def test_a_pool_is_written_and_the_default_one_stays(site: PageSite) -> None:
    site.post("/pools/new", pool="narrow", slots="2", description="two at once")
    site.post("/pools/new", pool="narrow", slots="2", status=409)
    site.post("/pools/edit", pool="narrow", slots="5", description="")
    assert re.search(r'data-key="narrow".*?title="0 of 5"', site.get("/pools"), re.S)
    for wrong in ("", "-1", "two", "1.5", "9" * 30):
        site.post("/pools/edit", pool="narrow", slots=wrong, status=400)
    site.post("/pools/delete", pool="narrow")
    site.post("/pools/delete", pool="default_pool", status=409)


def test_the_audit_log_is_read_page_by_page(site: PageSite) -> None:
    text = site.get("/audit?event=dags")
    assert "d129" in text and text.count("<tr data-item") == 100
    older = re.search(r'rel="next" href="([^"]+)"', text)
    assert older
    second = site.get(older[1].replace("&amp;", "&"))
    assert "d0<" in second and "d129" not in second and 'rel="next"' not in second
    assert site.get("/audit?event=dags+pause&dag_id=d1").count("<tr data-item") == 1
    assert "Nothing was written" in site.get("/audit?owner=ada&until=2020-01-01")
    assert site.get("/audit?event=dags&since=2026-03-01&until=2026-03-01").count("<tr data-item") == 100
    site.get("/audit?since=yesterday", status=400)


@ONCE
def test_settings_are_shown_with_their_origin(site: PageSite) -> None:
    text = site.get("/configuration?changed=true")
    assert "OPSKIT__SMTP__SMTP_PASSWORD" in text and "&lt; hidden &gt;" in text
    assert "parallelism" not in text and "parallelism" in site.get("/configuration")


@ONCE
def test_an_asset_tells_of_its_makers_and_events_as_far_as_one_may_see_them(site: PageSite) -> None:
    text = site.get("/datasets/view?uri=s3://lake/orders")
    assert 'href="/dags/maker"' in text and "maker.a" in text
    site.who["other"] = Who("o", ("other",), frozenset({("can_read", "DAG:other"), ("can_read", "Datasets")}))
    assert "maker" not in site.get("/datasets", role="other")
    site.get("/datasets/view?uri=s3://lake/orders", role="other", status=404)


@ONCE
def test_an_import_error_is_shown_with_its_last_line(site: PageSite) -> None:
    text = site.get("/import-errors")
    assert "broken.py" in text and "SyntaxError: &lt;invalid&gt; syntax" in text
