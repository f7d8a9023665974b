"""`@asset` and `@asset.multi`: a function, its DAG of one task, and what that produces, in one definition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from opskit.core.dag import asset_names
from opskit.core.dag.assets import Asset, AssetAll, BaseAsset
from opskit.core.dag.operators.python import PythonOperator
from opskit.core.dag.taskflow import TaskDecorated

if TYPE_CHECKING:
    from opskit.core.dag.assets import AssetWatcher
    from opskit.core.dag.base_operator import Callbacks

_GIVEN = ("self", "context", "outlet_events")
"""Arguments of the function that are no assets."""


class _AssetMainOperator(PythonOperator):
    """Calls the function. `self` is its asset, `context` the context; every other argument without a default is the
    asset of that name, and an inlet of the task."""

    def __init__(self, *, definition: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._definition = definition

    def determine_kwargs(self, context: Any) -> dict[str, Any]:
        from opskit.core.dag.asset_context import resolve

        given: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.python_callable).parameters.items():
            if parameter.default is not parameter.empty:
                given[name] = parameter.default
            elif name == "self":
                given[name] = self._definition
            elif name == "context":
                given[name] = context
            elif name == "outlet_events":
                given[name] = context["outlet_events"]
            else:
                given[name] = resolve(Asset.ref(name=name))
        return given


class _DagArguments:
    """What `@asset` and `@asset.multi` take for the DAG."""

    def __init__(
        self,
        *,
        schedule: Any,
        is_paused_upon_creation: bool | None = None,
        dag_id: str | None = None,
        dag_display_name: str | None = None,
        description: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_success_callback: Callbacks = None,
        on_failure_callback: Callbacks = None,
        access_control: Any = None,
        owner_links: dict[str, str] | None = None,
        tags: Collection[str] = (),
    ) -> None:
        self._dag_id = dag_id
        self._arguments: dict[str, Any] = {
            "schedule": schedule,
            "is_paused_upon_creation": is_paused_upon_creation,
            "catchup": False,
            "dag_display_name": dag_display_name,
            "description": description,
            "params": params,
            "on_success_callback": on_success_callback,
            "on_failure_callback": on_failure_callback,
            "owner_links": owner_links,
            "tags": tags,
        }
        self._dag_access_control = access_control

    def _build(self, dag_id: str, function: Any, outlets: list[BaseAsset], definition: Any) -> None:
        from opskit.core.dag.model import DAG

        with DAG(self._dag_id or dag_id, access_control=self._dag_access_control, **self._arguments) as dag:
            if isinstance(function, TaskDecorated):
                if "outlets" in function.kwargs:
                    raise TypeError("@asset says what the task produces: its @task takes no outlets")
                function.override(outlets=outlets)()
                return
            _AssetMainOperator(
                task_id=function.__name__,
                python_callable=function,
                inlets=_inlets(function),
                outlets=outlets,
                definition=definition,
                dag=dag,
            )


class AssetDefinition(Asset):
    """The asset that a function with `@asset` makes."""

    function: Callable[..., Any]


class MultiAssetDefinition(AssetAll):
    """The assets that a function with `@asset.multi` makes; all of them, where a DAG waits for it."""

    name: str
    function: Callable[..., Any]


class asset(_DagArguments):  # noqa: N801 - a decorator
    """`@asset(schedule=…)` on a function: an asset with its name (or `name`, `uri`), a DAG of that name, and a task
    named like the function. TypeError for a function with wildcards; ValueError for one inside of another."""

    def __init__(
        self,
        *,
        name: str | None = None,
        uri: Any = None,
        group: str = Asset.asset_type,
        extra: dict[str, Any] | None = None,
        watchers: list[AssetWatcher] | None = None,
        **dag_arguments: Any,
    ) -> None:
        super().__init__(**dag_arguments)
        self._name = name
        self._asset: dict[str, Any] = {"uri": uri, "group": group, "extra": extra, "watchers": watchers}

    def __call__(self, function: Any) -> AssetDefinition:
        _check(function)
        made = AssetDefinition(self._name or function.__name__, **self._asset)
        made.function = function
        asset_names.define(made)
        self._build(made.name, function, [made], made)
        return made

    class multi(_DagArguments):  # noqa: N801 - a decorator
        """`@asset.multi(outlets=[…], schedule=…)`: one function that makes several assets."""

        def __init__(self, *, outlets: Collection[BaseAsset], **dag_arguments: Any) -> None:
            super().__init__(**dag_arguments)
            self._outlets = list(outlets)

        def __call__(self, function: Any) -> MultiAssetDefinition:
            _check(function)
            if not self._outlets:
                raise ValueError("@asset.multi needs outlets")
            made = MultiAssetDefinition(*self._outlets)
            made.name, made.function = function.__name__, function
            for outlet in self._outlets:
                if isinstance(outlet, Asset):
                    asset_names.define(outlet)
            self._build(function.__name__, function, self._outlets, made)
            return made


def _check(function: Any) -> None:
    plain = function.function if isinstance(function, TaskDecorated) else function
    if plain.__name__ != plain.__qualname__:
        raise ValueError(f"@asset on {plain.__qualname__}: a function inside of another one can't be an asset")
    for name, parameter in inspect.signature(plain).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"@asset on {plain.__name__}: the function can't take *{name}")
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"@asset on {plain.__name__}: the positional-only argument {name!r} needs a default")


def _inlets(function: Callable[..., Any]) -> list[BaseAsset]:
    return [
        Asset.ref(name=name)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in _GIVEN and parameter.default is parameter.empty
    ]
