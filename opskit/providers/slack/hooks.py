"""SlackHook (the web API, with a token) and SlackWebhookHook (an incoming webhook)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library

API_URL = "https://www.slack.com/api/"
WEBHOOK_HOST = "hooks.slack.com/services"
DEFAULT_SECONDS = 30


class SlackResponse(dict[str, Any]):
    """What the API answered."""

    def __init__(self, values: Mapping[str, Any], status_code: int) -> None:
        super().__init__(values)
        self.status_code = status_code

    @property
    def data(self) -> dict[str, Any]:
        return dict(self)


class SlackHook(BaseHook):
    """Calls of Slack's web API. The password of the connection is the token; extras: base_url, timeout (seconds),
    proxy. Arguments win over extras."""

    conn_name_attr: ClassVar[str] = "slack_conn_id"
    default_conn_name: ClassVar[str] = "slack_api_default"
    conn_type: ClassVar[str] = "slack"
    hook_name: ClassVar[str] = "Slack API"

    def __init__(
        self,
        token: str | None = None,
        slack_conn_id: str | None = default_conn_name,
        base_url: str | None = None,
        timeout: int | None = None,
        proxy: str | None = None,
        retry_handlers: Sequence[Any] | None = None,
        **extra_client_args: Any,
    ) -> None:
        super().__init__()
        self._token = token
        self.slack_conn_id = slack_conn_id
        self.base_url = base_url
        self.timeout = timeout
        self.proxy = proxy
        self.retry_handlers = retry_handlers
        self.extra_client_args = extra_client_args

    def _settings(self) -> tuple[str, str, float, dict[str, str] | None]:
        """(token, start of the URLs, seconds, proxies)."""
        conn = self.get_connection(self.slack_conn_id) if self.slack_conn_id and not self._token else Connection()
        extra = conn.extra_dejson
        token = self._token or conn.password or ""
        if not token.strip():
            raise AirflowNotFoundException(
                f"Connection ID {self.slack_conn_id!r} does not contain password (Slack API Token)."
            )
        base = self.base_url or extra.get("base_url") or API_URL
        return token.strip(), base.rstrip("/") + "/", *_transport(self.timeout, self.proxy, extra)

    @property
    def client(self) -> Any:
        """A `slack_sdk.WebClient`, for what the methods here don't do."""
        sdk = library("slack_sdk", extra=None, needed_by="SlackHook.client")
        token, base, seconds, proxies = self._settings()
        options: dict[str, Any] = {"proxy": proxies["https"]} if proxies else {}
        if self.retry_handlers is not None:
            options["retry_handlers"] = self.retry_handlers
        return sdk.WebClient(token=token, base_url=base, timeout=int(seconds), **options, **self.extra_client_args)

    def get_conn(self) -> Any:
        return self.client

    def call(
        self,
        api_method: str,
        *,
        json: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        http_verb: str = "POST",
        **_: Any,
    ) -> SlackResponse:
        """Call a method (`chat.postMessage`) with a JSON body or with form fields. AirflowException with Slack's word
        for it (`channel_not_found`) when it fails."""
        requests = library("requests", extra="slack", needed_by="SlackHook")
        token, base, seconds, proxies = self._settings()
        response = requests.request(
            http_verb,
            base + api_method,
            headers={"Authorization": f"Bearer {token}"},
            json=None if json is None else {key: value for key, value in json.items() if value is not None},
            data=_fields(data),
            params=_fields(params),
            files=files,
            timeout=seconds,
            proxies=proxies,
        )
        try:
            answer = SlackResponse(response.json(), response.status_code)
        except ValueError:
            raise AirflowException(f"Slack answered {api_method} with status {response.status_code}") from None
        if not answer.get("ok"):
            raise AirflowException(
                f"The request to the Slack API failed. {api_method}: {answer.get('error', response.status_code)}"
            )
        return answer

    def get_channel_id(self, channel_name: str) -> str:
        """The id of a channel by its name. LookupError without one."""
        name, cursor = channel_name.lstrip("#"), None
        while True:
            page = self.call("conversations.list", data={"limit": 200, "cursor": cursor, "exclude_archived": True})
            for channel in page["channels"]:
                if channel["name"] == name:
                    return str(channel["id"])
            cursor = page.get("response_metadata", {}).get("next_cursor")
            if not cursor:
                raise LookupError(f"Unable to find slack channel with name: {channel_name!r}")

    def send_file_v2(
        self,
        *,
        channel_id: str | None = None,
        file_uploads: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        initial_comment: str | None = None,
        thread_ts: str | None = None,
    ) -> SlackResponse:
        """Upload files (`{"file": path, "content": text or bytes, "filename": …, "title": …}`), and show them in a
        channel where one is given (its id, or `#name`)."""
        requests = library("requests", extra="slack", needed_by="SlackHook")
        if channel_id and channel_id.startswith("#"):
            channel_id = self.get_channel_id(channel_id)
        uploads = [file_uploads] if isinstance(file_uploads, Mapping) else file_uploads
        _, _, seconds, proxies = self._settings()
        sent: list[dict[str, Any]] = []
        for upload in uploads:
            name, content = _content(upload)
            place = self.call(
                "files.getUploadURLExternal",
                data={"filename": name, "length": len(content), "snippet_type": upload.get("snippet_type")},
            )
            answer = requests.post(place["upload_url"], data=content, timeout=seconds, proxies=proxies)
            if answer.status_code != 200:
                raise AirflowException(f"Slack did not take the file {name}: status {answer.status_code}")
            sent.append({"id": place["file_id"], "title": upload.get("title") or name})
        return self.call(
            "files.completeUploadExternal",
            data={
                "files": sent,
                "channel_id": channel_id,
                "initial_comment": initial_comment,
                "thread_ts": thread_ts,
            },
        )

    def send_file_v1_to_v2(
        self,
        *,
        channels: str | Sequence[str] | None = None,
        file: str | Path | None = None,
        content: str | None = None,
        filename: str | None = None,
        initial_comment: str | None = None,
        title: str | None = None,
        snippet_type: str | None = None,
        thread_ts: str | None = None,
        **_: Any,
    ) -> list[SlackResponse]:
        """Upload one file, or a text, to several channels."""
        if (file is None) == (content is None):
            raise ValueError("Either `file` or `content` must be provided, not both.")
        names = channels.split(",") if isinstance(channels, str) else list(channels or ())
        upload = {"file": file, "content": content, "filename": filename, "title": title, "snippet_type": snippet_type}
        return [
            self.send_file_v2(
                channel_id=name.strip() if name else None,
                file_uploads={key: value for key, value in upload.items() if value is not None},
                initial_comment=initial_comment,
                thread_ts=thread_ts,
            )
            for name in names or [None]  # type: ignore[list-item]
        ]

    send_file = send_file_v1_to_v2

    def test_connection(self) -> tuple[bool, str]:
        """Whether Slack takes the token, and the error when it does not."""
        try:
            answer = self.call("auth.test")
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)
        return True, str(answer.get("url", "Connection successfully tested"))


