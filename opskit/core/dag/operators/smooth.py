"""SmoothOperator: writes one line to the log."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.base_operator import BaseOperator


class SmoothOperator(BaseOperator):
    """Names a song in the log."""

    ui_color = "#e8f7e4"
    yt_link = "https://www.youtube.com/watch?v=4TYv2PhG89A"

    def execute(self, context: Any) -> None:
        self.log.info("Enjoy Sade - Smooth Operator: %s", self.yt_link)
