"""Signing in with OpenID Connect, against a provider with real keys."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

pytest.importorskip("joserfc")

from opskit.core.metastore import passwords, users
from opskit.core.metastore.engine import reading, transaction
from opskit.errors import ConfigError, RemoteError
from opskit.web.security import oidc_provider as provider_module
from tests.databases import Databases
from tests.oidc_server import CLIENT, OTHER_KEY, SECRET, Provider, oidc_provider
from tests.web_site import CHEAP, PASSWORD, WebSite, csrf_token, web_site

MIA = {
    "sub": "f81d",
    "preferred_username": "mia",
    "given_name": "Mia",
    "family_name": "Muster",
    "email": "mia@example.org",
    "groups": ["ops-team", "everybody"],
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc_provider() as made:
        yield made


@pytest.fixture(scope="module")
def one_site(provider: Provider, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    home = tmp_path_factory.mktemp("home")
    role_map = '[webserver.oidc_role_map]\n"ops-team" = "Op"\nbosses = "Admin"\n'
    (home / "opskit.toml").write_text(role_map)
    given = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
        "oidc_roles_claim": "groups",
        "oidc_default_role": "Viewer",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_METHOD", CHEAP)
        with web_site(home, databases.migrated("sqlite"), given) as made:
            yield made


@pytest.fixture
def site(one_site: WebSite, provider: Provider) -> Iterator[WebSite]:
    provider.claims, provider.lies, provider.userinfo = dict(MIA), {}, {}
    provider.signs_with, provider.algorithm, provider.refuses = None, "RS256", ""
    yield one_site
    one_site.hang_up()


def sign_in(http: httpx.Client, wanted: str = "/users") -> httpx.Response:
    """To the provider and back, as a browser goes."""
    away = http.get("/login/oidc", params={"next": wanted})
    assert away.status_code == 303, away.text
    back = http.get(away.headers["location"])  # cookies of the site go there, too: it does not look at them
    return http.get(back.headers["location"])


def user(site: WebSite, name: str) -> users.User:
    with reading(site.engine) as connection:
        return users.get_user(connection, name)


def test_a_person_signs_in_and_becomes_a_user_with_the_roles_of_the_groups(site: WebSite, provider: Provider) -> None:
    http = site.client()
    page = http.get("/login?next=/me").text
    assert 'href="/login/oidc?next=/me"' in page.replace("%2F", "/")
    answer = sign_in(http, "/me")
    assert (answer.status_code, answer.headers["location"]) == (303, "/me")
    assert "Mia Muster" in http.get("/me").text
    made = user(site, "mia")
    assert (made.roles, made.email, made.has_password, made.sign_ins) == (("Op",), "mia@example.org", False, 1)
    # The next time everything is as the provider says then.
    provider.claims |= {"groups": ["bosses", "unknown"], "preferred_username": "mia-renamed"}
    assert sign_in(site.client()).status_code == 303
    assert user(site, "mia").roles == ("Admin",)
    provider.claims |= {"groups": []}
    assert sign_in(site.client()).status_code == 303
    assert user(site, "mia").roles == ("Viewer",)
    events = [(line.event, line.owner) for line in site.audit_lines()]
    assert ("users create", "mia") in events and ("users edit", "mia") in events


def test_state_nonce_and_verifier_belong_to_the_browser_that_began(site: WebSite, provider: Provider) -> None:
    victim, attacker = site.client(), site.client()
    away = attacker.get("/login/oidc").headers["location"]
    query = parse_qs(urlsplit(away).query)
    assert query["code_challenge_method"] == ["S256"] and len(query["state"][0]) > 40 and len(query["nonce"][0]) > 40
    back = site.client().get(away).headers["location"]
    # A link with the attacker's answer does not sign the victim in as the attacker.
    assert victim.get(back).status_code == 400
    victim.get("/login/oidc")
    assert victim.get(back).status_code == 400
    assert "opskit_session" not in victim.cookies
    assert attacker.get(back).status_code == 303
    assert attacker.get(back).status_code == 400  # an answer is taken once
    kept = site.client()
    kept.get("/login/oidc")
    assert query["state"][0] not in str(dict(kept.cookies)) and len(kept.cookies["opskit_oidc"]) > 100


@pytest.mark.parametrize(
    ("lies", "algorithm"),
    [
        ({"nonce": "another"}, "RS256"),
        ({"nonce": None}, "RS256"),
        ({"aud": "another program"}, "RS256"),
        ({"aud": [CLIENT, "another"]}, "RS256"),
        ({"azp": "another"}, "RS256"),
        ({"iss": "https://evil.example"}, "RS256"),
        ({"exp": 1_000_000_000}, "RS256"),
        ({"exp": None}, "RS256"),
        ({"sub": None}, "RS256"),
        ({"sub": ""}, "RS256"),
        ({}, "HS256"),
        ({}, "none"),
    ],
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    site: WebSite, provider: Provider, lies: dict[str, Any], algorithm: str
) -> None:
    provider.lies, provider.algorithm = lies, algorithm
    http = site.client()
    answer = sign_in(http)
    assert answer.status_code == 400 and 'role="alert"' in answer.text
    assert "opskit_session" not in http.cookies


def test_a_key_of_somebody_else_is_refused_and_a_new_one_of_the_provider_is_found(
    site: WebSite, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.signs_with = OTHER_KEY
    assert sign_in(site.client()).status_code == 400
    provider.signs_with = None
    provider.rotate()
    asked = len([path for path in provider.asked if path.endswith("/keys")])
    assert sign_in(site.client()).status_code == 400  # they were looked at just now
    assert len([path for path in provider.asked if path.endswith("/keys")]) == asked
    monkeypatch.setattr(provider_module, "_KEYS_AT_MOST_EVERY_SECONDS", 1e-9)
    assert sign_in(site.client()).status_code == 303


def test_what_the_provider_refuses_is_told_and_nobody_is_signed_in(site: WebSite, provider: Provider) -> None:
    provider.refuses = "access_denied"
    http = site.client()
    answer = sign_in(http)
    assert answer.status_code == 400 and "access_denied" in answer.text and "opskit_session" not in http.cookies


def test_a_user_of_the_same_name_is_not_taken_over(site: WebSite, provider: Provider) -> None:
    provider.claims |= {"sub": "somebody else", "preferred_username": "ada"}
    answer = sign_in(site.client())
    assert answer.status_code == 400 and "ada is there already" in answer.text
    # Nor by who is known at the provider under another name.
    provider.claims |= {"sub": "a third", "preferred_username": "mia"}
    assert sign_in(site.client()).status_code == 400
    with transaction(site.engine) as connection:
        now = datetime.now(UTC)
        users.create_user(connection, "zoe", now, roles=["Viewer"], password_hash=None)
    provider.claims |= {"sub": "zoe's", "preferred_username": "zoe"}
    assert sign_in(site.client()).status_code == 303  # she was made for that
    provider.claims |= {"sub": "not zoe's"}
    assert sign_in(site.client()).status_code == 400
    with transaction(site.engine) as connection:
        users.update_user(connection, "zoe", now, {"is_active": False})
    provider.claims |= {"sub": "zoe's"}
    answer = sign_in(site.client())
    assert answer.status_code == 400 and "deactivated" in answer.text


def test_what_the_id_token_does_not_tell_is_asked_for(site: WebSite, provider: Provider) -> None:
    provider.claims = {"sub": "short"}
    provider.userinfo = {"preferred_username": "short", "groups": ["ops-team"]}
    assert sign_in(site.client()).status_code == 303
    assert user(site, "short").roles == ("Op",)
    provider.userinfo = {"sub": "another", **provider.userinfo}
    assert sign_in(site.client()).status_code == 400
    provider.userinfo, provider.claims = {}, {"sub": "nameless"}
    answer = sign_in(site.client())
    assert answer.status_code == 400 and "preferred_username" in answer.text


def test_the_secret_of_the_client_is_told_to_nobody_but_the_provider(site: WebSite, provider: Provider) -> None:
    http = site.client()
    texts = [http.get("/login").text, http.get("/login/oidc").headers["location"], sign_in(http).text]
    texts += [str(line) for line in site.audit_lines()]
    assert not any(SECRET in text or "secret" in text for text in texts)


@pytest.mark.parametrize(
    ("issuer", "error", "says"),
    [
        ("http://127.0.0.1:9", RemoteError, "can't be asked"),
        ("{issuer}/", ConfigError, "calls itself"),
        ("http://oidc.example", ConfigError, "an https URL is needed"),
    ],
)
def test_a_provider_that_does_not_answer_or_is_another_is_told_as_such(
    site: WebSite, provider: Provider, issuer: str, error: type[Exception], says: str
) -> None:
    with site.having(oidc_issuer=issuer.format(issuer=provider.issuer)), pytest.raises(error, match=says):
        provider_module.Provider.of(site.config).endpoint("authorization_endpoint")


def test_somebody_who_wants_to_sign_in_is_told_that_the_provider_is_down(site: WebSite) -> None:
    before = getattr(site.app.state, "oidc", None)
    site.app.state.oidc = provider_module.Provider("http://127.0.0.1:9", CLIENT, SECRET)
    answer = site.client().get("/login/oidc")
    site.app.state.oidc = before
    assert answer.status_code == 502 and "asked" in answer.text and SECRET not in answer.text


# --- signing out there, too ---


@pytest.fixture
def ending(site: WebSite, provider: Provider) -> Iterator[WebSite]:
    """A site that signs out at the provider, too, which has a page for that."""
    provider.ends_sessions, site.app.state.oidc = True, None
    with site.having(oidc_end_session=True):
        yield site
    provider.ends_sessions, site.app.state.oidc = False, None


def sign_out(http: httpx.Client) -> httpx.Response:
    return http.post("/logout", data={"csrf_token": csrf_token(http.get("/me").text)})


def provider_url(answer: httpx.Response) -> str:
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', answer.text)
    assert found, answer.text
    return html.unescape(found[1])


def test_signing_out_ends_the_session_here_and_leads_to_the_providers_page(ending: WebSite, provider: Provider) -> None:
    http = ending.client()
    sign_in(http)
    answer = sign_out(http)
    assert answer.status_code == 200 and "Mia Muster" not in answer.text
    assert http.get("/me").status_code == 303  # it is over here, whether the browser goes there or not
    there = urlsplit(provider_url(answer))
    query = {name: values[0] for name, values in parse_qs(there.query).items()}
    assert f"{there.scheme}://{there.netloc}{there.path}" == f"{provider.issuer}/logout"
    assert (query["realm"], query["client_id"]) == ("main", CLIENT)
    assert query["post_logout_redirect_uri"] == f"{ending.url}/login"
    claims = json.loads(base64.urlsafe_b64decode(query["id_token_hint"].split(".")[1] + "=="))
    assert claims["sub"] == MIA["sub"]
    # What was remembered is used up, and only this page was ever sent it.
    assert not [one for one in http.cookies.jar if one.name == "opskit_oidc_end"]
    sign_in(http)
    assert [one.path for one in http.cookies.jar if one.name == "opskit_oidc_end"] == ["/logout"]


def test_a_long_token_is_left_out_and_the_provider_is_told_who_we_are(ending: WebSite, provider: Provider) -> None:
    provider.claims |= {"groups": ["ops-team", *(f"a group with a long name {number}" for number in range(300))]}
    http = ending.client()
    sign_in(http)
    query = parse_qs(urlsplit(provider_url(sign_out(http))).query)
    assert "id_token_hint" not in query and query["client_id"] == [CLIENT]


def test_who_has_signed_in_otherwise_or_where_nobody_asks_for_it_only_leaves_here(
    ending: WebSite, provider: Provider
) -> None:
    http = ending.client()
    sign_in(http)
    assert http.post("/login", data={"username": "ada", "password": PASSWORD}).status_code == 303
    answer = sign_out(http)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    sign_in(http)
    with ending.having(oidc_end_session=False):
        assert sign_out(http).status_code == 303
    provider.ends_sessions, ending.app.state.oidc = False, None
    sign_in(http)
    assert sign_out(http).status_code == 303


def test_a_provider_that_can_not_be_asked_holds_nobody_back(ending: WebSite) -> None:
    http = ending.client()
    sign_in(http)
    token = csrf_token(http.get("/me").text)
    ending.app.state.oidc = provider_module.Provider("http://127.0.0.1:9/realm", CLIENT, SECRET)
    answer = http.post("/logout", data={"csrf_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert http.get("/me").status_code == 303
    assert "the provider can&#39;t be asked" in http.get("/login").text
