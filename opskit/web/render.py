"""Makes pages of templates. What a page shows is decided in `pages/`; a template only says how."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import cache, lru_cache
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
from opskit.web.identity import Who
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
        head=_head,
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
    """A page. Every template has `request`, `who` (None before signing in), `csrf_token`, `now`, `header`, `theme` and
    `flash`, too."""
    who: Who | None = getattr(request.state, "who", None)
    theme = request.cookies.get(THEME_COOKIE, "")
    theme = theme if theme in THEMES else "system"
    nav = navigation.of(who)
    header = _header(nav, navigation.current(nav, request.url.path), theme, *_called(who))
    message = flash.waiting(request) if status < 400 else None
    text = (
        environment()
        .get_template(template)
        .render(
            request=request,
            who=who,
            csrf_token=csrf.masked(who.csrf_token) if who else "",
            now=datetime.now(UTC),
            header=header,
            theme=theme,
            flash=message,
            status=status,
            **values,
        )
    )
    answer = HTMLResponse(text, status, headers={"Cache-Control": "no-store", "Vary": "Cookie"})
    if message:
        flash.take_away(answer)
    return answer


def _called(who: Who | None) -> tuple[str, tuple[str, ...], bool] | tuple[None, tuple[()], bool]:
    """What the header calls somebody, the roles, and whether there is an account."""
    if who is None:
        return None, (), False
    return who.name or who.username or "nobody", who.roles, bool(who.username) and who.by != "public"


@lru_cache(maxsize=512)
def _header(
    nav: navigation.Navigation, here: str, theme: str, called: str | None, roles: tuple[str, ...], has_account: bool
) -> Markup:
    """The same on many pages for many people; without a token."""
    made = environment().get_template("header.html")
    shown = {"nav": nav, "here": here, "theme": theme, "called": called, "roles": roles, "has_account": has_account}
    return Markup(made.render(csrf_token=_HOLE, **shown))  # noqa: S704


@cache
def _head() -> Markup:
    return Markup(environment().get_template("head.html").render())  # noqa: S704


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
