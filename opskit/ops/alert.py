"""Sends alerts that no verb sends by itself: a test, and the failure of a systemd unit."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from opskit.config import Config
from opskit.errors import ConfigError
from opskit.system import systemd
from opskit.telemetry import alerts
from opskit.telemetry.alerts import Alert, AlertFailed

_LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class Sent:
    subject: str
    channels: list[str]


def test(config: Config) -> Sent:
    """Send an alert that says it is a test. ConfigError without a channel, AlertFailed when one failed."""
    host = socket.gethostname()
    body = f"This is a test of the alerts of opskit on {host}. If you can read it, they arrive.\n"
    return _send(config, Alert(f"[opskit] {host}: a test", body, "info", f"test:{host}"))


def unit_failed(config: Config, unit: str) -> Sent:
    """Tell that a unit has failed, with its state and its last log lines. Errors as `test`."""
    host = socket.gethostname()
    state = systemd.unit_state(unit)
    lines = [
        f"Unit: {unit}",
        f"State: {state.active_state or 'unknown'} ({state.sub or 'unknown'}), result {state.result or 'unknown'}",
        "",
        "Last log lines:",
        *(f"  {line}" for line in systemd.journal(unit, _LOG_LINES) or ["(none)"]),
        "",
        f"More: systemctl status {unit}; journalctl -u {unit}",
    ]
    body = "\n".join(lines) + "\n"
    return _send(config, Alert(f"[opskit] {host}: {unit} has failed", body, "critical", f"unit:{host}:{unit}"))


def _send(config: Config, alert: Alert) -> Sent:
    failures = alerts.send(config, alert)
    if failures is None:
        raise ConfigError("nobody can be told: no alert channel is set", hint="set alerts.email_to in opskit.toml")
    if failures:
        raise AlertFailed("; ".join(failures))
    return Sent(alert.subject, [channel.name for channel in alerts.channels(config)])
