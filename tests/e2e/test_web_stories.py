"""What operators come for, done in a real browser against a whole cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import Site, serving
from tests.e2e import web_dags
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright")
from playwright.sync_api import expect

PATIENCE = 30_000
"""Milliseconds that a page has to show what happened in the cluster."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site") / "home"
    (home / "dags").mkdir(parents=True)
    web_dags.write(home / "dags")
    with serving(home) as site:
        wait_until(lambda: len(_dags(site)) == len(web_dags.FILES), 60)
        yield site


def _dags(site: Site) -> list[str]:
    import json

    return [one["dag_id"] for one in json.loads(site.opskit("dags", "list", "--output", "json").stdout)]


def state(page: Page) -> Any:
    """The state of the run or task instance that the page is about."""
    return page.locator("#run-state, #task-state").first


def test_find_why_last_nights_run_failed_and_run_it_again_from_the_failed_task(site: Site, sign_in: Any) -> None:
    site.opskit("variables", "delete", "exchange_rate", check=False)
    site.opskit("dags", "trigger", "nightly_orders", "--run-id", "last_night", "--wait", check=False)
    page = sign_in(site, "otto")
    failed = page.locator("#failed")
    expect(failed).to_contain_text("nightly_orders")
    # One click to the log, where the reason stands.
    failed.get_by_role("link", name=re.compile("^Log")).first.click()
    expect(page.locator("body")).to_contain_text("the variable exchange_rate is not set", timeout=PATIENCE)
    page.goto("/variables")
    page.get_by_role("link", name=re.compile("(Add|New|Create)")).first.click()
    page.get_by_role("textbox", name="Key").fill("exchange_rate")
    page.get_by_label("Value").fill("1.08")
    page.get_by_role("button", name=re.compile("(Save|Add|Create)")).click()
    expect(page.locator("body")).to_contain_text("exchange_rate")
    page.goto("/dags/nightly_orders/runs/last_night")
    expect(state(page)).to_contain_text("failed")
    page.get_by_role("link", name="Re-run what failed…").click()
    # Looked at first: the failed task and what it held up, not what had succeeded.
    preview = page.get_by_role("table")
    expect(preview).to_contain_text("load")
    expect(preview).to_contain_text("report")
    expect(preview).not_to_contain_text("extract.web")
    page.get_by_role("button", name="Clear 2 task instances").click()
    expect(state(page)).to_contain_text("success", timeout=PATIENCE)  # without a reload
    done = site.opskit("tasks", "attempts", "nightly_orders", "last_night", "load", "--output", "json").stdout
    assert '"failed"' in done
    assert '"success"' in done


def test_trigger_with_conf_and_watch_it_finish_live(site: Site, sign_in: Any) -> None:
    page = sign_in(site, "ursula")
    page.goto("/dags/recompute/trigger")
    page.get_by_label(re.compile("^Steps")).fill("40")
    page.get_by_role("button", name="Trigger", exact=True).click()
    expect(page.locator("body")).to_contain_text("20")  # the rule that it breaks, and nothing was started
    page.get_by_label(re.compile("^Steps")).fill("5")
    page.get_by_label("Market").select_option("fr")
    page.get_by_label("Run id").fill("by_hand")
    page.get_by_role("button", name="Trigger", exact=True).click()
    page.goto("/dags/recompute/runs/by_hand")
    expect(state(page)).to_contain_text(re.compile("queued|running"))
    page.goto("/dags/recompute/runs/by_hand/tasks/work?tab=log")
    log = page.locator("body")
    expect(log).to_contain_text("step 1 of 5 for fr", timeout=PATIENCE)
    expect(log).to_contain_text("all steps done", timeout=PATIENCE)
    expect(state(page)).to_contain_text("success", timeout=PATIENCE)
    page.goto("/dags/recompute/runs/by_hand")
    expect(state(page)).to_contain_text("success", timeout=PATIENCE)


def test_pause_everything_look_at_the_plan_of_a_restore_and_resume(site: Site, sign_in: Any) -> None:
    site.opskit("backup")
    site.opskit("dags", "pause", "uses_a_connection")
    page = sign_in(site, "otto")
    page.get_by_role("button", name="Pause all DAGs").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause all", exact=True).click()
    expect(page.get_by_role("button", name=re.compile("Resume"))).to_be_visible()
    assert _paused(site) == set(web_dags.FILES)
    page.goto("/operations/backups")
    expect(page.locator("main")).to_contain_text(re.compile("proven|verified"))
    page.locator("#backups").get_by_role("link").first.click()
    page.get_by_role("button", name="Plan a restore").click()
    # A restore works on what the page itself stands on: the page says what it would do, and the command to type.
    expect(page.locator("#plan")).to_contain_text("opskit restore", timeout=PATIENCE)
    page.goto("/")
    page.get_by_role("button", name=re.compile("Resume")).click()
    expect(page.get_by_role("button", name="Pause all DAGs")).to_be_visible()
    assert _paused(site) == {"uses_a_connection", "hourly_sync"}  # as they were
    site.opskit("dags", "unpause", "uses_a_connection")


def _paused(site: Site) -> set[str]:
    import json

    found = json.loads(site.opskit("dags", "list", "--output", "json").stdout)
    return {one["dag_id"] for one in found if one["is_paused"]}


