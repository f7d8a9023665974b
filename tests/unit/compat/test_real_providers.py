"""Provider packages that are installed without Airflow: imported from where they lie, on opskit's core."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.core.dag import airflow_gate, loading
from opskit.core.dag.connection import Connection
from opskit.core.dag.runtime import MemoryStore, set_store
from tests.modules import forget_modules_of

_INFO = """
def get_provider_info():
    return {
        "package-name": "apache-airflow-providers-acme",
        "connection-types": [
            {"connection-type": "acme", "hook-class-name": "airflow.providers.acme.hooks.acme.AcmeHook"},
            {"connection-type": "http", "hook-class-name": "airflow.providers.acme.hooks.acme.AcmeHook"},
        ],
    }
"""
_HOOK = """
from airflow import __version__
from airflow.providers.common.compat.sdk import AirflowException, BaseHook, timezone
from airflow.utils.log.logging_mixin import LoggingMixin

class AcmeHook(BaseHook, LoggingMixin):
    conn_name_attr = "acme_conn_id"
    conn_type = "acme"
    hook_name = "Acme"
    def __init__(self, acme_conn_id="acme_default"):
        super().__init__()
        self.acme_conn_id = acme_conn_id
    def get_conn(self):
        return self.get_connection(self.acme_conn_id).host
"""
_OPERATOR = """
from airflow.providers.acme.hooks.acme import AcmeHook
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator

class AcmeOperator(BaseOperator):
    template_fields = ("text",)
    def __init__(self, *, text, **kwargs):
        super().__init__(**kwargs)
        self.text = text
    def execute(self, context):
        hook = BaseHook.get_connection("web").get_hook()
        return [self.text, AcmeHook("web").get_conn(), type(hook).__name__]
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "site" / "airflow" / "providers" / "acme"
    for folder in (package, package / "hooks", package / "operators"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (package / "get_provider_info.py").write_text(_INFO)
    (package / "hooks" / "acme.py").write_text(_HOOK)
    (package / "operators" / "acme.py").write_text(_OPERATOR)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    set_store(MemoryStore())
    yield tmp_path
    set_store(None)
    airflow_gate.close_gate()
    forget_modules_of(tmp_path)


def test_an_operator_of_an_installed_provider_runs_on_the_core(acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opskit.compat.providers_manager import ProvidersManager

    monkeypatch.setattr(ProvidersManager, "_instance", None)
    monkeypatch.setenv("AIRFLOW_CONN_WEB", '{"conn_type": "http", "host": "acme.example"}')
    file = acme / "uses_acme.py"
    file.write_text(
        "from airflow import DAG\n"
        "from airflow.providers.acme.operators.acme import AcmeOperator\n"
        "with DAG('acme', schedule=None):\n"
        "    AcmeOperator(task_id='ask', text='{{ dag.dag_id }}')\n"
    )
    [dag] = loading.load_file(file, acme)
    ran = dag.test()
    assert ran.state == "success", ran.reasons
    # What a real provider asks for a hook gets one of a real provider; what a DAG file asks gets ours.
    assert ran.xcoms["ask"]["return_value"] == ["acme", "acme.example", "AcmeHook"]
    assert type(Connection.get("web").get_hook()).__module__ == "opskit.providers.http"
    assert list(ProvidersManager().hooks) == ["acme", "http"]


def test_a_type_of_connection_that_only_an_installed_provider_knows_gets_its_hook(
    acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opskit.compat.providers_manager import ProvidersManager

    monkeypatch.setattr(ProvidersManager, "_instance", None)
    monkeypatch.setenv("AIRFLOW_CONN_ONLY", "acme://acme.example")
    airflow_gate.open_gate()
    import airflow.providers.acme.hooks.acme  # type: ignore[import-not-found,unused-ignore] # noqa: F401

    hook = Connection.get("only").get_hook()
    assert (type(hook).__name__, hook.get_conn()) == ("AcmeHook", "acme.example")


def test_a_name_that_neither_the_provider_nor_opskit_has_is_told(acme: Path) -> None:
    airflow_gate.open_gate()
    with pytest.raises(ImportError, match="AcmeSensor"):
        from airflow.providers.acme.operators.acme import (  # type: ignore[import-not-found,unused-ignore]
            AcmeSensor,  # noqa: F401
        )
    with pytest.raises(ModuleNotFoundError, match=r"airflow\.providers\.acme\.sensors"):
        import airflow.providers.acme.sensors  # type: ignore[import-not-found,unused-ignore] # noqa: F401
