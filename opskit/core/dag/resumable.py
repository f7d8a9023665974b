"""ResumableJobMixin: an operator whose next try takes up the job of the one before, instead of starting another."""

from __future__ import annotations

from typing import Any


class ResumableJobMixin:
    """For an operator that starts one long job elsewhere and waits for it. Its `execute` returns
    `self.execute_resumable(context)`; the id of the job lies in `task_state_store` under `external_id_key`.

    A subclass says how: `submit_job` (its id, plain JSON), `get_job_status`, `is_job_active`, `is_job_succeeded`,
    `poll_until_complete`, `get_job_result`."""

    external_id_key = "remote_job_id"

    def __init__(self, *, durable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.durable = durable

    def execute_resumable(self, context: Any) -> Any:
        """Start the job, or go on with one that is under way; its result. One that has succeeded is not started again,
        one that has failed is."""
        kept = context.get("task_state_store") if self.durable else None
        known = None if kept is None else kept.get(self.external_id_key)
        if known is not None:
            status = self.get_job_status(known, context)
            if self.is_job_active(status):
                return self.poll_until_complete(known, context)
            if self.is_job_succeeded(status):
                return self.get_job_result(known, context)
        job = self.submit_job(context)
        if kept is not None and job is not None:
            kept.set(self.external_id_key, job)
        self.poll_until_complete(job, context)
        return self.get_job_result(job, context)

    def submit_job(self, context: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no submit_job()")

    def get_job_status(self, external_id: Any, context: Any) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no get_job_status()")

    def is_job_active(self, status: str) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no is_job_active()")

    def is_job_succeeded(self, status: str) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no is_job_succeeded()")

    def poll_until_complete(self, external_id: Any, context: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no poll_until_complete()")

    def get_job_result(self, external_id: Any, context: Any) -> Any:
        return None
