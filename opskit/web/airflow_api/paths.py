"""What may stand in paths."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

MAP_INDEX = "{map_index:index}"
"""So that `…/{task_id}/listMapped` and its like are no map_index, whichever is looked up first."""


class _Index(Convertor[int]):
    regex = "-?[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("index", _Index())