def test_a_run_waits_for_an_approval_and_goes_on_with_it(site: Site, sign_in: Any) -> None:
    site.opskit("dags", "trigger", "release", "--run-id", "r7")
    page = sign_in(site, "ursula")
    page.goto("/answers")
    page.get_by_role("link", name="Ship r7 to the shops?").click(timeout=PATIENCE)  # live: it comes without a reload
    expect(page.locator("main")).to_contain_text("The tests of last night are green.")
    page.get_by_label("Approve").check()
    page.get_by_label(re.compile("^Share")).fill("500")
    page.get_by_role("button", name="Send the answer").click()
    expect(page.locator("main")).to_contain_text("500 is greater than the maximum of 100")
    expect(page.get_by_label("Approve")).to_be_checked()
    page.get_by_label(re.compile("^Share")).fill("25")
    page.get_by_label(re.compile("^Reason")).fill("green")
    page.get_by_role("button", name="Send the answer").click()
    expect(page.locator("#answer")).to_contain_text("Approve")
    expect(state(page)).to_contain_text("success", timeout=PATIENCE)
    page.goto("/dags/release/runs/r7/tasks/ship?tab=log")
    expect(page.locator("body")).to_contain_text("shipping to 25 percent, by Ursula Example", timeout=PATIENCE)


def test_several_runs_are_given_up_at_once(site: Site, sign_in: Any) -> None:
    for number in range(2):
        site.opskit("dags", "trigger", "release", "--run-id", f"old_{number}")
    page = sign_in(site, "otto")
    page.goto("/dags/release/runs")
    for number in range(2):
        page.get_by_label(f"Choose old_{number}").check()
    expect(page.locator("[data-selected]")).to_have_text("2 chosen")
    page.get_by_role("button", name="Mark failed…").click()
    page.get_by_role("button", name="Mark failed 2 runs").click()
    expect(page.locator("#flash")).to_contain_text("2 runs marked failed")
    for number in range(2):
        row = page.get_by_role("row").filter(has_text=f"old_{number}")
        expect(row).to_contain_text("failed")


def test_create_a_connection_and_use_it(site: Site, sign_in: Any) -> None:
    page = sign_in(site, "otto")
    page.goto("/connections")
    page.get_by_role("link", name=re.compile("(Add|New|Create)")).first.click()
    page.locator("#choose-type").select_option("postgres")  # and the form shows what its hook reads
    page.wait_for_url("**conn_type=postgres*")
    page.get_by_label("Connection id").fill("warehouse")
    page.get_by_label("Host").fill("db.internal")
    page.get_by_label(re.compile("Schema|Database")).fill("orders")
    page.get_by_label("Login").fill("loader")
    page.get_by_label("Password").fill("a secret of many letters")
    page.get_by_label("Port").fill("5432")
    page.get_by_role("button", name=re.compile("(Save|Add|Create)")).click()
    expect(page.locator("main")).to_contain_text("warehouse")
    page.get_by_role("link", name="warehouse").first.click()
    assert "a secret of many letters" not in page.content()
    page.goto("/dags/uses_a_connection/trigger")
    page.get_by_label("Run id").fill("with_it")
    page.get_by_role("button", name="Trigger", exact=True).click()
    page.goto("/dags/uses_a_connection/runs/with_it/tasks/ask?tab=log")
    expect(page.locator("body")).to_contain_text("postgres://loader@db.internal:5432/orders", timeout=PATIENCE)
    expect(state(page)).to_contain_text("success", timeout=PATIENCE)
    assert "a secret of many letters" not in page.content()


def test_a_viewer_sees_and_can_not_write(site: Site, sign_in: Any) -> None:
    page = sign_in(site, "viola")
    for path in ("/", "/dags", "/dags/nightly_orders", "/dags/recompute"):
        page.goto(path)
        # The ways out and of looking are theirs; nothing on the page sends a change.
        forms = page.locator("main form[method=post]")
        assert forms.count() == 0, (path, forms.first.inner_html())
        expect(page.get_by_role("link", name="Trigger")).to_have_count(0)
    for path in ("/connections", "/variables", "/users", "/audit", "/configuration", "/dags/recompute/trigger"):
        answer = page.goto(path)
        assert answer.status == 403, path
    token = page.locator("meta[name=csrf-token]").get_attribute("content")
    for method, path in (
        ("POST", "/api/v1/dags/recompute/dagRuns"),
        ("PATCH", "/api/v1/dags/recompute?update_mask=is_paused"),
        ("DELETE", "/api/v1/dags/recompute"),
        ("POST", "/api/v1/variables"),
        ("POST", "/dags/recompute/pause"),
        ("POST", "/dags/recompute/trigger"),
        ("POST", "/pause-all"),
    ):
        answer = page.request.fetch(path, method=method, headers={"X-CSRF-Token": token}, data={})
        assert answer.status in (400, 403), (method, path, answer.status, answer.text())
        assert method != "DELETE" or answer.status == 403
    assert "recompute" in _dags(site)


def test_a_page_shows_a_new_run_without_a_reload(site: Site, sign_in: Any) -> None:
    page = sign_in(site, "ada")
    page.goto("/dags/hourly_sync")
    site.opskit("dags", "trigger", "hourly_sync", "--run-id", "first_of_the_day")
    expect(page.locator("main")).to_contain_text("first_of_the_day", timeout=PATIENCE)
