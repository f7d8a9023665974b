"""E-mails of task code: `send_email`, EmailOperator, and what tasks with `email=` send when they fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException

if TYPE_CHECKING:
    import smtplib
    from email.message import EmailMessage

DEFAULT_CONNECTION = "smtp_default"
TLS_PORT = 465
"""Where servers speak TLS from the start."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails are handed over. Certificates are verified."""

    host: str
    port: int
    user: str | None
    password: str | None
    sender: str
    starttls: bool
    tls: bool
    timeout_seconds: float

    @classmethod
    def of(cls, conn_id: str | None) -> MailServer:
        """From the connection (extras `from_email`, `disable_ssl`, `disable_tls`, `timeout`), and the section [smtp] of
        the configuration for what it leaves open. Without a conn_id `smtp_default` is taken where there is one."""
        from opskit import config
        from opskit.core.dag.connection import Connection

        settings = config.load()
        found: Connection | None
        try:
            found = Connection.get_connection_from_secrets(conn_id or DEFAULT_CONNECTION)
        except (AirflowNotFoundException, RuntimeError):
            if conn_id and conn_id != DEFAULT_CONNECTION:
                raise
            found = None
        extra: Mapping[str, Any] = found.extra_dejson if found is not None else {}
        user = found.login if found is not None and found.login else settings.get("smtp", "smtp_user")
        password = found.password if found is not None and found.login else settings.get("smtp", "smtp_password")
        port = (found.port if found is not None else None) or settings.get("smtp", "smtp_port")
        starttls = settings.get("smtp", "smtp_starttls") and bool(user)
        tls = settings.get("smtp", "smtp_ssl") or port == TLS_PORT
        return cls(
            host=(found.host if found is not None else None) or settings.get("smtp", "smtp_host"),
            port=port,
            user=user or None,
            password=password or None,
            sender=str(extra.get("from_email") or settings.get("smtp", "smtp_mail_from")),
            starttls=not _flag(extra["disable_tls"]) if "disable_tls" in extra else starttls,
            tls=not _flag(extra["disable_ssl"]) if "disable_ssl" in extra else tls,
            timeout_seconds=float(extra.get("timeout") or settings.get("smtp", "smtp_timeout")),
        )

    def send(self, message: EmailMessage, recipients: list[str]) -> None:
        """AirflowException when it is not taken."""
        import smtplib

        try:
            with self._connected() as client:
                client.send_message(message, from_addr=self.sender, to_addrs=recipients)
        except (OSError, smtplib.SMTPException) as error:
            raise AirflowException(
                f"{self.host}:{self.port} did not take the mail to {', '.join(recipients)}: {_plain(error)}"
            ) from error

    def _connected(self) -> smtplib.SMTP:
        import smtplib
        import ssl

        client: smtplib.SMTP
        if self.tls:
            context = ssl.create_default_context()
            client = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
        else:
            client = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        try:
            if self.starttls and not self.tls:
                client.starttls(context=ssl.create_default_context())
            if self.user:
                client.login(self.user, self.password or "")
        except BaseException:
            client.close()
            raise
        return client


def send_email(
    to: str | Iterable[str],
    subject: str,
    html_content: str,
    files: Iterable[str] | None = None,
    dryrun: bool = False,
    cc: str | Iterable[str] | None = None,
    bcc: str | Iterable[str] | None = None,
    mime_subtype: str = "mixed",
    mime_charset: str = "utf-8",
    conn_id: str | None = None,
    custom_headers: dict[str, Any] | None = None,
    from_email: str | None = None,
    **_: Any,
) -> None:
    """Send an HTML mail. Addresses are a list, or a text with commas or semicolons; `files` are paths to attach. The
    server is the connection `conn_id`, else `smtp_default`, else the section [smtp] of the configuration."""
    import logging

    server = MailServer.of(conn_id)
    message, recipients = build_mime_message(
        from_email or server.sender,
        to,
        subject,
        html_content,
        files,
        cc,
        bcc,
        mime_subtype,
        mime_charset,
        custom_headers,
    )
    if not recipients:
        raise AirflowException(f"the mail {subject!r} has no recipient")
    if dryrun:
        return
    server.send(message, recipients)
    logging.getLogger("airflow.task").info("Sent an email to %s", recipients)


