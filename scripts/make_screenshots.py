"""Opens every page in Chromium, and writes docs/screenshots/NAME.png and the page that shows them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import servers  # noqa: E402
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from tests.browser import CHROMIUM_ARGUMENTS, PASSWORD, Site, serving  # noqa: E402
from tests.e2e.web_pages import PAGES, prepare  # noqa: E402

FOLDER = ROOT / "docs" / "screenshots"
ALSO_DARK = ("home", "grid", "graph", "task-log")
ALSO_SMALL = ("home", "dags", "grid", "run")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="pages; default: all")
    wanted = parser.parse_args().names or list(PAGES)
    for sentence in servers.require_programs():
        print(sentence, file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="opskit-site-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=servers.find("chromium"), args=list(CHROMIUM_ARGUMENTS))
        os.environ["OPSKIT_TEST_COLD"] = "1"  # no test runs here, from which commands could be forked
        with serving(Path(folder) / "opskit") as site:
            prepare(site)
            shoot(browser, site, wanted, "")
            shoot(browser, site, [name for name in wanted if name in ALSO_DARK], "-dark", color_scheme="dark")
            shoot(browser, site, [name for name in wanted if name in ALSO_SMALL], "-phone", small=True)
        browser.close()
    write_page()
    return 0


def write_page() -> None:
    """docs/screenshots.md: all of them, in the order of PAGES."""
    lines = [
        "# Every page",
        "",
        "Made by `scripts/screenshots` from a small cluster. What each page does: [web UI](web-ui.md),",
    ]
    lines += ["[operations](web-operations.md), [users](users.md), [REST API](rest-api.md).", ""]
    for name, path in PAGES.items():
        lines += [f"## {name.replace('-', ' ').capitalize()}", "", f"`{path}`", ""]
        shots = [f"{name}{ending}" for ending in ("", "-dark", "-phone") if (FOLDER / f"{name}{ending}.png").exists()]
        lines += [f"![{shot.replace('-', ' ')}](screenshots/{shot}.png)" for shot in shots] + [""]
    (ROOT / "docs" / "screenshots.md").write_text("\n".join(lines).rstrip() + "\n")


def shoot(
    browser: Browser, site: Site, names: list[str], ending: str, *, color_scheme: str = "light", small: bool = False
) -> None:
    size = {"width": 390, "height": 800} if small else {"width": 1280, "height": 800}
    context = browser.new_context(base_url=site.url, viewport=size, color_scheme=color_scheme)  # type: ignore[arg-type]
    page = context.new_page()
    if "login" in names:
        take(page, "login", ending)
    page.goto("/login")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.url}/")
    for name in names:
        if name != "login":
            take(page, name, ending)
    context.close()


def take(page: Page, name: str, ending: str) -> None:
    page.goto(PAGES[name])
    page.wait_for_load_state("load")
    page.screenshot(path=FOLDER / f"{name}{ending}.png")
    print(f"{name}{ending}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
