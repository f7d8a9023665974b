"""Mail over a connection: SmtpHook, EmailOperator and SmtpNotifier of Airflow's SMTP provider."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.notifiers import BaseNotifier

if TYPE_CHECKING:
    from opskit.core.dag.mail import MailServer

Addresses = str | Iterable[str] | None


class SmtpHook(BaseHook):
    """A mail server: host, port (465, or 25 without TLS), login and password of the connection. Extras: from_email,
    disable_ssl (TLS from the start is used without it), disable_tls (STARTTLS is used without it where TLS is not),
    timeout (seconds), subject_template and html_content_template (paths of files). In a `with` block."""

    conn_name_attr: ClassVar[str] = "smtp_conn_id"
    default_conn_name: ClassVar[str] = "smtp_default"
    conn_type: ClassVar[str] = "smtp"
    hook_name: ClassVar[str] = "SMTP"

    def __init__(self, smtp_conn_id: str = default_conn_name, auth_type: str = "basic") -> None:
        super().__init__()
        if auth_type != "basic":
            raise AirflowException(f"auth_type is {auth_type!r}: only basic (login and password) is supported")
        self.smtp_conn_id = smtp_conn_id
        self._server: MailServer | None = None

    def __enter__(self) -> SmtpHook:
        return self.get_conn()

    def __exit__(self, *_: object) -> None:
        self._server = None

    def get_conn(self) -> SmtpHook:
        """This hook, with what its connection says."""
        if self._server is None:
            from opskit.core.dag.mail import MailServer

            conn = self.get_connection(self.smtp_conn_id)
            extra = conn.extra_dejson
            tls = not _flag(extra.get("disable_ssl", False))
            self._server = replace(
                MailServer.of(self.smtp_conn_id),
                tls=tls,
                starttls=not tls and not _flag(extra.get("disable_tls", False)),
                port=conn.port or (465 if tls else 25),
            )
        return self

    @property
    def server(self) -> MailServer:
        """Host, port, user … of the connection."""
        server = self.get_conn()._server
        assert server is not None
        return server

    @property
    def from_email(self) -> str | None:
        found = self.get_connection(self.smtp_conn_id).extra_dejson.get("from_email")
        return None if found is None else str(found)

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def use_ssl(self) -> bool:
        return self.server.tls

    def template(self, name: str) -> str | None:
        """The content of the file that an extra (subject_template, html_content_template) names."""
        path = self.get_connection(self.smtp_conn_id).extra_dejson.get(name)
        if not path:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read()

    def send_email_smtp(
        self,
        *,
        to: str | Iterable[str],
        subject: str | None = None,
        html_content: str | None = None,
        from_email: str | None = None,
        files: list[str] | None = None,
        dryrun: bool = False,
        cc: Addresses = None,
        bcc: Addresses = None,
        mime_subtype: str = "mixed",
        mime_charset: str = "utf-8",
        custom_headers: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Send an HTML mail. AirflowException without a sender, and when the server does not take it."""
        from opskit.core.dag.mail import build_mime_message

        sender = from_email or self.from_email
        if not sender:
            raise AirflowException("You should provide `from_email` or define it in the connection.")
        subject = subject if subject is not None else self.template("subject_template")
        if subject is None:
            raise AirflowException("You should provide `subject` or define `subject_template` in the connection.")
        html_content = html_content if html_content is not None else self.template("html_content_template")
        if html_content is None:
            raise AirflowException(
                "You should provide `html_content` or define `html_content_template` in the connection."
            )
        message, recipients = build_mime_message(
            sender, to, subject, html_content, files, cc, bcc, mime_subtype, mime_charset, custom_headers
        )
        if not dryrun:
            replace(self.server, sender=sender).send(message, recipients)


