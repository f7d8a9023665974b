"""Client-side encryption in the age format: for one or more recipients, streamed, readable with the `age` tool too.

A recipient is public (`age1…` or an SSH public key); an identity (`AGE-SECRET-KEY-1…` or an SSH private key) is secret.
Format: https://age-encryption.org/v1
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

from opskit.errors import ConfigError, GuardRefused, VerificationFailed
from opskit.system.streams import pumped

_HINT = "install it with: pip install 'opskit[encryption]'"


def new_identity() -> tuple[str, str]:
    """A fresh key pair: (identity, recipient)."""
    identity = _age().x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(identity: str) -> str:
    """The public half of an `AGE-SECRET-KEY-1…`. ConfigError for anything else."""
    try:
        return str(_age().x25519.Identity.from_str(identity.strip()).to_public())
    except Exception as error:
        if type(error).__name__ != "IdentityError":
            raise
        # The text is a secret, even a broken one.
        raise ConfigError("an age identity is not valid", hint="it begins with AGE-SECRET-KEY-1") from error


def check_recipients(recipients: Sequence[str]) -> None:
    """ConfigError that names the first one that is no recipient, or says that there is none."""
    _recipients(recipients)


def encrypt(source: BinaryIO, target: BinaryIO, recipients: Sequence[str]) -> None:
    """Read `source` to its end and write it, encrypted, to `target`. Constant memory. ConfigError: see above."""
    _age().encrypt_io(source, target, _recipients(recipients))


def decrypt(source: BinaryIO, target: BinaryIO, identities: Sequence[str]) -> None:
    """The reverse. GuardRefused when no identity fits; ValueError when the data was changed or cut off.

    Each chunk of 64 KiB is proved before it is written, so nothing forged reaches `target`; but a cut is only seen at
    the end: what was written counts only after this returns.
    """
    age = _age()
    keys = _identities(identities)
    if not keys:
        raise GuardRefused("this is encrypted, and no identity was given", hint="name a file of identities")
    try:
        age.decrypt_io(source, target, keys)
    except age.DecryptError as error:
        if "no matching" in str(error).lower():
            raise GuardRefused(
                "none of the given identities can decrypt this", hint="use the identity of one of its recipients"
            ) from error
        raise ValueError(f"encrypted data is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError("encrypted data is damaged: it was changed or cut off") from error


def encrypt_bytes(data: bytes, recipients: Sequence[str]) -> bytes:
    """For what is small. See `encrypt`."""
    target = io.BytesIO()
    encrypt(io.BytesIO(data), target, recipients)
    return target.getvalue()


def decrypt_bytes(data: bytes, identities: Sequence[str]) -> bytes:
    """For what is small. See `decrypt`."""
    target = io.BytesIO()
    decrypt(io.BytesIO(data), target, identities)
    return target.getvalue()


def encrypted(chunks: Iterable[bytes], recipients: Sequence[str]) -> AbstractContextManager[Iterator[bytes]]:
    """A stream, encrypted on its way. ConfigError at once when a recipient is none."""
    keys = _recipients(recipients)
    return pumped(lambda source, target: _age().encrypt_io(source, target, keys), chunks)


@contextmanager
def decrypted(chunks: Iterable[bytes], identity: str, what: str) -> Iterator[Iterator[bytes]]:
    """A stream, decrypted on its way with the one identity that it was encrypted for.

    VerificationFailed when it was changed or cut off, the latter only at its end.
    """
    age, keys = _age(), _identities([identity])
    with pumped(lambda source, target: age.decrypt_io(source, target, keys), chunks) as stream:

        def pieces() -> Iterator[bytes]:
            try:
                yield from stream
            except (age.DecryptError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise VerificationFailed(f"{what} is damaged: it can't be decrypted") from error

        yield pieces()


def read_identities(text: str) -> list[str]:
    """The identities of an identity file: one a line, `#` begins a comment; or one SSH private key."""
    if "PRIVATE KEY-----" in text:
        return [text]
    return [line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]


def _age() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise ConfigError("the Python package pyrage, which encrypts, is not installed", hint=_HINT) from error
    return pyrage


def _recipients(recipients: Sequence[str]) -> list[Any]:
    age = _age()
    if not recipients:
        raise ConfigError("no recipient is given", hint="make a key pair with: opskit keys new")
    found = []
    for text in recipients:
        kind = age.ssh if text.startswith("ssh-") else age.x25519
        try:
            found.append(kind.Recipient.from_str(text.strip()))
        except age.RecipientError as error:
            raise ConfigError(f"{text!r} is no recipient", hint="it begins with age1 or ssh-ed25519") from error
    return found


def _identities(identities: Sequence[str]) -> list[Any]:
    age = _age()
    found = []
    for text in identities:
        try:
            if "PRIVATE KEY-----" in text:
                found.append(age.ssh.Identity.from_buffer(text.encode()))
            else:
                found.append(age.x25519.Identity.from_str(text.strip()))
        except age.IdentityError as error:
            raise ConfigError("an identity is not valid", hint="it begins with AGE-SECRET-KEY-1") from error
    return found
