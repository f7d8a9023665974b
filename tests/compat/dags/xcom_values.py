"""Values of XComs, there and back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from airflow import DAG
from airflow.operators.python import PythonOperator

VALUES = {
    "none": None,
    "zero": 0,
    "false": False,
    "empty": "",
    "empty_list": [],
    "number": 1.5,
    "text": "grüße",
    "nested": {"a": [1, {"b": None}], "c": True},
    "tuple": (1, "b"),
    "set": {3},
    "int_keys": {1: "a"},
    "decimal": Decimal("1.10"),
    "moment": datetime(2024, 1, 2, 3, 4, tzinfo=UTC),
    "delta": timedelta(minutes=5),
}


class Odd:
    pass


def give(name):
    return VALUES[name]


def take(ti):
    return {name: repr(ti.xcom_pull(name)) for name in VALUES if name not in ("decimal", "moment", "delta")}


def kinds(ti):
    return {name: type(ti.xcom_pull(name)).__name__ for name in ("tuple", "set", "decimal")}


with DAG("xcom_values", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    end = PythonOperator(task_id="take", python_callable=take)
    types = PythonOperator(task_id="kinds", python_callable=kinds)
    for name in VALUES:
        PythonOperator(task_id=name, python_callable=give, op_args=[name]) >> [end, types]
    PythonOperator(task_id="odd", python_callable=Odd)
    PythonOperator(task_id="function", python_callable=lambda: give)
