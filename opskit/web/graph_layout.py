"""Where the nodes and edges of a graph stand: in layers, so that every edge goes on, and groups as boxes.

Each open group is laid out by itself and is then one large node of the graph around it: so nothing overlaps, and a box
holds its members and nothing else. Within one graph: layers by the longest path, edges over several layers get
a place in each, the order within layers by barycentres (Sugiyama's method), and coordinates by least squares under the
order (isotonic regression). The same input always gives the same output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import Literal

Orientation = Literal["LR", "TB"]
Point = tuple[float, float]
Edge = tuple[str, str]

_BETWEEN = 16.0
"""Room between neighbours of a layer."""
_BETWEEN_LAYERS = {"TB": 44.0, "LR": 56.0}
_LANE = 8.0
"""Width of an edge that passes through a layer."""
_PADDING = 14.0
_TITLE = 30.0
"""Height of a group's title."""
_MOST_LANES = 2_000
"""So many places of passing edges; what is more goes straight."""
_WORK = 10_000
"""Edges times sweeps."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; `x` and `y` are its left upper corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """An edge as it is drawn, between nodes or (where several edges are one) groups. `points` come in pairs that are
    joined by a curve; between pairs it is straight."""

    source: str
    target: str
    points: tuple[Point, ...]
    edges: tuple[Edge, ...]
    """The edges that it stands for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Nodes, groups (outer ones before inner ones) and edges with their places."""

    nodes: dict[str, Box]
    groups: dict[str, Box]
    routes: list[Route]
    width: float
    height: float
    orientation: Orientation


def lay_out(
    sizes: Mapping[str, tuple[float, float]],
    edges: Iterable[Edge],
    member_of: Mapping[str, str] | None = None,
    parents: Mapping[str, str | None] | None = None,
    orientation: Orientation = "LR",
) -> Layout:
    """Nodes with their (width, height); `member_of` says in which group a node is, `parents` in which group a group is.

    Groups without a node are left out. Edges that name an unknown node are a KeyError.
    """
    work = _Work(sizes, list(dict.fromkeys(edges)), member_of or {}, parents or {}, orientation)
    return work.result()


@dataclass(slots=True)
class _Level:
    """One graph: what stands directly in one group, or (None) in none."""

    items: list[str]
    edges: dict[Edge, list[Edge]] = field(default_factory=dict)
    """Between items → the edges of nodes that they stand for."""
    at: dict[str, Point] = field(default_factory=dict)
    lanes: dict[Edge, list[tuple[float, float, float]]] = field(default_factory=dict)
    """Edge over several layers → (position, begin, end) in each layer between."""
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Item → where its layer begins and ends."""
    size: Point = (0.0, 0.0)


