"""A DAG as a drawing: which nodes and groups are to be seen, where they stand, what state they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from opskit.web import formats
from opskit.web.definitions import Definition
from opskit.web.graph_layout import Box, Layout, Orientation, Point, Route, lay_out
from opskit.web.links import dag_url
from opskit.web.pages.grid_rows import Folds, short
from opskit.web.recent import Recent
from opskit.web.summaries import Summary, merged

MARGIN = 20
_HEIGHT = 42
_CHARACTER = 7.1
_LONGEST_LABEL = 32
_kept: Recent[Layout] = Recent(20_000, lambda layout: 1 + len(layout.nodes) + len(layout.routes))


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or a group that is folded."""

    number: int
    id: str
    label: str
    kind: str
    box: Box
    css: str
    sign: str
    url: str
    title: str
    is_group: bool


@dataclass(frozen=True, slots=True)
class GroupBox:
    """A group that is open."""

    id: str
    label: str
    box: Box
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """An edge: an SVG path, the numbers of the nodes at its ends (None: a group), and its label."""

    path: str
    ends: str
    label: str
    at: Point


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the template draws."""

    nodes: list[Node]
    groups: list[GroupBox]
    lines: list[Line]
    width: int
    height: int
    orientation: Orientation


def drawing(
    definition: Definition,
    folds: Folds,
    orientation: Orientation,
    states: Mapping[str, Summary] | None,
    run_number: int | None,
) -> Drawing:
    """`states`: task → its states in the run that gives the colours; None: there is none."""
    layout = _layout(definition, folds, orientation)
    numbers = {name: number for number, name in enumerate(layout.nodes)}
    return Drawing(
        nodes=[_node(definition, name, numbers[name], box, states, run_number) for name, box in layout.nodes.items()],
        groups=[
            GroupBox(name, definition.label(name), box, _group_title(definition, name))
            for name, box in layout.groups.items()
        ],
        lines=[_line(definition, route, numbers, orientation) for route in layout.routes],
        width=round(layout.width) + 2 * MARGIN,
        height=round(layout.height) + 2 * MARGIN,
        orientation=orientation,
    )


def default_orientation(definition: Definition) -> Orientation:
    """As the DAG's author set it; left to right, as in Airflow."""
    return "TB" if definition.dag.ui.get("orientation") in ("TB", "BT") else "LR"


def _layout(definition: Definition, folds: Folds, orientation: Orientation) -> Layout:
    closed = frozenset(group for group in definition.parents if not folds.is_open(group))
    key = (definition.dag.dag_id, definition.hash, closed, orientation)
    known = _kept.get(key)
    if known is not None:
        return known
    shown: dict[str, str] = {}
    member_of: dict[str, str] = {}
    sizes: dict[str, tuple[float, float]] = {}
    for task in definition.dag.tasks:
        chain = definition.chain(task.task_id)
        hidden_in = next((group for group in reversed(chain) if group in closed), None)
        name = hidden_in or task.task_id
        shown[task.task_id] = name
        if name not in sizes:
            sizes[name] = (_width(definition, name), _HEIGHT)
            outer = definition.parents[name] if hidden_in else definition.group_of.get(name)
            if outer is not None:
                member_of[name] = outer
    edges = [(shown[a], shown[b]) for a, b in definition.edges if shown[a] != shown[b]]
    made = lay_out(sizes, edges, member_of, definition.parents, orientation)
    _kept.put(key, made)
    return made


def _label(definition: Definition, name: str) -> str:
    label = definition.label(name)
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _width(definition: Definition, name: str) -> float:
    longest = max(len(_label(definition, name)), 0.85 * len(_kind(definition, name)))
    return max(96.0, min(290.0, 48 + _CHARACTER * longest))


def _kind(definition: Definition, name: str) -> str:
    task = definition.dag.by_id.get(name)
    if task is None:
        return f"{len(definition.members.get(name, ()))} tasks"
    marks = (" [ ]" if definition.is_mapped(task) else "") + (
        " ⤒ setup" if task.is_setup else " ⤓ teardown" if task.is_teardown else ""
    )
    return f"{task.operator.rpartition('.')[2][:34]}{marks}"


def _group_title(definition: Definition, name: str) -> str:
    tooltip = next((group.get("tooltip") for group in definition.dag.groups if group["group_id"] == name), "")
    return f"{name}: {tooltip}" if tooltip else name


def _node(
    definition: Definition,
    name: str,
    number: int,
    box: Box,
    states: Mapping[str, Summary] | None,
    run_number: int | None,
) -> Node:
    dag_id = definition.dag.dag_id
    is_group = name not in definition.dag.by_id
    tasks = definition.members[name] if is_group else [name]
    summary = merged(states[task] for task in tasks if task in states) if states is not None else Summary()
    if states is None or not summary.counts:
        css, sign, words = "no-run", "", "not in this run" if states is not None else ""
    else:
        css = formats.state_class(summary.state)
        many = summary.total > 1
        sign = short(summary.counts[summary.state]) if many else formats.state_sign(summary.state)
        words = summary.words() if many else formats.state_name(summary.state)
    if is_group:
        url = ""
    elif run_number is not None and css != "no-run":
        url = f"{dag_url(dag_id, 'at')}/{run_number}/{dag_url(name).rpartition('/')[2]}"
    else:
        url = dag_url(dag_id, "details", task=name) + "#task"
    title = f"{name}: {words}" if words else name
    label, kind = _label(definition, name), _kind(definition, name)
    return Node(number, name, label, kind, _moved(box), css, sign, url, title, is_group)


def _moved(box: Box) -> Box:
    return Box(round(box.x) + MARGIN, round(box.y) + MARGIN, round(box.width), round(box.height))


def _line(definition: Definition, route: Route, numbers: Mapping[str, int], orientation: Orientation) -> Line:
    points = [(round(x) + MARGIN, round(y) + MARGIN) for x, y in route.points]
    parts = [f"M{points[0][0]} {points[0][1]}"]
    for index, ((x1, y1), (x2, y2)) in enumerate(pairwise(points)):
        if (x1, y1) == (x2, y2):
            continue
        if index % 2 or (y1 == y2 if orientation == "LR" else x1 == x2):
            parts.append(f"L{x2} {y2}")
        elif orientation == "LR":
            middle = (x1 + x2) // 2
            parts.append(f"C{middle} {y1} {middle} {y2} {x2} {y2}")
        else:
            middle = (y1 + y2) // 2
            parts.append(f"C{x1} {middle} {x2} {middle} {x2} {y2}")
    (x1, y1), (x2, y2) = points[0], points[-1]
    labels = definition.dag.ui.get("edges", {})
    texts = dict.fromkeys(str(labels.get(a, {}).get(b, {}).get("label") or "") for a, b in route.edges)
    return Line(
        path="".join(parts),
        ends=f"{numbers.get(route.source, '')} {numbers.get(route.target, '')}",
        label=", ".join(text for text in texts if text)[:40],
        at=((x1 + x2) / 2, (y1 + y2) / 2 - 4),
    )
