"""EmptyOperator: a task that does nothing; the scheduler ends it without a process."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.base_operator import BaseOperator


class EmptyOperator(BaseOperator):
    """A joint between other tasks."""

    ui_color = "#e8f7e4"
    inherits_from_empty_operator = True

    def execute(self, context: Any) -> None:
        return None