class _Work:
    """Coordinates here are (order, depth): depth grows with the layers. `result` turns them for LR."""

    def __init__(
        self,
        sizes: Mapping[str, tuple[float, float]],
        edges: Sequence[Edge],
        member_of: Mapping[str, str],
        parents: Mapping[str, str | None],
        orientation: Orientation,
    ) -> None:
        self._orientation = orientation
        self._sizes = {name: (w, h) if orientation == "TB" else (h, w) for name, (w, h) in sizes.items()}
        self._own = set(sizes)
        self._parent: dict[str, str | None] = {name: member_of.get(name) for name in sizes}
        used: dict[str, None] = {}
        for name in sizes:
            for group in _chain(member_of.get(name), parents):
                used[group] = None
                self._parent[group] = parents.get(group)
        self._levels: dict[str | None, _Level] = {None: _Level([])}
        for group in used:
            self._levels[group] = _Level([])
        placed: set[str] = set()
        for name in sizes:  # the order of the input decides where nothing else does
            item: str | None = name
            while item is not None and item not in placed:
                placed.add(item)
                self._levels[self._parent[item]].items.append(item)
                item = self._parent[item]
        for edge in edges:
            self._add(edge)

    def _add(self, edge: Edge) -> None:
        if edge[0] not in self._own or edge[1] not in self._own:
            raise KeyError(f"edge {edge} names no node")
        above, below = [edge[0], *_chain(self._parent[edge[0]], self._parent)], [edge[1]]
        below += _chain(self._parent[edge[1]], self._parent)
        while len(above) > 1 and len(below) > 1 and above[-1] == below[-1]:
            above.pop()
            below.pop()
        self._levels[self._parent[above[-1]]].edges.setdefault((above[-1], below[-1]), []).append(edge)

    def result(self) -> Layout:
        order = sorted(
            (group for group in self._levels if group is not None), key=lambda group: -len(_chain(group, self._parent))
        )
        before = (_PADDING, _TITLE) if self._orientation == "TB" else (_TITLE, _PADDING)
        for group in order:
            self._arrange(self._levels[group])
            width, height = self._levels[group].size
            self._sizes[group] = (width + before[0] + _PADDING, height + before[1] + _PADDING)
        self._arrange(self._levels[None])
        places: dict[str, Box] = {}
        shifts: dict[str | None, Point] = {None: (0.0, 0.0)}
        for level in (None, *reversed(order)):
            x, y = shifts[level]
            for item, (left, top) in self._levels[level].at.items():
                places[item] = Box(x + left, y + top, *self._sizes[item])
                shifts[item] = (x + left + before[0], y + top + before[1])
        routes = [
            self._route(level, edge, inner, places, shifts[name])
            for name, level in self._levels.items()
            for edge, inner in level.edges.items()
        ]
        turned = {name: self._turn(box) for name, box in places.items()}
        width, height = self._levels[None].size
        if self._orientation == "LR":
            width, height = height, width
        return Layout(
            nodes={name: turned[name] for name in self._sizes if name in self._own},
            groups={name: turned[name] for name in reversed(order)},
            routes=routes,
            width=width,
            height=height,
            orientation=self._orientation,
        )

    def _turn(self, box: Box) -> Box:
        return box if self._orientation == "TB" else Box(box.y, box.x, box.height, box.width)

    def _route(
        self, level: _Level, edge: Edge, inner: Sequence[Edge], places: Mapping[str, Box], shift: Point
    ) -> Route:
        # One edge ends where it ends; several that run together end at the group.
        source, target = inner[0] if len(inner) == 1 else edge
        start, end = places[source], places[target]
        points = [(start.x + start.width / 2, start.y + start.height)]
        leaves = level.ends[edge[0]][1] + shift[1]
        if leaves > points[0][1]:
            points.append((points[0][0], leaves))
            points.insert(0, points[0])
        reversed_edge = level.ends[edge[0]][0] > level.ends[edge[1]][0]
        for position, begin, finish in [] if reversed_edge else level.lanes.get(edge, []):
            points += [(position + shift[0], begin + shift[1]), (position + shift[0], finish + shift[1])]
        last = (end.x + end.width / 2, end.y)
        enters = places[edge[1]].y
        if enters < last[1]:
            points += [(last[0], enters), (last[0], enters)]
        points.append(last)
        if len(points) % 2:
            points.insert(0, points[0])
        drawn = tuple(points) if self._orientation == "TB" else tuple((y, x) for x, y in points)
        return Route(source, target, drawn, tuple(inner))

    def _arrange(self, level: _Level) -> None:
        forward = _without_cycles(level.items, level.edges)
        linked = {item for edge in forward for item in edge}
        alone = [item for item in level.items if item not in linked]
        joined = [item for item in level.items if item in linked]
        drawing = _Drawing(joined, forward, [self._sizes[item][0] for item in joined])
        drawing.reduce_crossings()
        at = drawing.positions()
        gap = _BETWEEN_LAYERS[self._orientation]
        top = 0.0
        begins, ends = [], []
        for layer in drawing.layers:
            names = [joined[number] for number in layer if number < len(joined)]
            height = max((self._sizes[name][1] for name in names), default=0.0)
            begins.append(top)
            ends.append(top + height)
            for number in layer:
                if number < len(joined):
                    width, own = self._sizes[joined[number]]
                    level.at[joined[number]] = (at[number] - width / 2, top + (height - own) / 2)
                    level.ends[joined[number]] = (top, top + height)
            top += height + gap
        for edge, lanes in drawing.lanes.items():
            level.lanes[edge] = [(at[lane], begins[layer], ends[layer]) for lane, layer in lanes]
        passing = [x for lanes in level.lanes.values() for x, _, _ in lanes]
        left = min([*(x for x, _ in level.at.values()), *passing], default=0.0)
        level.at = {name: (x - left, y) for name, (x, y) in level.at.items()}
        level.lanes = {edge: [(x - left, b, e) for x, b, e in lanes] for edge, lanes in level.lanes.items()}
        self._place_alone(level, alone)
        right = [x + self._sizes[name][0] for name, (x, _) in level.at.items()]
        bottom = max((y + self._sizes[name][1] for name, (_, y) in level.at.items()), default=0.0)
        level.size = (max([*right, *(x - left for x in passing)], default=0.0), bottom)

    def _place_alone(self, level: _Level, alone: Sequence[str]) -> None:
        """What has no edge stands in rows below the rest: below as one sees it, whatever the orientation."""
        if not alone:
            return
        across, down = (0, 1) if self._orientation == "TB" else (1, 0)
        area = sum((self._sizes[item][0] + _BETWEEN) * (self._sizes[item][1] + _BETWEEN) for item in alone)
        ends = [(at, self._sizes[item]) for item, at in level.at.items()]
        limit = max(
            max(self._sizes[item][across] for item in alone),
            max((at[across] + size[across] for at, size in ends), default=0.0),
            sqrt(area * (1.0 if level.at else 0.5)),
        )
        place = [0.0, 0.0]
        if ends:
            place[down] = max(at[down] + size[down] for at, size in ends) + 2 * _BETWEEN
        height = 0.0
        for item in alone:
            size = self._sizes[item]
            if place[across] and place[across] + size[across] > limit:
                place[across] = 0.0
                place[down] += height + _BETWEEN
                height = 0.0
            level.at[item] = (place[0], place[1])
            level.ends[item] = (place[1], place[1] + size[1])
            place[across] += size[across] + _BETWEEN
            height = max(height, size[down])


