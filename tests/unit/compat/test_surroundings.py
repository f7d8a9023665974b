"""What lies beside DAG files: plugins, secrets backends, ignore files, connections in the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.core.dag import airflow_gate, dialect, loading, plugins, secrets_backends
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowNotFoundException
from opskit.core.dag.ignore_files import files_below
from opskit.core.dag.model import DAG
from opskit.core.dag.runtime import MemoryStore, set_store
from opskit.core.dag.variable import Variable
from opskit.errors import ConfigError, DagInvalid
from tests.modules import forget_modules_of


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    set_store(MemoryStore())
    yield
    set_store(None)
    plugins.forget()
    secrets_backends.configure("")
    airflow_gate.close_gate()
    forget_modules_of(tmp_path)


def _load(folder: Path, text: str, **options: str) -> list[DAG]:
    dags = folder / "dags"
    dags.mkdir(exist_ok=True)
    file = dags / "file_of_test.py"
    file.write_text(text)
    return loading.load_file(file, dags, **options)


_PLUGIN = """
from airflow.listeners import hookimpl
from airflow.models import BaseOperator
from airflow.plugins_manager import AirflowPlugin

class GreetOperator(BaseOperator):
    def execute(self, context):
        return "hello"

def shout(text):
    return text.upper()

class Listener:
    heard = []
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        self.heard.append((previous_state, task_instance))
    def on_task_instance_failed(self, task_instance):
        raise AssertionError("it is not marked")

class Plugin(AirflowPlugin):
    name = "greetings"
    operators = [GreetOperator]
    macros = [shout]
    listeners = [Listener()]
"""


def test_a_plugin_gives_operators_macros_and_listeners(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "greet.py").write_text(_PLUGIN)
    [dag] = _load(
        tmp_path,
        "from airflow import DAG\n"
        "from airflow.operators.greetings import GreetOperator\n"
        "from airflow.macros.greetings import shout\n"
        "import greet\n"
        "assert greet.GreetOperator is GreetOperator\n"
        "with DAG('with_plugin') as dag: GreetOperator(task_id='greet', doc=shout('x'))\n",
        plugins_folder=str(folder),
    )
    assert [task.task_type for task in dag.tasks] == ["GreetOperator"]
    from opskit.core.dag import macros

    assert macros.greetings.shout("loud") == "LOUD"
    manager = plugins.listener_manager()
    assert manager.hears("on_task_instance_success") and not manager.hears("on_task_instance_failed")
    manager.tell("on_task_instance_success", previous_state="running", task_instance="ti", session=None)
    manager.tell("on_task_instance_failed", task_instance="ti")
    assert sys.modules["greet"].Listener.heard == [("running", "ti")]
    assert plugins.sources() == [str(folder / "greet.py")]


def test_a_plugin_that_can_not_be_loaded_is_named_and_keeps_no_dag_away(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "broken_plugin.py").write_text("import there_is_no_such_module\n")
    [dag] = _load(tmp_path, "from opskit import DAG\ndag = DAG('all_the_same')\n", plugins_folder=str(folder))
    assert dag.dag_id == "all_the_same"
    assert "there_is_no_such_module" in plugins.import_errors[str(folder / "broken_plugin.py")]


_LISTENING = """
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

class Listener:
    heard = []
    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        self.heard.append((task_instance.task_id, "running"))
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        self.heard.append((task_instance.task_id, "success"))
    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        self.heard.append((task_instance.task_id, str(error)))
        raise RuntimeError("what a listener raises changes nothing")
    @hookimpl
    def on_dag_run_failed(self, dag_run, msg):
        self.heard.append((dag_run.dag_id, "run failed"))

class Plugin(AirflowPlugin):
    name = "listening"
    listeners = [Listener()]
"""


def test_listeners_hear_of_task_instances_and_runs(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "listening_plugin.py").write_text(_LISTENING)
    [dag] = _load(
        tmp_path,
        "from airflow.decorators import dag, task\n"
        "@dag('listened')\n"
        "def made():\n"
        "    @task\n"
        "    def good(): return 1\n"
        "    @task\n"
        "    def bad(_): raise ValueError('on purpose')\n"
        "    bad(good())\n"
        "made()\n",
        plugins_folder=str(folder),
    )
    assert dag.test().state == "failed"
    assert sys.modules["listening_plugin"].Listener.heard == [
        ("good", "running"),
        ("good", "success"),
        ("bad", "running"),
        ("bad", "on purpose"),
        ("listened", "run failed"),
    ]
    plugins.listener_manager().muted = True
    dag.test()
    plugins.listener_manager().muted = False
    assert len(sys.modules["listening_plugin"].Listener.heard) == 5
    from opskit.core.dag import serialization

    assert serialization.serialize(dag)["has_on_failure_callback"] is True
    assert "has_on_success_callback" not in serialization.serialize(dag)


_BACKEND = """
from airflow.models import Connection
from airflow.secrets import BaseSecretsBackend

