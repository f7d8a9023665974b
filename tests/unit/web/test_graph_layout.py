"""The layout of graphs: nothing overlaps, edges go on, groups hold their members, and it is the same each time."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from opskit.web.graph_layout import Box, Layout, Orientation, lay_out

SIZE = (150.0, 42.0)


def _overlap(one: Box, other: Box) -> bool:
    slack = 1e-6
    return (
        one.x < other.x + other.width - slack
        and other.x < one.x + one.width - slack
        and one.y < other.y + other.height - slack
        and other.y < one.y + one.height - slack
    )


def _contains(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def _random_graph(
    seed: int, nodes: int, window: int = 8
) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    chance = random.Random(seed)
    sizes = {f"t{number}": (chance.uniform(90, 250), 42.0) for number in range(nodes)}
    edges = [
        (f"t{chance.randrange(max(0, number - window), number)}", f"t{number}")
        for number in range(1, nodes)
        for _ in range(chance.randint(0, 3))
    ]
    return sizes, edges


@pytest.mark.parametrize("orientation", ["LR", "TB"])
@pytest.mark.parametrize("seed", range(8))
def test_no_nodes_overlap_and_every_edge_goes_on(orientation: Orientation, seed: int) -> None:
    sizes, edges = _random_graph(seed, 60)
    layout = lay_out(sizes, edges, orientation=orientation)
    assert layout.nodes.keys() == sizes.keys()
    for one, other in combinations(layout.nodes.values(), 2):
        assert not _overlap(one, other)
    for source, target in edges:
        before, after = layout.nodes[source], layout.nodes[target]
        if orientation == "LR":
            assert before.x + before.width < after.x
        else:
            assert before.y + before.height < after.y


@pytest.mark.parametrize("orientation", ["LR", "TB"])
def test_every_node_lies_within_the_drawing(orientation: Orientation) -> None:
    layout = lay_out(*_random_graph(3, 80), orientation=orientation)
    drawing = Box(-1e-6, -1e-6, layout.width + 2e-6, layout.height + 2e-6)
    for box in layout.nodes.values():
        assert _contains(drawing, box)
    for route in layout.routes:
        for x, y in route.points:
            assert -1e-6 <= x <= layout.width + 1e-6 and -1e-6 <= y <= layout.height + 1e-6


def test_the_same_graph_is_always_drawn_alike() -> None:
    assert lay_out(*_random_graph(5, 100)) == lay_out(*_random_graph(5, 100))


def _grouped(orientation: Orientation) -> tuple[Layout, dict[str, str], dict[str, str | None]]:
    parents: dict[str, str | None] = {"g0": None, "g1": None, "g1.a": "g1", "g1.b": "g1", "g2": None}
    member_of = {f"t{number}": list(parents)[number % 5] for number in range(30) if number % 7}
    edges = [(f"t{number}", f"t{number + step}") for number in range(30) for step in (1, 4) if number + step < 30]
    sizes = {f"t{number}": SIZE for number in range(30)}
    return lay_out(sizes, edges, member_of, parents, orientation), member_of, parents


@pytest.mark.parametrize("orientation", ["LR", "TB"])
def test_a_group_holds_its_members_and_nothing_else(orientation: Orientation) -> None:
    layout, member_of, parents = _grouped(orientation)

    def groups_of(name: str) -> set[str]:
        found: set[str] = set()
        group = member_of.get(name)
        while group is not None:
            found.add(group)
            group = parents[group]
        return found

    for group, box in layout.groups.items():
        for name, node in layout.nodes.items():
            if group in groups_of(name):
                assert _contains(box, node)
            else:
                assert not _overlap(box, node)
        parent = parents[group]
        if parent is not None:
            assert _contains(layout.groups[parent], box)
    for one, other in combinations(["g0", "g1", "g2"], 2):
        assert not _overlap(layout.groups[one], layout.groups[other])
    assert not _overlap(layout.groups["g1.a"], layout.groups["g1.b"])
    for one, other in combinations(layout.nodes.values(), 2):
        assert not _overlap(one, other)


def test_every_edge_is_drawn_once() -> None:
    layout, _, _ = _grouped("LR")
    drawn = [edge for route in layout.routes for edge in route.edges]
    assert len(drawn) == len(set(drawn))
    assert len(drawn) == sum(1 for number in range(30) for step in (1, 4) if number + step < 30)


def test_groups_that_stand_before_and_after_a_task_are_no_endless_circle() -> None:
    sizes = dict.fromkeys(("a", "between", "b"), SIZE)
    layout = lay_out(sizes, [("a", "between"), ("between", "b")], {"a": "g", "b": "g"}, {"g": None})
    assert not _overlap(layout.groups["g"], layout.nodes["between"])
    assert {edge for route in layout.routes for edge in route.edges} == {("a", "between"), ("between", "b")}


def test_crossings_that_can_be_avoided_are_avoided() -> None:
    # Written crosswise: a0 → b3, a1 → b2, …
    edges = [(f"a{number}", f"b{3 - number}") for number in range(4)]
    sizes = {f"{side}{number}": SIZE for side in "ab" for number in range(4)}
    layout = lay_out(sizes, edges, orientation="TB")
    for (a, b), (c, d) in combinations(edges, 2):
        assert (layout.nodes[a].x < layout.nodes[c].x) == (layout.nodes[b].x < layout.nodes[d].x)


def test_a_chain_is_straight() -> None:
    sizes = {f"t{number}": (100.0 + 10 * number, 42.0) for number in range(6)}
    layout = lay_out(sizes, [(f"t{number}", f"t{number + 1}") for number in range(5)], orientation="TB")
    middles = {round(box.x + box.width / 2, 3) for box in layout.nodes.values()}
    assert len(middles) == 1


def test_tasks_without_edges_stand_in_several_rows() -> None:
    layout = lay_out({f"t{number}": SIZE for number in range(100)}, [])
    assert 4 <= len({box.y for box in layout.nodes.values()}) <= 50
    for one, other in combinations(layout.nodes.values(), 2):
        assert not _overlap(one, other)


def test_edges_over_many_layers_stay_bounded() -> None:
    names = [f"t{number}" for number in range(400)]
    edges = [(names[0], name) for name in names[1:]] + list(pairwise(names))
    layout = lay_out(dict.fromkeys(names, SIZE), edges)
    assert sum(len(route.points) for route in layout.routes) < 12_000


def test_an_edge_to_an_unknown_node_is_an_error() -> None:
    with pytest.raises(KeyError):
        lay_out({"a": SIZE}, [("a", "b")])


def test_an_empty_graph_has_no_size() -> None:
    layout = lay_out({}, [])
    assert (layout.nodes, layout.routes, layout.width, layout.height) == ({}, [], 0.0, 0.0)