class EmailOperator(BaseOperator):
    """Send an HTML mail over the connection `conn_id`. Subject and content may be files of the connection."""

    template_fields: Sequence[str] = (
        "to", "subject", "html_content", "from_email", "files", "cc", "bcc", "mime_subtype", "mime_charset", "conn_id",
        "custom_headers",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"html_content": "html"}
    template_ext: Sequence[str] = (".html",)
    ui_color = "#e6faf9"

    def __init__(
        self,
        *,
        to: list[str] | str,
        subject: str | None = None,
        html_content: str | None = None,
        from_email: str | None = None,
        files: list[str] | None = None,
        cc: list[str] | str | None = None,
        bcc: list[str] | str | None = None,
        mime_subtype: str = "mixed",
        mime_charset: str = "utf-8",
        conn_id: str = "smtp_default",
        custom_headers: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.subject = subject
        self.html_content = html_content
        self.from_email = from_email
        self.files = files or []
        self.cc = cc
        self.bcc = bcc
        self.mime_subtype = mime_subtype
        self.mime_charset = mime_charset
        self.conn_id = conn_id
        self.custom_headers = custom_headers

    def execute(self, context: Any) -> None:
        with SmtpHook(smtp_conn_id=self.conn_id) as hook:
            # The connection's files are templates, too; what was given is rendered by now.
            for name in ("subject", "html_content"):
                text = hook.template(f"{name}_template") if getattr(self, name) is None else None
                if text is not None:
                    setattr(self, name, self.render_template(text, context))
            hook.send_email_smtp(
                to=self.to,
                subject=self.subject,
                html_content=self.html_content,
                from_email=self.from_email,
                files=self.files,
                cc=self.cc,
                bcc=self.bcc,
                mime_subtype=self.mime_subtype,
                mime_charset=self.mime_charset,
                custom_headers=self.custom_headers,
            )


class SmtpNotifier(BaseNotifier):
    """A mail as a callback; without subject and content it tells which task instance it is about."""

    template_fields: Sequence[str] = (
        "from_email", "to", "subject", "html_content", "files", "cc", "bcc", "mime_subtype", "mime_charset",
        "custom_headers", "smtp_conn_id",
    )  # fmt: skip

    def __init__(
        self,
        to: str | Iterable[str],
        from_email: str | None = None,
        subject: str | None = None,
        html_content: str | None = None,
        files: list[str] | None = None,
        cc: Addresses = None,
        bcc: Addresses = None,
        mime_subtype: str = "mixed",
        mime_charset: str = "utf-8",
        custom_headers: dict[str, Any] | None = None,
        smtp_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.from_email = from_email
        self.subject = subject or "DAG {{ dag.dag_id }}, {{ run_id }}: {{ ti.task_id if ti is defined else '' }}"
        self.html_content = html_content or (
            "DAG {{ dag.dag_id }}, run {{ run_id }}"
            "{% if ti is defined %}, task {{ ti.task_id }}: {{ ti.state }}{% endif %}"
            "{% if exception is defined and exception %}<pre>{{ exception | e }}</pre>{% endif %}"
        )
        self.files = files
        self.cc = cc
        self.bcc = bcc
        self.mime_subtype = mime_subtype
        self.mime_charset = mime_charset
        self.custom_headers = custom_headers
        self.smtp_conn_id = smtp_conn_id or SmtpHook.default_conn_name

    def notify(self, context: Any) -> None:
        with SmtpHook(smtp_conn_id=self.smtp_conn_id) as hook:
            hook.send_email_smtp(
                to=self.to,
                subject=self.subject,
                html_content=self.html_content,
                from_email=self.from_email,
                files=self.files,
                cc=self.cc,
                bcc=self.bcc,
                mime_subtype=self.mime_subtype,
                mime_charset=self.mime_charset,
                custom_headers=self.custom_headers,
            )


def send_smtp_notification(**kwargs: Any) -> SmtpNotifier:
    """The notifier by the name of a function."""
    return SmtpNotifier(**kwargs)


def _flag(value: Any) -> bool:
    return str(value).lower() == "true"
