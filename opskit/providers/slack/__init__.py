"""Slack: messages over its web API and over incoming webhooks, by the library requests (`opskit[slack]`)."""
