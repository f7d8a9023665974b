"""/config: the settings, as JSON or as an ini file. Secrets are masked, whatever `webserver.expose_config` says."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from opskit.config import SETTINGS, Config, Setting
from opskit.core.metastore.engine import redacted
from opskit.errors import NotFound
from opskit.web.airflow_api.collections import Answer
from opskit.web.faults import Forbidden, problem
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["Config"])
HIDDEN = "< hidden >"


class ConfigOption(Answer):
    key: str
    value: str


class ConfigSection(Answer):
    name: str
    options: list[ConfigOption]


class ConfigAnswer(Answer):
    sections: list[ConfigSection]


async def _exposed(store: TheStore, _: Annotated[Who, Depends(allow(READ, "Configurations"))]) -> Store:
    if str(store.config.get("webserver", "expose_config")).lower() in ("no", "false"):
        raise Forbidden(
            "the configuration is not shown here", hint="webserver.expose_config = non-sensitive-only shows it"
        )
    return store


_Exposed = Annotated[Store, Depends(_exposed)]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": ConfigAnswer, "content": {"text/plain": {"schema": {"type": "string"}}}},
    406: {"description": "Neither JSON nor plain text is accepted."},
}


@router.get("/config", operation_id="get_config", response_model=None, responses=_ANSWERS)
def get_config(request: Request, store: _Exposed, section: str | None = None) -> Response:
    """All settings, or those of a section."""
    chosen = [one for one in SETTINGS if section in (None, one.section)]
    if not chosen:
        raise NotFound(f"there is no section {section!r}", hint="opskit config list shows all")
    return _answer(request, store.config, chosen)


@router.get(
    "/config/section/{section}/option/{option}", operation_id="get_value", response_model=None, responses=_ANSWERS
)
def get_value(request: Request, store: _Exposed, section: str, option: str) -> Response:
    """One setting."""
    chosen = [one for one in SETTINGS if (one.section, one.key) == (section.lower(), option.lower())]
    if not chosen:
        raise NotFound(f"there is no setting {option!r} in [{section}]", hint="opskit config list shows all")
    return _answer(request, store.config, chosen)


def shown(config: Config, setting: Setting) -> str:
    """The value as text; HIDDEN for a secret, and a database URL without its password."""
    value = config.get(setting.section, setting.key)
    if setting.secret and value:
        return redacted(str(value)) if setting.name == "database.sql_alchemy_conn" else HIDDEN
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _answer(request: Request, config: Config, settings: list[Setting]) -> Response:
    sections: dict[str, dict[str, str]] = {}
    for one in settings:
        sections.setdefault(one.section, {})[one.key] = shown(config, one)
    kind = _wanted(request.headers.get("accept", "*/*"))
    if kind is None:
        return problem(406, "the configuration is to be had as application/json or text/plain")
    if kind == "text/plain":
        return PlainTextResponse(
            "\n".join(
                f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
                for name, options in sections.items()
            )
        )
    made = [
        ConfigSection(name=name, options=[ConfigOption(key=key, value=value) for key, value in options.items()])
        for name, options in sections.items()
    ]
    return JSONResponse(ConfigAnswer(sections=made).model_dump())


def _wanted(accept: str) -> str | None:
    """application/json or text/plain, whichever is accepted with the higher weight; the former when both are alike."""
    weights = {"application/json": 0.0, "text/plain": 0.0}
    closeness = dict.fromkeys(weights, -1)
    for part in accept.split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        for offered in weights:
            close = ("*/*", offered.split("/")[0] + "/*", offered).index(kind) if _covers(kind, offered) else -1
            if close > closeness[offered]:
                closeness[offered] = close
                weights[offered] = float(weight) if weight.replace(".", "", 1).isdigit() else 0.0
    best = max(weights, key=lambda offered: weights[offered])
    return best if weights[best] > 0 else None


def _covers(kind: str, offered: str) -> bool:
    return kind in ("*/*", offered, offered.split("/")[0] + "/*")
