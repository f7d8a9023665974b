"""Templates: names, macros, filters, nested fields, undefined names."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator

COMMANDS = {
    "names": "echo {{ ds }} {{ ds_nodash }} {{ ts }} {{ ts_nodash }} {{ dag.dag_id }} {{ task.task_id }} {{ ti.try_number }}",  # noqa: E501
    "macros": "echo {{ macros.ds_add(ds, 7) }} {{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y') }} {{ macros.timedelta(days=1) }}",  # noqa: E501
    "macros_time": "echo {{ (logical_date + macros.timedelta(days=3)).strftime('%Y%m%d') }} {{ macros.datetime(2024, 1, 2) }}",  # noqa: E501
    "filters": "echo {{ logical_date | ds }} {{ logical_date | ts_nodash }} {{ logical_date | ds_nodash }} {{ logical_date | ts }}",  # noqa: E501
    "params": "echo {{ params.name }} {{ params['number'] + 1 }} {{ params.missing if 'missing' in params else 'none' }}",  # noqa: E501
    "loops": "{% for i in range(3) %}echo {{ i }}; {% endfor %}",
    "raw": "echo '{% raw %}{{ ds }}{% endraw %}'",
    "var": "echo {{ var.value.get('unknown', 'fallback') }} {{ var.json.get('unknown', {'a': 1}).a }}",
    "conn": "echo {{ conn.get('unknown_connection', 'none') if False else 'x' }}",
    "newline": "echo one\n",
}

with DAG("templates", schedule=None, start_date=datetime(2024, 1, 1), params={"name": "value", "number": 3}) as dag:
    for name, command in COMMANDS.items():
        BashOperator(task_id=name, bash_command=command)
    PythonOperator(
        task_id="nested",
        python_callable=lambda *args, **kwargs: [list(args), kwargs["d"]],
        op_args=[["{{ ds }}", ("{{ ds_nodash }}", 1)], {"k": "{{ params.name }}"}],
        op_kwargs={"d": {"x": ["{{ ts }}"]}},
    )
    BashOperator(task_id="undefined", bash_command="echo [{{ no_such_name }}]")
    BashOperator(task_id="undefined_attribute", bash_command="echo [{{ params.no_such_name }}]")
    BashOperator(task_id="broken", bash_command="echo {{ ds ", trigger_rule="all_done")
    EmptyOperator(task_id="end", trigger_rule="all_done")
