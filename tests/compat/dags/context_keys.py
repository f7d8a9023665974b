"""What the context holds, with its types and values."""

from datetime import datetime

from airflow import DAG
from airflow.operators.python import PythonOperator, get_current_context

KEYS = ["ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "run_id", "task_instance_key_str"]
TIMES = ["logical_date", "data_interval_start", "data_interval_end"]
OBJECTS = ["dag", "dag_run", "task", "ti", "task_instance", "params", "macros", "var", "conn", "inlets", "outlets"]


def texts(**context):
    return {key: str(context.get(key)) for key in KEYS if key != "run_id"}


def times(**context):
    return {key: context[key].isoformat() for key in TIMES}


def present(**context):
    return [key for key in OBJECTS if key in context]


def same(ti, task_instance, task, dag, dag_run):
    return [ti is task_instance, ti.task is task, task.dag_id == dag.dag_id, ti.dag_id, ti.run_id == dag_run.run_id]


def instance(ti):
    return [
        ti.task_id,
        ti.dag_id,
        ti.try_number,
        ti.map_index,
        ti.max_tries,
    ]


def run(dag_run):
    return [dag_run.dag_id, str(dag_run.run_type), dag_run.conf, dag_run.logical_date.isoformat()]


def current():
    context = get_current_context()
    return [context["ds"], context["ti"].task_id]


def positional(ds, *, ts):
    return [ds, ts]


def prefers_own(ds="own", unknown="default"):
    return [str(ds), unknown]


with DAG("context_keys", schedule="0 0 * * *", start_date=datetime(2024, 1, 1), catchup=False) as dag:
    for function in (texts, times, present, same, instance, run, current, positional):
        PythonOperator(task_id=function.__name__, python_callable=function)
    PythonOperator(
        task_id="templated", python_callable=lambda **kwargs: kwargs["templates_dict"], templates_dict={"d": "{{ ds }}"}
    )
    PythonOperator(
        task_id="arguments", python_callable=lambda a, b, ds: [a, b, ds], op_args=["{{ ts }}"], op_kwargs={"b": 1}
    )
