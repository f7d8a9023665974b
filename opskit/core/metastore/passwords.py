"""Hashes passwords with scrypt, and checks them; reads what Airflow's users bring along (werkzeug's formats), too.

A hash is `method$salt$hex`, where method is `scrypt:n:r:p` or `pbkdf2:digest:iterations`: it says how it was made.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from functools import cache

from opskit.errors import UsageError

_METHOD = "scrypt:32768:8:3"
"""32 MiB and some 200 ms: what an attacker pays for each guess, and a person once for each signing in."""
_LARGEST = 1 << 23
"""Of n * r * p, in a hash that came from elsewhere: a forged one must not cost minutes."""
_MOST_ITERATIONS = 5_000_000
_LENGTHS = (8, 1024)
_AT_ONCE = threading.BoundedSemaphore(2)
"""So that a flood of wrong passwords takes neither all memory nor all processors."""
_WORDS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def hashed(password: str) -> str:
    """The hash to store. It costs some 200 ms: call it outside of transactions."""
    salt = secrets.token_hex(16)
    return f"{_METHOD}${salt}${_digest(_METHOD, salt, password)}"


def is_right(stored: str | None, password: str) -> bool:
    """Whether this is the password. An account without a password (None) costs as much, and has none that is right."""
    method, _, rest = (stored or _nobody()).partition("$")
    salt, _, wanted = rest.partition("$")
    found = _digest(method, salt, password) if len(password) <= _LENGTHS[1] else None
    if found is None:
        method, salt, _ = _nobody().split("$")
        _digest(method, salt, password[: _LENGTHS[1]])
        return False
    return hmac.compare_digest(found, wanted) and stored is not None


def is_outdated(stored: str) -> bool:
    """Whether it was made in another way than `hashed` does now: then it is made anew once the password is known."""
    return not stored.startswith(_METHOD + "$")


def is_understood(stored: str) -> bool:
    """Whether a password can be checked against it, whatever that password is."""
    method, _, rest = stored.partition("$")
    return bool(rest.partition("$")[2]) and _parameters(method) is not None


def check(password: str, username: str = "") -> None:
    """UsageError for what is no good password."""
    shortest, longest = _LENGTHS
    if len(password) < shortest:
        raise UsageError(f"the password is too short: {shortest} characters are the least")
    if len(password) > longest:
        raise UsageError(f"the password is too long: {longest} characters are the most")
    if username and password.casefold() == username.casefold():
        raise UsageError("the password must not be the username")


def random_password() -> str:
    """One that can't be guessed, and can be typed."""
    return "".join(secrets.choice(_WORDS) for _ in range(20))


def stamp(stored: str | None) -> str:
    """What changes with the password, and says nothing of it."""
    return hashlib.sha256((stored or "").encode()).hexdigest()


@cache
def _nobody() -> str:
    return hashed(secrets.token_hex(16))


def _parameters(method: str) -> tuple[str, tuple[int, ...]] | None:
    kind, *given = method.split(":")
    try:
        if kind == "scrypt" and len(given) == 3:
            n, r, p = map(int, given)
            fits = n > 1 and n & (n - 1) == 0 and r > 0 and p > 0 and n * r * p <= _LARGEST
            return (kind, (n, r, p)) if fits else None
        if kind == "pbkdf2" and len(given) == 2 and given[0] in ("sha1", "sha256", "sha512"):
            return (given[0], (int(given[1]),)) if 0 < int(given[1]) <= _MOST_ITERATIONS else None
    except ValueError:
        pass
    return None


def _digest(method: str, salt: str, password: str) -> str | None:
    """In hexadecimal; None for a method that is not understood."""
    found = _parameters(method)
    if found is None:
        return None
    kind, numbers = found
    text, grain = password.encode("utf-8", "surrogatepass"), salt.encode()
    with _AT_ONCE:
        if kind == "scrypt":
            n, r, p = numbers
            return hashlib.scrypt(text, salt=grain, n=n, r=r, p=p, maxmem=132 * n * r * p).hex()
        return hashlib.pbkdf2_hmac(kind, text, grain, numbers[0]).hex()
