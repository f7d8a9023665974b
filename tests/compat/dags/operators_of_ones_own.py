"""Own operators, hooks and sensors; hooks before and after execute; what an operator knows of itself."""

from datetime import datetime

from airflow import DAG
from airflow.hooks.base import BaseHook
from airflow.models import BaseOperator
from airflow.models.baseoperator import BaseOperatorLink
from airflow.operators.python import PythonOperator


class Hook(BaseHook):
    conn_name_attr = "own_conn_id"

    def __init__(self, own_conn_id="own"):
        super().__init__()
        self.own_conn_id = own_conn_id

    def greet(self):
        self.log.info("greeting")
        return f"hello from {self.own_conn_id}"


class Link(BaseOperatorLink):
    name = "Somewhere"

    def get_link(self, operator, *, ti_key):
        return "https://example.com"


class Own(BaseOperator):
    template_fields = ("name", "nested")
    template_fields_renderers = {"nested": "json"}
    ui_color = "#fff"
    operator_extra_links = (Link(),)

    def __init__(self, name, nested=None, *, hook="own", **kwargs):
        super().__init__(**kwargs)
        self.name = name
        self.nested = nested
        self.hook = hook
        self.steps = []

    def pre_execute(self, context):
        self.steps.append("pre")

    def execute(self, context):
        self.steps.append("execute")
        return [self.name, self.nested, Hook(self.hook).greet(), self.task_id, self.owner, self.steps]

    def post_execute(self, context, result=None):
        context["ti"].xcom_push(key="post", value=[*self.steps, len(result)])


class Child(Own):
    template_fields = (*Own.template_fields, "more")

    def __init__(self, more="{{ ds_nodash }}", **kwargs):
        super().__init__(name="child {{ ds }}", **kwargs)
        self.more = more

    def execute(self, context):
        return [*super().execute(context)[:2], self.more]


class Silent(BaseOperator):
    def execute(self, context):
        context["task_instance"].xcom_push("key", "value")


with DAG(
    "operators_of_ones_own",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    default_args={"owner": "me", "hook": "given"},
) as dag:
    own = Own(task_id="own", name="{{ task.task_id }}", nested={"a": ["{{ ds }}", 1]})
    child = Child(task_id="child")
    own >> child >> Silent(task_id="silent")
    PythonOperator(task_id="relatives", python_callable=lambda dag: sorted(dag.get_task("own").downstream_task_ids))
    PythonOperator(
        task_id="around", python_callable=lambda task: [type(task).__name__, task.retries, str(task.trigger_rule)]
    )
