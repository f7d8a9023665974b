"""The operators behind `@task.virtualenv`, `@task.external_python` and their branches."""

from __future__ import annotations

from opskit.core.dag.decorated import _Bound
from opskit.core.dag.operators.virtualenv import (
    BranchExternalPythonOperator,
    BranchPythonVirtualenvOperator,
    ExternalPythonOperator,
    PythonVirtualenvOperator,
)


class _PythonVirtualenvDecoratedOperator(_Bound, PythonVirtualenvOperator):
    """`@task.virtualenv`"""

    custom_operator_name = "@task.virtualenv"


class _PythonExternalDecoratedOperator(_Bound, ExternalPythonOperator):
    """`@task.external_python`"""

    custom_operator_name = "@task.external_python"


class _BranchPythonVirtualenvDecoratedOperator(_Bound, BranchPythonVirtualenvOperator):
    """`@task.branch_virtualenv`"""

    custom_operator_name = "@task.branch_virtualenv"


class _BranchExternalPythonDecoratedOperator(_Bound, BranchExternalPythonOperator):
    """`@task.branch_external_python`"""

    custom_operator_name = "@task.branch_external_python"
