"""Pings of a dead man's switch: a service outside that raises the alarm when they stay away.

The URLs are those of Healthchecks and of what speaks like it: `URL/start`, `URL`, `URL/fail`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from opskit.errors import ConfigError

_ENDINGS = {"start": "/start", "success": "", "fail": "/fail"}
_TRIES = 2


def check_url(url: str) -> None:
    """ConfigError unless it is an http(s) URL with a host. (It is not repeated: whoever has it can ping.)"""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("alerts.ping_urls has a value that is no URL", hint='for example backup = "https://…"')


def ping(url: str, what: str, text: str = "", *, timeout_seconds: float = 5.0) -> str | None:
    """Tell the switch `start`, `success` or `fail`, with a text for people. What went wrong, or None.

    Never raises for a switch that can't be reached: the work matters more than the word about it.
    """
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    check_url(url)
    address = url.rstrip("/") + _ENDINGS[what]
    problem = None
    for _ in range(_TRIES):
        try:
            request = Request(address, data=text.encode()[:10_000], method="POST")  # noqa: S310 -- checked above
            with urlopen(request, timeout=timeout_seconds):  # noqa: S310
                return None
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            problem = f"the dead man's switch at {urlsplit(url).hostname} was not reached: {reason}"
    return problem
