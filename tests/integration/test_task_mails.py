"""Mails of tasks, to a real SMTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag import runtime
from opskit.core.dag.mail import build_mime_message, get_email_address_list, send_email
from opskit.operators import EmailOperator
from tests.smtp import Mailbox, smtp_server


@pytest.fixture
def mailbox(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A server that only the connection `post` knows."""
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    runtime.set_store(runtime.MemoryStore())
    with smtp_server(password="geheim") as server:
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.port,
            "login": "me",
            "password": "geheim",
            "extra": {"disable_tls": True, "disable_ssl": True, "from_email": "dags@example.com"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_POST", json.dumps(connection))
        yield server
    runtime.set_store(None)


def test_a_task_sends_a_mail_with_attachments_to_all_kinds_of_recipients(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "ré.csv").write_text("a;b\n")
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        EmailOperator(
            task_id="t",
            to="a@example.com; b@example.com",
            cc=["c@example.com"],
            bcc="hidden@example.com",
            subject="Run {{ run_id }}",
            html_content="<b>Grüße, {{ dag.dag_id }}</b>",
            files=[str(tmp_path / "ré.csv")],
            conn_id="post",
            custom_headers={"X-Run": "1"},
        )
    run = dag.test()
    assert (run.state, run.reasons) == ("success", {})
    [message] = mailbox.messages
    assert mailbox.logins == [("me", "geheim")]
    assert mailbox.senders == ["dags@example.com"]
    assert mailbox.recipients == [["a@example.com", "b@example.com", "c@example.com", "hidden@example.com"]]
    assert (message["To"], message["Cc"]) == ("a@example.com, b@example.com", "c@example.com")
    assert message["Subject"].startswith("Run manual__")
    assert message["X-Run"] == "1"
    assert "hidden" not in str(message)
    body, attachment = message.iter_parts()
    assert body.get_content().strip() == "<b>Grüße, d</b>"
    assert (attachment.get_filename(), attachment.get_content()) == ("ré.csv", b"a;b\n")


def test_a_mail_that_is_refused_fails_the_task_with_the_reason(mailbox: Mailbox) -> None:
    mailbox.refuse = True
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        EmailOperator(task_id="t", to="a@example.com", subject="s", html_content="x", conn_id="post")
    run = dag.test()
    assert run.state == "failed"
    assert "did not take the mail to a@example.com" in run.reasons["t"]


def test_a_wrong_password_is_not_told(mailbox: Mailbox) -> None:
    mailbox.password = "other"
    with pytest.raises(Exception, match="refused the login") as caught:
        send_email("a@example.com", "s", "x", conn_id="post")
    assert "geheim" not in str(caught.value)


def test_nothing_is_sent_without_a_recipient_or_when_it_is_a_dry_run(mailbox: Mailbox) -> None:
    send_email("a@example.com", "s", "x", conn_id="post", dryrun=True)
    with pytest.raises(Exception, match="has no recipient"):
        send_email([], "s", "x", conn_id="post")
    assert mailbox.messages == []


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [("a@x, b@x;c@x ", ["a@x", "b@x", "c@x"]), (["a@x,b@x"], ["a@x", "b@x"]), ((), []), ("", [])],
)
def test_addresses_come_in_texts_and_lists(addresses: Any, expected: list[str]) -> None:
    assert get_email_address_list(addresses) == expected


@pytest.mark.parametrize("addresses", [3, [None]])
def test_addresses_that_are_no_texts_are_refused(addresses: Any) -> None:
    with pytest.raises(TypeError):
        get_email_address_list(addresses)


def test_a_subject_can_not_smuggle_headers() -> None:
    message, recipients = build_mime_message("me@x", "a@x", "one\nBcc: evil@x", "y")
    assert message["Subject"] == "one Bcc: evil@x"
    assert recipients == ["a@x"]
