"""Variables and connections out of the environment; defaults."""

import os
from datetime import datetime

os.environ["AIRFLOW_VAR_PLAIN"] = "text"
os.environ["AIRFLOW_VAR_DOCUMENT"] = '{"a": [1, 2]}'
os.environ["AIRFLOW_CONN_BY_URI"] = "postgres://user:p%40ss@host.example:5433/base?sslmode=require&n=1"
os.environ["AIRFLOW_CONN_BY_JSON"] = (
    '{"conn_type": "http", "host": "h", "login": "l", "extra": {"k": {"d": 1}}, "port": 80}'
)

from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import Variable
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

AT_LOAD = Variable.get("plain")


def variables():
    return [
        Variable.get("plain"),
        Variable.get("document", deserialize_json=True),
        Variable.get("unknown", "fallback"),
        Variable.get("unknown", default_var=None),
        Variable.get("unknown", {"d": 1}, deserialize_json=True),
        AT_LOAD,
    ]


def unknown_variable():
    return Variable.get("unknown")


def connections():
    one, two = BaseHook.get_connection("by_uri"), BaseHook.get_connection("by_json")
    return [[c.conn_id, c.conn_type, c.host, c.login, c.password, c.schema, c.port, c.extra_dejson] for c in (one, two)]


def uris():
    return [BaseHook.get_connection("by_uri").get_uri(), BaseHook.get_connection("by_json").get_uri()]


def unknown_connection():
    return BaseHook.get_connection("unknown")


with DAG("variables_connections", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    for function in (variables, unknown_variable, connections, uris, unknown_connection):
        PythonOperator(task_id=function.__name__, python_callable=function)
    BashOperator(
        task_id="templates",
        bash_command="echo {{ var.value.plain }} {{ var.json.document.a[1] }} {{ conn.by_uri.host }} {{ conn.by_json.extra_dejson.k.d }}",  # noqa: E501
    )
    BashOperator(task_id="unknown_template", bash_command="echo {{ var.value.unknown }}")
