"""Encryption for recipients: who can read it, and what happens to data that was changed."""

from __future__ import annotations

import pytest

from opskit.errors import ConfigError, GuardRefused, VerificationFailed
from opskit.system import encryption

PLAIN = b"what nobody else may read " * 8000


def test_each_recipient_can_read_it_and_nobody_else() -> None:
    (first, to_first), (second, to_second), (other, _) = (encryption.new_identity() for _ in range(3))
    data = encryption.encrypt_bytes(PLAIN, [to_first, to_second])
    assert PLAIN[:26] not in data
    assert encryption.decrypt_bytes(data, [first]) == PLAIN
    assert encryption.decrypt_bytes(data, [other, second]) == PLAIN
    with pytest.raises(GuardRefused, match="none of the given identities"):
        encryption.decrypt_bytes(data, [other])
    with pytest.raises(GuardRefused, match="no identity was given"):
        encryption.decrypt_bytes(data, [])


@pytest.mark.parametrize("at", [10, 60, 150, 300, 70_000, -1])
def test_a_changed_byte_anywhere_is_noticed(at: int) -> None:
    identity, recipient = encryption.new_identity()
    data = bytearray(encryption.encrypt_bytes(PLAIN, [recipient]))
    data[at] ^= 1
    with pytest.raises((ValueError, GuardRefused)):
        encryption.decrypt_bytes(bytes(data), [identity])


@pytest.mark.parametrize("length", [0, 100, 1_000, 66_000, -1])
def test_data_that_was_cut_off_is_noticed(length: int) -> None:
    identity, recipient = encryption.new_identity()
    data = encryption.encrypt_bytes(PLAIN, [recipient])
    with pytest.raises(ValueError, match="damaged"):
        encryption.decrypt_bytes(data[:length], [identity])


def test_a_broken_identity_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        encryption.recipient_of("AGE-SECRET-KEY-1NOTQUITE")
    assert "NOTQUITE" not in f"{caught.value.message} {caught.value.hint}"
    identity, recipient = encryption.new_identity()
    assert encryption.recipient_of(identity) == recipient


def test_a_wrong_recipient_is_named() -> None:
    with pytest.raises(ConfigError, match="age1nobody"):
        encryption.check_recipients([encryption.new_identity()[1], "age1nobody"])
    with pytest.raises(ConfigError, match="no recipient"):
        encryption.check_recipients([])


def test_an_identity_file_may_have_comments() -> None:
    identity, _ = encryption.new_identity()
    assert encryption.read_identities(f"# made today\n\n{identity}\n") == [identity]


def test_a_stream_is_encrypted_on_its_way_and_comes_back() -> None:
    identity, recipient = encryption.new_identity()
    with encryption.encrypted(iter([PLAIN[:70_000], PLAIN[70_000:]]), [recipient]) as hidden:
        data = b"".join(hidden)
    assert encryption.decrypt_bytes(data, [identity]) == PLAIN
    with encryption.decrypted(iter([data]), identity, "x") as plain:
        assert b"".join(plain) == PLAIN


@pytest.mark.parametrize("at", [10, 60, 150, 70_000, -1])
def test_damage_in_an_encrypted_stream_is_found(at: int) -> None:
    identity, recipient = encryption.new_identity()
    data = bytearray(encryption.encrypt_bytes(PLAIN, [recipient]))
    data[at] ^= 1
    for damaged in (bytes(data), bytes(data[:at])):
        with (
            pytest.raises(VerificationFailed, match="x is damaged"),
            encryption.decrypted(iter([damaged]), identity, "x") as plain,
        ):
            b"".join(plain)
