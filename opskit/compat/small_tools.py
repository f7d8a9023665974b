"""What `airflow.utils.helpers` offers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import reduce
from itertools import filterfalse, tee
from typing import Any, TypeVar
from urllib.parse import urlencode

from opskit.core.dag.dependencies import chain, cross_downstream

__all__ = [
    "alchemy_to_dict",
    "as_flattened_list",
    "as_tuple",
    "at_most_one",
    "build_airflow_url_with_query",
    "chain",
    "chunks",
    "convert_camel_to_snake",
    "cross_downstream",
    "exactly_one",
    "is_container",
    "is_set",
    "merge_dicts",
    "parse_template_string",
    "partition",
    "prevent_duplicates",
    "prune_dict",
    "reduce_in_chunks",
    "render_template",
    "render_template_as_native",
    "render_template_to_string",
    "validate_group_key",
    "validate_instance_args",
    "validate_key",
]

_T = TypeVar("_T")
_S = TypeVar("_S")
_KEY = re.compile(r"[\w.-]+", re.ASCII)
_GROUP_KEY = re.compile(r"[\w-]+", re.ASCII)


def validate_key(k: str, max_length: int = 250) -> None:
    """TypeError or AirflowException for what can be no id of a task or DAG."""
    _check_key(k, max_length, _KEY, "letters, digits, dashes, dots and underscores")


def validate_group_key(k: str, max_length: int = 200) -> None:
    """The same of a task group."""
    _check_key(k, max_length, _GROUP_KEY, "letters, digits, dashes and underscores")


def _check_key(key: Any, longest: int, allowed: re.Pattern[str], words: str) -> None:
    from opskit.core.dag.exceptions import AirflowException

    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} must be a text, it is {type(key)}")
    if len(key) > longest:
        raise AirflowException(f"the key {key!r} is longer than {longest} characters")
    if not allowed.fullmatch(key):
        raise AirflowException(f"the key {key!r} may hold {words} only")


def validate_instance_args(instance: object, expected_arg_types: dict[str, Any]) -> None:
    """TypeError for an attribute that is set and of another type."""
    for name, wanted in expected_arg_types.items():
        value = getattr(instance, name, None)
        if value and not isinstance(value, wanted):
            raise TypeError(f"{name!r} is {value!r}, of {type(value)}; {wanted} is needed")


def alchemy_to_dict(obj: Any) -> dict[str, Any] | None:
    """The columns of a row as a dict; moments as texts."""
    if not obj:
        return None
    values = {column.name: getattr(obj, column.name) for column in obj.__table__.columns}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}


def is_container(obj: Any) -> bool:
    """Whether it can be iterated over and is no text."""
    return hasattr(obj, "__iter__") and not isinstance(obj, str)


def is_set(val: Any) -> bool:
    """Whether a value was given."""
    from opskit.compat.kinds import NOTSET

    return val is not NOTSET


def as_tuple(obj: Any) -> tuple[Any, ...]:
    return tuple(obj) if is_container(obj) else (obj,)


def chunks(items: list[_T], chunk_size: int) -> Iterator[list[_T]]:
    """Successive parts of a list. ValueError for a size that is not above zero."""
    if chunk_size <= 0:
        raise ValueError("the size of a chunk must be above zero")
    for start in range(0, len(items), chunk_size):
        yield items[start : start + chunk_size]


def reduce_in_chunks(
    fn: Callable[[_S, list[_T]], _S], iterable: Iterable[_T], initializer: _S, chunk_size: int = 0
) -> _S:
    items = list(iterable)
    if not items:
        return initializer
    return reduce(fn, chunks(items, chunk_size or len(items)), initializer)


def as_flattened_list(iterable: Iterable[Iterable[_T]]) -> list[_T]:
    return [item for part in iterable for item in part]


def partition(pred: Callable[[_T], bool], iterable: Iterable[_T]) -> tuple[Iterable[_T], Iterable[_T]]:
    """(those that do not match, those that do)."""
    first, second = tee(iterable)
    return filterfalse(pred, first), filter(pred, second)


def convert_camel_to_snake(camel_str: str) -> str:
    """`CamelCase` → `camel_case`."""
    return re.sub(r"(?!^)([A-Z]+)", r"_\1", camel_str).lower()


def merge_dicts(dict1: dict[Any, Any], dict2: dict[Any, Any]) -> dict[Any, Any]:
    """Both, level by level; the second wins. Neither is changed."""
    merged = dict(dict1)
    for key, value in dict2.items():
        before = merged.get(key)
        merged[key] = merge_dicts(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def exactly_one(*args: Any) -> bool:
    """Whether exactly one of these is truthy. ValueError for a single collection: it is meant to be unpacked."""
    if len(args) == 1 and is_container(args[0]):
        raise ValueError("exactly_one takes its values one by one")
    return sum(map(bool, args)) == 1


def at_most_one(*args: Any) -> bool:
    """Whether at most one of these was given and is truthy."""
    return sum(bool(is_set(value) and value) for value in args) <= 1


def prune_dict(val: Any, mode: str = "strict") -> Any:
    """Without what is None (mode `strict`), or whatever is empty (`truthy`), on all levels."""
    if mode not in ("strict", "truthy"):
        raise ValueError("the mode is strict or truthy")

    def stays(item: Any) -> bool:
        return item is not None if mode == "strict" else bool(item)

    if isinstance(val, dict):
        pruned = {key: prune_dict(item, mode) for key, item in val.items() if stays(item)}
        return {key: item for key, item in pruned.items() if stays(item)}
    if isinstance(val, list):
        return [item for item in (prune_dict(item, mode) for item in val if stays(item)) if stays(item)]
    return val


def prevent_duplicates(kwargs1: dict[str, Any], kwargs2: Mapping[str, Any], *, fail_reason: str) -> None:
    """TypeError for arguments that both have."""
    both = sorted(kwargs1.keys() & kwargs2.keys())
    if both:
        raise TypeError(f"{fail_reason} argument{'s' if len(both) > 1 else ''}: {', '.join(both)}")


def build_airflow_url_with_query(query: dict[str, Any]) -> str:
    """The address of a page with these arguments."""
    from opskit.compat.configuration import conf

    return f"{conf.get('webserver', 'base_url')}/?{urlencode(query)}"


def parse_template_string(template_string: str) -> tuple[str | None, Any]:
    """(text, None), or (None, the template) of a text with Jinja in it."""
    if "{{" not in template_string:
        return template_string, None
    from jinja2.sandbox import SandboxedEnvironment

    return None, SandboxedEnvironment().from_string(template_string)


def render_template(template: Any, context: MutableMapping[str, Any], *, native: bool) -> Any:
    """A template of Jinja with this context; `native`: as the value that it makes, not as text."""
    from jinja2.nativetypes import native_concat

    rendered = template.root_render_func(template.new_context(dict(context)))
    return native_concat(rendered) if native else "".join(rendered)


def render_template_to_string(template: Any, context: Any) -> str:
    return str(render_template(template, context, native=False))


def render_template_as_native(template: Any, context: Any) -> Any:
    return render_template(template, context, native=True)
