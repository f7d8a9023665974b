"""Operators that wait for a person: HITLOperator and its kin.

A person's answer is given in a web page that does not exist yet. Until it does, such a task goes on with its defaults
when `response_timeout` is over, and fails at once when it has no defaults to go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowFailException
from opskit.core.dag.operators.branch import BranchMixIn
from opskit.core.dag.operators.python import short_circuit
from opskit.core.dag.params import ParamsDict


class HITLTriggerEventError(AirflowException):
    """The wait for an answer went wrong."""


class HITLTimeoutError(HITLTriggerEventError):
    """Nobody answered in time."""


class HITLRejectException(AirflowException):
    """The answer was no."""


class HITLOperator(BaseOperator):
    """Asks a person to choose among `options` (one, or several with `multiple`), and to fill `params` in. `defaults`
    are taken when `response_timeout` is over. What was chosen is pushed: `chosen_options`, `params_input`,
    `responded_at`, `responded_by_user`."""

    template_fields: Sequence[str] = ("subject", "body")

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
        self.validate_options()
        self.validate_params()
        self.validate_defaults()

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
        if not self.defaults or self.response_timeout is None:
            raise AirflowFailException(
                f"{self.subject!r} asks for a person's answer, which can't be given here yet: set defaults and "
                "response_timeout to go on without one"
            )
        for notifier in self.notifiers:
            notifier(context)
        from opskit.core.dag.triggers.temporal import TimeDeltaTrigger

        self.log.info("Waiting for response until the defaults are taken: %s", self.defaults)
        self.defer(trigger=TimeDeltaTrigger(self.response_timeout), method_name="take_defaults")

    def take_defaults(self, context: Any, event: Any = None) -> Any:
        """Go on when the time is over."""
        answer = {
            "chosen_options": self.defaults,
            "params_input": self.params.dump(),
            "responded_at": datetime.now(UTC),
            "responded_by_user": None,
            "timedout": True,
        }
        return self.execute_complete(context, answer)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Go on with an answer."""
        if "error" in event:
            raise (HITLTimeoutError if event.get("error_type") == "timeout" else HITLTriggerEventError)(event)
        chosen, filled = event["chosen_options"], event["params_input"] or {}
        self.validate_chosen_options(chosen)
        self.validate_params_input(filled)
        return {
            "chosen_options": chosen,
            "params_input": filled,
            "responded_at": event["responded_at"],
            "responded_by_user": event["responded_by_user"],
        }

    def validate_chosen_options(self, chosen_options: list[str]) -> None:
        unknown = set(chosen_options) - set(self.options)
        if unknown:
            raise ValueError(f"Responses {unknown} not in {self.options}")

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        if self.params and params_input and set(self.params) ^ set(params_input):
            raise ValueError(f"params_input {params_input} does not match params {self.params}")


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
