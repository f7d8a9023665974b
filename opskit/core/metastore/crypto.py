"""Encrypts the secrets of connections and variables with Fernet keys."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.errors import ConfigError, OpskitError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE = "fernet.key"


class Cipher:
    """Encrypts with the first key, decrypts with whichever of them fits."""

    def __init__(self, keys: list[str], origin: str) -> None:
        """ConfigError, which never repeats a key, when one of them is none. `origin`: where they come from."""
        from cryptography.fernet import Fernet, MultiFernet

        if not keys:
            raise ConfigError(f"{origin} holds no Fernet key")
        try:
            self._fernet: MultiFernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise ConfigError(
                f"{origin} holds no valid Fernet key",
                hint="a key is 32 random bytes in URL-safe base64; several are separated by commas",
            ) from error
        self.origin = origin
        self._keys = [key.encode() for key in keys]
        self.fingerprints = [fingerprint(key) for key in keys]

    @property
    def fingerprint(self) -> str:
        """Tells the newest key from another without giving it away."""
        return self.fingerprints[0]

    def encrypt(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, token: str, what: str) -> str:
        """OpskitError naming `what` (`connection 'x', password`) when no key fits or the text was damaged."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token.encode()).decode()
        except (InvalidToken, UnicodeError) as error:
            raise OpskitError(
                f"{what} can't be decrypted with the Fernet key of {self.origin} (fingerprint {self.fingerprint})",
                hint="it was written with another key: put that one, too, into core.fernet_key, after the new one",
            ) from error

    def sign(self, purpose: str, data: bytes) -> tuple[str, str]:
        """(fingerprint of the newest key, signature): only who has that key can make it. For one `purpose` only."""
        return self.fingerprint, _signature(self._keys[0], purpose, data)

    def is_signed(self, purpose: str, data: bytes, key_fingerprint: str, signature: str) -> bool | None:
        """Whether a signature fits; None when its key is not among ours."""
        for key, known in zip(self._keys, self.fingerprints, strict=True):
            if known == key_fingerprint:
                return hmac.compare_digest(_signature(key, purpose, data), signature)
        return None

    def rotate(self, token: str) -> str:
        """The same secret under the newest key."""
        return self._fernet.rotate(token.encode()).decode("ascii")


def _signature(key: bytes, purpose: str, data: bytes) -> str:
    derived = hmac.digest(key, b"opskit " + purpose.encode(), "sha256")
    return hmac.digest(derived, data, "sha256").hex()


def fingerprint(key: str) -> str:
    """16 hexadecimal digits of a SHA-256 over the key: fit for manifests and messages."""
    return hashlib.sha256(b"opskit fernet key fingerprint\n" + key.strip().encode()).hexdigest()[:16]


def open_cipher(config: Config) -> Cipher:
    """The cipher of an installation: core.fernet_key, else {home}/fernet.key, which is made when it is not there."""
    configured = str(config.get("core", "fernet_key"))
    if configured.strip():
        return Cipher(_split(configured), "core.fernet_key")
    path = config.home / KEY_FILE
    try:
        if not path.exists():
            create_key_file(path)
        return Cipher(_split(path.read_text(encoding="ascii")), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no valid Fernet key") from error
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: {error.strerror}", hint="core.fernet_key can hold the key instead"
        ) from error


def create_key_file(path: Path) -> bool:
    """Make a key file (0600) unless there is one; whether this call made it.

    The file appears complete or not at all, and never replaces another: the loser of a race uses the winner's key.
    """
    from cryptography.fernet import Fernet

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
