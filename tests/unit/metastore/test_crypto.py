"""Fernet keys: where they come from, and what is said of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from opskit.config import load
from opskit.core.metastore import crypto
from opskit.errors import ConfigError


def test_the_key_file_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    config = load(tmp_path, {})
    first = crypto.open_cipher(config)
    second = crypto.open_cipher(config)
    assert second.decrypt(first.encrypt("é"), "x") == "é"
    assert (tmp_path / "fernet.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["fernet.key"]


def test_processes_that_make_the_key_at_once_use_the_same_one(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    fingerprints = []

    def start() -> None:
        barrier.wait()
        fingerprints.append(crypto.open_cipher(load(tmp_path, {})).fingerprint)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fingerprints) == 8
    assert len(set(fingerprints)) == 1


def test_a_configured_key_goes_before_the_file_and_the_newest_encrypts(tmp_path: Path) -> None:
    new, old = (Fernet.generate_key().decode() for _ in range(2))
    cipher = crypto.open_cipher(load(tmp_path, {"OPSKIT__CORE__FERNET_KEY": f" {new}, {old} "}))
    assert not (tmp_path / "fernet.key").exists()
    assert cipher.fingerprints == [crypto.fingerprint(new), crypto.fingerprint(old)]
    assert Fernet(new).decrypt(cipher.encrypt("x")) == b"x"
    assert cipher.decrypt(Fernet(old).encrypt(b"y").decode(), "x") == "y"


def test_a_fingerprint_tells_keys_apart_and_nothing_of_them() -> None:
    key = Fernet.generate_key().decode()
    assert crypto.fingerprint(key) == crypto.fingerprint(key + "\n")
    assert crypto.fingerprint(key) != crypto.fingerprint(Fernet.generate_key().decode())
    assert len(crypto.fingerprint(key)) == 16


@pytest.mark.parametrize("text", ["geheim", "geheim,geheim", "é"])
def test_what_is_no_key_is_refused_without_being_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        crypto.open_cipher(load(tmp_path, {"OPSKIT__CORE__FERNET_KEY": text}))
    assert "geheim" not in caught.value.message
    (tmp_path / "fernet.key").write_text(text)
    with pytest.raises(ConfigError, match=r"fernet\.key"):
        crypto.open_cipher(load(tmp_path, {}))


def test_an_empty_key_file_is_refused_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "fernet.key").write_text("\n")
    with pytest.raises(ConfigError, match="holds no Fernet key"):
        crypto.open_cipher(load(tmp_path, {}))
    assert (tmp_path / "fernet.key").read_text() == "\n"
