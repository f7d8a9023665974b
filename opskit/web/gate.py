"""What stands before every handler: who is it, and may this person do it?

`who: Annotated[Who, Depends(allow("can_read", "DAG Runs"))]`; a path parameter `dag_id` narrows the right to that DAG.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from opskit.web.identity import Who
from opskit.web.store import Store, TheStore
from opskit.web.turns import blocking


def identified(request: Request, store: Store) -> Who:
    """Who sends this request. SignInNeeded when it carries no credentials that hold."""
    from opskit.web.security import signing_in

    who = signing_in.identify(request, store)
    request.state.who = who
    return who


async def identify(request: Request, store: TheStore) -> Who:
    """The same as a dependency."""
    return await blocking(request, identified, request, store)


SignedIn = Annotated[Who, Depends(identify)]
"""For handlers that everybody may call who has signed in."""


def allow(action: str, resource: str) -> Callable[..., Awaitable[Who]]:
    """A dependency: Forbidden unless the person may do this (to the DAG that the path names)."""

    async def check(request: Request, who: SignedIn) -> Who:
        dag_id = request.path_params.get("dag_id")
        who.require(action, resource, None if dag_id == "~" else dag_id)
        return who

    return check
