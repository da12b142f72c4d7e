"""Triggers for comparison: a simple one, and one that only sleeps."""

from __future__ import annotations

import asyncio
import math
import os
import time
from typing import TYPE_CHECKING, Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_sessions: list[aiohttp.ClientSession] = []


class _BenchTrigger(BaseTrigger):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kwargs = kwargs

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.kwargs


class NaiveTrigger(_BenchTrigger):
    """Polls its export at every interval, with a session that all triggers share."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if not _sessions:
            _sessions.append(aiohttp.ClientSession(os.environ["BENCH_SERVER"]))
        while True:
            async with _sessions[0].get("/" + self.kwargs["path"], headers=self.kwargs["headers"]) as response:
                response.raise_for_status()
                job = await response.json()
            if job["state"] in ("COMPLETED", "FAILED"):
                yield TriggerEvent({"state": job["state"]})
                return
            await asyncio.sleep(self.kwargs["poll_interval"])


class SleepTrigger(_BenchTrigger):
    """Sleeps until a poll would detect the end, without requests: the minimum cost of Airflow and this benchmark."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        interval = self.kwargs["poll_interval"]
        await asyncio.sleep(math.ceil((self.kwargs["finish"] - time.time()) / interval) * interval)
        yield TriggerEvent({"state": "COMPLETED"})
