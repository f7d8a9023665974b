"""Makes pages of templates. What a page shows is decided in `pages/`; a template only says how."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from opskit import __version__
from opskit.web import flash, formats, links, navigation
from opskit.web.security import csrf
from opskit.web.static_files import static_url
from opskit.web.topics import topic_text

_HERE = Path(__file__).parent
_HOLE = f"token-{secrets.token_hex(16)}"
"""Stands where a token belongs. Nobody else knows it, so nobody can have it filled in elsewhere."""
THEMES = ("light", "dark")
THEME_COOKIE = "opskit_theme"


@cache
def environment() -> Environment:
    """All templates escape by themselves, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.globals.update(
        version=__version__,
        static_url=static_url,
        csrf=_csrf,
        here=_here,
        is_here=navigation.is_here,
        state_signs=formats.SIGNS,
        topic=topic_text,
        dag_url=links.dag_url,
        run_url=links.run_url,
        task_url=links.task_url,
    )
    made.filters.update(
        ago=_ago,
        bytes=formats.size,
        duration=formats.duration,
        moment=formats.moment,
        plural=formats.plural,
        stamp=formats.stamp,
        with_token=_with_token,
        state=formats.state_badge,
        state_class=formats.state_class,
        state_name=formats.state_name,
        state_sign=formats.state_sign,
    )
    return made


def prepare() -> None:
    """Compile all templates: else those who ask first wait for it, in every process anew."""
    for name in environment().list_templates():
        environment().get_template(name)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page. Every template has `request`, `who` (None before signing in), `csrf_token`, `now`, `nav`, `theme` and
    `flash`, too."""
    who = getattr(request.state, "who", None)
    theme = request.cookies.get(THEME_COOKIE, "")
    message = flash.waiting(request) if status < 400 else None
    text = (
        environment()
        .get_template(template)
        .render(
            request=request,
            who=who,
            csrf_token=csrf.masked(who.csrf_token) if who else "",
            now=datetime.now(UTC),
            nav=navigation.of(who),
            theme=theme if theme in THEMES else "system",
            flash=message,
            status=status,
            **values,
        )
    )
    answer = HTMLResponse(text, status, headers={"Cache-Control": "no-store", "Vary": "Cookie"})
    if message:
        flash.take_away(answer)
    return answer


def render_part(request: Request, template: str, **values: Any) -> Markup:
    """What a page may show to others, too, who have the same rights: it holds no token. The page fills it in by the
    filter `with_token`."""
    made = environment().get_template(template)
    return Markup(made.render(request=request, csrf_token=_HOLE, now=datetime.now(UTC), **values))  # noqa: S704


@pass_context
def _with_token(context: Context, part: Markup) -> Markup:
    return part.replace(_HOLE, context["csrf_token"])


@pass_context
def _csrf(context: Context) -> Markup:
    """The hidden field that every form posts."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(context["csrf_token"])


@pass_context
def _here(context: Context, **changes: Any) -> str:
    """The URL of this page with other parameters: None takes one away, a list repeats it."""
    request: Request = context["request"]
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    for name, value in changes.items():
        if value is not None:
            pairs += [(name, one) for one in value] if isinstance(value, (list, tuple)) else [(name, value)]
    return request.url.path + (f"?{urlencode(pairs)}" if pairs else "")


@pass_context
def _ago(context: Context, value: datetime | None) -> Markup:
    return formats.relative(value, context["now"])
