"""Fields made from params, and values made from fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opskit.core.dag import serialization, serialized
from opskit.core.dag.model import DAG
from opskit.core.dag.params import Param
from opskit.web import param_forms


def as_stored(params: dict[str, Any]) -> serialized.SerializedDag:
    """What the metastore knows of a DAG with these params."""
    dag = DAG("d", schedule=None, params=params)
    return serialized.load(json.loads(serialization.dumps(serialization.serialize(dag, "d.py"))))


def one_field(param: Any) -> param_forms.Field:
    return param_forms.fields_of(as_stored({"x": param}))[0]


def sent(param: Any, *texts: str) -> Any:
    """The value of a param whose field was filled in so; a str that starts with ! is its error."""
    fields = param_forms.fields_of(as_stored({"x": param}))
    values, errors = param_forms.read(fields, {"param:x": texts} if texts else {})
    return "!" + errors["x"] if errors else values["x"]


@pytest.mark.parametrize(
    ("param", "kind", "shown"),
    [
        (Param("a", type="string"), "text", "a"),
        ("plain", "text", "plain"),
        ("two\nlines", "multiline", "two\nlines"),
        (Param("x", type="string", format="multiline"), "multiline", "x"),
        (Param(4, type="integer"), "integer", "4"),
        (7, "integer", "7"),
        (Param(0.5, type="number"), "number", "0.5"),
        (True, "boolean", "true"),
        (Param("b", enum=["a", "b"]), "choice", '"b"'),
        (Param("2026-03-29", type="string", format="date"), "date", "2026-03-29"),
        (Param("2026-03-29T08:30:00+02:00", type="string", format="date-time"), "datetime", "2026-03-29T06:30:00"),
        (["a", "b"], "lines", "a\nb"),
        (Param(["a"], type="array", items={"type": "string"}), "lines", "a"),
        (Param([1, 2], type="array"), "json", "[\n  1,\n  2\n]"),
        ({"k": 1}, "json", '{\n  "k": 1\n}'),
        (Param(3, const=3), "fixed", "3"),
        (None, "text", ""),
    ],
)
def test_each_kind_of_param_has_its_field(param: Any, kind: str, shown: str) -> None:
    field = one_field(param)
    assert (field.kind, field.value) == (kind, shown)


@pytest.mark.parametrize(
    ("param", "text", "value"),
    [
        (Param("a", type="string"), "b", "b"),
        (Param(None, type=["null", "string"]), "", None),
        (Param(4, type="integer"), "12", 12),
        (Param(0.5, type="number"), "2", 2),
        (Param(0.5, type="number"), "1e3", 1000.0),
        (Param("b", enum=["a", "b"]), '"a"', "a"),
        (Param(1, enum=[1, 2, None]), "null", None),
        (Param(None, type=["null", "string"], format="date-time"), "2026-03-29T06:30", "2026-03-29T06:30:00+00:00"),
        (["a"], "b\r\n\r\n c ", ["b", "c"]),
        ({"k": 1}, '{"k": [1, "x"]}', {"k": [1, "x"]}),
        ("a", "", ""),
    ],
)
def test_a_field_s_text_becomes_a_value_of_the_param_s_type(param: Any, text: str, value: Any) -> None:
    found = sent(param, text)
    assert found == value and type(found) is type(value)


def test_a_box_that_is_not_ticked_is_false_though_nothing_is_sent_for_it() -> None:
    assert sent(True) is False
    assert sent(False, "true") is True


def test_several_may_be_chosen_of_examples() -> None:
    param = Param(["a"], type="array", examples=["a", "b"], values_display={"b": "Bee"})
    field = one_field(param)
    assert field.kind == "choices" and field.chosen == ('"a"',)
    assert list(field.options) == [('"a"', "a"), ('"b"', "Bee")]
    assert sent(param, '"a"', '"b"') == ["a", "b"]
    assert sent(param, '"z"') == "!choose one of the values"


@pytest.mark.parametrize(
    ("param", "text", "said"),
    [
        (Param(4, type="integer", minimum=1, maximum=64), "0", "less than the minimum"),
        (Param(4, type="integer"), "4.5", "no whole number"),
        (Param(4, type="integer"), "", "a value is needed"),
        (Param(0.5, type="number"), "nan", "no number that JSON has"),
        (Param("abc", type="string", pattern="^a"), "b", "does not match"),
        (Param("abc", type="string", minLength=2), "a", "too short"),
        (Param("a", enum=["a", "b"]), '"c"', "choose one"),
        (Param({}, type="object"), "{", "no JSON"),
        (Param({}, type="object"), "[]", "is not of type 'object'"),
        (Param({}, type="object"), '{"a": NaN}', "no JSON"),
        (Param("2026-03-29", type="string", format="date"), "29.3.", "is not a 'date'"),
        (Param("x", type="string", format="date-time"), "noon", "no date with time"),
    ],
)
def test_what_the_schema_refuses_is_told_at_the_field(param: Any, text: str, said: str) -> None:
    found = sent(param, text)
    assert isinstance(found, str) and found.startswith("!") and said in found


def test_a_param_without_a_default_needs_a_value() -> None:
    field = one_field(Param(type="string", minLength=5, title="Reason", description="Why?"))
    assert field.required and (field.label, field.hint) == ("Reason", "Why?")
    assert sent(Param(type="string"), "") == "!a value is needed"


def test_the_bounds_of_a_schema_are_the_browser_s_too() -> None:
    assert one_field(Param(4, type="integer", minimum=1, maximum=64)).attributes == {"min": "1", "max": "64"}
    field = one_field(Param("abc", type="string", pattern="^a", maxLength=9, examples=["abc", "abd"]))
    assert field.attributes == {"pattern": "^a", "maxlength": "9"} and field.suggestions == ["abc", "abd"]


def test_fields_come_in_the_author_s_order_and_by_section() -> None:
    dag = as_stored({"z": Param("", section="Late"), "b": "1", "a": "2", "y": Param("", section="Late")})
    grouped = param_forms.sections(param_forms.fields_of(dag))
    assert [(title, [one.name for one in members]) for title, members in grouped] == [
        ("", ["b", "a"]),
        ("Late", ["z", "y"]),
    ]


def test_given_values_take_the_place_of_defaults() -> None:
    fields = param_forms.fields_of(as_stored({"a": 1, "b": "x"}), {"a": 5})
    assert [one.value for one in fields] == ["5", "x"]


def test_a_schema_that_is_none_is_told_and_does_not_end_the_page() -> None:
    assert str(sent(Param("a", type="no such type"), "a")).startswith("!")
