"""Parts of the DAG's pages that need no metastore: rows, folds, summaries, prose, source, links, axes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from opskit.core.dag import serialized
from opskit.core.metastore.browsing.grid import StateCount
from opskit.web import links
from opskit.web.definitions import Definition
from opskit.web.pages import grid_rows, source_code
from opskit.web.pages.graph_view import drawing
from opskit.web.pages.prose import prose
from opskit.web.pages.time_scale import TimeScale, seconds_ticks
from opskit.web.summaries import Summary, counted
from tests.dag_page_sample import sample_data


@pytest.fixture(scope="module")
def sample() -> Definition:
    return Definition(serialized.load(sample_data()), "0" * 64)


def test_rows_are_a_tree_in_the_order_of_the_dag(sample: Definition) -> None:
    lines = grid_rows.rows(sample, grid_rows.folds(sample, (), ()), ["gone"])
    assert [(line.label, line.depth) for line in lines][:8] == [
        ("start", 0),
        ("extract", 0),
        ("orders", 1),
        ("customers", 1),
        ("transform", 0),
        ("clean", 1),
        ("files", 1),
        ("deep", 1),
    ]
    assert lines[-1].is_gone and lines[-1].id == "gone"
    assert next(line for line in lines if line.id == "transform").tasks == (
        "transform.clean",
        "transform.files",
        "transform.deep.join",
    )


def test_a_folded_group_hides_what_is_in_it_and_tells_its_weightiest_state(sample: Definition) -> None:
    folds = grid_rows.folds(sample, (), ("transform", "no such group"))
    lines = {line.id: line for line in grid_rows.rows(sample, folds)}
    assert "transform.clean" not in lines and "transform.deep" not in lines
    assert folds.toggled("transform") == {"open": [], "fold": []}
    counts = [
        StateCount(1, "transform.clean", "success", 1),
        StateCount(1, "transform.files", "success", 38),
        StateCount(1, "transform.files", "failed", 2),
    ]
    of_run = grid_rows.cells(counts)[1]
    group = grid_rows.cells_html(lines["transform"], [of_run, {}])
    assert group == '<td class=state-failed data-words="2 failed, 39 success">2<td>'
    assert grid_rows.cells_html(lines["load"], [of_run]) == "<td>"
    alone = grid_rows.cells([StateCount(1, "load", "success", 1)])[1]
    assert grid_rows.cells_html(lines["load"], [alone]) == "<td class=state-success>✓"
    odd = grid_rows.cells([StateCount(1, "load", "<b>", 3)])[1]
    assert grid_rows.cells_html(lines["load"], [odd]) == '<td class=state-none data-words="3 &lt;b&gt;">3'


def test_groups_of_a_large_dag_are_folded_at_first() -> None:
    data = sample_data()
    task = data["tasks"][1]
    data["tasks"] += [
        {**task, "task_id": f"extract.t{number}", "upstream": [], "downstream": []} for number in range(90)
    ]
    large = Definition(serialized.load(data), "1" * 64)
    folds = grid_rows.folds(large, (), ())
    assert not folds.is_open("extract")
    assert folds.toggled("extract") == {"open": ["extract"], "fold": []}
    assert grid_rows.folds(large, ("extract",), ()).is_open("extract")
    assert all(grid_rows.folds(large, folds.all(True)["open"], ()).is_open(group) for group in large.parents)


def test_the_graph_shows_a_folded_group_as_one_node_with_its_states(sample: Definition) -> None:
    states = {"transform.files": counted({"success": 38, "failed": 2}), "load": counted({"upstream_failed": 1})}
    drawn = drawing(sample, grid_rows.folds(sample, (), ("transform",)), "LR", states, 7)
    nodes = {node.id: node for node in drawn.nodes}
    assert "transform.clean" not in nodes
    assert (nodes["transform"].css, nodes["transform"].sign, nodes["transform"].is_group) == ("state-failed", "2", True)
    assert nodes["load"].url == "/dags/orders_daily/at/7/load"
    assert nodes["report"].css == "no-run"
    assert {group.id for group in drawn.groups} == {"extract"}
    assert [line.label for line in drawn.lines if line.label] == ["if <all> went well"]


def test_the_weightiest_state_is_what_an_operator_must_see_first() -> None:
    assert Summary({"success": 99, "failed": 1}).state == "failed"
    assert Summary({"success": 5, "running": 1, None: 3}).state == "running"
    assert Summary({"skipped": 2, "success": 1}).state == "success"
    assert Summary().state is None
    assert Summary({None: 1, "failed": 2}).words() == "2 failed, 1 no status"


@pytest.mark.parametrize(("count", "text"), [(7, "7"), (999, "999"), (1_000, "1k"), (12_345, "12k"), (2_500_000, "2M")])
def test_counts_in_a_cell_are_short(count: int, text: str) -> None:
    assert grid_rows.short(count) == text


def test_documentation_is_escaped_and_leads_only_to_web_addresses() -> None:
    html = prose(
        "# T <b>\n\n**bold** `code<` [x](https://a.example/?a=1&b=2) [y](javascript:alert(1))\n\n- <i>\n```\n<pre>\n"
    )
    assert "<b>" not in html and "<i>" not in html
    assert '<a href="https://a.example/?a=1&amp;b=2" rel="noreferrer noopener">x</a>' in html
    assert 'href="javascript' not in html
    assert "<h3>T &lt;b&gt;</h3>" in html and "<pre>&lt;pre&gt;\n</pre>" in html


def test_documentation_can_not_break_out_of_an_address() -> None:
    html = prose('[x](https://a.example/"onmouseover="alert) https://b.example/\'"><script>')
    assert "<script>" not in html
    assert '"onmouseover' not in html


def test_source_is_coloured_and_escaped() -> None:
    source = source_code.shown('def f():\n    return "<b>"  # <i>\n')
    assert source.numbers == "1\n2"
    assert "<b>" not in source.html and "<i>" not in source.html
    assert "<span class=k>def</span>" in source.html
    assert source.html.count("\n") == 1


def test_source_that_is_no_python_or_too_long_is_still_shown() -> None:
    assert "&lt;?php" in source_code.shown("<?php \x00 ''' (((").html
    assert source_code.shown("x = 1\n" * 100_000).is_cut


def test_a_difference_of_sources_is_escaped() -> None:
    html = source_code.difference("a\n<b>\n", "a\n<c>\n", ("<old>", "new"))
    assert "&lt;old&gt;" in html and '<span class="add">+&lt;c&gt;</span>' in html
    assert source_code.difference("a", "a", ("x", "y")) == ""


def test_ids_that_no_path_can_hold_are_written_as_numbers() -> None:
    assert links.run_url("d", "manual__2026-03-01T06:30:00+00:00") == "/dags/d/runs/manual__2026-03-01T06:30:00+00:00"
    assert links.run_url("d", "..", number=7) == "/dags/d/runs/@7"
    assert links.run_url("d", "a/b", "graph", number=7) == "/dags/d/runs/@7/graph"
    assert (
        links.task_url("d é", "r", "t?<", 3, tab="log") == "/dags/d%20%C3%A9/runs/r/tasks/t%3F%3C?map_index=3&tab=log"
    )


def test_axes_have_few_round_ticks() -> None:
    start = datetime(2026, 3, 1, 6, 31, 7, tzinfo=UTC)
    for seconds in (1, 59, 3_600, 86_400, 40 * 86_400):
        ticks = TimeScale(start, start + timedelta(seconds=seconds), 100, 800).ticks()
        assert len(ticks) <= 11
        assert all(100 <= x <= 900 for x, _ in ticks)
    assert [text for _, text in TimeScale(start, start + timedelta(minutes=3), 0, 100).ticks()] == [
        "06:31:30",
        "06:32:00",
        "06:32:30",
        "06:33:00",
        "06:33:30",
        "06:34:00",
    ]
    assert seconds_ticks(0, 100, 100) == []
    assert [text for _, text in seconds_ticks(130, 100, 100)] == ["0", "1 min", "2 min"]
