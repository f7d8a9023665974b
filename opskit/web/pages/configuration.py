"""All settings, with where each comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from opskit.config import SETTINGS, Config, Setting
from opskit.web.airflow_api.configuration import shown
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, fit to be seen."""

    setting: Setting
    value: str
    default: str
    origin: str
    is_changed: bool


@router.get("/configuration")
def configuration(
    request: Request, store: TheStore, _: Annotated[Who, Depends(allow(READ, "Configurations"))], changed: bool = False
) -> HTMLResponse:
    """By section; `changed=true`: only what is not the default."""
    sections: dict[str, list[Row]] = {}
    total = 0
    for setting in SETTINGS:
        row = _row(store.config, setting)
        total += row.is_changed
        if row.is_changed or not changed:
            sections.setdefault(setting.section, []).append(row)
    return render(
        request,
        "configuration.html",
        sections=sections,
        changed=changed,
        changed_count=total,
        count=len(SETTINGS),
        path=str(store.config.path),
    )


def _row(config: Config, setting: Setting) -> Row:
    origin = config.origins[setting.name]
    default = setting.default
    return Row(
        setting,
        shown(config, setting),
        default if isinstance(default, str) else json.dumps(default, ensure_ascii=False),
        origin,
        origin != "default",
    )
