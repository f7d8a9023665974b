"""Operators that wait for a person: HITLOperator and its kin.

They defer until somebody answers by page or API, or `response_timeout` is over; no process and no slot waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.branch import BranchMixIn
from opskit.core.dag.operators.python import short_circuit
from opskit.core.dag.params import NOTSET, ParamsDict


class HITLTriggerEventError(AirflowException):
    """The wait for an answer went wrong."""


class HITLTimeoutError(HITLTriggerEventError):
    """Nobody answered in time."""


class HITLRejectException(AirflowException):
    """The answer was no."""


class HITLOperator(BaseOperator):
    """Asks a person to choose among `options` (one, or several with `multiple`), and to fill `params` in. `defaults`
    are taken when `response_timeout` is over; without them the task fails then. `assigned_users` (each an `id`, the
    username, and a `name`) are those who may answer; without them everybody who may edit the task instance. What was
    chosen is pushed: `chosen_options`, `params_input`, `responded_at`, `responded_by_user`."""

    template_fields: Sequence[str] = ("subject", "body")
    asks_people = True

    def __init__(
        self,
        *,
        subject: str,
        options: list[str],
        body: str | None = None,
        defaults: str | list[str] | None = None,
        multiple: bool = False,
        params: ParamsDict | dict[str, Any] | None = None,
        notifiers: Any = None,
        assigned_users: Any = None,
        response_timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(params=params, **kwargs)
        # The params of the DAG are among them by now, and are no part of the question.
        of_dag = dict(self._dag.params.items()) if self._dag is not None else {}
        self.params = ParamsDict({name: one for name, one in self.params.items() if of_dag.get(name) is not one})
        if self.execution_timeout and not response_timeout:
            # Airflow's old name for the time that a person has.
            response_timeout, self.execution_timeout = self.execution_timeout, None
        self.response_timeout = response_timeout
        self.subject = subject
        self.body = body
        self.options = list(options)
        self.defaults = [defaults] if isinstance(defaults, str) else defaults
        self.multiple = multiple
        self.notifiers = notifiers if isinstance(notifiers, (list, tuple)) else [notifiers] if notifiers else []
        self.assigned_users = [assigned_users] if isinstance(assigned_users, dict) else assigned_users
        self.hitl_summary_extra: dict[str, Any] = {}
        self.validate_options()
        self.validate_params()
        self.validate_defaults()

    @property
    def hitl_summary(self) -> dict[str, Any]:
        """The question, and what has come of it, for listeners."""
        return {
            "subject": self.subject,
            "body": self.body,
            "options": self.options,
            "defaults": self.defaults,
            "multiple": self.multiple,
            "assigned_users": self.assigned_users,
            "serialized_params": self.serialized_params or None,
            **self.hitl_summary_extra,
        }

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """Name → value, description, schema."""
        return {name: one.dump() for name, one in self.params.items()}

    def validate_options(self) -> None:
        if not self.options:
            raise ValueError('"options" cannot be empty.')

    def validate_params(self) -> None:
        if "_options" in self.params:
            raise ValueError('"_options" is not allowed in params')

    def validate_defaults(self) -> None:
        if self.defaults is None:
            return
        if not set(self.defaults) <= set(self.options):
            raise ValueError(f'defaults "{self.defaults}" should be a subset of options "{self.options}"')
        if not self.multiple and len(self.defaults) > 1:
            raise ValueError('More than one defaults given when "multiple" is set to False.')

    def execute(self, context: Any) -> Any:
        from opskit.core.dag.triggers.hitl import HITLTrigger

        until = datetime.now(UTC) + self.response_timeout if self.response_timeout else None
        self.hitl_summary_extra["timeout_datetime"] = until.isoformat() if until else None
        self.log.info("Waiting for response%s", f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "")
        for notifier in self.notifiers:
            notifier(context)
        params = {
            name: {**one.dump(), **({"required": True} if one.value is NOTSET else {})}
            for name, one in self.params.items()
        }
        self.defer(
            trigger=HITLTrigger(
                subject=self.subject,
                body=self.body,
                options=self.options,
                defaults=self.defaults,
                multiple=self.multiple,
                params=params,
                assigned_users=self.assigned_users,
                timeout_datetime=until,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Go on with an answer."""
        if "error" in event:
            self.hitl_summary_extra["error_type"] = event.get("error_type")
            self.process_trigger_event_error(event)
        chosen, filled = event["chosen_options"], event["params_input"] or {}
        self.validate_chosen_options(chosen)
        self.validate_params_input(filled)
        by = event["responded_by_user"]
        self.log.info("Chosen: %s, %s", ", ".join(chosen), f"by {by['name']}" if by else "as nobody answered in time")
        self.hitl_summary_extra.update(
            chosen_options=chosen,
            params_input=filled,
            responded_at=event["responded_at"].isoformat(),
            responded_by_user=by,
        )
        return {
            "chosen_options": chosen,
            "params_input": filled,
            "responded_at": event["responded_at"],
            "responded_by_user": event["responded_by_user"],
        }

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        """HITLTimeoutError when nobody answered in time, else HITLTriggerEventError."""
        raise (HITLTimeoutError if event.get("error_type") == "timeout" else HITLTriggerEventError)(event)

    def validate_chosen_options(self, chosen_options: list[str]) -> None:
        unknown = set(chosen_options) - set(self.options)
        if unknown:
            raise ValueError(f"Responses {unknown} not in {self.options}")

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        if self.params and params_input and set(self.params) ^ set(params_input):
            raise ValueError(f"params_input {params_input} does not match params {self.params}")
        for name, value in params_input.items():
            self.params[name] = value

    def generate_link_to_ui(
        self,
        *,
        task_instance: Any,
        base_url: str | None = None,
        options: str | list[str] | None = None,
        params_input: dict[str, Any] | None = None,
    ) -> str:
        """The address of the page that answers, with these options chosen and these params filled in. ValueError for
        options or params that there are not, and where neither `base_url` nor webserver.base_url is given."""
        from urllib.parse import quote, urlencode

        from opskit.config import load

        chosen = [options] if isinstance(options, str) else options or []
        if unknown := set(chosen) - set(self.options):
            raise ValueError(f"options {unknown} are not valid options")
        if unknown := set(params_input or ()) - set(self.params):
            raise ValueError(f"params {unknown} are not valid params")
        base = base_url or str(load().get("webserver", "base_url"))
        if not base:
            raise ValueError("Not able to retrieve base_url: give it, or set webserver.base_url")
        parts = [quote(one, safe="+:~") for one in (task_instance.dag_id, task_instance.run_id, task_instance.task_id)]
        query = {"map_index": task_instance.map_index, "tab": "answer", "_options": chosen, **(params_input or {})}
        path = f"/dags/{parts[0]}/runs/{parts[1]}/tasks/{parts[2]}"
        return f"{base.rstrip('/')}{path}?{urlencode(query, doseq=True)}"

    @staticmethod
    def generate_link_to_ui_from_context(
        *,
        context: Any,
        base_url: str | None = None,
        options: list[str] | None = None,
        params_input: dict[str, Any] | None = None,
    ) -> str:
        """As `generate_link_to_ui`, of the task that runs."""
        task = context["task"]
        if not isinstance(task, HITLOperator):
            raise ValueError("This method only supports HITLOperator")
        return task.generate_link_to_ui(
            task_instance=context["task_instance"], base_url=base_url, options=options, params_input=params_input
        )


