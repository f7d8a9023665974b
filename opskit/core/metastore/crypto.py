"""Encrypts the secrets of connections and variables with Fernet keys."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.errors import ConfigError, OpskitError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_FILE = "fernet.key"


class Cipher:
    """Encrypts with the first key, decrypts with whichever of them fits."""

    def __init__(self, keys: list[str], origin: str, path: Path | None = None) -> None:
        """ConfigError, which never repeats a key, when one of them is none. `origin`: where they come from. `path`: the
        file they were read from; when it changes (a rotation), so do the keys of this cipher."""
        self.origin = origin
        self._path = path
        self._stamp = _stamp(path)
        self._use(keys)

    def _use(self, keys: list[str]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        if not keys:
            raise ConfigError(f"{self.origin} holds no Fernet key")
        try:
            self._fernet: MultiFernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise ConfigError(
                f"{self.origin} holds no valid Fernet key",
                hint="a key is 32 random bytes in URL-safe base64; several are separated by commas or lines",
            ) from error
        self._keys = [key.encode() for key in keys]
        self.fingerprints = [fingerprint(key) for key in keys]

    def _refresh(self) -> bool:
        """Whether the key file has changed, and its keys are used from now on."""
        stamp = _stamp(self._path)
        if self._path is None or stamp == self._stamp or stamp is None:
            return False
        try:
            self._use(_split(self._path.read_text(encoding="ascii")))
        except (OSError, UnicodeDecodeError, ConfigError):
            return False  # somebody is at it; those in use go on
        self._stamp = stamp
        return True

    @property
    def fingerprint(self) -> str:
        """Tells the newest key from another without giving it away."""
        return self.fingerprints[0]

    def encrypt(self, text: str) -> str:
        # A value under a key that was just retired could not be read by anybody.
        self._refresh()
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, token: str, what: str) -> str:
        """OpskitError naming `what` (`connection 'x', password`) when no key fits or the text was damaged."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token.encode()).decode()
        except (InvalidToken, UnicodeError) as error:
            if self._refresh():
                return self.decrypt(token, what)
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

    def key_of(self, token: str) -> str:
        """Fingerprint of the key that reads a value; empty when none does."""
        from cryptography.fernet import Fernet, InvalidToken

        for key, known in zip(self._keys, self.fingerprints, strict=True):
            try:
                Fernet(key).decrypt(token.encode())
            except (InvalidToken, UnicodeError):
                continue
            return known
        return ""


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
        return Cipher(_split(path.read_text(encoding="ascii")), str(path), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no valid Fernet key") from error
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: {error.strerror}", hint="core.fernet_key can hold the key instead"
        ) from error


def read_keys(path: Path) -> list[str]:
    """The keys of a file, the newest first; none of a file that is not there. ConfigError when it can't be read."""
    try:
        return _split(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as a file of Fernet keys") from error


def write_keys(path: Path, keys: Sequence[str]) -> None:
    """Replace a key file (0600, whole, durable before it takes its place); its owner stays who it is."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write("".join(f"{key}\n" for key in keys).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                before = path.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def new_key() -> str:
    """A fresh Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


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
    _sync_folder(path.parent)
    return True


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _split(text: str) -> list[str]:
    return text.replace(",", " ").split()
