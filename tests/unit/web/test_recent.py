"""What was made last."""

from __future__ import annotations

from opskit.web.recent import Recent


def test_the_last_used_are_kept_up_to_a_weight_and_always_the_newest() -> None:
    recent: Recent[str] = Recent(6, len)
    recent.put("a", "aaa")
    recent.put("b", "bb")
    assert recent.get("a") == "aaa"
    recent.put("c", "cc")
    assert [recent.get(key) for key in "abc"] == ["aaa", None, "cc"]
    recent.put("d", "d" * 99)
    assert [recent.get(key) for key in "acd"] == [None, None, "d" * 99]
    recent.put("d", "d")
    recent.put("e", "eeeee")
    assert [recent.get(key) for key in "de"] == ["d", "eeeee"]
