"""What every alert channel must guarantee. E-mail passes it over a real SMTP server, by smtplib and by yagmail."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from opskit.config import load
from opskit.telemetry import alerts
from opskit.telemetry.alerts import Alert, AlertFailed
from opskit.telemetry.email import EmailChannel
from tests.services import missing
from tests.smtp import Mailbox, smtp_server

ALERT = Alert(
    subject="[opskit] host: größer\nthan one line",
    body="Evidence:\n- a <b>line</b> & more\n- größer\n",
    severity="critical",
    key="watchdog:host",
)


@pytest.fixture(params=["smtplib", "yagmail"])
def channel_and_mailbox(request: pytest.FixtureRequest) -> Iterator[tuple[EmailChannel, Mailbox]]:
    with smtp_server(password="right") as mailbox:
        channel = EmailChannel(("ann@example.org", "bob@example.org"), "opskit@example.org", "127.0.0.1", mailbox.port)
        if request.param == "yagmail":
            if importlib.util.find_spec("yagmail") is None:
                missing("yagmail")
            channel = replace(channel, user="account@example.org", password="right", starttls=False)
        yield channel, mailbox


def test_an_alert_arrives_whole(channel_and_mailbox: tuple[EmailChannel, Mailbox]) -> None:
    channel, mailbox = channel_and_mailbox
    channel.send(ALERT)
    (message,) = mailbox.messages
    assert message["Subject"] == "[opskit] host: größer than one line"
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == ALERT.body
    assert message["From"] == "opskit@example.org"
    assert message["X-Priority"] == "1"
    assert mailbox.recipients == [["ann@example.org", "bob@example.org"]]


def test_a_refused_recipient_is_a_failure(channel_and_mailbox: tuple[EmailChannel, Mailbox]) -> None:
    channel, mailbox = channel_and_mailbox
    mailbox.refuse = True
    with pytest.raises(AlertFailed, match="refused"):
        channel.send(ALERT)
    assert mailbox.messages == []


def test_a_server_that_is_down_is_a_failure_that_names_it(channel_and_mailbox: tuple[EmailChannel, Mailbox]) -> None:
    channel, _ = channel_and_mailbox
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(AlertFailed, match=f"127.0.0.1:{port}"):
        replace(channel, port=port).send(ALERT)


def test_a_server_that_says_nothing_is_a_failure_in_time(channel_and_mailbox: tuple[EmailChannel, Mailbox]) -> None:
    channel, _ = channel_and_mailbox
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AlertFailed):
        replace(channel, port=silent.getsockname()[1], timeout_seconds=0.3).send(ALERT)


def test_a_login_happens_and_a_wrong_password_is_not_shown() -> None:
    with smtp_server(password="right") as mailbox:
        for user in ("account@example.org", "account"):
            channel = EmailChannel(
                ("ann@example.org",), "o@example.org", "127.0.0.1", mailbox.port, user, starttls=False
            )
            replace(channel, password="right").send(ALERT)
            assert mailbox.logins[-1] == (user, "right")
            with pytest.raises(AlertFailed) as caught:
                replace(channel, password="wr0ng").send(ALERT)
            assert "wr0ng" not in str(caught.value)
            assert "wr0ng" not in repr(replace(channel, password="wr0ng"))
        assert len(mailbox.messages) == 2


def test_the_password_never_goes_over_a_line_that_was_to_be_encrypted() -> None:
    with smtp_server(password="right") as mailbox:
        for user in ("account@example.org", "account"):
            channel = EmailChannel(("ann@example.org",), "o@example.org", "127.0.0.1", mailbox.port, user, "right")
            with pytest.raises(AlertFailed):
                channel.send(ALERT)
        assert mailbox.logins == []


def test_one_broken_channel_is_told_and_none_is_said() -> None:
    from pathlib import Path

    assert alerts.send(load(Path("/nowhere"), {}), ALERT) is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {
        "OPSKIT__ALERTS__EMAIL_TO": "ann@example.org",
        "OPSKIT__SMTP__SMTP_HOST": "127.0.0.1",
        "OPSKIT__SMTP__SMTP_PORT": str(port),
    }
    failures = alerts.send(load(Path("/nowhere"), environment), ALERT)
    assert failures
    assert "ann@example.org" in failures[0]
