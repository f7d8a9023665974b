"""What holds on every page: it is there, small, without an error in the browser, and accessible in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Site, serving
from tests.e2e.web_pages import PAGES, prepare

pytest.importorskip("playwright")
LIMIT_BYTES = 200_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site") / "home") as site:
        prepare(site)
        yield site


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_small_and_accessible(site: Site, sign_in: Any, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    page = sign_in(site, "ada", color_scheme=theme)
    wrong = []
    for name, path in PAGES.items():
        if name == "login":
            continue
        answer = page.goto(path)
        expected = 404 if name == "error" else 200
        if answer.status != expected:
            wrong.append(f"{path}: answers {answer.status}")
            continue
        if len(answer.body()) > LIMIT_BYTES:
            wrong.append(f"{path}: {len(answer.body()):,} bytes")
        for violation in axe.run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                where = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
                wrong.append(f"{path}: {violation['id']} ({violation['impact']}): {violation['help']}: {where}")
    assert not wrong, "\n".join(wrong)


def test_the_sign_in_page_is_accessible(site: Site, sign_in: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = sign_in(site, None)
    page.goto("/login")
    found = Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def test_no_page_is_wider_than_a_phone(site: Site, sign_in: Any) -> None:
    page = sign_in(site, "ada", viewport={"width": 390, "height": 800})
    wide = []
    for path in PAGES.values():
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide.append(f"{path}: {width} pixels")
    assert not wide, "\n".join(wide)
