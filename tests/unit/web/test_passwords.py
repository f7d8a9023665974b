"""Passwords are checked against hashes of three kinds, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from opskit.core.metastore import passwords
from opskit.errors import UsageError
from tests.web_site import CHEAP

# The examples of RFC 7914, in the form in which werkzeug (so Airflow) stores them.
SCRYPT = (
    "scrypt:16384:8:1$SodiumChloride$7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
)
METHOD = passwords._METHOD
PBKDF2 = "pbkdf2:sha256:1$salt$55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_METHOD", CHEAP)
    passwords._nobody.cache_clear()


@pytest.mark.parametrize(("stored", "password"), [(SCRYPT, "pleaseletmein"), (PBKDF2, "passwd")])
def test_hashes_that_airflow_made_are_understood_and_are_to_be_made_anew(stored: str, password: str) -> None:
    assert passwords.is_right(stored, password)
    assert not passwords.is_right(stored, password + " ")
    assert passwords.is_understood(stored)
    assert passwords.is_outdated(stored)


def test_our_own_hash_holds_for_its_password_only_and_never_twice_the_same() -> None:
    first, second = passwords.hashed("correct horse"), passwords.hashed("correct horse")
    assert first != second
    assert passwords.is_right(first, "correct horse") and passwords.is_right(second, "correct horse")
    assert not passwords.is_right(first, "correct horsf")
    assert not passwords.is_outdated(first)
    assert "correct" not in first


def test_what_is_stored_costs_what_an_attacker_must_pay() -> None:
    method, n, r, p = METHOD.split(":")
    assert (method, int(n) * int(r) * int(p) >= 1 << 19) == ("scrypt", True)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "plain",
        "scrypt:16384:8:1",
        "md5$x$y",
        "scrypt:1073741824:8:1$salt$00",
        "scrypt:1000:8:1$salt$00",
        "scrypt:0:8:1$salt$00",
        "pbkdf2:sha256:999999999999$salt$00",
        "pbkdf2:md4:1$salt$00",
        "pbkdf2:sha256$salt$00",
    ],
)
def test_what_is_no_hash_or_would_cost_minutes_fits_no_password(stored: str) -> None:
    assert not passwords.is_understood(stored)
    for password in ("", "plain", "00"):
        assert not passwords.is_right(stored, password)


def test_an_account_without_a_password_and_one_that_is_not_there_cost_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = passwords._digest
    monkeypatch.setattr(passwords, "_digest", lambda method, *rest: made.append(method) or real(method, *rest))
    passwords.is_right(None, "warm up")
    made.clear()
    assert not passwords.is_right(None, "anything")
    assert not passwords.is_right(passwords.hashed("right one")[:], "x" * 5000)
    assert made[0] == CHEAP and len(made) == 3  # None: one; the hash itself: one; too long: one


@pytest.mark.parametrize(
    ("password", "username", "says"),
    [("short", "", "too short"), ("x" * 2000, "", "too long"), ("Ada-Love", "ada-love", "username")],
)
def test_bad_passwords_are_refused_with_the_reason(password: str, username: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        passwords.check(password, username)


def test_random_passwords_are_good_ones() -> None:
    found = {passwords.random_password() for _ in range(50)}
    assert len(found) == 50
    for one in found:
        passwords.check(one)
