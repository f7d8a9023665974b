"""Good DAG files are loaded together; one with trouble harms no other, and gets the verdict it gets alone."""

from __future__ import annotations

from pathlib import Path

from opskit.config import load
from opskit.core.metastore import schema
from opskit.core.metastore.engine import open_engine
from opskit.platforms.core.dag_files import CoreDagFiles

DAG = """from datetime import datetime
from opskit import DAG
{extra}
dag = DAG({dag_id!r}, start_date=datetime(2024, 1, 1), schedule=None)
"""


def test_each_file_gets_the_verdict_that_it_gets_alone(home: Path, tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{home / 'opskit.db'}")
    schema.migrate(engine)
    engine.dispose()
    folder = tmp_path / "dags"
    for team in ("one", "two"):
        (folder / team).mkdir(parents=True)
        (folder / team / "shared.py").write_text(f"DAG_ID = 'dag_of_{team}'\n")
    trouble = {
        "a_good.py": "",
        "b_exit.py": "import os; os._exit(3)",
        "c_environment.py": "import os; os.environ['TEAM'] = 'c'",
        "d_needs_none.py": "import os; assert 'TEAM' not in os.environ",
        "e_raises.py": "raise RuntimeError('no')",
        "f_asks.py": "from opskit import Variable\nassert Variable.get('unset', default_var='x') == 'x'",
        "g_good.py": "",
    }
    for name, extra in trouble.items():
        (folder / name).write_text(DAG.format(dag_id=name[0], extra=extra))
    for team in ("one", "two"):
        path = "import sys, os; sys.path.insert(0, os.path.dirname(__file__))\nfrom shared import DAG_ID"
        text = DAG.format(dag_id="x", extra=path).replace("'x'", "DAG_ID")
        (folder / team / "dag.py").write_text(text)
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))
    together = {file.path: file for file in CoreDagFiles(load()).load(folder, paths)}
    found = {path: (file.dag_ids, (file.error or "").partition("\n")[0]) for path, file in together.items()}
    assert found["one/dag.py"] == (("dag_of_one",), "")
    assert found["two/dag.py"] == (("dag_of_two",), "")
    assert {path for path, (_, error) in found.items() if error} == {"b_exit.py", "e_raises.py"}
    assert "RuntimeError: no" in found["e_raises.py"][1]
    assert found["g_good.py"] == (("g",), "")