def _chain(group: str | None, parents: Mapping[str, str | None]) -> list[str]:
    """The group and those around it, the innermost first."""
    found: dict[str, None] = {}
    while group is not None and group not in found:
        found[group] = None
        group = parents.get(group)
    return list(found)


def _without_cycles(items: Sequence[str], edges: Iterable[Edge]) -> list[Edge]:
    """The edges without those that close a circle. (Between tasks there is none, but a group may stand before and
    after a task.)"""
    below: dict[str, list[str]] = {item: [] for item in items}
    for source, target in edges:
        below[source].append(target)
    backward: set[Edge] = set()
    state = dict.fromkeys(items, 0)
    for root in items:
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(below[root]))]
        while stack:
            item, rest = stack[-1]
            for target in rest:
                if state[target] == 1:
                    backward.add((item, target))
                elif not state[target]:
                    state[target] = 1
                    stack.append((target, iter(below[target])))
                    break
            else:
                state[item] = 2
                stack.pop()
    return [edge for edge in edges if edge not in backward]


def _layers(items: Sequence[str], edges: Collection[Edge]) -> dict[str, int]:
    """Layer of each item: one below the deepest above it; what has nothing above it stands close to what is below."""
    below: dict[str, list[str]] = {item: [] for item in items}
    above = dict.fromkeys(items, 0)
    for source, target in edges:
        below[source].append(target)
        above[target] += 1
    roots = [item for item in items if not above[item]]
    ready, depth = list(roots), dict.fromkeys(items, 0)
    for item in ready:
        for target in below[item]:
            depth[target] = max(depth[target], depth[item] + 1)
            above[target] -= 1
            if not above[target]:
                ready.append(target)
    for item in roots:
        depth[item] = min((depth[target] for target in below[item]), default=1) - 1
    return depth


