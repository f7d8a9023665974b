"""Alerts by e-mail: through yagmail where there is an account and yagmail is installed, else through smtplib."""

from __future__ import annotations

import importlib.util
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from opskit.config import Config
from opskit.telemetry.alerts import Alert, AlertFailed

_PRIORITY = {"critical": "1", "warning": "2"}


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """One mail server. STARTTLS and a login are used where a user is set; certificates are always verified."""

    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    starttls: bool = True
    tls: bool = False
    timeout_seconds: float = 30.0

    @classmethod
    def of(cls, config: Config) -> EmailChannel:
        return cls(
            to=tuple(config.get("alerts", "email_to")),
            sender=config.get("smtp", "smtp_mail_from"),
            host=config.get("smtp", "smtp_host"),
            port=config.get("smtp", "smtp_port"),
            user=config.get("smtp", "smtp_user"),
            password=config.get("smtp", "smtp_password"),
            starttls=config.get("smtp", "smtp_starttls"),
            tls=config.get("smtp", "smtp_ssl"),
            timeout_seconds=config.get("smtp", "smtp_timeout"),
        )

    @property
    def name(self) -> str:
        return f"e-mail to {', '.join(self.to)}"

    def send(self, alert: Alert) -> None:
        message = self._message(alert)
        # yagmail takes a user name without an @ for one at Gmail.
        by_yagmail = "@" in self.user and importlib.util.find_spec("yagmail") is not None
        try:
            with self._yagmail() if by_yagmail else self._smtplib() as client:
                refused = client.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise AlertFailed(f"{self.name} by {self.host}:{self.port} failed: {_plain(error)}") from error
        if refused:
            raise AlertFailed(f"{self.name}: the server refused {', '.join(sorted(refused))}")

    @contextmanager
    def _yagmail(self) -> Iterator[smtplib.SMTP]:
        import yagmail
        from yagmail.error import YagInvalidEmailAddress

        context = ssl.create_default_context()
        options: dict[str, Any] = {"context": context} if self.tls else {}
        try:
            client = yagmail.SMTP(
                user=self.user,
                password=self.password,
                host=self.host,
                port=self.port,
                smtp_starttls={"context": context} if self.starttls and not self.tls else False,
                smtp_ssl=self.tls,
                timeout=self.timeout_seconds,
                **options,
            )
        except YagInvalidEmailAddress as error:
            raise AlertFailed(f"smtp.smtp_user is not a mail address: {self.user}") from error
        try:
            client.login()
            # Its own messages are HTML, of which log lines would be a part: ours are plain text.
            yield client.smtp
        finally:
            client.close()

    @contextmanager
    def _smtplib(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context()
        if self.tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
        else:
            client = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        with client:
            if self.user:
                if self.starttls and not self.tls:
                    client.starttls(context=context)
                client.login(self.user, self.password)
            yield client

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Subject"] = " ".join(alert.subject.split())
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = make_msgid(domain=self.sender.rsplit("@", 1)[-1])
        message["Auto-Submitted"] = "auto-generated"
        message["X-Opskit-Key"] = alert.key
        if alert.severity in _PRIORITY:
            message["X-Priority"] = _PRIORITY[alert.severity]
        message.set_content(alert.body)
        return message


def _plain(error: Exception) -> str:
    """An error's text; of a refused login only the code, because servers echo what they were given."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused the login ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"the server refused {', '.join(sorted(error.recipients))}"
    return str(error) or type(error).__name__
