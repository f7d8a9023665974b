"""Texts that are written once."""

from __future__ import annotations

from opskit.web.texts import Texts


def test_what_is_as_it_was_is_not_written_again_and_what_differs_is() -> None:
    texts, written = Texts(), []

    def write(value: list[int]) -> str:
        written.append(value)
        return str(value)

    assert [texts.get("a", value, write) for value in ([1], [1], [2], [1])] == ["[1]", "[1]", "[2]", "[1]"]
    assert written == [[1], [2], [1]]
    assert texts.get("b", [1], write) == "[1]"
    assert len(written) == 4
