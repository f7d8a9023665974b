"""Files as templates, own macros and filters, own operators with template fields of their own."""

from datetime import datetime

from airflow import DAG
from airflow.models import BaseOperator
from airflow.operators.bash import BashOperator


class Options:
    template_fields = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Options({self.inner!r})"


class Query(BaseOperator):
    template_fields = ("sql", "options")
    template_ext = (".sql",)

    def __init__(self, sql, options=None, **kwargs):
        super().__init__(**kwargs)
        self.sql = sql
        self.options = options

    def execute(self, context):
        inner = self.options.inner if self.options else None
        return [self.sql, inner]


with DAG(
    "templates_files",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    user_defined_macros={"double": lambda number: number * 2, "place": "here"},
    user_defined_filters={"shout": lambda text: text.upper()},
    params={"table": "things"},
) as dag:
    Query(task_id="file", sql="sql/query.sql")
    Query(task_id="included", sql="sql/included.sql")
    Query(task_id="text", sql="SELECT {{ double(2) }} AS {{ place }}", options=Options("{{ ds | shout }}"))
    Query(task_id="several", sql=["sql/query.sql", "SELECT 1"])
    Query(task_id="missing", sql="sql/missing.sql")
    BashOperator(task_id="script", bash_command="script.sh")
    BashOperator(task_id="space", bash_command="echo script.sh ")
