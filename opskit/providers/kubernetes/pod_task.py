"""`@task.kubernetes`: a function that the Python of a pod runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opskit.core.dag.operators.container_function import ContainerFunction
from opskit.providers.kubernetes.pod import XCOM_PATH, KubernetesPodOperator


class _KubernetesDecoratedOperator(ContainerFunction, KubernetesPodOperator):
    """The image needs a `python_command` only. With do_xcom_push what the function returns is pushed, as JSON."""

    template_fields: Sequence[str] = (
        *ContainerFunction.template_fields,
        *(name for name in KubernetesPodOperator.template_fields if name not in ("cmds", "arguments")),
    )
    custom_operator_name = "@task.kubernetes"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.result_as_json = True

    def execute(self, context: Any) -> Any:
        variables = self.call_environment(context)
        if isinstance(self.env_vars, dict):
            self.env_vars = {**self.env_vars, **variables}
        else:
            named = [{"name": name, "value": value} for name, value in variables.items()]
            self.env_vars = [*self.env_vars, *named]
        self.cmds, self.arguments = self.call_command(result=f"{XCOM_PATH}/return.json"), []
        return super().execute(context)
