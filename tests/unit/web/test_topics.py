"""What one can watch, and who may."""

from __future__ import annotations

import pytest

from opskit.errors import UsageError
from opskit.web import topics
from opskit.web.faults import Forbidden
from opskit.web.identity import ROLES, Who
from opskit.web.topics import Topic


def test_ids_survive_in_a_topic_whatever_they_hold() -> None:
    for parts in (("a",), ("d", "manual__2026-03-29T06:30:00+00:00"), ("d", "a/b%2F?&ü", "t.x", "-1")):
        kind = {1: "dag", 2: "run", 4: "ti"}[len(parts)]
        assert topics.read(topics.topic_text(kind, *parts)) == Topic(kind, parts)
    assert topics.read("home") == Topic("home")


@pytest.mark.parametrize(
    "text",
    ["", "dag:", "dag:a/b", "run:a", "ti:a/b/c", "ti:a/b/c/x", "home:a", "users", "dag:a%00b", "dag:" + "x" * 5000],
)
def test_what_is_no_topic_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        topics.read(text)


def test_one_may_watch_what_one_may_read() -> None:
    viewer, public = Who("v", ("Viewer",), ROLES["Viewer"]), Who("p", ("Public",), ROLES["Public"])
    one_dag = Who("o", ("Own",), frozenset({("can_read", "DAG:mine")}))
    for text in ("home", "dags", "answers", "dag:mine", "run:mine/r", "ti:mine/r/t/-1"):
        topics.require(viewer, topics.read(text))
    topics.require(one_dag, topics.read("dags"))
    topics.require(one_dag, topics.read("dag:mine"))
    for who, text in (
        (viewer, "operations"),
        (public, "dags"),
        (public, "dag:mine"),
        (one_dag, "dag:other"),
        (one_dag, "answers"),
        (one_dag, "run:mine/r"),
        (one_dag, "ti:mine/r/t/-1"),
    ):
        with pytest.raises(Forbidden):
            topics.require(who, topics.read(text))
