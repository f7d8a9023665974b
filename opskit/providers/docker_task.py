"""`@task.docker`: a function that the Python of a container runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opskit.core.dag.operators.container_function import RESULT_PATH, ContainerFunction
from opskit.providers.docker import DockerOperator


class _DockerDecoratedOperator(ContainerFunction, DockerOperator):
    """The image needs a `python_command` only; what the function returns comes back through the serializer."""

    template_fields: Sequence[str] = (*ContainerFunction.template_fields, *DockerOperator.template_fields)
    custom_operator_name = "@task.docker"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            kwargs_to_upstream={"retrieve_output": True, "retrieve_output_path": RESULT_PATH, "command": None}, **kwargs
        )

    def execute(self, context: Any) -> Any:
        self.environment = {**self.environment, **self.call_environment(context)}
        self.command = self.call_command()
        return super().execute(context)
