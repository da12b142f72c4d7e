"""One poller for all that waits in a triggerer: a request for each hundred exports, however many tasks wait.

All triggers of a triggerer share one process and one event loop, so that plain dicts need no locks.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import AirflowNotFoundException, Stats
from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.exceptions import (
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesInputError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.hooks.connection import look_up_settings
from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook
from airflow_sb_provider.jobs.poll_schedule import Schedule
from airflow_sb_provider.jobs.rate_limiter import Pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.api.models import ExportJob
    from airflow_sb_provider.exceptions import SevenBridgesApiError
    from airflow_sb_provider.hooks.connection import ConnectionSettings
    from airflow_sb_provider.jobs.watch import Watch

    News = Callable[[Watch, list[str]], None]

CONNECTIONS = 4
LOOK_UP_AGAIN = 300.0
LOOK_UP_PAUSE = 10.0
PORTION = 10
# How many whose wait is over may be on their way out together, and for how long the others stand back for them.
LEAVING = 100
STAND_BACK = 1.0


class Waiter:
    """A trigger that waits: its watch, through which connection, how often to ask, and what to do with news.

    There may be ten thousand of them, so that each is kept small, and woken only when its wait may be over.

    :param news: called with the watch and lines worth logging, in the context in which the waiter was made; not at
        the end, when the task goes on at once and tells more.
    """

    __slots__ = ("_context", "_news", "_wake_up", "conn_id", "poll_interval", "poller", "unasked", "watch")

    def __init__(self, watch: Watch, conn_id: str, poll_interval: float, news: News) -> None:
        self.watch = watch
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.unasked: set[str] | None = None
        self.poller: Poller | None = None
        self._news = news
        self._context = contextvars.copy_context()
        self._wake_up: asyncio.Future[None] | None = None

    async def wait(self, seconds: float | None) -> None:
        """Wait until the wait may be over, at most so long."""
        loop = asyncio.get_running_loop()
        self._wake_up = loop.create_future()
        alarm = None if seconds is None else loop.call_later(max(0.0, seconds), self._wake)
        try:
            await self._wake_up
        finally:
            self._wake_up = None
            if alarm:
                alarm.cancel()

    def tell(self, export_id: str, answer: ExportJob | SevenBridgesError) -> bool:
        """Take the answer for one id; return whether the wait is over."""
        lines = self.watch.take([export_id], [answer])
        if self.unasked:
            self.unasked.discard(export_id)
        is_over = self.watch.over or self.watch.has_enough
        if is_over or self.unasked == set():
            self._wake()
        elif lines:
            self._context.run(self._news, self.watch, lines)
        return is_over

    def hurry(self) -> None:
        """Have every id that is open asked for at once; ``unasked`` are those that no answer has come for since."""
        self.unasked = set(self.watch.open)
        if self.poller:
            self.poller.hurry(self.unasked)

    def _wake(self) -> None:
        if self._wake_up and not self._wake_up.done():
            self._wake_up.set_result(None)


class Pollers:
    """The pollers of one event loop: one for each endpoint and credential, however many connections name them."""

    def __init__(self) -> None:
        self._by_connection: dict[str, Poller] = {}
        self._by_credential: dict[str, Poller] = {}

    def add(self, waiter: Waiter) -> None:
        """Ask for a waiter's ids from now on, first in a few seconds."""
        if waiter.conn_id not in self._by_connection:
            self._by_connection[waiter.conn_id] = Poller(self)
        self._by_connection[waiter.conn_id].add(waiter)

    async def remove(self, waiter: Waiter) -> None:
        """Forget a waiter; its poller stops with the last."""
        if waiter.poller:
            await waiter.poller.remove(waiter)

    def home(self, conn_id: str, settings: ConnectionSettings, asker: Poller) -> Poller:
        """Return the poller of what a connection says: that of others, the asker if it has none yet, or a new one."""
        poller = self._by_credential.get(settings.credential)
        if poller is None:
            poller = asker if asker.settings is None else Poller(self)
        if poller is asker or poller.settings is None:
            poller.use(settings)
        self._by_credential[settings.credential] = self._by_connection[conn_id] = poller
        return poller

    def forget(self, poller: Poller) -> None:
        """Forget a poller that has stopped."""
        self._by_connection = {key: each for key, each in self._by_connection.items() if each is not poller}
        self._by_credential = {key: each for key, each in self._by_credential.items() if each is not poller}


