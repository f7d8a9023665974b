"""Params: JSON schemas, and where their values come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opskit import DAG, Param
from opskit.core.dag import dialect
from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.execution import Outcome
from opskit.core.dag.json_schema import problem
from opskit.core.dag.params import ParamsDict
from opskit.errors import DagInvalid
from opskit.operators import PythonOperator

OBJECT = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "deep": {"items": {"type": "string"}}},
    "patternProperties": {"^x-": {}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "array", "items": {"type": "number"}}, [[], [1, 2.5]], [["1"], "1"]),
        ({"items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}, [["a"]], [[], ["a", "b", "a"], ["c"]]),
        ({"uniqueItems": True}, [[1, True, "1"]], [[1, 1]]),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1]], [[1], ["a", "b"]]),
        ({"contains": {"const": 1}, "maxContains": 2}, [[1, 2], [1, 1]], [[2], [1, 1, 1]]),
        (OBJECT, [{"n": 1, "deep": ["a"], "x-y": None}], [{}, {"n": "1"}, {"n": 1, "m": 2}, {"n": 1, "deep": [1]}]),
        ({"minProperties": 1, "propertyNames": {"pattern": "^a"}}, [{"ab": 1}], [{}, {"b": 1}]),
        ({"additionalProperties": {"type": "string"}}, [{"a": "b"}], [{"a": 1}]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 2}], [{"a": 1}]),
        ({"anyOf": [{"type": "null"}, {"minimum": 3}]}, [None, 3], [2]),
        ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 7]),
        ({"allOf": [{"maximum": 3}, {"not": {"const": 1}}]}, [2], [1, 4]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"type": "integer"}}, ["ab", 1], ["a", 1.5]),
        ({"const": 1}, [1, 1.0], [True, 2]),
        ({"format": "date"}, ["2024-02-29", 5], ["2023-02-29", "2024-1-1", "20240101"]),
        ({"format": "date-time"}, ["2024-01-01T00:00:00Z", "2024-01-01 10:00:00+02:00"], ["yesterday"]),
        ({"format": "time"}, ["10:00:00"], ["10:00", "25:00:00"]),
        ({"format": "email"}, ["a@b"], ["a"]),
        ({"format": "ipv4"}, ["1.2.3.4"], ["1.2.3", "::1"]),
        ({"format": "ipv6"}, ["::1"], ["1.2.3.4"]),
        ({"format": "uuid"}, ["12345678-1234-1234-1234-123456789abc"], ["12345678123412341234123456789abc", "x"]),
        ({"format": "regex"}, ["a+"], ["["]),
        ({"format": "multiline", "title": "T", "examples": [1]}, ["anything"], []),
    ],
)
def test_a_schema_tells_good_values_from_bad_ones(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [problem(value, schema) for value in good] == [None] * len(good)
    assert all(problem(value, schema) for value in bad)


def test_a_schema_that_is_none_is_told() -> None:
    with pytest.raises(ParamValidationError, match="its schema is wrong"):
        Param(1, anyOf=[3]).resolve()
    with pytest.raises(ParamValidationError, match="'list' is not valid"):
        Param([], type="list").resolve()


def test_a_scheduled_dag_needs_valid_defaults() -> None:
    for param in (Param(), Param(None, type="string"), Param("x", type="integer"), Param(const="x")):
        with pytest.raises(DagInvalid, match="has a schedule, but"):
            DAG("d", schedule="@daily", params={"p": param}).validate()
    DAG("d", schedule="@daily", params={"p": Param(None, type=["null", "string"]), "q": None}).validate()


def test_in_a_file_for_airflow_2_a_param_may_be_of_any_class() -> None:
    with dialect.speaking(2):
        param = Param(range(3))
    assert param.resolve() == range(3)
    with pytest.raises(ParamValidationError, match="no JSON value"):
        Param(range(3))


def test_a_dict_of_params_reads_values_and_keeps_schemas() -> None:
    params = ParamsDict({"n": Param(1, type="integer", title="N"), "free": "x"})
    params["n"] = 2
    params.update({"more": [1]})
    assert (params["n"], params.get("free"), params.get("none", 5), "more" in params, len(params)) == (
        2,
        "x",
        5,
        True,
        3,
    )
    assert dict(params.items())["n"].schema == {"type": "integer", "title": "N"}
    assert params.dump() == {"n": 2, "free": "x", "more": [1]} == params
    with pytest.raises(ParamValidationError, match="Invalid input for param n"):
        params["n"] = "two"
    lenient = ParamsDict({"n": Param("x", type="integer")}, suppress_exception=True)
    assert (lenient["n"], lenient.validate()) == (None, {"n": None})


def test_a_runs_conf_goes_over_the_tasks_params_and_those_over_the_dags(attempt: Callable[..., Outcome]) -> None:
    with DAG("d", params={"a": Param("dag", type="string"), "b": "dag", "c": "dag"}) as dag:
        task = PythonOperator(
            task_id="t",
            python_callable=lambda params, seen: [params["a"], params["b"], params["c"], seen],
            op_kwargs={"seen": "{{ params.a }} {{ params['b'] }} {{ task.params.c }}"},
            params={"b": "task", "c": Param("task", enum=["task", "conf"])},
        )
    outcome = attempt(dag, "t", conf={"c": "conf", "other": 1})
    assert outcome.xcoms == [("return_value", ["dag", "task", "conf", "dag task task"])]
    assert task.params["a"] == "dag"
    assert "Invalid input for param c" in str(attempt(dag, "t", conf={"c": "none"}).reason)
