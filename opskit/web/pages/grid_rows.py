"""The rows of a grid: tasks under their groups, in the order of the DAG; and what a cell says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

from markupsafe import Markup, escape

from opskit.core.metastore.browsing.grid import RunRow, StateCount
from opskit.web.definitions import Definition
from opskit.web.formats import duration, stamp, state_class, state_sign
from opskit.web.links import run_url
from opskit.web.summaries import Summary, merged

FOLDED_FROM = 80
"""With so many tasks, groups are folded at first."""
_TYPE_MARKS = {"manual": "▶", "backfill": "⟲"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a task, or a group with all its tasks."""

    id: str
    label: str
    depth: int
    tasks: tuple[str, ...]
    is_group: bool = False
    is_open: bool = False
    is_mapped: bool = False
    is_gone: bool = False
    """Not in the version of the DAG that is shown."""
    kind: str = ""
    """Operator of a task."""
    mark: str = ""
    """setup or teardown."""


@dataclass(frozen=True, slots=True)
class Folds:
    """Which groups are open, as the URL says it: `fold` closes one, `open` opens one where all are folded at first."""

    opened: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()
    by_default: bool = False
    known: frozenset[str] = frozenset()

    def is_open(self, group: str) -> bool:
        return group in self.opened if self.by_default else group not in self.folded

    def toggled(self, group: str) -> dict[str, list[str]]:
        """The parameters of the URL with this group the other way."""
        opened, folded = self.opened, self.folded
        if self.by_default:
            opened = opened ^ {group}
        else:
            folded = folded ^ {group}
        return {"open": sorted(opened), "fold": sorted(folded)}

    def all(self, is_open: bool) -> dict[str, list[str]]:
        """The parameters of the URL with every group open, or every group folded."""
        opened = sorted(self.known) if self.by_default and is_open else []
        return {"open": opened, "fold": sorted(self.known) if not self.by_default and not is_open else []}


def folds(definition: Definition, opened: Iterable[str], folded: Iterable[str]) -> Folds:
    """For this DAG; groups that it does not have are left out."""
    known = frozenset(definition.parents)
    many = len(definition.dag.tasks) > FOLDED_FROM
    return Folds(known & frozenset(opened), known & frozenset(folded), many, known)


@dataclass(slots=True)
class _Group:
    id: str | None
    inside: list[str | _Group] = field(default_factory=list)


def rows(definition: Definition, state: Folds, others: Collection[str] = ()) -> list[Row]:
    """All lines that are not folded away; `others` are tasks of older versions, which come last."""
    root = _Group(None)
    groups: dict[str | None, _Group] = {None: root}

    def place(group: str | None) -> _Group:
        if group not in groups:
            groups[group] = _Group(group)
            place(definition.parents.get(group) if group is not None else None).inside.append(groups[group])
        return groups[group]

    for task in definition.dag.tasks:
        place(definition.group_of.get(task.task_id)).inside.append(task.task_id)
    found: list[Row] = []
    _collect(definition, state, root, 0, found)
    found += [Row(name, name, 0, (name,), is_gone=True) for name in sorted(others)]
    return found


def _collect(definition: Definition, state: Folds, group: _Group, depth: int, found: list[Row]) -> None:
    for item in group.inside:
        if isinstance(item, _Group):
            assert item.id is not None
            is_open = state.is_open(item.id)
            tasks = tuple(definition.members[item.id])
            found.append(Row(item.id, definition.label(item.id), depth, tasks, is_group=True, is_open=is_open))
            if is_open:
                _collect(definition, state, item, depth + 1, found)
            continue
        task = definition.dag.by_id[item]
        mark = "setup" if task.is_setup else "teardown" if task.is_teardown else ""
        label, mapped = definition.label(item), definition.is_mapped(task)
        found.append(Row(item, label, depth, (item,), is_mapped=mapped, kind=task.operator, mark=mark))


def cells(counts: Iterable[StateCount]) -> dict[int, dict[str, Summary]]:
    """Run → task → its states."""
    found: dict[int, dict[str, Summary]] = {}
    for run, task_id, state, count in counts:
        of_run = found.get(run)
        if of_run is None:
            of_run = found[run] = {}
        if task_id in of_run:
            of_run[task_id].add(state, count)
        else:
            of_run[task_id] = Summary({state: count})
    return found


def cells_html(row: Row, per_run: Sequence[Mapping[str, Summary]]) -> Markup:
    """The cells of a row, one for each run: the sign of its state, or how many are in the weightiest one.

    No template: a grid has thousands of them."""
    if not row.is_group:
        summaries = [of_run.get(row.id) for of_run in per_run]
    else:
        summaries = [merged(of_run[task_id] for task_id in row.tasks if task_id in of_run) for of_run in per_run]
    return Markup("".join(map(_cell, summaries)))  # noqa: S704 - what comes from outside is escaped below


def _cell(summary: Summary | None) -> str:
    if summary is None or not summary.counts:
        return "<td>"
    if len(summary.counts) == 1:
        [(state, total)] = summary.counts.items()
        if total == 1:
            return _single(state)
    state = summary.state
    words, count = escape(summary.words()), short(summary.counts[state])
    return f'<td class={state_class(state)} data-words="{words}">{count}'


@cache
def _single(state: str | None) -> str:
    return f"<td class={state_class(state)}>{state_sign(state)}"


@lru_cache(maxsize=4096)
def column_html(run: RunRow, seconds: float | None, bar: int, height: int, words: str) -> Markup:
    """The head of a run's column: a bar of `bar` of `height` pixels, the sign of its state, its date. Those of runs
    that have ended stay as they are."""
    state, kind = escape(run.state), escape(run.run_type)
    look, run_id = state_class(run.state), escape(run.run_id)
    mark = "" if run.run_type == "scheduled" else _TYPE_MARKS.get(run.run_type, "◆")
    return Markup(  # noqa: S704 - what comes from outside is escaped above
        f'<th scope="col" data-key="run-{run.id}" data-run="{run.id}" data-run-id="{run_id}" '
        f'data-date="{stamp(run.logical_date)}" data-state="{state}" data-type="{kind}" '
        f'data-took="{duration(seconds)}" data-words="{escape(words)}">'
        f'<a href="{escape(run_url(run.dag_id, run.run_id, number=run.id))}" aria-label="Run {run_id}: {state}">'
        f'<svg width="14" height="{height}" aria-hidden="true">'
        f'<rect class="{look}" x="0" y="{height - bar}" width="14" height="{bar}" rx="2"/></svg>'
        f'<span class="run-sign {look}" aria-hidden="true">{state_sign(run.state)}</span>'
        f'<span class="run-date" aria-hidden="true">{run.logical_date:%m-%d %H:%M}</span>'
        + (f'<span class="run-type" aria-hidden="true">{mark}</span>' if mark else "")
        + "</a></th>"
    )


def short(count: int) -> str:
    """At most three characters: 999, 1k, 12k, 2M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)
