"""Whether the conf of a run fits the params of its DAG, judged without the DAG file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.params import NOTSET, Param, ParamsDict
from opskit.core.dag.serialized import SerializedDag
from opskit.errors import UsageError


def params_of(dag: SerializedDag) -> ParamsDict:
    """The DAG's params with their defaults and rules. (Defaults that are no JSON in the file are texts here.)"""
    names = [*dag.params, *(name for name in dag.param_rules if name not in dag.params)]
    made = {}
    for name in names:
        rules = dag.param_rules.get(name, {})
        default = NOTSET if rules.get("required") else dag.params.get(name)
        made[name] = Param(default, rules.get("description"), schema=rules.get("schema"))
    return ParamsDict(made)


def check(dag: SerializedDag, conf: Mapping[str, Any]) -> None:
    """UsageError, naming the param, when a run with this conf would have a param without a value, or with a forbidden
    one. Further keys of conf are the author's own business."""
    if not dag.param_rules:
        return
    try:
        params_of(dag).merged(conf).validate()
    except ParamValidationError as error:
        raise UsageError(
            f"the conf does not fit DAG {dag.dag_id}: {error}", hint=f"its params are {', '.join(dag.params)}"
        ) from error