class _Drawing:
    """One layered graph. Items are numbers; the numbers after them are lanes: places of edges that pass a layer."""

    def __init__(self, items: Sequence[str], edges: Sequence[Edge], widths: Sequence[float]) -> None:
        depth = _layers(items, edges)
        number = {item: index for index, item in enumerate(items)}
        self.layers: list[list[int]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for item in items:
            self.layers[depth[item]].append(number[item])
        self.lanes: dict[Edge, list[tuple[int, int]]] = {}
        """Edge → (lane, layer), downwards."""
        self._items = len(items)
        self._half = [width / 2 for width in widths]
        self._above: list[list[int]] = [[] for _ in items]
        self._below: list[list[int]] = [[] for _ in items]
        total = 0
        for edge in sorted(edges, key=lambda one: depth[one[1]] - depth[one[0]]):
            first, last = depth[edge[0]], depth[edge[1]]
            total += last - first - 1
            if last - first > 1 and total > _MOST_LANES:
                continue
            previous = number[edge[0]]
            for layer in range(first + 1, last):
                lane = len(self._half)
                self.lanes.setdefault(edge, []).append((lane, layer))
                self.layers[layer].append(lane)
                self._half.append(_LANE / 2)
                self._above.append([previous])
                self._below.append([])
                self._below[previous].append(lane)
                previous = lane
            self._below[previous].append(number[edge[1]])
            self._above[number[edge[1]]].append(previous)
        self._work = sum(map(len, self._below)) + 1

    def reduce_crossings(self) -> None:
        """Order each layer by the mean place of the neighbours in the one before it: downwards, upwards, and so on. The
        best order that was seen stays."""
        place = [0] * len(self._half)
        for layer in self.layers:
            for index, name in enumerate(layer):
                place[name] = index
        best, fewest = [list(layer) for layer in self.layers], self._crossings(place)
        for sweep in range(max(2, min(8, _WORK // self._work))):
            if not fewest:
                break
            upwards = sweep % 2
            linked = self._below if upwards else self._above
            for layer in reversed(self.layers[:-1]) if upwards else self.layers[1:]:
                keys: dict[int, float] = {}
                for index, name in enumerate(layer):
                    near = linked[name]
                    keys[name] = sum([place[other] for other in near]) / len(near) if near else float(index)
                layer.sort(key=keys.__getitem__)
                for index, name in enumerate(layer):
                    place[name] = index
            now = self._crossings(place)
            if now < fewest:
                best, fewest = [list(layer) for layer in self.layers], now
        for layer, order in zip(self.layers, best, strict=True):
            layer[:] = order

    def _crossings(self, place: Sequence[int]) -> int:
        """How many edges cross others, counted with a tree of sums (Barth, Jünger and Mutzel)."""
        total = 0
        for upper, lower in pairwise(self.layers):
            size = 1
            while size < len(lower):
                size *= 2
            tree = [0] * (2 * size)
            for name in upper:
                for target in sorted([place[other] for other in self._below[name]]):
                    index = target + size
                    tree[index] += 1
                    while index > 1:
                        if not index % 2:
                            total += tree[index + 1]
                        index //= 2
                        tree[index] += 1
        return total

    def positions(self) -> list[float]:
        """The middle of each item and lane in its layer: near to its neighbours, in order, without overlaps."""
        half = self._half
        at = [0.0] * len(half)
        for layer in self.layers:
            x = 0.0
            for name in layer:
                at[name] = x + half[name]
                x += 2 * half[name] + _BETWEEN
            for name in layer:
                at[name] -= (x - _BETWEEN) / 2
        for sweep in range(max(2, min(6, _WORK // self._work))):
            upwards = sweep % 2
            first, second = (self._below, self._above) if upwards else (self._above, self._below)
            for layer in reversed(self.layers) if upwards else self.layers:
                wishes, weights = [], []
                for name in layer:
                    near = first[name] or second[name]
                    wishes.append(sum([at[other] for other in near]) / len(near) if near else at[name])
                    # Edges over several layers are to be straight.
                    weights.append(4.0 if name >= self._items else 1.0 + 0.5 * len(near))
                for name, x in zip(layer, _separated([half[name] for name in layer], wishes, weights), strict=True):
                    at[name] = x
        return at


def _separated(half: Sequence[float], wishes: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Positions nearest to the wishes (least squares) that keep the order and do not overlap."""
    offsets, offset = [], 0.0
    for index, own in enumerate(half):
        if index:
            offset += half[index - 1] + _BETWEEN + own
        offsets.append(offset)
    # Without the room between them the positions only need to rise: neighbours that do not are pooled to their mean.
    blocks: list[list[float]] = []  # weighted sum, weight, how many
    for wish, weight, room in zip(wishes, weights, offsets, strict=True):
        blocks.append([(wish - room) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
            total, much, many = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += much
            blocks[-1][2] += many
    found: list[float] = []
    for total, much, many in blocks:
        found += [total / much] * int(many)
    return [x + room for x, room in zip(found, offsets, strict=True)]
