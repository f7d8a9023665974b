"""When a failed task instance is tried again. Pure; the formula of the exponential back-off is Airflow's."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

LONGEST_BACKOFF = 24 * 60 * 60.0
"""No exponential back-off waits for longer (seconds), as in Airflow."""


def retry_delay(
    *,
    delay: float,
    exponential: bool,
    max_delay: float | None,
    dag_id: str,
    task_id: str,
    logical_date: datetime,
    try_number: int,
    map_index: int = -1,
) -> float:
    """Seconds to wait after the failed try `try_number` (1 is the first).

    Exponential: between delay·2^(try-1) and twice that. Where in between is a hash of the task instance and the try:
    equal for equal input, different for siblings, so that they don't all come back at the same moment. At least 1 s.
    """
    if not exponential:
        return delay  # max_retry_delay bounds the back-off only, as in Airflow
    try:
        least = max(math.ceil(delay * 2 ** (max(try_number, 1) - 1)), 1)
    except OverflowError:
        least = int(LONGEST_BACKOFF)
    if least < LONGEST_BACKOFF:
        from hashlib import sha1

        name = f"{dag_id}#{task_id}#{logical_date}#{try_number}"
        if map_index >= 0:
            name += f"#{map_index}"
        spread = int(sha1(name.encode(), usedforsecurity=False).hexdigest(), 16)
        seconds = min(float(least + spread % least), LONGEST_BACKOFF)
    else:
        seconds = LONGEST_BACKOFF
    return seconds if max_delay is None else min(seconds, max_delay)


def next_retry_at(
    ended_at: datetime,
    *,
    delay: float,
    exponential: bool,
    max_delay: float | None,
    dag_id: str,
    task_id: str,
    logical_date: datetime,
    try_number: int,
    map_index: int = -1,
) -> datetime:
    """The time of the next try, given when the last one ended. Same arguments as `retry_delay`."""
    seconds = retry_delay(
        delay=delay,
        exponential=exponential,
        max_delay=max_delay,
        dag_id=dag_id,
        task_id=task_id,
        logical_date=logical_date,
        try_number=try_number,
        map_index=map_index,
    )
    return ended_at + timedelta(seconds=seconds)
