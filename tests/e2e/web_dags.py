"""DAG files of the stories that are told in the browser, and of the screenshots in docs/."""

from __future__ import annotations

from pathlib import Path

NIGHTLY = '''
"""Loads last night's orders into the warehouse."""
from datetime import datetime, timedelta

from opskit import DAG, TaskGroup, task
from opskit.operators import BashOperator, EmptyOperator

with DAG(
    "nightly_orders",
    description="Last night's orders into the warehouse",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["warehouse", "tier1"],
    default_args={"owner": "data-platform", "retries": 1, "retry_delay": timedelta(milliseconds=200)},
    doc_md="Loads last night's orders. On call: data-platform.",
    is_paused_upon_creation=False,
) as dag:
    begin = EmptyOperator(task_id="begin")
    with TaskGroup("extract") as extract:
        for shop in ("web", "stores", "partners"):
            BashOperator(task_id=shop, bash_command=f"echo {shop}: orders of {{{{ ds }}}}; echo 1250 rows")

    @task
    def regions():
        return ["north", "south", "west"]

    @task
    def convert(region):
        print(f"converting {region}")
        return len(region)

    @task
    def load():
        from opskit import Variable

        rate = Variable.get("exchange_rate", default=None)
        if rate is None:
            raise ValueError("there is no exchange rate: the variable exchange_rate is not set")
        print(f"loaded with rate {rate}")

    report = BashOperator(task_id="report", bash_command="echo reported")
    begin >> extract >> (found := regions())
    convert.expand(region=found) >> load() >> report
'''

PARAMS = '''
"""Recomputes one day of a market."""
from datetime import datetime

from opskit import DAG, Param, task

with DAG(
    "recompute",
    description="One day of a market, again",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    tags=["tools"],
    is_paused_upon_creation=False,
    params={
        "day": Param("2026-01-31", type="string", format="date", title="Day"),
        "market": Param("de", enum=["de", "fr", "it"], title="Market"),
        "steps": Param(3, type="integer", minimum=1, maximum=20, title="Steps", description="How many, 1 to 20"),
        "dry": Param(False, type="boolean", title="Only look"),
    },
) as dag:

    @task
    def work(params=None):
        import time

        for step in range(params["steps"]):
            print(f"step {step + 1} of {params['steps']} for {params['market']}", flush=True)
            time.sleep(0.4)
        print("all steps done")

    work()
'''

CONNECTION = """
from datetime import datetime

from opskit import DAG, task

with DAG("uses_a_connection", schedule=None, start_date=datetime(2026, 1, 1), is_paused_upon_creation=False) as dag:

    @task
    def ask():
        from opskit.hooks import BaseHook

        found = BaseHook.get_connection("warehouse")
        print(f"{found.conn_type}://{found.login}@{found.host}:{found.port}/{found.schema}")
        assert found.password == "a secret of many letters"

    ask()
"""

SLOW = """
from datetime import datetime

from opskit import DAG
from opskit.operators import BashOperator

with DAG("hourly_sync", schedule="0 * * * *", start_date=datetime(2026, 1, 1), catchup=False, tags=["sync"],
         description="What the shops tell each hour", default_args={"owner": "shops"}) as dag:
    BashOperator(task_id="fetch", bash_command="echo fetched") >> BashOperator(task_id="store", bash_command="true")
"""

APPROVAL = """
from datetime import datetime

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLBranchOperator
from airflow.sdk import DAG, Param, task

with DAG("release", schedule=None, start_date=datetime(2026, 1, 1), is_paused_upon_creation=False,
         tags=["tools"], description="Ships what was tested, when somebody says so") as dag:
    approve = ApprovalOperator(
        task_id="approve", subject="Ship {{ run_id }} to the shops?",
        body="The tests of **last night** are green.\\n\\n* 1,250 rows\\n* see [the report](https://example.org/report)",
        params={
            "share": Param(10, type="integer", minimum=1, maximum=100, title="Share", description="Percent of shops"),
            "reason": Param(type="string", title="Reason"),
        },
    )

    @task
    def ship(ti=None):
        answer = ti.xcom_pull(task_ids="approve")
        print(f"shipping to {answer['params_input']['share']} percent, by {answer['responded_by_user']['name']}")

    approve >> ship()
"""

BROKEN = """
from opskit import DAG
import a_module_that_nobody_installed
"""

FILES = {
    "nightly_orders": NIGHTLY,
    "recompute": PARAMS,
    "uses_a_connection": CONNECTION,
    "hourly_sync": SLOW,
    "release": APPROVAL,
}


def write(folder: Path, *, broken: bool = False) -> None:
    """Put the files into a DAG folder; `broken`: and one that can't be loaded."""
    for name, text in {**FILES, **({"broken": BROKEN} if broken else {})}.items():
        (folder / f"{name}.py").write_text(text.lstrip())
