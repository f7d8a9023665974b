"""What a task or a task group is mapped over: the arguments of `expand()` and `expand_kwargs()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.dag.lengths import Length
from opskit.core.dag.xcom import XCOM_RETURN_KEY
from opskit.core.dag.xcom_arg import ResolveMixin, XComArg, references
from opskit.core.dag.xcom_sequences import element
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator


class ExpandInput:
    """One of the two ways to say what to map over."""

    value: Any

    def length(self) -> Length:
        """How many instances there will be."""
        raise NotImplementedError

    def resolve(self, context: Any) -> tuple[dict[str, Any], list[Any]]:
        """The arguments of the running instance; and those of their values that come from XComs, in which no templates
        are looked for."""
        raise NotImplementedError

    def iter_references(self) -> Iterator[BaseOperator]:
        """The tasks whose output it needs."""
        return references(self.value)

    def check_keys(self) -> None:
        """DagInvalid when it maps over something else than what tasks return."""
        for value in _xcom_args(self.value):
            for operator, key in value.iter_xcoms():
                if key != XCOM_RETURN_KEY:
                    raise DagInvalid(f"cannot map over XCom with custom key {key!r} from task {operator.task_id}")


class DictOfLists(ExpandInput):
    """`expand(a=[1, 2], b=output)`: one instance for each combination; the last argument changes fastest."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        self.check_keys()

    def length(self) -> Length:
        parts = [_length(value) for value in self.value.values()]
        return parts[0] if len(parts) == 1 else {"product": parts}

    def resolve(self, context: Any) -> tuple[dict[str, Any], list[Any]]:
        index = _map_index(context)
        whole = {
            name: value.resolve(context) if isinstance(value, ResolveMixin) else value
            for name, value in self.value.items()
        }
        found: dict[str, Any] = {}
        for name in reversed(self.value):
            if len(self.value) > 1:
                index, own = divmod(index, len(whole[name]))
            else:
                own = index
            found[name] = _resolved(element(whole[name], own), context)
        names = list(self.value)
        return (
            {name: found[name] for name in names},
            [found[name] for name in names if isinstance(self.value[name], ResolveMixin)],
        )


class ListOfDicts(ExpandInput):
    """`expand_kwargs([{"a": 1}, {"a": 2}])`: one instance for each dict."""

    def __init__(self, value: Any) -> None:
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for item in value:
                if not isinstance(item, (XComArg, Mapping)):
                    raise DagInvalid(f"expand_kwargs() takes dicts, this is a list with {type(item).__name__} {item!r}")
        elif not isinstance(value, XComArg):
            raise DagInvalid(f"expand_kwargs() takes a list of dicts, or a task's output, not {type(value).__name__}")
        self.value = value
        self.check_keys()

    def length(self) -> Length:
        return _length(self.value)

    def resolve(self, context: Any) -> tuple[dict[str, Any], list[Any]]:
        index = _map_index(context)
        if isinstance(self.value, ResolveMixin):
            whole = self.value.resolve(context)
            if not isinstance(whole, Sequence) or isinstance(whole, (str, bytes)):
                raise ValueError(f"expand_kwargs() expects a list[dict], not {_type(whole)}")
            mapping, foreign = whole[index], True
        else:
            mapping = self.value[index]
            foreign = isinstance(mapping, ResolveMixin)
            mapping = _resolved(mapping, context)
        if not isinstance(mapping, Mapping):
            raise ValueError(f"expand_kwargs() expects a list[dict], not list[{_type(mapping)}]")
        for name in mapping:
            if not isinstance(name, str):
                raise ValueError(
                    f"expand_kwargs() input dict keys must all be str, but {name!r} is of type {_type(name)}"
                )
        return dict(mapping), list(mapping.values()) if foreign else []


class MappedArgument(ResolveMixin):
    """Stands for an argument of a mapped task group's function until an instance of a task in it runs."""

    def __init__(self, expand_input: ExpandInput, name: str) -> None:
        self.expand_input = expand_input
        self.name = name

    def iter_references(self) -> Iterator[BaseOperator]:
        return self.expand_input.iter_references()

    def resolve(self, context: Any) -> Any:
        """The element of the instance with this map_index. KeyError when expand_kwargs() did not give it."""
        return self.expand_input.resolve(context)[0][self.name]

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            f"the argument {self.name!r} of a mapped task group is not known before its tasks run: it can't be iterated"
        )

    def __repr__(self) -> str:
        return f"MappedArgument({self.name!r})"


def is_mappable(value: Any) -> bool:
    return isinstance(value, (MappedArgument, XComArg, Mapping, Sequence)) and not isinstance(value, str)


def _xcom_args(value: Any) -> Iterator[XComArg]:
    if isinstance(value, XComArg):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _xcom_args(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _xcom_args(item)


def _length(value: Any) -> Length:
    return value.length() if isinstance(value, XComArg) else {"const": len(value)}


def _map_index(context: Any) -> int:
    index = int(context["ti"].map_index)
    if index < 0:
        raise RuntimeError("can't resolve task-mapping argument without expanding")
    return index


def _resolved(value: Any, context: Any) -> Any:
    return value.resolve(context) if isinstance(value, ResolveMixin) else value


def _type(value: Any) -> str:
    return "None" if value is None else type(value).__name__
