"""Makes pages of templates. What a page shows is decided in `pages/`; a template only says how."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from opskit import __version__

_HERE = Path(__file__).parent


@cache
def environment() -> Environment:
    """All templates escape by themselves, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["version"] = __version__
    return made


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. Every template has `request`, `who` (None before signing in), `csrf_token` and `now`, too."""
    who = getattr(request.state, "who", None)
    text = (
        environment()
        .get_template(template)
        .render(
            request=request,
            who=who,
            csrf_token=who.csrf_token if who else "",
            now=datetime.now(UTC),
            status=status,
            **values,
        )
    )
    return HTMLResponse(text, status)
