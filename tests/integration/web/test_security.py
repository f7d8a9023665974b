"""What guards the web: sessions, forged requests, foreign hosts, headers, and what is never told."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import insert, select, update

from opskit.core.metastore import passwords, roles, tables, users
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.web.faults import SignInNeeded, TooManyAttempts
from opskit.web.security import cookies, signing_in
from opskit.web.security.known_passwords import KnownPasswords
from opskit.web.security.middleware import HEADERS
from opskit.web.store import Store
from tests.databases import KINDS, Databases
from tests.web_site import CHEAP, PASSWORD, PEOPLE, Browser, WebSite, csrf_token, web_site


@pytest.fixture(scope="module", autouse=True)
def _cheap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_METHOD", CHEAP)
        passwords._nobody.cache_clear()
        yield
        passwords._nobody.cache_clear()


@pytest.fixture(scope="module")
def one_site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    with web_site(tmp_path_factory.mktemp("home"), databases.migrated("sqlite")) as made:
        yield made


@pytest.fixture
def site(one_site: WebSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebSite]:
    """On SQLite, with nobody held up for wrong passwords of other tests."""
    monkeypatch.setattr(signing_in, "_known", KnownPasswords())
    with transaction(one_site.engine) as connection:
        connection.execute(tables.web_sign_in_limit.delete())
    yield one_site
    one_site.hang_up()


@pytest.fixture(scope="module", params=KINDS)
def moved(request: pytest.FixtureRequest, databases: Databases, one_site: WebSite) -> Iterator[Engine]:
    """A metastore of each kind with the same people."""
    url = databases.migrated(request.param)
    engine = open_engine(url, pool_size=5)
    with transaction(engine) as connection, reading(one_site.engine) as source:
        people = source.execute(select(tables.web_user)).mappings().all()
        connection.execute(
            insert(tables.web_user),
            [
                {name: value for name, value in row.items() if name != "id"}
                for row in people
                if row["username"] in PEOPLE
            ],
        )
    yield engine
    engine.dispose()
    databases.drop(url)


@pytest.fixture
def any_site(site: WebSite, moved: Engine) -> Iterator[WebSite]:
    """On each kind of database."""
    before = site.app.state.store
    site.app.state.store, there = Store(site.config, moved), site.engine
    site.engine = moved
    yield site
    site.app.state.store, site.engine = before, there


def status(answer: httpx.Response) -> int:
    return answer.status_code


def basic(username: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


# --- on each kind of database ---


def test_a_person_signs_in_works_and_signs_out(any_site: WebSite) -> None:
    http = any_site.client()
    asked = http.get("/users?search=a")
    assert (status(asked), asked.headers["location"]) == (303, "/login?next=%2Fusers%3Fsearch%3Da")
    page = http.get(asked.headers["location"]).text
    assert 'name="next" value="/users?search=a"' in page
    answer = http.post("/login", data={"username": "ada", "password": PASSWORD, "next": "/users?search=a"})
    assert (status(answer), answer.headers["location"]) == (303, "/users?search=a")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie and "Secure" not in cookie
    browser = Browser(http)
    assert "viola" in http.get("/users").text
    answer = browser.post("/users/new", username="carl", password="carl's password", role=["User", "Op"])
    assert (status(answer), answer.headers["location"]) == (303, "/users")
    with reading(any_site.engine) as connection:
        assert users.get_user(connection, "carl").roles == ("User", "Op")
    assert status(browser.post("/logout")) == 303
    assert status(http.get("/users")) == 303
    events = [(line.event, line.owner) for line in any_site.audit_lines()]
    assert events[:3] == [("users sign-out", "ada"), ("users create", "ada"), ("users sign-in", "ada")]


def test_a_token_made_on_the_page_of_ones_account_opens_the_api_within_its_scope(any_site: WebSite) -> None:
    browser = any_site.signed_in("ada")
    made = browser.post("/me/tokens", name="ci", scope="read", days="7")
    text = re.search(r'id="new-token">([^<]+)<', made.text)
    assert text is not None
    program = any_site.client(headers={"Authorization": f"Bearer {text[1]}"})
    assert status(program.get("/api/v1/pools")) == 200
    assert status(program.post("/api/v1/pools", json={"name": "more", "slots": 1})) == 403
    assert text[1] not in browser.http.get("/me").text
    number = re.search(r"/me/tokens/(\d+)/revoke", browser.http.get("/me").text)
    assert number is not None and status(any_site.signed_in("viola").post(f"/me/tokens/{number[1]}/revoke")) == 404
    assert status(program.get("/api/v1/pools")) == 200
    assert status(browser.post(f"/me/tokens/{number[1]}/revoke")) == 303
    refused = program.get("/api/v1/pools")
    assert status(refused) == 401 and text[1] not in refused.text


def test_guessing_is_slowed_down_by_page_and_by_api_and_for_no_longer_than_said(any_site: WebSite) -> None:
    http = any_site.client()
    answers = [http.post("/login", data={"username": "viola", "password": f"guess {one}"}) for one in range(6)]
    assert [status(one) for one in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) <= 2
    blocked = http.get("/api/v1/pools", headers=basic("viola", "guess"))
    assert status(blocked) == 429 and "retry-after" in blocked.headers
    assert status(http.post("/login", data={"username": "viola", "password": PASSWORD})) == 429
    with transaction(any_site.engine) as connection:  # the time is over
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(tables.web_sign_in_limit).values(blocked_until=past))
    assert status(http.post("/login", data={"username": "viola", "password": PASSWORD})) == 303
    with transaction(any_site.engine) as connection:
        assert users.get_user(connection, "viola").failed_sign_ins == 0
        connection.execute(tables.web_sign_in_limit.delete())


# --- sessions ---


def test_each_sign_in_has_a_session_of_its_own_and_the_one_before_is_over(site: WebSite) -> None:
    browser = site.signed_in("ada")
    before = browser.http.cookies["opskit_session"]
    browser.http.post("/login", data={"username": "ada", "password": PASSWORD})
    assert browser.http.cookies["opskit_session"] != before
    stolen = site.client(cookies={"opskit_session": before})
    assert status(stolen.get("/me")) == 303
    planted = site.client(cookies={"opskit_session": "chosen-by-an-attacker"})
    assert (
        "chosen-by-an-attacker"
        not in planted.post("/login", data={"username": "ada", "password": PASSWORD}).headers["set-cookie"]
    )


@pytest.mark.parametrize("how", ["idle", "old", "deactivated", "deleted", "password", "ended", "restored"])
def test_a_session_is_over_at_once(site: WebSite, how: str) -> None:
    name, now = f"{how}-person", datetime.now(UTC)
    with transaction(site.engine) as connection:
        hashed = passwords.hashed(PASSWORD)
        user = users.create_user(connection, name, now, roles=["Viewer"], password_hash=hashed)
    browser = site.signed_in(name)
    assert status(browser.http.get("/me")) == 200
    mine = tables.web_session.c.user_id == user.id
    with transaction(site.engine) as connection:
        if how == "idle":
            connection.execute(update(tables.web_session).where(mine).values(seen_at=now - timedelta(hours=12)))
        elif how == "old":
            connection.execute(update(tables.web_session).where(mine).values(expires_at=now))
        elif how == "deactivated":
            users.update_user(connection, name, now, {"is_active": False})
        elif how == "deleted":
            users.delete_user(connection, name)
        elif how == "password":
            users.update_user(connection, name, now, {"password_hash": passwords.hashed("quite another")})
        elif how == "ended":
            connection.execute(tables.web_session.delete().where(mine))
        else:
            other = passwords.hashed("of a backup")
            connection.execute(update(tables.web_user).where(tables.web_user.c.id == user.id).values(password=other))
    assert status(browser.http.get("/me")) == 303
    assert status(browser.http.get("/api/v1/pools")) == 401


def test_use_renews_a_session_but_an_open_page_that_looks_by_itself_does_not(site: WebSite) -> None:
    browser = site.signed_in("ada")
    then = datetime.now(UTC) - timedelta(hours=2)

    def seen() -> datetime:
        with reading(site.engine) as connection:
            return max(connection.execute(select(tables.web_session.c.seen_at)).scalars())

    with transaction(site.engine) as connection:
        connection.execute(update(tables.web_session).values(seen_at=then))
    browser.http.get("/me", headers={"X-Opskit-Live": "1"})
    assert seen() == then
    browser.http.get("/me")
    assert seen() > then


def test_a_new_password_of_ones_own_ends_all_other_sessions_and_needs_the_old_one(site: WebSite) -> None:
    with transaction(site.engine) as connection:
        hashed = passwords.hashed(PASSWORD)
        users.create_user(connection, "nina", datetime.now(UTC), roles=["Viewer"], password_hash=hashed)
    here, there = site.signed_in("nina"), site.signed_in("nina")
    wrong = here.post("/me/password", current="not it", new="a better one", again="a better one")
    assert status(wrong) == 400 and "present password" in wrong.text
    assert "twice" in here.post("/me/password", current=PASSWORD, new="a better one", again="another").text
    assert status(here.post("/me/password", current=PASSWORD, new="a better one", again="a better one")) == 303
    assert status(here.http.get("/me")) == 200 and status(there.http.get("/me")) == 303
    assert status(site.client().get("/api/v1/pools", headers=basic("nina"))) == 401
    site.signed_in("nina", "a better one")


def test_one_can_end_ones_own_sessions_and_nobody_elses(site: WebSite) -> None:
    here, there = site.signed_in("viola"), site.signed_in("viola")
    [identifier] = re.findall(r"/me/sessions/(\w+)/end", here.http.get("/me").text)[:1]
    assert status(site.signed_in("ada").post(f"/me/sessions/{identifier}/end")) == 404
    while found := re.findall(r"/me/sessions/(\w+)/end", here.http.get("/me").text):
        assert status(here.post(f"/me/sessions/{found[0]}/end")) == 303
    assert status(there.http.get("/me")) == 303 and status(here.http.get("/me")) == 200


# --- forged requests ---


def test_nothing_is_changed_without_the_sessions_token(site: WebSite) -> None:
    browser, other = site.signed_in("ada"), site.signed_in("viola")
    before = everything(site)
    for token in (None, "", "x", other.token(), csrf_token(site.client().get("/login").text)):
        fields = {"name": "Forged"} | ({"csrf_token": token} if token is not None else {})
        assert status(browser.http.post("/roles", data=fields)) == 403
        assert status(browser.http.post("/roles", files={name: (None, value) for name, value in fields.items()})) == 403
        headers = {"X-CSRF-Token": token} if token is not None else {}
        assert status(browser.http.post("/api/v1/pools", json={"name": "f", "slots": 1}, headers=headers)) == 403
        assert status(browser.http.delete("/api/v1/users/viola", headers=headers)) == 403
    # A token in the address is none: addresses are kept in histories and logs.
    assert status(browser.http.post(f"/roles?csrf_token={browser.token()}", data={"name": "Forged"})) == 403
    assert status(browser.http.post("/api/v1/pools", content="csrf_token=" + browser.token())) == 403
    assert everything(site) == before


def test_the_token_is_taken_from_a_form_a_multipart_form_or_a_header(site: WebSite) -> None:
    browser = site.signed_in("ada")
    token = browser.token()
    assert status(browser.http.post("/roles", data={"name": "R1", "csrf_token": token})) == 303
    files = {"name": (None, "R2"), "csrf_token": (None, token)}
    assert status(browser.http.post("/roles", files=files)) == 303
    assert status(browser.http.post("/roles", data={"name": "R3"}, headers={"X-CSRF-Token": token})) == 303
    answer = browser.http.post("/api/v1/pools", json={"name": "p", "slots": 1}, headers={"X-CSRF-Token": token})
    assert status(answer) == 200
    with reading(site.engine) as connection:
        assert {"R1", "R2", "R3"} <= {role.name for role in roles.list_roles(connection)}


def test_no_page_holds_the_token_itself_and_each_has_another_mask_over_it(site: WebSite) -> None:
    browser = site.signed_in("ada")
    [cookie] = [value for name, value in browser.http.cookies.items() if name.endswith("opskit_session")]
    token = cookies.csrf_token(cookie)
    pages = [browser.http.get(path).text for path in ("/roles", "/roles", "/me")]
    assert not any(token in page for page in pages)
    masked = [csrf_token(page) for page in pages]
    assert len(set(masked)) == 3
    # An older page stays good, and so does a program that makes the token of its cookie.
    for number, given in enumerate((*masked, token)):
        assert status(browser.http.post("/roles", data={"name": f"M{number}", "csrf_token": given})) == 303
    assert status(browser.http.post("/roles", data={"name": "Forged", "csrf_token": masked[0][:-1]})) == 403


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "{url}"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[bad"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "{url}"}, False),
    ],
)
def test_no_change_comes_from_another_site_however_it_is_signed_in(
    site: WebSite, headers: dict[str, str], allowed: bool
) -> None:
    sent = {name: value.format(url=site.url) for name, value in headers.items()}
    http = site.client()
    answer = http.post("/login", data={"username": "ada", "password": PASSWORD}, headers=sent)
    assert status(answer) == (303 if allowed else 403)
    answer = site.client().post("/api/v1/pools", json={"name": "q"}, headers={**sent, **basic("ada")})
    assert status(answer) == (400 if allowed else 403)  # 400: it came through, and lacks its slots


# --- headers, hosts, bodies ---


def test_every_answer_carries_the_headers_also_errors_and_files(
    site: WebSite, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a bug that knows s3cr3t")

    site.app.add_api_route("/api/v1/broken-for-a-test", broken)
    site.app.router.routes.insert(0, site.app.router.routes.pop())
    http = site.signed_in("ada").http
    paths = {
        "/login": 303,
        "/me": 200,
        "/no/such/page": 404,
        "/static/opskit.css": 200,
        "/static/none.css": 404,
        "/api/v1/pools": 200,
        "/api/v1/none": 404,
        "/api/v1/broken-for-a-test": 500,
    }
    for path, expected in paths.items():
        answer = http.get(path)
        assert status(answer) == expected, path
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
        assert "cache-control" in answer.headers, path
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
        assert "s3cr3t" not in answer.text and "Traceback" not in answer.text
        assert "strict-transport-security" not in answer.headers
    for refused in (
        http.get("/me", headers={"Host": "evil.example"}),
        http.post("/roles", data={"name": "x"}),
        http.post("/login", content=b"x", headers={"Content-Length": "1", "Origin": "https://evil.example"}),
    ):
        assert status(refused) in (400, 403)
        assert {name: refused.headers.get(name) for name in HEADERS} == HEADERS
    for path in ("/me", "/users"):
        assert "no-store" in http.get(path).headers["cache-control"]
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_no_page_of_ours_breaks_its_own_policy(site: WebSite) -> None:
    http = site.signed_in("ada").http
    for path in ("/me", "/users", "/users/new", "/users/viola", "/roles", "/roles/Viewer"):
        page = http.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", page), path
        assert len(page) < 200_000


def test_a_name_that_is_not_ours_is_not_served(site: WebSite) -> None:
    http = site.signed_in("ada").http
    answer = http.get("/me", headers={"Host": "evil.example"})
    assert status(answer) == 400 and "allowed_hosts" in answer.text and "evil.example" not in answer.text
    for host in ("localhost", "opskit", "[::1]:8080"):
        assert status(http.get("/me", headers={"Host": host})) == 200


def test_a_body_without_end_is_not_read(site: WebSite) -> None:
    with site.having(max_body_kib=4):
        http = site.client(headers={"Content-Type": "application/x-www-form-urlencoded"})
        for path in ("/api/v1/pools", "/login"):
            assert status(http.post(path, content=b"x" * 5000)) == 413, path
            chunks = (b"x" * 1000 for _ in range(50))
            assert status(http.post(path, content=chunks)) in (401, 413), path
            assert status(http.post(path, content=(b"x" * 1000 for _ in range(50)), headers=basic("ada"))) == 413, path
        browser = site.signed_in("ada")
        fields = {"csrf_token": browser.token(), "name": "x" * 5000}
        assert status(browser.http.post("/roles", data=fields)) == 413
        assert "max_body_kib" in http.post("/api/v1/pools", content=b"x" * 5000).text


def test_over_https_cookies_are_for_this_host_and_https_only(site: WebSite) -> None:
    with site.having(cookie_secure=True):
        answer = site.client().post("/login", data={"username": "ada", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-opskit_session=") and "Secure" in cookie and "Domain" not in cookie
        value = cookie.split("=")[1].split(";")[0]
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        named = {"Cookie": f"__Host-opskit_session={value}"}
        assert status(site.client().get("/me", headers=named)) == 200
        # A neighbour on the domain could plant a cookie without the prefix.
        assert status(site.client().get("/me", headers={"Cookie": f"opskit_session={value}"})) == 303


# --- who ---


def test_nobody_learns_who_has_an_account(site: WebSite) -> None:
    http = site.client()
    known = http.post("/login", data={"username": "viola", "password": "wrong"})
    unknown = http.post("/login", data={"username": "nobody-at-all", "password": "wrong"})
    assert status(known) == status(unknown) == 401
    clean = [re.sub("viola|nobody-at-all|rendered-at[^>]*|\\?v=\\w+", "", one.text) for one in (known, unknown)]
    assert clean[0] == clean[1]
    same = [http.get("/api/v1/pools", headers=basic(name, "wrong")).json() for name in ("viola", "nobody-at-all")]
    assert same[0] == same[1]


def test_an_odd_username_is_a_wrong_one(any_site: WebSite) -> None:
    http, ada = any_site.client(), any_site.signed_in("ada").http
    for name in ("a\0b", "x" * 5000, "\ud800", "' OR 1=1 --"):
        with transaction(any_site.engine) as connection:
            connection.execute(tables.web_sign_in_limit.delete())
        raw = name.encode("utf-8", "surrogatepass")
        assert status(http.post("/login", data={"username": raw, "password": "wrong"})) == 401
        pair = base64.b64encode(raw + b":wrong").decode()
        assert status(http.get("/api/v1/pools", headers={"Authorization": f"Basic {pair}"})) == 401
        for path in ("/users/", "/roles/"):
            assert status(ada.get(path + quote(raw, safe=""))) == 404


def test_a_session_does_not_speak_for_a_request_that_says_otherwise_who_it_is(site: WebSite) -> None:
    browser = site.signed_in("ada")
    for value in ("", "Basic", "Negotiate abc", "Bearer"):
        answer = browser.http.post("/api/v1/pools", json={"name": "f"}, headers={"Authorization": value})
        assert status(answer) == 401, value


def test_a_program_that_begins_with_many_requests_at_once_is_no_guesser(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = passwords.is_right
    monkeypatch.setattr(passwords, "is_right", lambda stored, given: looked.append(given) or real(stored, given))
    clients = [site.client() for _ in range(12)]
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda http: status(http.get("/api/v1/pools", headers=basic("viola"))), clients))
    assert answers == [200] * 12
    assert looked == [PASSWORD]


def test_basic_authentication_looks_at_the_password_once_and_at_a_new_one_at_once(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = passwords.is_right
    monkeypatch.setattr(passwords, "is_right", lambda stored, given: looked.append(given) or real(stored, given))
    http = site.client()
    for _ in range(5):
        assert status(http.get("/api/v1/pools", headers=basic("viola"))) == 200
    assert looked == [PASSWORD]
    # Whoever knows the password works on while others guess elsewhere,
    for _ in range(7):
        with pytest.raises((SignInNeeded, TooManyAttempts)):
            signing_in.check_password(site.app.state.store, "viola", "guess", "9.9.9.9")
    assert status(http.get("/api/v1/pools", headers=basic("viola"))) == 200
    # but the right answer is not given to those who guess, however fast they are.
    for _ in range(7):
        assert status(http.get("/api/v1/pools", headers=basic("viola", "guess"))) == 429
    assert status(http.get("/api/v1/pools", headers=basic("viola"))) == 429
    with transaction(site.engine) as connection:
        users.update_user(connection, "viola", datetime.now(UTC), {"password_hash": passwords.hashed("new password")})
        connection.execute(tables.web_sign_in_limit.delete())
    assert status(http.get("/api/v1/pools", headers=basic("viola"))) == 401
    with transaction(site.engine) as connection:
        users.update_user(connection, "viola", datetime.now(UTC), {"password_hash": passwords.hashed(PASSWORD)})


def test_a_hash_that_airflow_made_is_replaced_when_its_password_is_known(site: WebSite) -> None:
    import hashlib

    made = hashlib.pbkdf2_hmac("sha256", b"from airflow", b"salt", 10).hex()
    with transaction(site.engine) as connection:
        theirs = f"pbkdf2:sha256:10$salt${made}"
        users.create_user(connection, "olga", datetime.now(UTC), roles=["Viewer"], password_hash=theirs)
    browser = site.signed_in("olga", "from airflow")
    assert status(browser.http.get("/me")) == 200
    with reading(site.engine) as connection:
        stored = users.credentials(connection, "olga")
    assert stored is not None and str(stored[1]).startswith(CHEAP)
    site.signed_in("olga", "from airflow")


def test_strangers_see_what_the_public_role_allows_and_no_more(site: WebSite) -> None:
    http = site.client()
    assert status(http.get("/api/v1/pools")) == 401
    with transaction(site.engine) as connection:
        roles.add_permissions(connection, "Public", [("can_read", "Pools")])
    try:
        assert status(http.get("/api/v1/pools")) == 200
        assert status(http.get("/api/v1/users")) == 401
        assert status(http.post("/api/v1/pools", json={"name": "x", "slots": 1})) == 401
        assert status(http.get("/users")) == 303  # signing in may help
        assert status(http.get("/login")) == 200
        assert status(http.get("/me")) == 303
        # Wrong credentials are no stranger's.
        assert status(http.get("/api/v1/pools", headers={"Authorization": "Bearer opskit_x"})) == 401
    finally:
        with transaction(site.engine) as connection:
            roles.remove_permissions(connection, "Public", [("can_read", "Pools")])


def test_nobody_gives_a_role_or_takes_an_account_that_may_more(site: WebSite) -> None:
    with transaction(site.engine) as connection:
        rights = [
            (action, name)
            for action in ("can_create", "can_edit", "can_delete", "can_read")
            for name in ("Users", "Roles")
        ]
        roles.create_role(connection, "Helpdesk", rights)
        hashed = passwords.hashed(PASSWORD)
        users.create_user(connection, "hans", datetime.now(UTC), roles=["Helpdesk"], password_hash=hashed)
    hans = site.signed_in("hans")
    before = everything(site)
    assert status(hans.post("/users/new", username="evil", password=PASSWORD, role="Admin")) == 403
    assert status(hans.post("/users/hans", role=["Helpdesk", "Admin"], is_active="true")) == 403
    assert status(hans.post("/users/ada/reset-password")) == 403
    assert status(hans.post("/users/ada/delete")) == 403
    assert status(hans.post("/roles/Helpdesk", permission=["can_read Connections", "can_edit Roles"])) == 403
    assert status(hans.post("/roles", name="Evil", like="Op")) == 403
    assert status(hans.post("/users/hans/delete")) == 409  # nobody deletes oneself
    program = site.client(headers=basic("hans"))
    body = {"username": "evil", "password": PASSWORD, "roles": [{"name": "Admin"}]}
    assert status(program.post("/api/v1/users", json=body)) == 403
    assert everything(site) == before
    assert status(hans.post("/users/new", username="good", password=PASSWORD, role="Helpdesk")) == 303


def test_a_proxy_is_believed_only_where_it_is_trusted(site: WebSite) -> None:
    given = {
        "proxy_user_header": "X-Forwarded-User",
        "proxy_roles_header": "X-Forwarded-Groups",
        "proxy_default_role": "Viewer",
    }
    with site.having(**given, trusted_proxies=["10.9.8.7"]):
        assert status(site.client().get("/me", headers={"X-Forwarded-User": "ada"})) == 303
    with site.having(**given, trusted_proxies=["127.0.0.0/8"]):
        paul = site.client(headers={"X-Forwarded-User": "paul"})
        page = paul.get("/me")
        assert status(page) == 200 and "Viewer" in page.text
        assert status(paul.get("/users")) == 403
        boss = site.client(headers={"X-Forwarded-User": "boss", "X-Forwarded-Groups": "Admin, unknown"})
        token = csrf_token(boss.get("/users").text)
        # The proxy signs in every request of the browser, forged ones, too.
        assert status(boss.post("/roles", data={"name": "Forged"})) == 403
        assert status(boss.post("/roles", data={"name": "Forged", "csrf_token": csrf_token(page.text)})) == 403
        assert status(boss.post("/roles", data={"name": "Forged"}, headers=basic("x"))) == 403
        assert status(boss.post("/roles", data={"name": "Real", "csrf_token": token})) == 303
        assert status(site.client(headers={"X-Forwarded-User": "a b"}).get("/me")) == 403
        with transaction(site.engine) as connection:
            assert users.get_user(connection, "paul").has_password is False
            users.update_user(connection, "paul", datetime.now(UTC), {"is_active": False})
        assert status(paul.get("/me")) == 403


def test_no_secret_is_told_to_logs_answers_or_the_audit_log(site: WebSite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="opskit")
    browser = site.signed_in("ada")
    texts = [browser.post("/users/new", username="sue", password="my-s3cret-word", role="Viewer").text]
    texts.append(browser.http.get("/users/sue").text)
    reset = browser.post("/users/sue/reset-password").text
    told = re.search(r'id="new-password">([^<]+)<', reset)
    assert told is not None
    texts.append(site.client().post("/login", data={"username": "sue", "password": "my-s3cret-guess"}).text)
    texts.append(site.client().get("/api/v1/pools", headers=basic("sue", "my-s3cret-guess")).text)
    program = site.client(headers=basic("ada"))
    body = {"username": "tom", "password": "my-s3cret-word", "roles": [{"name": "Nobody"}]}
    texts += [program.post("/api/v1/users", json=body).text, program.get("/api/v1/users").text]
    texts.append(program.post("/api/v1/users", json={**body, "password": ["my-s3cret-list"]}).text)
    texts += [program.get("/api/v1/eventLogs?limit=100").text, json.dumps([str(one) for one in site.audit_lines()])]
    cookie = browser.http.cookies["opskit_session"]
    with reading(site.engine) as connection:
        hashes = connection.execute(select(tables.web_user.c.password)).scalars().all()
    everywhere = "\n".join([*texts, caplog.text])
    for secret in ("my-s3cret", told[1], cookie, PASSWORD, *[one for one in hashes if one]):
        assert secret not in everywhere


def everything(site: WebSite) -> dict[str, Any]:
    """What people can change, without what signing in itself writes."""
    own = ("log", "web_session", "web_sign_in_limit")
    found: dict[str, Any] = {}
    with reading(site.engine) as connection:
        for table in tables.metadata.sorted_tables:
            if table.name not in own:
                columns = [one for one in table.c if one.name not in ("last_sign_in_at", "sign_ins", "failed_sign_ins")]
                rows = connection.execute(select(*columns).order_by(*table.primary_key.columns))
                found[table.name] = [tuple(row) for row in rows]
    return found