send_email_smtp = send_email


def build_mime_message(
    mail_from: str | None,
    to: str | Iterable[str],
    subject: str,
    html_content: str,
    files: Iterable[str] | None = None,
    cc: str | Iterable[str] | None = None,
    bcc: str | Iterable[str] | None = None,
    mime_subtype: str = "mixed",
    mime_charset: str = "utf-8",
    custom_headers: dict[str, Any] | None = None,
) -> tuple[EmailMessage, list[str]]:
    """The mail, and all who get it; those in `bcc` are not named in it."""
    import os
    from email.message import EmailMessage
    from email.utils import formatdate

    message = EmailMessage()
    named = {"To": get_email_address_list(to), "Cc": get_email_address_list(cc or [])}
    message["Subject"] = " ".join(str(subject).split())
    if mail_from:
        message["From"] = mail_from
    for header, addresses in named.items():
        if addresses:
            message[header] = ", ".join(addresses)
    message["Date"] = formatdate(localtime=True)
    for header, value in (custom_headers or {}).items():
        message[header] = str(value)
    message.set_content(html_content, subtype="html", charset=mime_charset)
    for name in files or ():
        with open(name, "rb") as file:
            base = os.path.basename(name)
            message.add_attachment(
                file.read(), maintype="application", subtype="octet-stream", filename=base, cid=f"<{base}>"
            )
    if message.is_multipart() and mime_subtype != "mixed":
        message.replace_header("Content-Type", f"multipart/{mime_subtype}; boundary={message.get_boundary() or '-'}")
    return message, [*named["To"], *named["Cc"], *get_email_address_list(bcc or [])]


def get_email_address_list(addresses: str | Iterable[str]) -> list[str]:
    """The addresses in a text with commas or semicolons, or in several texts. TypeError for anything else."""
    if isinstance(addresses, str):
        return [part for part in re.split(r"\s*[,;]\s*", addresses.strip()) if part]
    if not isinstance(addresses, Iterable):
        raise TypeError(f"addresses are {type(addresses).__name__}, texts are needed")
    found = list(addresses)
    if not all(isinstance(address, str) for address in found):
        raise TypeError("The items in your iterable must be strings.")
    return [one for address in found for one in get_email_address_list(address)]


def tell_of_failure(ti: Any, exception: Any, again: bool) -> str | None:
    """Send the mail that a task with `email=` asked for (`again`: there will be another try). Words about what went
    wrong with it: a mail must not change the outcome."""
    task = ti.task
    if not task.email or not (task.email_on_retry if again else task.email_on_failure):
        return None
    from html import escape

    what = "up for retry" if again else "failed"
    rows = {
        "DAG": ti.dag_id,
        "Task": ti.task_id,
        "Run": ti.run_id,
        "Try": f"{ti.try_number} of {ti.max_tries + 1}",
        "Host": ti.hostname,
        "Exception": exception,
    }
    table = "".join(f"<tr><td>{name}</td><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    try:
        send_email(task.email, f"Task {what}: {ti.dag_id}.{ti.task_id} {ti.run_id}", f"<table>{table}</table>")
    except Exception as error:  # noqa: BLE001 - its outcome stands
        import logging

        logging.getLogger("airflow.task").error("Failed to send email to: %s: %s", task.email, error)
        return f"email: {error}"
    return None


def _flag(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "t", "true", "yes", "y", "on")


def _plain(error: Exception) -> str:
    """Its text; of a refused login only the code, because servers echo what they were given."""
    import smtplib

    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused the login ({error.smtp_code})"
    return str(error) or type(error).__name__
