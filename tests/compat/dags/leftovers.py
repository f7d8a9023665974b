"""What remains of 1.10: old module paths, provide_context, dag= everywhere, set_upstream, days_ago."""

from datetime import timedelta

from airflow import DAG
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.python_operator import BranchPythonOperator, PythonOperator
from airflow.utils.dates import days_ago

default_args = {
    "owner": "somebody",
    "depends_on_past": False,
    "start_date": days_ago(2),
    "email": ["nobody@example.com"],
    "email_on_failure": False,
    "email_on_retry": False,
    "retries": 1,
    "retry_delay": timedelta(minutes=5),
}

dag = DAG("leftovers", default_args=default_args, description="old", schedule_interval=timedelta(days=1))


def push(**kwargs):
    kwargs["ti"].xcom_push(key="value", value=[1, 2, 3])


def pull(ds, **kwargs):
    return kwargs["ti"].xcom_pull(key="value", task_ids="push")


def with_dict(**kwargs):
    return kwargs["templates_dict"]["name"]


first = DummyOperator(task_id="first", dag=dag)
pushing = PythonOperator(task_id="push", provide_context=True, python_callable=push, dag=dag)
pulling = PythonOperator(task_id="pull", provide_context=True, python_callable=pull, dag=dag)
texts = PythonOperator(
    task_id="texts",
    python_callable=with_dict,
    provide_context=True,
    templates_dict={"name": "{{ params.n }}"},
    params={"n": "x"},
    dag=dag,
)
shell = BashOperator(task_id="shell", bash_command="echo {{ params.my_param }}", params={"my_param": "p"}, dag=dag)
branch = BranchPythonOperator(task_id="branch", python_callable=lambda **_: "left", provide_context=True, dag=dag)
left, right = DummyOperator(task_id="left", dag=dag), DummyOperator(task_id="right", dag=dag)
join = DummyOperator(task_id="join", trigger_rule="none_failed_or_skipped", dag=dag)
first.set_downstream([pushing, shell])
pulling.set_upstream(pushing)
pulling >> branch
branch << texts
branch >> [left, right] >> join
