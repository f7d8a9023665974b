"""Mail through a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.core.dag.operators.python import PythonOperator
from opskit.providers.smtp import EmailOperator, SmtpHook, SmtpNotifier, send_smtp_notification
from tests.smtp import Mailbox, smtp_server


@pytest.fixture
def mailbox(connect: Callable[..., Connection], home: Path) -> Iterator[Mailbox]:
    """A server behind the connection smtp_default."""
    with smtp_server(password="pw") as box:
        connect(
            "smtp_default", conn_type="smtp", host="127.0.0.1", port=box.port, login="ada", password="pw",
            extra={"from_email": "dags@example.org", "disable_ssl": True, "disable_tls": "true"},
        )  # fmt: skip
        yield box


def fail() -> None:
    raise ValueError("<b>no</b>")


def test_a_mail_is_sent_over_the_connection(mailbox: Mailbox, dag: DAG, tmp_path: Path) -> None:
    (tmp_path / "report.csv").write_text("a,b")
    EmailOperator(
        task_id="mail",
        to=["a@example.org", "b@example.org"],
        cc="c@example.org",
        bcc="d@example.org",
        subject="Run {{ dag.dag_id }}",
        html_content="<p>{{ task.task_id }}</p>",
        files=[str(tmp_path / "report.csv")],
        custom_headers={"X-Team": "data"},
    )
    result = dag.test()
    assert result.state == "success", result.reasons
    message = mailbox.messages[0]
    assert (message["Subject"], message["From"], message["X-Team"]) == ("Run d", "dags@example.org", "data")
    assert message["Bcc"] is None
    assert sorted(mailbox.recipients[0]) == [f"{name}@example.org" for name in "abcd"]
    assert "<p>mail</p>" in message.as_string()
    assert [part.get_filename() for part in message.iter_attachments()] == ["report.csv"]
    assert mailbox.logins == [("ada", "pw")]


def test_what_is_missing_comes_from_the_connection_or_is_told(
    mailbox: Mailbox, connect: Callable[..., Connection], tmp_path: Path
) -> None:
    with SmtpHook() as hook:
        hook.send_email_smtp(
            to="a@example.org", subject="s", html_content="h", from_email="me@example.org", dryrun=True
        )
        assert mailbox.messages == []
        hook.send_email_smtp(to="a@example.org", subject="s", html_content="h", from_email="me@example.org")
        assert mailbox.senders == ["me@example.org"]
        with pytest.raises(AirflowException, match="subject"):
            hook.send_email_smtp(to="a@example.org", html_content="h")
        mailbox.refuse = True
        with pytest.raises(AirflowException, match="did not take the mail"):
            hook.send_email_smtp(to="a@example.org", subject="s", html_content="h")
    (tmp_path / "subject").write_text("about {{ what }}")
    connect("smtp_default", conn_type="smtp", host="127.0.0.1", extra={"subject_template": str(tmp_path / "subject")})
    assert SmtpHook().template("subject_template") == "about {{ what }}"
    assert (SmtpHook().port, SmtpHook().use_ssl) == (465, True)
    with pytest.raises(AirflowException, match="from_email"):
        SmtpHook().send_email_smtp(to="a@example.org", subject="s", html_content="h")
    with pytest.raises(AirflowException, match="auth_type"):
        SmtpHook(auth_type="oauth2")


def test_a_notifier_mails_what_happened(mailbox: Mailbox, dag: DAG) -> None:
    dag.on_failure_callback = send_smtp_notification(to="dag@example.org", html_content="h", subject="{{ reason }}")
    PythonOperator(task_id="bad", python_callable=fail, on_failure_callback=SmtpNotifier(to="task@example.org"))
    EmptyOperator(task_id="good", on_success_callback=SmtpNotifier(to="never@example.org", subject="{{ nothing }}"))
    assert dag.test().state == "failed"
    by_recipient = {to[0]: message for to, message in zip(mailbox.recipients, mailbox.messages, strict=True)}
    assert by_recipient["dag@example.org"]["Subject"] == "task_failure"
    text = by_recipient["task@example.org"].get_content()
    assert "task bad: failed" in text
    assert "&lt;b&gt;no" in text
