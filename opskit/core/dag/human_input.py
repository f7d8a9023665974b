"""What a task asks of a person, and what an answer to it must be, judged without the DAG file.

A question is plain JSON, and travels in the frame of a deferred task (`deferral_frames`):

    {"subject", "body" (text or null), "options": [text, …], "defaults": [text, …] or null, "multiple": bool,
     "params": {name: {"value", "description", "schema", "required"}}, "assigned_users": [{"id", "name"}, …]}

A person's answer comes as `"event": {"answer": {"chosen_options", "params_input", "responded_at" (text),
"responded_by_user": {"id", "name"}}}`, the end of the time as `"event": {"timed_out_at": text}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.params import NOTSET, Param, ParamsDict
from opskit.errors import UsageError

TOO_LATE = "The timeout has passed, and the response has not yet been received."


def params_of(question: Mapping[str, Any]) -> ParamsDict:
    """What is to be filled in, with defaults and rules."""
    made = {}
    for name, one in question["params"].items():
        value = NOTSET if one.get("required") else one["value"]
        made[name] = Param(value, one.get("description"), schema=one.get("schema"))
    return ParamsDict(made)


def default_params(question: Mapping[str, Any]) -> dict[str, Any]:
    """What is taken when nobody fills the params in; None where there is no default."""
    return {name: one["value"] for name, one in question["params"].items()}


def checked(
    question: Mapping[str, Any], chosen: Sequence[str], filled: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """An answer as it is kept: the chosen options in the order of the question, and all params; those that were not
    filled in have their defaults. UsageError, naming what is wrong."""
    options = question["options"]
    unknown = sorted({one for one in chosen if one not in options})
    if unknown:
        raise UsageError(
            f"chosen_options: {', '.join(map(repr, unknown))} can't be chosen",
            hint=f"the options: {', '.join(options)}",
        )
    if not chosen:
        raise UsageError("chosen_options: choose an option", hint=f"the options: {', '.join(options)}")
    if len(set(chosen)) > 1 and not question["multiple"]:
        raise UsageError("chosen_options: only one option can be chosen")
    params = params_of(question)
    strange = sorted(set(filled) - set(params))
    if strange:
        known = f"it asks for {', '.join(params)}" if params else "it asks for none"
        raise UsageError(f"params_input: there is no param {', '.join(strange)}", hint=known)
    try:
        values = params.merged(filled).validate()
    except ParamValidationError as error:
        raise UsageError(f"params_input: {error}") from error
    return [option for option in options if option in chosen], values


def may_answer(question: Mapping[str, Any], username: str) -> bool:
    """Whether this person is among those who are asked, where the task names any: by the `id`, which is the username;
    by the `name` where the id is a number, as Airflow's user database has them."""
    asked = question["assigned_users"]
    return not asked or any(username in (one["id"], one["name"] if one["id"].isdigit() else one["id"]) for one in asked)


def event_of(frame: Mapping[str, Any]) -> dict[str, Any]:
    """What the method that goes on is given as `event`: an answer, the defaults, or an error when there are none."""
    question, event = frame["question"], frame["event"]
    answer = event.get("answer")
    if answer is not None:
        return {
            "chosen_options": list(answer["chosen_options"]),
            "params_input": dict(answer["params_input"]),
            "responded_at": datetime.fromisoformat(answer["responded_at"]),
            "responded_by_user": answer["responded_by_user"],
            "timedout": False,
        }
    if question["defaults"] is None:
        return {"error": TOO_LATE, "error_type": "timeout"}
    return {
        "chosen_options": list(question["defaults"]),
        "params_input": default_params(question),
        "responded_at": datetime.fromisoformat(event["timed_out_at"]),
        "responded_by_user": None,
        "timedout": True,
    }
