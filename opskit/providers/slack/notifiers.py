"""Messages to Slack as callbacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opskit.core.dag.notifiers import BaseNotifier
from opskit.providers.slack.hooks import SlackHook, SlackWebhookHook
from opskit.providers.slack.operators import ICON_URL


class SlackNotifier(BaseNotifier):
    """A message to a channel, over the web API."""

    template_fields: Sequence[str] = ("text", "channel", "username", "attachments", "blocks", "slack_conn_id")

    def __init__(
        self,
        *,
        slack_conn_id: str = SlackHook.default_conn_name,
        text: str = "This is a default message",
        channel: str = "#general",
        username: str = "Airflow",
        icon_url: str = ICON_URL,
        attachments: Sequence[Any] = (),
        blocks: Sequence[Any] = (),
        base_url: str | None = None,
        proxy: str | None = None,
        timeout: int | None = None,
        retry_handlers: Sequence[Any] | None = None,
        unfurl_links: bool = True,
        unfurl_media: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.slack_conn_id = slack_conn_id
        self.text = text
        self.channel = channel
        self.username = username
        self.icon_url = icon_url
        self.attachments = attachments
        self.blocks = blocks
        self.base_url = base_url
        self.proxy = proxy
        self.timeout = timeout
        self.retry_handlers = retry_handlers
        self.unfurl_links = unfurl_links
        self.unfurl_media = unfurl_media

    @property
    def hook(self) -> SlackHook:
        return SlackHook(
            slack_conn_id=self.slack_conn_id,
            base_url=self.base_url,
            timeout=self.timeout,
            proxy=self.proxy,
            retry_handlers=self.retry_handlers,
        )

    def notify(self, context: Any) -> None:
        self.hook.call(
            "chat.postMessage",
            json={
                "channel": self.channel,
                "username": self.username,
                "text": self.text,
                "icon_url": self.icon_url,
                "attachments": json.dumps(list(self.attachments)),
                "blocks": json.dumps(list(self.blocks)),
                "unfurl_links": self.unfurl_links,
                "unfurl_media": self.unfurl_media,
            },
        )


class SlackWebhookNotifier(BaseNotifier):
    """A message to an incoming webhook."""

    template_fields: Sequence[str] = ("slack_webhook_conn_id", "text", "attachments", "blocks", "proxy", "timeout")

    def __init__(
        self,
        *,
        slack_webhook_conn_id: str = SlackWebhookHook.default_conn_name,
        text: str = "",
        blocks: list[Any] | None = None,
        unfurl_links: bool | None = None,
        unfurl_media: bool | None = None,
        timeout: int | None = None,
        proxy: str | None = None,
        attachments: list[Any] | None = None,
        retry_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.slack_webhook_conn_id = slack_webhook_conn_id
        self.text = text
        self.attachments = attachments
        self.blocks = blocks
        self.unfurl_links = unfurl_links
        self.unfurl_media = unfurl_media
        self.timeout = timeout
        self.proxy = proxy
        self.retry_handlers = retry_handlers

    @property
    def hook(self) -> SlackWebhookHook:
        return SlackWebhookHook(
            slack_webhook_conn_id=self.slack_webhook_conn_id, proxy=self.proxy, timeout=self.timeout
        )

    def notify(self, context: Any) -> None:
        self.hook.send(
            text=self.text,
            blocks=self.blocks,
            unfurl_links=self.unfurl_links,
            unfurl_media=self.unfurl_media,
            attachments=self.attachments,
        )


send_slack_notification = SlackNotifier
send_slack_webhook_notification = SlackWebhookNotifier
