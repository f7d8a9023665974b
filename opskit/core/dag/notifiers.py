"""BaseNotifier: a message as a callback, `on_failure_callback=MyNotifier(text="{{ ti }} failed")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging


class BaseNotifier:
    """A subclass names its template fields and sends its message in `notify`. Each call renders anew, so one notifier
    may serve many tasks. What goes wrong is logged."""

    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()

    def __init__(self, **_: Any) -> None:
        """Takes what newer releases of Airflow pass on."""

    @property
    def log(self) -> logging.Logger:
        import logging

        return logging.getLogger(f"airflow.task.notifiers.{type(self).__module__}.{type(self).__name__}")

    def notify(self, context: Any) -> None:
        """Send the message."""
        raise NotImplementedError(f"{type(self).__name__} has no notify()")

    def __call__(self, *args: Any) -> None:
        """Called with a context; with five arguments as an sla_miss_callback."""
        names = ("dag", "task_list", "blocking_task_list", "slas", "blocking_tis")
        context = args[0] if len(args) == 1 else dict(zip(names, args, strict=True))
        ready = self._rendered(context)
        try:
            ready.notify(context)
        except Exception:
            self.log.exception("Failed to send notification")

    def _rendered(self, context: Any) -> BaseNotifier:
        """A copy with its fields rendered, which are in the context as well."""
        copied: BaseNotifier = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        for name in self.template_fields:
            context[name] = getattr(self, name)
        copied.render_template_fields(context)
        return copied

    def get_dag(self) -> Any:
        """The DAG whose templates it renders; None before that."""
        return self.__dict__.get("_dag")

    def get_template_env(self, dag: Any = None) -> Any:
        from opskit.core.dag import templates

        return templates.environment(dag)

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the fields in place."""
        from opskit.core.dag import templates

        self._dag = context["dag"]
        env = jinja_env or self.get_template_env(self._dag)
        for name in self.template_fields:
            value = getattr(self, name, None)
            if value is not None:
                rendering: Any = self
                setattr(self, name, templates.render(value, context, rendering, env))
