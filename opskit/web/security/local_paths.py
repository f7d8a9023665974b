"""Where a person may be sent after signing in: to a page of ours, never elsewhere."""

from __future__ import annotations


def local_path(wanted: str) -> str:
    """The path itself when it is one of ours, else the home page."""
    if not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable():
        return "/"
    return "/" if wanted.split("?")[0].rstrip("/") in ("/login", "/logout") else wanted
