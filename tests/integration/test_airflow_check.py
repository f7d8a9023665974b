"""`opskit airflow check`: what would run, and what is missing, before anything is moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opskit.cli import run

_GOOD = """
from airflow import DAG
from airflow.operators.bash import BashOperator
with DAG("good"):
    BashOperator(task_id="a", bash_command="true")
"""
_LACKS = """
import no_such_package_at_all
import beside_the_folder.things
from airflow import DAG
from airflow.operators.bash_operater import BashOperator
from airflow.models import Variable
colour = Variable.get("colour")
shade = Variable.get("shade")
with DAG("lacks"):
    BashOperator(task_id="a", bash_command="true", some_conn_id="web")
"""
_BROKEN = """
from airflow import DAG
dag = DAG("broken")
raise ValueError("this file never loads")
"""


def test_each_file_is_loaded_and_all_that_is_missing_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, folder = tmp_path / "home", tmp_path / "airflow_dags"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    monkeypatch.setenv("AIRFLOW_VAR_SHADE", "dark")
    assert run(["db", "migrate"]) == 0
    (tmp_path / "beside_the_folder").mkdir()
    for name, text in (("good", _GOOD), ("lacks", _LACKS), ("broken", _BROKEN)):
        (folder / f"{name}.py").write_text(text)
    capsys.readouterr()
    assert run(["airflow", "check", str(folder), "--output", "json"]) == 5
    files = {file["path"]: file for file in json.loads(capsys.readouterr().out)}
    assert {path: file["state"] for path, file in files.items()} == {
        "good.py": "runs",
        "lacks.py": "lacks",
        "broken.py": "broken",
    }
    assert files["good.py"]["dag_ids"] == ["good"]
    found = [(finding["line"], finding["kind"], finding["when"]) for finding in files["lacks.py"]["findings"]]
    assert found == [
        (2, "package", "load"),
        (3, "package", "load"),
        (5, "airflow", "load"),
        (7, "variable", "load"),
        (10, "connection", "run"),
    ]
    assert f"PYTHONPATH={tmp_path}" in files["lacks.py"]["findings"][1]["to_do"]
    assert "bash_operator" in files["lacks.py"]["findings"][2]["to_do"]
    [error] = files["broken.py"]["findings"]
    assert (error["line"], error["what"]) == (4, "ValueError: this file never loads")
