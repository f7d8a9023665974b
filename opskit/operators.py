"""Operators for DAG files: `from opskit.operators import BashOperator`. Each is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.operators.bash import BashOperator
    from opskit.core.dag.operators.branch import BaseBranchOperator
    from opskit.core.dag.operators.branch_time import BranchDateTimeOperator, BranchDayOfWeekOperator
    from opskit.core.dag.operators.email import EmailOperator
    from opskit.core.dag.operators.empty import EmptyOperator
    from opskit.core.dag.operators.hitl import ApprovalOperator, HITLBranchOperator, HITLEntryOperator, HITLOperator
    from opskit.core.dag.operators.latest_only import LatestOnlyOperator
    from opskit.core.dag.operators.python import BranchPythonOperator, PythonOperator, ShortCircuitOperator
    from opskit.core.dag.operators.smooth import SmoothOperator
    from opskit.core.dag.operators.subdag import SubDagOperator
    from opskit.core.dag.operators.trigger_dagrun import TriggerDagRunOperator
    from opskit.core.dag.operators.virtualenv import (
        BranchExternalPythonOperator,
        BranchPythonVirtualenvOperator,
        ExternalPythonOperator,
        PythonVirtualenvOperator,
    )

_MODULES = {
    "ApprovalOperator": "operators.hitl",
    "BaseBranchOperator": "operators.branch",
    "BaseOperator": "base_operator",
    "BashOperator": "operators.bash",
    "BranchDateTimeOperator": "operators.branch_time",
    "BranchDayOfWeekOperator": "operators.branch_time",
    "BranchExternalPythonOperator": "operators.virtualenv",
    "BranchPythonOperator": "operators.python",
    "BranchPythonVirtualenvOperator": "operators.virtualenv",
    "EmailOperator": "operators.email",
    "EmptyOperator": "operators.empty",
    "ExternalPythonOperator": "operators.virtualenv",
    "HITLBranchOperator": "operators.hitl",
    "HITLEntryOperator": "operators.hitl",
    "HITLOperator": "operators.hitl",
    "LatestOnlyOperator": "operators.latest_only",
    "PythonOperator": "operators.python",
    "PythonVirtualenvOperator": "operators.virtualenv",
    "ShortCircuitOperator": "operators.python",
    "SmoothOperator": "operators.smooth",
    "SubDagOperator": "operators.subdag",
    "TriggerDagRunOperator": "operators.trigger_dagrun",
}
__all__ = [
    "ApprovalOperator",
    "BaseBranchOperator",
    "BaseOperator",
    "BashOperator",
    "BranchDateTimeOperator",
    "BranchDayOfWeekOperator",
    "BranchExternalPythonOperator",
    "BranchPythonOperator",
    "BranchPythonVirtualenvOperator",
    "EmailOperator",
    "EmptyOperator",
    "ExternalPythonOperator",
    "HITLBranchOperator",
    "HITLEntryOperator",
    "HITLOperator",
    "LatestOnlyOperator",
    "PythonOperator",
    "PythonVirtualenvOperator",
    "ShortCircuitOperator",
    "SmoothOperator",
    "SubDagOperator",
    "TriggerDagRunOperator",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'opskit.operators' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"opskit.core.dag.{module}"), name)
    return value