class SlackWebhookHook(BaseHook):
    """An incoming webhook. The password of the connection is its token (`T…/B…/…`) or its whole URL; extras: timeout
    (seconds), proxy. The arguments of Airflow 1.10 are taken, too: a token or `http_conn_id`, and the message itself,
    which `execute()` sends."""

    conn_name_attr: ClassVar[str] = "slack_webhook_conn_id"
    default_conn_name: ClassVar[str] = "slack_default"
    conn_type: ClassVar[str] = "slackwebhook"
    hook_name: ClassVar[str] = "Slack Incoming Webhook"

    def __init__(
        self,
        http_conn_id: str | None = None,
        webhook_token: str | None = None,
        message: str = "",
        attachments: list[Any] | None = None,
        blocks: list[Any] | None = None,
        channel: str | None = None,
        username: str | None = None,
        icon_emoji: str | None = None,
        icon_url: str | None = None,
        link_names: bool = False,
        proxy: str | None = None,
        *,
        slack_webhook_conn_id: str | None = None,
        timeout: int | None = None,
        retry_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__()
        self.slack_webhook_conn_id = slack_webhook_conn_id or http_conn_id
        self.webhook_token = webhook_token
        self.message = message
        self.attachments = attachments
        self.blocks = blocks
        self.channel = channel
        self.username = username
        self.icon_emoji = icon_emoji
        self.icon_url = icon_url
        self.link_names = link_names
        self.proxy = proxy
        self.timeout = timeout
        self.retry_handlers = retry_handlers
        if not (self.slack_webhook_conn_id or webhook_token):
            raise AirflowException("Either `slack_webhook_conn_id` or `webhook_token` should be provided.")

    def _connection(self) -> Connection:
        return self.get_connection(self.slack_webhook_conn_id) if self.slack_webhook_conn_id else Connection()

    @property
    def url(self) -> str:
        """Where messages are sent; a secret."""
        conn = self._connection()
        token = (self.webhook_token or conn.password or conn.extra_dejson.get("webhook_token") or "").strip()
        if not token:
            raise AirflowNotFoundException(
                f"Connection ID {self.slack_webhook_conn_id!r} does not contain password (Slack Webhook Token)."
            )
        if "://" in token:
            return token
        host = conn.host or WEBHOOK_HOST
        base = host if "://" in host else f"{conn.schema or 'https'}://{host}" + (f":{conn.port}" if conn.port else "")
        return f"{base.rstrip('/')}/{token.lstrip('/')}"

    def send_dict(self, body: Mapping[str, Any] | str, *, headers: dict[str, str] | None = None) -> Any:
        """Send a whole body. AirflowException when Slack does not say ok."""
        requests = library("requests", extra="slack", needed_by="SlackWebhookHook")
        if isinstance(body, str):
            try:
                body = json.loads(body)
            except ValueError as error:
                raise AirflowException(f"Body expected valid JSON string. Original error: {error}") from None
        if not isinstance(body, Mapping):
            raise TypeError(f"Body expected dictionary, got {type(body).__name__}.")
        if any(name in body for name in ("channel", "username", "icon_emoji", "icon_url")):
            self.log.debug("Slack's newer webhooks ignore channel, username and icon")
        seconds, proxies = _transport(self.timeout, self.proxy, self._connection().extra_dejson)
        response = requests.post(self.url, json=body, headers=headers, timeout=seconds, proxies=proxies)
        if response.status_code != 200 or response.text.strip() != "ok":
            raise AirflowException(f"Response body: {response.text!r}, Status Code: {response.status_code}.")
        return response

    def send(
        self,
        *,
        text: str | None = None,
        blocks: list[Any] | None = None,
        attachments: list[Any] | None = None,
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a message; `kwargs` are further fields of its body (unfurl_links, response_type, channel …)."""
        body = {"text": text, "blocks": blocks, "attachments": attachments, **kwargs}
        return self.send_dict({key: value for key, value in body.items() if value is not None}, headers=headers)

    def send_text(
        self,
        text: str,
        *,
        unfurl_links: bool | None = None,
        unfurl_media: bool | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        return self.send(text=text, unfurl_links=unfurl_links, unfurl_media=unfurl_media, headers=headers)

    def execute(self) -> None:
        """Send the message that the hook was made with."""
        self.send(
            text=self.message,
            blocks=self.blocks,
            attachments=self.attachments,
            channel=self.channel,
            username=self.username,
            icon_emoji=self.icon_emoji,
            icon_url=self.icon_url,
            link_names=1 if self.link_names else None,
        )


def _transport(
    timeout: float | None, proxy: str | None, extra: Mapping[str, Any]
) -> tuple[float, dict[str, str] | None]:
    """(seconds, proxies) of arguments, then extras."""
    chosen = proxy or extra.get("proxy")
    seconds = timeout if timeout is not None else extra.get("timeout", DEFAULT_SECONDS)
    return float(seconds), {"http": chosen, "https": chosen} if chosen else None


def _fields(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Form fields: what is no plain value goes as JSON."""
    if values is None:
        return None
    return {
        key: json.dumps(value) if isinstance(value, (list, tuple, dict, bool)) else value
        for key, value in values.items()
        if value is not None
    }


def _content(upload: Mapping[str, Any]) -> tuple[str, bytes]:
    """(name, bytes) of a file that is to be uploaded."""
    if upload.get("file") is not None:
        path = Path(upload["file"])
        return upload.get("filename") or path.name, path.read_bytes()
    content = upload.get("content")
    if content is None:
        raise ValueError("a file to upload needs `file` or `content`")
    return upload.get("filename") or "Uploaded file", content.encode() if isinstance(content, str) else bytes(content)