class ApprovalOperator(HITLOperator):
    """The options are Approve and Reject. A rejection skips what comes after, or fails with fail_on_reject."""

    inherits_from_skipmixin = True
    APPROVE = "Approve"
    REJECT = "Reject"

    def __init__(
        self, *, ignore_downstream_trigger_rules: bool = False, fail_on_reject: bool = False, **kwargs: Any
    ) -> None:
        for name in ("options", "multiple"):
            if name in kwargs:
                raise ValueError(f"Passing {name} to ApprovalOperator is not allowed.")
        super().__init__(options=[self.APPROVE, self.REJECT], multiple=False, **kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules
        self.fail_on_reject = fail_on_reject

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        approved = answer["chosen_options"][0] == self.APPROVE
        if not approved and self.fail_on_reject:
            raise HITLRejectException('Receive "Reject"')
        short_circuit(self, context, approved, self.ignore_downstream_trigger_rules)
        return answer


class HITLBranchOperator(BranchMixIn, HITLOperator):
    """The chosen options are the task_ids to follow, or are mapped to them by `options_mapping`."""

    inherits_from_skipmixin = True

    def __init__(self, *, options_mapping: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options_mapping = options_mapping or {}
        unknown = sorted(set(self.options_mapping) - set(self.options))
        if unknown:
            raise ValueError(f"`options_mapping` contains keys that are not in `options`: {unknown}")
        wrong = [key for key, value in self.options_mapping.items() if not isinstance(value, str)]
        if wrong:
            raise ValueError(f"`options_mapping` values must be strings (task_ids); those of {wrong} are not")

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        chosen = [self.options_mapping.get(option, option) for option in answer["chosen_options"]]
        return self.do_branch(context, chosen)


class HITLEntryOperator(HITLOperator):
    """Asks for params only; its option is OK."""

    OK = "OK"

    def __init__(self, **kwargs: Any) -> None:
        if "options" not in kwargs:
            kwargs["options"] = [self.OK]
            kwargs.setdefault("defaults", [self.OK])
        super().__init__(**kwargs)
