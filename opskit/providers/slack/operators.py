"""Operators that post to Slack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.slack.hooks import SlackHook, SlackWebhookHook

ICON_URL = "https://raw.githubusercontent.com/apache/airflow/main/airflow-core/src/airflow/ui/public/pin_100.png"


class SlackAPIOperator(BaseOperator):
    """Call a method of Slack's web API with `api_params`. A subclass may make them in `construct_api_call_params`."""

    template_fields: Sequence[str] = ("slack_conn_id",)

    def __init__(
        self,
        *,
        slack_conn_id: str | None = SlackHook.default_conn_name,
        token: str | None = None,
        method: str | None = None,
        api_params: dict[str, Any] | None = None,
        base_url: str | None = None,
        proxy: str | None = None,
        timeout: int | None = None,
        retry_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.slack_conn_id = slack_conn_id
        self.token = token
        self.method = method
        self.api_params = api_params
        self.base_url = base_url
        self.proxy = proxy
        self.timeout = timeout
        self.retry_handlers = retry_handlers

    @property
    def hook(self) -> SlackHook:
        return SlackHook(
            token=self.token,
            slack_conn_id=self.slack_conn_id,
            base_url=self.base_url,
            timeout=self.timeout,
            proxy=self.proxy,
            retry_handlers=self.retry_handlers,
        )

    def construct_api_call_params(self) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} was given no api_params, and has no construct_api_call_params()"
        )

    def execute(self, context: Any) -> Any:
        if not self.method:
            raise AirflowException("Define `method` parameter for the Slack API call.")
        if not self.api_params:
            # It may set api_params, as subclasses in DAG files do, or return them.
            self.api_params = self.construct_api_call_params() or self.api_params
        self.hook.call(self.method, json=self.api_params)


class SlackAPIPostOperator(SlackAPIOperator):
    """Post a message to a channel."""

    template_fields: Sequence[str] = (
        "username", "text", "attachments", "blocks", "channel", "thread_ts", "slack_conn_id",
    )  # fmt: skip
    ui_color = "#FFBA40"

    def __init__(
        self,
        *,
        channel: str = "#general",
        username: str = "Airflow",
        text: str = "No message has been set.",
        icon_url: str = ICON_URL,
        blocks: list[Any] | None = None,
        attachments: list[Any] | None = None,
        thread_ts: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"method": "chat.postMessage", **kwargs})
        self.channel = channel
        self.username = username
        self.text = text
        self.icon_url = icon_url
        self.blocks = blocks or []
        self.attachments = attachments or []
        self.thread_ts = thread_ts

    def construct_api_call_params(self) -> dict[str, Any]:
        return {
            "channel": self.channel,
            "username": self.username,
            "text": self.text,
            "icon_url": self.icon_url,
            "attachments": json.dumps(self.attachments),
            "blocks": json.dumps(self.blocks),
            "thread_ts": self.thread_ts,
        }


class SlackAPIFileOperator(SlackAPIOperator):
    """Upload a file of this host (`filename`), or a text (`content`), to channels."""

    template_fields: Sequence[str] = (
        "channels", "initial_comment", "filename", "filetype", "content", "title", "display_filename", "snippet_type",
        "thread_ts", "slack_conn_id",
    )  # fmt: skip
    ui_color = "#44BEDF"

    def __init__(
        self,
        *,
        channels: str | Sequence[str] | None = None,
        initial_comment: str | None = None,
        filename: str | None = None,
        filetype: str | None = None,
        content: str | None = None,
        title: str | None = None,
        display_filename: str | None = None,
        method_version: str | None = None,
        snippet_type: str | None = None,
        thread_ts: str | None = None,
        **kwargs: Any,
    ) -> None:
        channel = kwargs.pop("channel", None)
        super().__init__(**{"method": "files.upload", **kwargs})
        self.channels = channels or channel
        self.initial_comment = initial_comment
        self.filename = filename
        self.filetype = filetype
        self.content = content
        self.title = title
        self.display_filename = display_filename
        self.method_version = method_version
        self.snippet_type = snippet_type
        self.thread_ts = thread_ts

    def execute(self, context: Any) -> None:
        self.hook.send_file_v1_to_v2(
            channels=self.channels,
            file=None if self.content is not None else self.filename,
            content=self.content,
            filename=self.display_filename or (self.filename if self.content is not None else None),
            initial_comment=self.initial_comment,
            title=self.title,
            snippet_type=self.snippet_type,
            thread_ts=self.thread_ts,
        )


class SlackWebhookOperator(BaseOperator):
    """Post a message to an incoming webhook. The arguments of Airflow 1.10 (http_conn_id, webhook_token) are taken."""

    template_fields: Sequence[str] = (
        "message", "attachments", "blocks", "channel", "username", "proxy", "slack_webhook_conn_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        slack_webhook_conn_id: str | None = None,
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
        timeout: int | None = None,
        retry_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # SimpleHttpOperator's, from which the one of Airflow 1.10 was derived.
        for name in ("endpoint", "method", "data", "headers"):
            kwargs.pop(name, None)
        super().__init__(**kwargs)
        self.slack_webhook_conn_id = slack_webhook_conn_id or http_conn_id
        self.http_conn_id = http_conn_id
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

    @property
    def hook(self) -> SlackWebhookHook:
        return SlackWebhookHook(
            slack_webhook_conn_id=self.slack_webhook_conn_id,
            webhook_token=self.webhook_token,
            message=self.message,
            attachments=self.attachments,
            blocks=self.blocks,
            channel=self.channel,
            username=self.username,
            icon_emoji=self.icon_emoji,
            icon_url=self.icon_url,
            link_names=self.link_names,
            proxy=self.proxy,
            timeout=self.timeout,
            retry_handlers=self.retry_handlers,
        )

    def execute(self, context: Any) -> None:
        self.hook.execute()
