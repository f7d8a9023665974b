"""DAG files import Airflow's names, in each of its generations. Each case runs in a process of its own, as DAG files
do: what it imports must not be seen by other tests."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

_LOAD = """
import json, sys
from opskit.core.dag.loading import load_file
from opskit.errors import DagInvalid
def tell(path):
    try:
        dags = load_file(path, sys.argv[1])
    except DagInvalid as error:
        return {"error": error.message}
    module = next(m for n, m in sys.modules.items() if n.startswith("unusual_prefix") and m.__file__ == path)
    return {
        "dags": {dag.dag_id: [t.task_type for t in dag.tasks] for dag in dags},
        "dialects": [dag.dialect for dag in dags],
        "seen": getattr(module, "SEEN", None),
        "compat": "opskit.compat" in sys.modules,
    }
print(json.dumps([tell(path) for path in sys.argv[2:]]))
"""


def load(folder: Path, *files: str) -> list[dict]:  # type: ignore[type-arg]
    """What became of these files, each loaded in the same process."""
    paths = []
    for number, text in enumerate(files):
        path = folder / f"file_{number}.py"
        path.write_text(textwrap.dedent(text))
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder), *paths], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


_OLD = """
from airflow import DAG
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.python_operator import PythonOperator
from airflow.utils.dates import days_ago
from airflow.exceptions import AirflowSkipException
with DAG("old", start_date=days_ago(2)):
    BashOperator(task_id="a", bash_command="true") >> DummyOperator(task_id="b")
    PythonOperator(task_id="c", python_callable=print)
"""
_MIDDLE = """
from airflow.decorators import dag, task
from airflow.models import Variable
from airflow.models.dag import DAG
from airflow.operators.empty import EmptyOperator
import airflow.operators.bash as bash
@dag("middle")
def made():
    EmptyOperator(task_id="a") >> bash.BashOperator(task_id="b", bash_command="true")
made()
"""
_NEW = """
from airflow.sdk import DAG, Variable, task
from airflow.providers.standard.operators.bash import BashOperator
with DAG("new"):
    BashOperator(task_id="a", bash_command="true")
"""
_OWN = """
from opskit import DAG
from opskit.operators import BashOperator
# Nothing here is of airflow.
with DAG("own"):
    BashOperator(task_id="a", bash_command="true")
"""


def test_the_three_generations_of_import_paths_lead_to_the_same_operators_each_in_its_dialect(
    tmp_path: Path,
) -> None:
    old, middle, new, own = load(tmp_path, _OLD, _MIDDLE, _NEW, _OWN)
    assert old["dags"] == {"old": ["BashOperator", "EmptyOperator", "PythonOperator"]}
    assert middle["dags"] == {"middle": ["EmptyOperator", "BashOperator"]}
    assert new["dags"] == {"new": ["BashOperator"]}
    assert [answer["dialects"] for answer in (old, middle, new, own)] == [[2], [2], [3], [None]]


def test_a_file_that_imports_only_opskit_does_not_load_the_aliases(tmp_path: Path) -> None:
    [answer] = load(tmp_path, _OWN)
    assert answer["compat"] is False


def test_a_module_of_the_dag_folder_decides_the_dialect_where_the_file_does_not(tmp_path: Path) -> None:
    (tmp_path / "shared_by_dags.py").write_text("from airflow.sdk import DAG, task\n")
    [answer] = load(tmp_path, "from shared_by_dags import DAG\nwith DAG('through_a_module'): pass\n")
    assert answer["dialects"] == [3]


def test_a_name_that_there_is_not_names_the_nearest(tmp_path: Path) -> None:
    cases = {
        "import airflow.operators.bash_operater": "airflow.operators.bash_operator",
        "from airflow.models import Vriable": "airflow.models.Variable",
        "from airflow.operators.bash import PythonOperator": "PythonOperator",
        "import airflow.providers.yandex.hooks.yandex": "apache-airflow-providers-yandex",
    }
    for answer, words in zip(load(tmp_path, *cases), cases.values(), strict=True):
        assert "opskit has no" in answer["error"] and words in answer["error"]
        assert "opskit airflow check" in answer["error"]


def test_modules_behave_as_modules_do(tmp_path: Path) -> None:
    [answer] = load(
        tmp_path,
        """
        import importlib.util, pickle, airflow
        from airflow import DAG
        from airflow.models import *
        from airflow.operators.empty import EmptyOperator
        SEEN = {
            "version": airflow.__version__,
            "attribute": airflow.utils.dates.days_ago(0).tzinfo is not None,
            "star": Variable.__name__,
            "unknown": importlib.util.find_spec("airflow.unknown") is None,
            "known": importlib.util.find_spec("airflow.models").name,
            "hasattr": [hasattr(airflow, "DAG"), hasattr(airflow, "nothing")],
            "pickled": pickle.loads(pickle.dumps(EmptyOperator)) is EmptyOperator,
            "listed": "BaseOperator" in dir(airflow.models),
        }
        """,
    )
    assert answer["seen"] == {
        "version": "2.11.2",
        "attribute": True,
        "star": "Variable",
        "unknown": True,
        "known": "airflow.models",
        "hasattr": [True, False],
        "pickled": True,
        "listed": True,
    }
