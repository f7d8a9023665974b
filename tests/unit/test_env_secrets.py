"""What is secret in an environment, and what stands in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config import load
from opskit.errors import ConfigError
from opskit.ops import env_secrets
from opskit.ops.env_secrets import Fingerprints, Rules, Secret, canonical, from_json, redact, to_json
from tests.env_corpus import MARK, planted

KEY = Fingerprints("ab" * 32, "the test")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("$secret"), below, max_size=3)
    ),
    max_leaves=8,
)


def test_no_planted_secret_of_any_connection_type_is_left() -> None:
    objects, known = planted(60)
    assert len(known) >= 60
    left = {
        name: text
        for kind, items in objects.items()
        for name, fields in items.items()
        if MARK in (text := canonical(redact(Rules(), KEY, kind, name, fields)))
    }
    assert left == {}


def test_what_is_no_secret_stays_readable() -> None:
    objects, _ = planted(1)
    shown = canonical(
        {kind: {n: redact(Rules(), KEY, kind, n, f) for n, f in items.items()} for kind, items in objects.items()}
    )
    for word in ("require", "eu-central-1", "/etc/ca.pem", "ab12345", "QUERY_TAG", "https://api.example.org", "etl"):
        assert word in shown


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("host", "user:pw12@db", True),
        ("region", "eu-west-1", False),
        ("use_token", True, False),
        ("password", "", False),
        ("tenant_id", "123e4567-e89b-12d3-a456-426614174000", False),
        ("aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", False),
        ("private_key_file", "/home/u/.ssh/id", False),
        ("blob", "ghp_0123456789abcdefghijABCDEFGHIJ", True),
        ("blob", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", True),
        ("blob", "d41d8cd98f00b204e9800998ecf8427e", True),
        ("pin", 1234, False),
        ("token", 1234, True),
        ("primaryKey", "id", False),
        ("authToken", "x", True),
        ("endpoint", "https://hooks.slack.com/services/T0/B0/x", True),
        ("endpoint", "https://example.org/path?q=1", False),
    ],
)
def test_names_and_looks_tell_what_is_secret(name: str, value: Any, secret: bool) -> None:
    assert Rules().is_leaf(name, value) is secret


def test_more_names_may_be_declared_secret() -> None:
    assert not Rules().is_leaf("license_text", "x")
    assert Rules(["license*"]).is_leaf("license_text", "x")


def test_a_fingerprint_needs_the_key_and_tells_values_apart() -> None:
    other = Fingerprints("cd" * 32, "the test")
    assert KEY.of("a") == KEY.of("a") != KEY.of("b")
    assert KEY.of("a") != other.of("a")
    assert KEY.key_id != other.key_id and len(KEY.of("a")) == 24
    with pytest.raises(ConfigError) as caught:
        Fingerprints("geheim", "env.key")
    assert "geheim" not in str(caught.value)


@given(_json)
def test_values_that_look_like_marks_survive(value: Any) -> None:
    assert from_json(json.loads(json.dumps(to_json(value)))) == value
    assert from_json(to_json({"a": Secret("f")})) == {"a": Secret("f")}


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    config = load(tmp_path, {})
    first = env_secrets.open_fingerprints(config)
    assert env_secrets.open_fingerprints(config).key_id == first.key_id
    assert (tmp_path / "env.key").stat().st_mode & 0o777 == 0o600
    assert not env_secrets.write_key(tmp_path / "env.key", "ab" * 32)
    assert env_secrets.open_fingerprints(config).key_id == first.key_id
    configured = load(tmp_path, {"OPSKIT__ENV__FINGERPRINT_KEY": "ab" * 32})
    assert env_secrets.open_fingerprints(configured).key_id == KEY.key_id