class Vault(BaseSecretsBackend):
    def __init__(self, prefix):
        self.prefix = prefix
    def get_conn_value(self, conn_id):
        if conn_id == "broken":
            raise RuntimeError("the vault is closed")
        return f"http://{self.prefix}.example/" if conn_id == "kept" else None
    def get_variable(self, key):
        return f"{self.prefix} says {key}" if key == "kept" else None
"""


def test_a_secrets_backend_is_asked_before_the_environment_and_the_metastore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "my_vault.py").write_text(_BACKEND)
    monkeypatch.setenv("AIRFLOW_VAR_KEPT", "from the environment")
    monkeypatch.setenv("AIRFLOW_VAR_OTHER", "from the environment")
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", '{"conn_type": "ssh", "host": "spare"}')
    _load(
        tmp_path,
        "from opskit import DAG\ndag = DAG('d')\n",
        secrets_backend="my_vault.Vault",
        secrets_backend_kwargs='{"prefix": "vault"}',
    )
    assert Variable.get("kept") == "vault says kept"
    assert Variable.get("other") == "from the environment"
    assert Connection.get("kept").host == "vault.example"
    assert Connection.get("broken").host == "spare"
    with pytest.raises(AirflowNotFoundException):
        Connection.get("nowhere")


def test_a_secrets_backend_that_does_not_exist_is_a_wrong_configuration(tmp_path: Path) -> None:
    _load(tmp_path, "from opskit import DAG\ndag = DAG('d')\n", secrets_backend="no_such_vault.Vault")
    with pytest.raises(ConfigError, match="no_such_vault"):
        Variable.get("x")


_XCOMS = """
from airflow.models.xcom import BaseXCom

KEPT = {}

class Elsewhere(BaseXCom):
    @staticmethod
    def serialize_value(value, key=None, task_id=None, dag_id=None, run_id=None, map_index=None):
        if isinstance(value, dict):
            KEPT[f"{task_id}/{key}"] = value
            value = f"kept://{task_id}/{key}"
        return BaseXCom.serialize_value(value)
    @staticmethod
    def deserialize_value(result):
        value = BaseXCom.deserialize_value(result)
        if isinstance(value, str) and value.startswith("kept://"):
            return KEPT[value.removeprefix("kept://")]
        return value
