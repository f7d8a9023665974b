"""The files of pages: fetched once per version, never from outside their folder, compressed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from opskit.web import static_files
from tests.databases import Databases
from tests.page_site import PageSite, page_site


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    url = databases.migrated("sqlite")
    with page_site(tmp_path_factory.mktemp("home"), url) as made:
        yield made
    databases.drop(url)


def test_what_a_page_names_is_kept_by_the_browser_for_good(site: PageSite) -> None:
    client = site.as_("Admin")
    named = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', site.get("/dags")))
    assert len(named) > 10
    for path in named:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"], path


def test_modules_name_each_other_so_that_the_version_stays(site: PageSite) -> None:
    for path in static_files.FOLDER.rglob("*.js"):
        for name in re.findall(r'(?:from|import)\s+"([^"]+)"', path.read_text()):
            assert name.startswith("./") and (path.parent / name).is_file(), (path.name, name)


def test_another_version_is_served_and_not_kept(site: PageSite) -> None:
    client = site.as_("Admin")
    for path in ("/static/~000000000000/opskit.css", "/static/opskit.css"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "path", ["no.css", "~000000000000/no.css", "%2e%2e/render.py", "~0/%2e%2e/render.py", "~0/", ""]
)
def test_nothing_else_is_served(site: PageSite, path: str) -> None:
    assert site.as_("Admin").get(f"/static/{path}").status_code == 404


def test_pages_and_files_are_compressed(site: PageSite) -> None:
    for path in ("/dags", static_files.static_url("opskit.css")):
        assert site.as_("Admin").get(path).headers["content-encoding"] == "gzip"
