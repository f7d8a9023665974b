"""Alerts by e-mail: through yagmail where it is installed, else through the standard library."""

from __future__ import annotations

import importlib.util
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from opskit.config import Config
from opskit.telemetry.alerts import Alert, AlertFailed

_DEFAULT_SENDER = "opskit@localhost"
_PRIORITY = {"critical": "1", "warning": "2"}


@dataclass(frozen=True, slots=True)
class EmailChannel:
    """One mail server. `starttls` and a login are used where a user is set; certificates are always verified."""

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
        try:
            refused = self._send_by_yagmail(alert) if self._yagmail_can() else self._send_by_smtplib(alert)
        except (OSError, smtplib.SMTPException) as error:
            raise AlertFailed(f"{self.name} by {self.host}:{self.port} failed: {_plain(error)}") from error
        if refused:
            raise AlertFailed(f"{self.name}: the server refused {', '.join(sorted(refused))}")

    def _yagmail_can(self) -> bool:
        """yagmail logs in, and always sends as the account itself: a relay or another sender is smtplib's."""
        own = "@" in self.user and self.sender in (self.user, _DEFAULT_SENDER)
        return own and importlib.util.find_spec("yagmail") is not None

    def _send_by_yagmail(self, alert: Alert) -> set[str]:
        import yagmail
        from yagmail.error import YagAddressError, YagInvalidEmailAddress

        context = ssl.create_default_context()
        try:
            client = yagmail.SMTP(
                user={self.user: "opskit"},
                password=self.password,
                host=self.host,
                port=self.port,
                smtp_starttls={"context": context} if self.starttls and not self.tls else False,
                smtp_ssl=self.tls,
                timeout=self.timeout_seconds,
                **({"context": context} if self.tls else {}),
            )
            try:
                refused = client.send(
                    list(self.to), alert.subject, alert.body, headers=self._headers(alert), prettify_html=False
                )
            finally:
                client.close()
        except (YagAddressError, YagInvalidEmailAddress) as error:
            raise AlertFailed(f"{self.name}: not a mail address: {error}") from error
        if refused is False:
            raise AlertFailed(f"{self.name} by {self.host}:{self.port} failed: the server hung up three times")
        return set(refused)

    def _send_by_smtplib(self, alert: Alert) -> set[str]:
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Subject"] = alert.subject
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = make_msgid(domain=self.sender.rsplit("@", 1)[-1])
        for key, value in self._headers(alert).items():
            message[key] = value
        message.set_content(alert.body)
        context = ssl.create_default_context()
        client = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
            if self.tls
            else smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        )
        with client:
            if self.user:
                if self.starttls and not self.tls:
                    client.starttls(context=context)
                client.login(self.user, self.password)
            return set(client.send_message(message))

    def _headers(self, alert: Alert) -> dict[str, str]:
        headers = {"Auto-Submitted": "auto-generated", "X-Opskit-Key": alert.key}
        if alert.severity in _PRIORITY:
            headers["X-Priority"] = _PRIORITY[alert.severity]
        return headers


def _plain(error: Exception) -> str:
    """An error's text without the password that a server may have echoed: codes and classes only for logins."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused the login ({error.smtp_code})"
    return str(error) or type(error).__name__
