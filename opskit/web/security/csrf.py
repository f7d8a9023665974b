"""The token of a session as a page holds it: under a mask that is another one each time.

Answers are compressed, and their length tells an eavesdropper who can put guesses into a page how much of a guess is in
it (BREACH). A page that shows the token under a one-time pad has nothing in it to be guessed.
"""

from __future__ import annotations

import hmac
import secrets

_MARK = "m1."
"""Begins what is masked; no token has a dot. Pads have as many bytes as the token."""


def masked(token: str) -> str:
    """The token for one page: `m1.<pad><token under the pad>` in hexadecimal, of no use without the mark. An empty one
    stays empty. Cheap: a pad of random bytes and an exclusive or."""
    if not token:
        return ""
    plain = token.encode("utf-8", "surrogatepass")
    pad = secrets.token_bytes(len(plain))
    return f"{_MARK}{pad.hex()}{_under(plain, pad).hex()}"


def holds(given: str, token: str) -> bool:
    """Whether what a request carries is this token, masked or as it is (a script of its own may compute it: nothing of
    it is in a compressed answer). In constant time for texts of the same length."""
    wanted = token.encode("utf-8", "surrogatepass")
    if not given.startswith(_MARK):
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted)
    try:
        raw = bytes.fromhex(given[len(_MARK) :])
    except ValueError:
        return False
    half = len(raw) // 2
    if len(raw) % 2 or half != len(wanted):
        return False
    return hmac.compare_digest(_under(raw[half:], raw[:half]), wanted)


def _under(text: bytes, pad: bytes) -> bytes:
    return (int.from_bytes(text, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(text), "big")