class Poller:
    """Asks for all ids of its waiters, a hundred at a time, each as often as its waiter wants.

    ``settings`` say where and as whom; None until a connection has been looked up, which is done once, and again
    after 5 minutes or a 401.
    """

    def __init__(self, pollers: Pollers) -> None:
        self.settings: ConnectionSettings | None = None
        self._pollers = pollers
        self._hook = SevenBridgesAsyncHook()
        self._waiters: dict[str, tuple[Waiter, ...]] = {}
        self._apart: Apart = {}
        self._schedule = Schedule()
        self._pacing = Pacing()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._more = asyncio.Event()
        self._sleeps_until: float | None = None
        self._leaving: set[Waiter] = set()
        self._look_up_at = 0.0
        self._unauthorized = False

    def use(self, settings: ConnectionSettings) -> None:
        """Ask where and as these settings say."""
        self.settings = settings
        self._look_up_at = time.monotonic() + LOOK_UP_AGAIN

    def add(self, waiter: Waiter) -> None:
        """Ask for a waiter's ids from now on."""
        waiter.poller = self
        now = time.monotonic()
        for export_id in waiter.watch.open:
            self._waiters[export_id] = (*self._waiters.get(export_id, ()), waiter)
            self._schedule.add(export_id, waiter.poll_interval, now)
        if not self._tasks:
            self._start(self._run())
        self._wake()

    def hurry(self, export_ids: Iterable[str]) -> None:
        """Ask for some ids at once."""
        now = time.monotonic()
        for export_id in export_ids:
            self._schedule.hurry(export_id, now)
        self._wake()

    async def remove(self, waiter: Waiter) -> None:
        """Forget a waiter; stop if it was the last."""
        self._drop(waiter)
        if not self._waiters:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()
            await self._stop()

    async def _stop(self) -> None:
        self._pollers.forget(self)
        Stats.gauge("sevenbridges.poller.waiters", 0, tags=self._tags)
        await self._hook.close()

    def _drop(self, waiter: Waiter) -> None:
        self._leaving.discard(waiter)
        for export_id in waiter.watch.export_ids:
            self._leave(export_id, waiter)

    def _leave(self, export_id: str, waiter: Waiter) -> None:
        if others := tuple(each for each in self._waiters.get(export_id, ()) if each is not waiter):
            self._waiters[export_id] = others
        elif self._waiters.pop(export_id, None):
            self._schedule.drop(export_id)
            self._apart.pop(export_id, None)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # A context of its own: else the poller's log would land in the log of the trigger that came first.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        # In a thread, since Airflow's metrics read files when they are first used.
        await asyncio.to_thread(Stats.incr, "sevenbridges.poller.starts")
        while self._waiters:
            try:
                await self._ask_next()
            except Exception as error:
                # Nobody's wait may end by a mistake in here. Only its kind is told, since its words may show headers.
                self._hook.log.error("The poller stumbled over %s and goes on.", type(error).__name__)
                await asyncio.sleep(LOOK_UP_PAUSE)
        # All have moved to another poller.
        await self._stop()

    async def _ask_next(self) -> None:
        await self._until_due()
        await self._look_up_connections()
        if self.settings is None or self._unauthorized:
            await asyncio.sleep(LOOK_UP_PAUSE if self._waiters else 0)
            return
        await asyncio.sleep(self._pause())
        await self._connections.acquire()
        batch = self._schedule.take(time.monotonic())
        if not batch:
            self._connections.release()
            return
        asking = self._start(self._ask(batch))
        # Only after the answers have been handed out, else they would pile up.
        asking.add_done_callback(lambda _: self._connections.release())
        if self._pacing.one_at_a_time:
            await asyncio.wait([asking])

    def _pause(self) -> float:
        items = min(len(self._waiters), BULK_LIMIT)
        # Several triggerers that wait for the same window should not all begin with it.
        return self._pacing.pause(self._schedule.wanted, time.time(), items) * random.uniform(1, 1.05)

    async def _until_due(self) -> None:
        # Not for ever: on Python 3.11 wait_for swallows the cancellation that comes together with what it waits for.
        while self._waiters:
            due = self._schedule.next_at
            if due is not None and due <= time.monotonic():
                return
            self._sleeps_until = due
            self._more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), None if due is None else due - time.monotonic())

    def _wake(self) -> None:
        # Only if something is due sooner than it sleeps: most that come are not, and they come in thousands.
        due = self._schedule.next_at
        if due is not None and (self._sleeps_until is None or due < self._sleeps_until):
            self._more.set()

    async def _look_up_connections(self) -> None:
        if time.monotonic() < self._look_up_at:
            return
        self._look_up_at = time.monotonic() + LOOK_UP_AGAIN
        self._unauthorized = False
        waiters_through: dict[str, set[Waiter]] = defaultdict(set)
        for each in self._waiters.values():
            for waiter in each:
                waiters_through[waiter.conn_id].add(waiter)
        for conn_id, waiters in waiters_through.items():
            try:
                settings = await look_up_settings(conn_id)
            except (SevenBridgesError, AirflowNotFoundException) as error:
                self._look_up_at = time.monotonic() + LOOK_UP_PAUSE
                known = error if isinstance(error, SevenBridgesError) else SevenBridgesInputError(str(error))
                await self._tell_all(waiters, known)
                continue
            home = self._pollers.home(conn_id, settings, self)
            if home is not self:
                for waiter in waiters:
                    self._drop(waiter)
                    home.add(waiter)

    async def _tell_all(self, waiters: Iterable[Waiter], error: SevenBridgesError) -> None:
        for waiter in waiters:
            for export_id in waiter.watch.open:
                # Since the look-up began it may have gone.
                if waiter in self._waiters.get(export_id, ()):
                    self._tell(waiter, export_id, error)
            await asyncio.sleep(0)
            await self._stand_back()

    async def _ask(self, batch: list[str]) -> None:
        asked_at = time.monotonic()
        lookup: Lookup[ExportJob] = Lookup(batch, self._apart)
        is_first = True
        while asked := lookup.next():
            if not is_first:
                await asyncio.sleep(self._pause())
            answers = lookup.take(await self._request(asked))
            if is_first:
                # Before anything is told, so that nothing that goes wrong then can end the wait of others.
                is_first = False
                self._plan(batch, asked_at)
            await self._hand_out(answers)
        if self._apart:
            for export_id in batch:
                if export_id not in self._waiters:
                    self._apart.pop(export_id, None)

    async def _request(self, asked: list[str]) -> Sequence[ExportJob | SevenBridgesApiError] | SevenBridgesError:
        """Send one request; return its answer, or the error that came instead."""
        answer: Sequence[ExportJob | SevenBridgesApiError] | SevenBridgesError
        try:
            assert self.settings is not None
            await self._hook.connect(self.settings)
            answer = await self._hook.get_exports(asked, again=False)
        except SevenBridgesError as error:
            answer = error
        except Exception as error:
            # The wait goes on. Only the kind of error is told, since a library's words may show headers.
            answer = SevenBridgesConnectionError(f"The poll failed with {type(error).__name__}.")
        if not isinstance(answer, SevenBridgesConnectionError):
            refused = isinstance(answer, SevenBridgesRateLimitError)
            self._pacing.told(self._hook.rate_limit, len(asked), time.time(), refused=refused)
        self._measure(answer)
        return answer

    def _plan(self, batch: list[str], asked_at: float) -> None:
        for export_id in batch:
            if export_id in self._waiters:
                self._schedule.asked(export_id, asked_at)
        self._wake()

    async def _hand_out(self, answers: Mapping[str, ExportJob | SevenBridgesError]) -> None:
        if any(isinstance(answer, SevenBridgesAuthError) for answer in answers.values()):
            self._unauthorized = True
            self._look_up_at = 0.0
        for number, (export_id, answer) in enumerate(answers.items()):
            for waiter in self._waiters.get(export_id, ()):
                self._tell(waiter, export_id, answer)
                if waiter.watch.settled(export_id):
                    self._leave(export_id, waiter)
            if number % PORTION == PORTION - 1:
                # So many that end at once would hold up everything else in the triggerer.
                await asyncio.sleep(0)
                await self._stand_back()

    def _tell(self, waiter: Waiter, export_id: str, answer: ExportJob | SevenBridgesError) -> None:
        try:
            if waiter.tell(export_id, answer):
                self._leaving.add(waiter)
        except Exception as error:
            # One that cannot take its answer must not keep the others from theirs.
            self._hook.log.error("Export %s: its news could not be told (%s).", export_id, type(error).__name__)

    async def _stand_back(self) -> None:
        # Airflow logs each event in a thread, and thousands that wait for that are much for the garbage collector.
        until = time.monotonic() + STAND_BACK
        while len(self._leaving) >= LEAVING:
            if time.monotonic() > until:
                self._leaving.clear()
            await asyncio.sleep(0.005)

    @property
    def _tags(self) -> dict[str, str]:
        return {"endpoint": self.settings.endpoint if self.settings else ""}

    def _measure(self, answer: Sequence[ExportJob | SevenBridgesApiError] | SevenBridgesError) -> None:
        tags = self._tags
        Stats.incr("sevenbridges.poller.requests", tags=tags)
        if isinstance(answer, SevenBridgesError) and not answer.permanent:
            Stats.incr("sevenbridges.poller.failures", tags=tags)
        Stats.gauge("sevenbridges.poller.waiters", len(self._waiters), tags=tags)
        Stats.gauge("sevenbridges.poller.cycle_seconds", self._schedule.cycle, tags=tags)
        rate = self._hook.rate_limit
        if rate and rate.remaining is not None:
            Stats.gauge("sevenbridges.poller.rate_limit_remaining", rate.remaining, tags=tags)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, Pollers] = WeakKeyDictionary()


def pollers() -> Pollers:
    """Return this event loop's pollers."""
    loop = asyncio.get_running_loop()
    if loop not in _pollers:
        _pollers[loop] = Pollers()
    return _pollers[loop]
