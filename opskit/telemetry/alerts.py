"""Tells people: alerts, and the channels that carry them. A channel passes `tests/contracts/test_alert_channel.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from opskit.config import Config
from opskit.errors import RemoteError


@dataclass(frozen=True, slots=True)
class Alert:
    """What happened, for people. Neither subject nor body may hold a secret."""

    subject: str
    body: str
    severity: str
    """info, warning, critical."""
    key: str
    """What it is about: alerts with one key are about one thing."""


class AlertFailed(RemoteError):
    """A channel could not carry an alert; the message says which and why."""


class Channel(Protocol):
    """`send` returns when somebody else has the alert (the mail server took it), and raises AlertFailed otherwise."""

    @property
    def name(self) -> str: ...
    def send(self, alert: Alert) -> None: ...


def channels(config: Config) -> list[Channel]:
    """The channels that the settings name."""
    found: list[Channel] = []
    if config.get("alerts", "email_to"):
        from opskit.telemetry.email import EmailChannel

        found.append(EmailChannel.of(config))
    return found


def send(config: Config, alert: Alert) -> list[str] | None:
    """Send by every channel; what went wrong, a sentence each. None when there is no channel at all."""
    every = channels(config)
    if not every:
        return None
    failures = []
    for channel in every:
        try:
            channel.send(alert)
        except AlertFailed as error:
            failures.append(error.message)
    return failures
