"""What a cluster asks of every DAG and task: the functions of an `airflow_local_settings.py` in the config folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG

_NAME = "airflow_local_settings"
_module: Any = None


def load(config_folder: str) -> None:
    """Import the module, once per process. DagInvalid when it can't be imported: what it asks must not be passed by."""
    global _module
    if _module is not None or not config_folder or not os.path.exists(os.path.join(config_folder, f"{_NAME}.py")):
        return
    from importlib import import_module

    try:
        _module = import_module(_NAME)
    except Exception as error:
        raise DagInvalid(f"{_NAME}.py can't be loaded: {type(error).__name__}: {error}") from error


def forget() -> None:
    global _module
    _module = None


def accepted(dag: DAG) -> bool:
    """Whether the DAG is to be had at all, after dag_policy and task_policy have seen (and perhaps changed) it.

    DagInvalid when one of them forbids it."""
    if _module is None:
        return True
    try:
        for name, things in (("dag_policy", [dag]), ("task_policy", dag.tasks), ("policy", dag.tasks)):
            function: Callable[[Any], Any] | None = getattr(_module, name, None)
            for thing in things if function is not None else ():
                assert function is not None
                function(thing)
    except Exception as error:
        # By their names: the classes lie in a room above this one.
        if type(error).__name__ == "AirflowClusterPolicySkipDag":
            return False
        raise DagInvalid(f"DAG {dag.dag_id}: a policy of {_NAME}.py says: {error}") from error
    return True