"""


def test_a_backend_of_xcoms_keeps_their_values_elsewhere(tmp_path: Path) -> None:
    from opskit.core.dag import lengths, xcom_backend

    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "my_xcoms.py").write_text(_XCOMS)
    try:
        [dag] = _load(
            tmp_path,
            "from airflow.decorators import dag, task\n"
            "@dag('with_backend')\n"
            "def made():\n"
            "    @task\n"
            "    def many(): return {'a': 1}\n"
            "    @task\n"
            "    def count(found): return found['a'] + 1\n"
            "    count(many())\n"
            "made()\n",
            xcom_backend="my_xcoms.Elsewhere",
        )
        ran = dag.test()
        assert ran.state == "success", ran.reasons
        assert sys.modules["my_xcoms"].KEPT == {"many/return_value": {"a": 1}}
        kept = ran.xcoms["many"]["return_value"]
        assert bytes.fromhex(kept["__data__"]["__data__"]) == b'"kept://many/return_value"'
        assert lengths.of_value(kept) == 1
    finally:
        xcom_backend.configure("")


def test_the_setting_decides_the_dialect_of_files_that_import_airflow(tmp_path: Path) -> None:
    [dag] = _load(tmp_path, "from airflow import DAG\ndag = DAG('d')\n", airflow_dialect="3")
    assert dag.dialect == 3
    [dag] = _load(tmp_path, "from opskit import DAG\ndag = DAG('d')\n", airflow_dialect="3")
    assert dag.dialect is None
    assert dialect.current() is None


def test_regexps_of_an_ignore_file_are_searched_below_its_folder(tmp_path: Path) -> None:
    for name in ("keep.py", "old/keep_too.py", "old/test_x.py", "sub/old/gone.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".airflowignore").write_text("test_.*\n")
    (tmp_path / "sub" / ".airflowignore").write_text("^old/\n# a remark\n")
    found = [path.removeprefix(f"{tmp_path}/") for path in files_below(str(tmp_path), "regexp")]
    assert sorted(found) == ["keep.py", "old/keep_too.py"]


def test_an_archive_is_loaded_with_the_modules_in_it(tmp_path: Path) -> None:
    import zipfile

    from opskit.core.scheduler.dag_folder import list_dag_folder, read_content

    folder = tmp_path / "dags"
    folder.mkdir()
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.writestr("first.py", "from airflow import DAG\nimport within.deep as d\ndag = DAG(d.NAME)\n")
        archive.writestr("second.py", "from airflow.sdk import DAG\nwith DAG('second'): pass\n")
        archive.writestr("no_dags.py", "raise RuntimeError('it is not loaded')\n")
        archive.writestr("within/__init__.py", "")
        archive.writestr("within/deep.py", "NAME = 'named_within'\n")
    (folder / "no_archive.zip").write_bytes(b"dag airflow")
    assert sorted(list_dag_folder(folder).files) == ["no_archive.zip", "packed.zip"]
    assert read_content(folder, "packed.zip").may_define_dags
    assert not read_content(folder, "no_archive.zip").may_define_dags
    dags = loading.load_file(folder / "packed.zip", folder)
    assert {dag.dag_id: (dag.dialect, dag.relative_fileloc) for dag in dags} == {
        "named_within": (2, "packed.zip"),
        "second": (3, "packed.zip"),
    }


def test_the_dag_of_a_real_airflow_is_told_apart(tmp_path: Path) -> None:
    text = "DAG = type('DAG', (), {'__module__': 'airflow.models.dag'})\ndag = DAG()\n"
    with pytest.raises(DagInvalid, match="installed here"):
        _load(tmp_path, text)


def test_nothing_is_shadowed_where_airflow_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opskit.compat import import_hook

    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow" / "__init__.py").write_text("WHO = 'the real one'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    airflow_gate.open_gate("/somewhere/else")
    import_hook.forget()
    import airflow  # type: ignore[import-not-found,unused-ignore]

    assert airflow.WHO == "the real one"


def test_a_folder_named_airflow_beside_dag_files_is_no_airflow(tmp_path: Path) -> None:
    (tmp_path / "dags" / "airflow").mkdir(parents=True)
    (tmp_path / "dags" / "airflow" / "__init__.py").touch()
    [dag] = _load(tmp_path, "from airflow import DAG\ndag = DAG('d')\n")
    assert dag.dag_id == "d"


def test_policies_of_the_config_folder_see_change_and_forbid(tmp_path: Path) -> None:
    from opskit.core.dag import policies

    config = tmp_path / "config"
    config.mkdir()
    (config / "airflow_local_settings.py").write_text(
        "from airflow.exceptions import AirflowClusterPolicySkipDag, AirflowClusterPolicyViolation\n"
        "def dag_policy(dag):\n"
        "    if dag.dag_id == 'left_out': raise AirflowClusterPolicySkipDag\n"
        "    if not dag.tags: raise AirflowClusterPolicyViolation('it needs tags')\n"
        "def task_policy(task):\n"
        "    task.retries = 7\n"
    )
    text = (
        "from airflow import DAG\n"
        "from airflow.operators.empty import EmptyOperator\n"
        "with DAG('changed', tags=['x']): EmptyOperator(task_id='a')\n"
        "with DAG('left_out'): pass\n"
    )
    try:
        [dag] = _load(tmp_path, text, config_folder=str(config))
        assert (dag.dag_id, dag.get_task("a").retries) == ("changed", 7)
        with pytest.raises(DagInvalid, match="it needs tags"):
            _load(tmp_path, text.replace(", tags=['x']", ""), config_folder=str(config))
    finally:
        policies.forget()


def test_a_bag_of_dags_leaves_the_file_that_asks_for_it_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "others"
    other.mkdir()
    (other / "one.py").write_text("from airflow import DAG\nwith DAG('one'): pass\n")
    (other / "broken.py").write_text("from airflow import DAG\nraise ValueError('no')\n")
    (other / "no_dags.py").write_text("raise RuntimeError('it mentions neither')\n")
    [dag] = _load(
        tmp_path,
        "from airflow import DAG\n"
        "from airflow.models import DagBag\n"
        "from airflow.operators.empty import EmptyOperator\n"
        "with DAG('outer'):\n"
        f"    bag = DagBag({str(other)!r})\n"
        "    EmptyOperator(task_id='_'.join(bag.dag_ids))\n"
        "assert list(bag.import_errors)[0].endswith('broken.py')\n",
    )
    assert (dag.dag_id, dag.task_ids) == ("outer", ["one"])
