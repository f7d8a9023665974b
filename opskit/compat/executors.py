"""Names of Airflow's executors. Where tasks run is opskit's own affair: as an argument of an operator
(`SubDagOperator`) they are of no effect, as they are in Airflow 2."""

from __future__ import annotations

from typing import Any

__all__ = [
    "BaseExecutor",
    "CeleryExecutor",
    "CeleryKubernetesExecutor",
    "DebugExecutor",
    "ExecutorLoader",
    "GetDefaultExecutor",
    "KubernetesExecutor",
    "LocalExecutor",
    "SequentialExecutor",
    "get_default_executor",
]


class BaseExecutor:
    """Can be made and handed on; runs nothing."""

    is_local = True
    supports_sentry = False

    def __init__(self, parallelism: int = 32, **_: Any) -> None:
        self.parallelism = parallelism

    def __repr__(self) -> str:
        return f"{type(self).__name__}(parallelism={self.parallelism})"


class SequentialExecutor(BaseExecutor):
    pass


class LocalExecutor(BaseExecutor):
    pass


class DebugExecutor(BaseExecutor):
    pass


class CeleryExecutor(BaseExecutor):
    is_local = False


class KubernetesExecutor(BaseExecutor):
    is_local = False


class CeleryKubernetesExecutor(BaseExecutor):
    is_local = False


class ExecutorLoader:
    """What there is by name."""

    @classmethod
    def get_default_executor_name(cls) -> str:
        return "LocalExecutor"

    @classmethod
    def get_default_executor(cls) -> BaseExecutor:
        return LocalExecutor()


def get_default_executor() -> BaseExecutor:
    return ExecutorLoader.get_default_executor()


GetDefaultExecutor = get_default_executor
