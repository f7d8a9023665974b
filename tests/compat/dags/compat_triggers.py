"""Triggers of deferrable.py; they are found by their path, so they need a module of their own."""

import asyncio

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Say(BaseTrigger):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def serialize(self):
        return ("compat_triggers.Say", {"text": self.text})

    async def run(self):
        await asyncio.sleep(0.01)
        yield TriggerEvent({"said": self.text})
