"""Finds the person behind a request: a session's cookie, basic authentication, a token."""

from __future__ import annotations

from fastapi import Request

from opskit.web.faults import SignInNeeded
from opskit.web.identity import Who
from opskit.web.store import Store


def identify(request: Request, store: Store) -> Who:
    """Who sends this request. SignInNeeded when it carries no credentials that hold."""
    raise SignInNeeded("sign in first")
