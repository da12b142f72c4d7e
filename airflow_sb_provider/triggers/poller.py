"""One poller for all that waits in a triggerer: a request for each hundred exports, however many tasks wait.

All triggers of a triggerer share one process and one event loop, so that plain dicts need no locks.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import AirflowNotFoundException
from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.exceptions import (
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesInputError,
)
from airflow_sb_provider.exports.pacing import seconds_before_next
from airflow_sb_provider.exports.waiting import FIRST_POLL
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.models import ExportJob
    from airflow_sb_provider.exports.waiting import Watch

WORKERS = 4
RECONNECT_AFTER = 300.0


class Waiter:
    """A trigger that waits: its watch, how often to ask, and what it should log.

    ``changed`` is set when there are lines to log or the wait may be over; ``unasked`` are the ids that no answer, nor
    an error in its place, has come for.
    """

    def __init__(self, watch: Watch, poll_interval: float) -> None:
        self.watch = watch
        self.poll_interval = poll_interval
        self.changed = asyncio.Event()
        self.lines: list[str] = []
        self.unasked = set(watch.export_ids)

    def tell(self, export_id: str, answer: ExportJob | SevenBridgesError) -> None:
        """Take the answer for one id."""
        self.lines += self.watch.take([export_id], answer if isinstance(answer, SevenBridgesError) else [answer])
        was_last = self.unasked == {export_id}
        self.unasked.discard(export_id)
        if self.lines or self.watch.over or was_last:
            self.changed.set()

    def take_lines(self) -> list[str]:
        """Return what should be logged, once."""
        self.changed.clear()
        lines, self.lines = self.lines, []
        return lines


class Poller:
    """Asks for all ids of its waiters, a hundred at a time, each as often as its waiter wants.

    :param sevenbridges_conn_id: the Airflow connection, looked up once and again after 5 minutes or a 401.
    """

    def __init__(self, sevenbridges_conn_id: str) -> None:
        self._hook = SevenBridgesAsyncHook(sevenbridges_conn_id)
        self._waiters: dict[str, set[Waiter]] = defaultdict(set)
        self._due: list[tuple[float, str]] = []
        # Ids that are in the queue or being asked for.
        self._scheduled: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._more = asyncio.Event()
        self._turn = asyncio.Lock()
        self._reconnect_at = 0.0

    def add(self, waiter: Waiter) -> None:
        """Ask for a waiter's ids from now on, first in a few seconds."""
        first = time.monotonic() + FIRST_POLL
        for export_id in waiter.watch.export_ids:
            if export_id not in self._scheduled:
                self._scheduled.add(export_id)
                heapq.heappush(self._due, (first, export_id))
            self._waiters[export_id].add(waiter)
        while len(self._tasks) < WORKERS:
            # A context of its own: else the poller's log would land in the log of the trigger that came first.
            task = asyncio.create_task(self._work(), context=contextvars.Context())
            self._tasks.add(task)
        self._more.set()

    async def remove(self, waiter: Waiter) -> None:
        """Forget a waiter; stop if it was the last."""
        for export_id in waiter.watch.export_ids:
            self._leave(export_id, waiter)
        if not self._waiters:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()
            self._due.clear()
            self._scheduled.clear()
            await self._hook.close()

    def _leave(self, export_id: str, waiter: Waiter) -> None:
        waiters = self._waiters.get(export_id, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiters.pop(export_id, None)

    async def _work(self) -> None:
        while True:
            async with self._turn:
                batch = await self._next_batch()
                trouble = await self._look_up_connection()
            self._hand_out(batch, [trouble] * len(batch) if trouble else await self._ask(batch))

    async def _next_batch(self) -> list[str]:
        while True:
            while self._due and self._due[0][1] not in self._waiters:
                self._scheduled.discard(heapq.heappop(self._due)[1])
            pause = self._due[0][0] - time.monotonic() if self._due else None
            if pause is not None and pause <= 0:
                break
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), pause)
            except TimeoutError:
                continue
        # Filled up with ids that are due later, so that all of them share as few requests as can be.
        batch: list[str] = []
        while self._due and len(batch) < BULK_LIMIT:
            export_id = heapq.heappop(self._due)[1]
            if export_id in self._waiters:
                batch.append(export_id)
            else:
                self._scheduled.discard(export_id)
        await self._pace(batch)
        return batch

    async def _pace(self, batch: list[str]) -> None:
        interval = min(self._interval(export_id) for export_id in batch)
        wanted = math.ceil(len(self._waiters) / BULK_LIMIT) / interval
        gap = seconds_before_next(self._hook.rate_limit, time.time(), wanted)
        if gap > 0:
            await asyncio.sleep(gap * random.uniform(1, 1.05))

    def _interval(self, export_id: str) -> float:
        return min(waiter.poll_interval for waiter in self._waiters[export_id])

    async def _look_up_connection(self) -> SevenBridgesError | None:
        if time.monotonic() < self._reconnect_at:
            return None
        try:
            await self._hook.reconnect()
        except AirflowNotFoundException as error:
            return SevenBridgesInputError(str(error))
        except SevenBridgesError as error:
            return error
        self._reconnect_at = time.monotonic() + RECONNECT_AFTER
        return None

    async def _ask(self, batch: list[str]) -> Sequence[ExportJob | SevenBridgesError]:
        try:
            return await self._hook.get_exports(batch, again=False)
        except SevenBridgesError as error:
            return [error] * len(batch)
        except Exception as error:
            # The wait goes on. Only the kind of error is told, since a library's words may show headers.
            return [SevenBridgesConnectionError(f"The poll failed with {type(error).__name__}.")] * len(batch)

    def _hand_out(self, batch: list[str], answers: Sequence[ExportJob | SevenBridgesError]) -> None:
        if any(isinstance(answer, SevenBridgesAuthError) for answer in answers):
            self._reconnect_at = 0.0
        now = time.monotonic()
        for export_id, answer in zip(batch, answers, strict=True):
            for waiter in list(self._waiters.get(export_id, ())):
                waiter.tell(export_id, answer)
                if waiter.watch.settled(export_id):
                    self._leave(export_id, waiter)
            if export_id in self._waiters:
                heapq.heappush(self._due, (now + self._interval(export_id), export_id))
            else:
                self._scheduled.discard(export_id)
        self._more.set()


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


def poller_for(sevenbridges_conn_id: str) -> Poller:
    """Return this event loop's poller of a connection."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    return pollers.setdefault(sevenbridges_conn_id, Poller(sevenbridges_conn_id))
