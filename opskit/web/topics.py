"""What one can watch, and who may: `home`, `dags`, `operations`, `answers`, `dag:<dag_id>`, `run:<dag_id>/<run_id>`,
`ti:<dag_id>/<run_id>/<task_id>/<map_index>`. Parts are percent-encoded, so that an id may hold a slash."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote

from opskit.core.metastore.browsing import pulse
from opskit.core.metastore.engine import Connection
from opskit.errors import UsageError
from opskit.web.identity import READ, Who

_GENERAL = ("home", "dags", "operations", "answers")
_PARTS = {"dag": 1, "run": 2, "ti": 4}
_LONGEST = 3500


@dataclass(frozen=True, slots=True)
class Topic:
    """`kind` and, where it is about one thing, the ids of it."""

    kind: str
    parts: tuple[str, ...] = ()


def topic_text(kind: str, *parts: object) -> str:
    """What a page writes into `data-live-topic`."""
    return f"{kind}:" + "/".join(quote(str(part), safe="") for part in parts) if parts else kind


def read(text: str) -> Topic:
    """UsageError for what is no topic."""
    kind, colon, rest = text.partition(":")
    if not colon and kind in _GENERAL:
        return Topic(kind)
    parts = tuple(unquote(part) for part in rest.split("/"))
    if len(text) > _LONGEST or len(parts) != _PARTS.get(kind) or not all(parts) or "\0" in "".join(parts):
        raise _no_topic()
    if kind == "ti":
        try:
            parts = (*parts[:3], str(int(parts[3])))
        except ValueError:
            raise _no_topic() from None
    return Topic(kind, parts)


def _no_topic() -> UsageError:
    return UsageError(
        "there is no such topic to watch",
        hint="home, dags, operations, answers, dag:<dag_id>, run:<dag_id>/<run_id>, "
        "ti:<dag_id>/<run_id>/<task_id>/<map_index>",
    )


def require(who: Who, topic: Topic) -> None:
    """Forbidden, unless this person may look at what the topic is about."""
    match topic.kind:
        case "operations":
            who.require(READ, "Operations")
        case "answers":
            who.require(READ, "Task Instances")
        case "dags":
            if not who.readable_dags():
                who.require(READ, "DAGs")
        case "dag":
            who.require(READ, "DAGs", topic.parts[0])
        case "run":
            who.require(READ, "DAG Runs", topic.parts[0])
        case "ti":
            who.require(READ, "Task Instances", topic.parts[0])


def fingerprints(connection: Connection, topics: Collection[Topic], jobs: int = 0) -> dict[Topic, str]:
    """The fingerprint of each topic; empty for what is not there. Few statements, whatever the number of topics.

    `jobs`: a number that rises with every change of a job.
    """
    found = dict.fromkeys(topics, "")
    kinds = {topic.kind for topic in topics}
    if kinds & {"home", "dags", "answers"}:
        runs = pulse.of_all_dags(connection)
        found.update((topic, runs) for topic in topics if topic.kind in ("home", "dags", "answers"))
    if "answers" in kinds:
        found[Topic("answers")] += f" {pulse.of_questions(connection)}"
    if kinds & {"home", "operations"}:
        operations = f"{pulse.of_operations(connection)} {pulse.of_processes(connection)} {jobs}"
        found.update((t, f"{found[t]} {operations}") for t in topics if t.kind in ("home", "operations"))
    if "dag" in kinds:
        dags = pulse.of_dags(connection, {topic.parts[0] for topic in topics if topic.kind == "dag"})
        found.update((topic, dags.get(topic.parts[0], "")) for topic in topics if topic.kind == "dag")
    if "run" in kinds:
        asked = {topic: (topic.parts[0], topic.parts[1]) for topic in topics if topic.kind == "run"}
        of_runs = pulse.of_runs(connection, set(asked.values()))
        found.update((topic, of_runs.get(key, "")) for topic, key in asked.items())
    if "ti" in kinds:
        keys = {topic: _task_key(topic) for topic in topics if topic.kind == "ti"}
        of_tasks = pulse.of_task_instances(connection, set(keys.values()))
        found.update((topic, of_tasks.get(key, "")) for topic, key in keys.items())
    return found


def _task_key(topic: Topic) -> pulse.TaskKey:
    dag_id, run_id, task_id, map_index = topic.parts
    return dag_id, run_id, task_id, int(map_index)
