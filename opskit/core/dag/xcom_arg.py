"""XComArg: the output of a task as an argument of another; it makes the dependency and is resolved at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.dag.dependencies import DependencyMixin
from opskit.core.dag.xcom import XCOM_RETURN_KEY
from opskit.core.dag.xcom_sequences import (
    NO_FILL,
    ConcatenatedSequence,
    LazyXComSequence,
    MappedSequence,
    ZippedSequence,
)
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator


class ResolveMixin:
    """A value in a template field that is known only when the task runs."""

    def iter_references(self) -> Iterator[BaseOperator]:
        """The tasks whose output it needs."""
        yield from ()

    def resolve(self, context: Any) -> Any:
        raise NotImplementedError


class XComArg(ResolveMixin, DependencyMixin):
    """What `operator` pushes under `key`. `output["name"]` is its entry of that name (multiple outputs)."""

    def __init__(self, operator: BaseOperator, key: str = XCOM_RETURN_KEY) -> None:
        self.operator = operator
        self.key = key

    def __getitem__(self, item: str) -> XComArg:
        if not isinstance(item, str):
            raise ValueError(f"an XCom is looked up by a text, not by {type(item).__name__} {item!r}")
        return XComArg(self.operator, item)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            f"the output of task {self.operator.task_id} is not known before it has run: it can't be iterated"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, XComArg):
            return NotImplemented
        return self.operator is other.operator and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.operator), self.key))

    def __str__(self) -> str:
        """A template that gives the same value, for use inside longer texts."""
        arguments = f"task_ids={self.operator.task_id!r}, dag_id={self.operator.dag_id!r}"
        if self.key != XCOM_RETURN_KEY:
            arguments += f", key={self.key!r}"
        return f"{{{{ task_instance.xcom_pull({arguments}) }}}}"

    def __repr__(self) -> str:
        return f"XComArg({self.operator.task_id}, {self.key})"

    @property
    def roots(self) -> Sequence[BaseOperator]:
        return (self.operator,)

    @property
    def leaves(self) -> Sequence[BaseOperator]:
        return (self.operator,)

    def iter_references(self) -> Iterator[BaseOperator]:
        yield self.operator

    def map(self, f: Callable[[Any], Any]) -> MapXComArg:
        """Each element given to `f`, in the task that is mapped over it. AirflowSkipException in it skips that one."""
        self._needs_return_value("map")
        return MapXComArg(self, [f])

    def zip(self, *others: XComArg, fillvalue: Any = NO_FILL) -> ZipXComArg:
        """Tuples of elements with the same index; as many as the shortest has, or with a fillvalue the longest."""
        self._needs_return_value("zip")
        return ZipXComArg([self, *others], fillvalue=fillvalue)

    def concat(self, *others: XComArg) -> ConcatXComArg:
        """The elements of this one, then those of the others."""
        self._needs_return_value("concat")
        return ConcatXComArg([self, *others])

    def _needs_return_value(self, method: str) -> None:
        for operator, key in self.iter_xcoms():
            if key != XCOM_RETURN_KEY:
                raise DagInvalid(
                    f"{method}() can't be used on the XCom {key!r} of task {operator.task_id}",
                    hint="only what a task returns can be mapped over",
                )

    def iter_xcoms(self) -> Iterator[tuple[BaseOperator, str]]:
        """The XComs that it needs: task and key."""
        yield self.operator, self.key

    def length(self) -> dict[str, Any]:
        """Over how many elements a task is mapped that is given this: as `opskit.core.dag.lengths` has it."""
        return {"xcom": self.operator.task_id, "key": self.key}

    @property
    def is_setup(self) -> bool:
        return self.operator.is_setup

    @property
    def is_teardown(self) -> bool:
        return self.operator.is_teardown

    @property
    def on_failure_fail_dagrun(self) -> bool:
        return self.operator.on_failure_fail_dagrun

    @on_failure_fail_dagrun.setter
    def on_failure_fail_dagrun(self, value: bool) -> None:
        self.operator.on_failure_fail_dagrun = value

    def as_setup(self) -> XComArg:
        """Make the task a setup task."""
        for operator, _ in self.iter_xcoms():
            operator.as_setup()
        return self

    def as_teardown(self, *, setups: Any = None, on_failure_fail_dagrun: bool | None = None) -> XComArg:
        """Make the task a teardown task: see BaseOperator.as_teardown."""
        for operator, _ in self.iter_xcoms():
            operator.as_teardown(setups=setups, on_failure_fail_dagrun=on_failure_fail_dagrun)
        return self

    def __enter__(self) -> Any:
        return self.operator.__enter__()

    def __exit__(self, *error: object) -> None:
        self.operator.__exit__(*error)

    def resolve(self, context: Any) -> Any:
        """Of a mapped task a sequence; in a mapped task group, of a task of the same group what the instance with the
        same index has pushed. XComNotFound when another key than the return value was not pushed; None for a missing
        return value."""
        ti = context["ti"]
        if not self.operator.is_mapped:
            group = self.operator.mapped_task_group
            own = ti.task.mapped_task_group
            if group is None:
                index = -1
            elif own is not group or ti.map_index < 0:
                return self._of_all(ti)
            else:
                index = ti.map_index
        else:
            return self._of_all(ti)
        missing = object()
        value = ti.xcom_pull(task_ids=self.operator.task_id, key=self.key, map_indexes=index, default=missing)
        if value is not missing:
            return value
        if self.key == XCOM_RETURN_KEY or self.operator.multiple_outputs:
            return None
        from opskit.core.dag.exceptions import XComNotFound

        raise XComNotFound(self.operator.dag_id, self.operator.task_id, self.key)

    def _of_all(self, ti: Any) -> Any:
        if ti.dialect == 2 and not ti.xcoms_by_index(self.operator.task_id, self.key):
            return None  # Airflow 2 finds no XCom at all, and does not ask further
        if ti.dialect == 3 and not self.operator.is_mapped:
            return ti.xcoms_by_index(self.operator.task_id, self.key)
        return LazyXComSequence(lambda: ti.xcoms_by_index(self.operator.task_id, self.key), ti.dialect)


class _Derived(XComArg):
    """Made of other XComArgs: a thing to map over, not a text."""

    def __init__(self, parts: Sequence[XComArg]) -> None:
        for part in parts:
            if not isinstance(part, XComArg):
                raise DagInvalid(
                    f"{type(part).__name__} {part!r} is no output of a task", hint="zip and concat take outputs only"
                )
        self.parts = tuple(parts)
        self.operator = parts[0].operator
        self.key = XCOM_RETURN_KEY

    def iter_xcoms(self) -> Iterator[tuple[BaseOperator, str]]:
        for part in self.parts:
            yield from part.iter_xcoms()

    def iter_references(self) -> Iterator[BaseOperator]:
        for operator, _ in self.iter_xcoms():
            yield operator

    @property
    def roots(self) -> Sequence[BaseOperator]:
        return tuple(dict.fromkeys(self.iter_references()))

    leaves = roots

    def __getitem__(self, item: str) -> XComArg:
        raise TypeError(f"{self!r} has no entries before it has run")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return repr(self)

    def resolve(self, context: Any) -> Any:
        return self._combine([part.resolve(context) for part in self.parts])

    def _combine(self, values: list[Any]) -> Any:
        raise NotImplementedError

    def _check(self, method: str, values: list[Any]) -> None:
        for value in values:
            if not isinstance(value, (Sequence, dict)) or isinstance(value, (str, bytes)):
                raise ValueError(f"XCom {method} expects sequence or dict, not {type(value).__name__}")


class MapXComArg(_Derived):
    """`output.map(function)`"""

    def __init__(self, arg: XComArg, functions: Sequence[Callable[[Any], Any]]) -> None:
        for function in functions:
            if not callable(function) or hasattr(function, "operator_class"):
                raise DagInvalid(f"map() takes a plain function, not {function!r}")
        super().__init__([arg])
        self.functions = tuple(functions)

    def map(self, f: Callable[[Any], Any]) -> MapXComArg:
        return MapXComArg(self.parts[0], [*self.functions, f])

    def length(self) -> dict[str, Any]:
        return self.parts[0].length()

    def _combine(self, values: list[Any]) -> Any:
        self._check("map", values)
        return MappedSequence(values[0], self.functions)

    def __repr__(self) -> str:
        names = "".join(f".map({getattr(function, '__name__', 'function')})" for function in self.functions)
        return f"{self.parts[0]!r}{names}"


class ZipXComArg(_Derived):
    """`output.zip(other)`"""

    def __init__(self, args: Sequence[XComArg], *, fillvalue: Any = NO_FILL) -> None:
        super().__init__(args)
        self.fillvalue = fillvalue

    def length(self) -> dict[str, Any]:
        return {"min" if self.fillvalue is NO_FILL else "max": [part.length() for part in self.parts]}

    def _combine(self, values: list[Any]) -> Any:
        self._check("zip", values)
        return ZippedSequence(values, self.fillvalue)

    def __repr__(self) -> str:
        return f"{self.parts[0]!r}.zip({', '.join(map(repr, self.parts[1:]))})"


class ConcatXComArg(_Derived):
    """`output.concat(other)`"""

    def concat(self, *others: XComArg) -> ConcatXComArg:
        return ConcatXComArg([*self.parts, *others])

    def length(self) -> dict[str, Any]:
        return {"sum": [part.length() for part in self.parts]}

    def _combine(self, values: list[Any]) -> Any:
        self._check("concat", values)
        return ConcatenatedSequence(values)

    def __repr__(self) -> str:
        return f"{self.parts[0]!r}.concat({', '.join(map(repr, self.parts[1:]))})"


def references(value: Any) -> Iterator[BaseOperator]:
    """The tasks whose output is somewhere inside `value` (lists, tuples, sets and dicts are searched)."""
    if isinstance(value, ResolveMixin):
        yield from value.iter_references()
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from references(item)
