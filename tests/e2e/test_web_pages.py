"""What holds on every page: it is there, small, without an error in the browser, and accessible in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Site, serving
from tests.e2e.web_pages import FAMILIES, PAGES, prepare

pytest.importorskip("playwright")
LIMIT_BYTES = 200_000
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 800}
ONLY_COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""All that another theme may change."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site") / "home") as site:
        prepare(site, nights=1)
        yield site


def violations(page: Any, options: dict[str, Any] | None = None) -> list[str]:
    """What a person who can't see well, or uses no mouse, would stumble over."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {'; '.join(node['html'][:160] for node in one['nodes'][:3])}"
        for one in Axe().run(page, options=options).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", [FAMILIES, pytest.param(tuple(PAGES), marks=pytest.mark.soak)], ids=["some", "all"])
def test_every_page_is_small_accessible_and_fits_a_phone(site: Site, sign_in: Any, names: tuple[str, ...]) -> None:
    page = sign_in(site, "ada", viewport=DESK)
    wrong = []
    for name in names:
        path = PAGES[name]
        if name == "login":
            continue
        page.emulate_media(color_scheme="light")
        answer = page.goto(path)
        expected = 404 if name == "error" else 200
        if answer.status != expected:
            wrong.append(f"{path}: answers {answer.status}")
            continue
        if len(answer.body()) > LIMIT_BYTES:
            wrong.append(f"{path}: {len(answer.body()):,} bytes")
        wrong += [f"{path}: {one}" for one in violations(page)]
        page.emulate_media(color_scheme="dark")
        wrong += [f"{path}, dark: {one}" for one in violations(page, ONLY_COLOURS)]
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wrong.append(f"{path}: {width} pixels wide")
        page.set_viewport_size(DESK)
    assert not wrong, "\n".join(wrong)


def test_the_sign_in_page_is_accessible(site: Site, sign_in: Any) -> None:
    page = sign_in(site, None)
    page.goto("/login")
    assert not violations(page)
