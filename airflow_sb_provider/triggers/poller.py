"""One poller for all that waits in a triggerer: a request for each hundred jobs of a kind, however many tasks wait.

All triggers of a triggerer share one process and one event loop, so that plain dicts need no locks.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any
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
from airflow_sb_provider.hooks.connection import load_settings
from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook
from airflow_sb_provider.jobs.poll_schedule import PollSchedule
from airflow_sb_provider.jobs.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.exceptions import SevenBridgesApiError
    from airflow_sb_provider.hooks.connection import ConnectionSettings
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.jobs.watch import Watch

    News = Callable[[Watch[Any], list[str]], None]

CONNECTIONS = 4
CONNECTION_TTL = 300.0
CONNECTION_RETRY_DELAY = 10.0
YIELD_EVERY = 10
# How many whose wait is over may be on their way out together, and for how long the others stand back for them.
MAX_COMPLETING = 100
COMPLETION_BACKOFF = 1.0


class Subscription:
    """A trigger that waits: its watch, through which connection, how often to poll, and what to do with news.

    There may be ten thousand of them, so that each is kept small, and woken only when its wait may be over.

    :param news: called with the watch and lines worth logging, in the poller's context; not at the end, when the task
        goes on at once and reports more.
    """

    __slots__ = ("_news", "_wake_up", "conn_id", "poll_interval", "poller", "watch")

    def __init__(self, watch: Watch[Any], conn_id: str, poll_interval: float, news: News) -> None:
        self.watch = watch
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.poller: Poller | None = None
        self._news = news
        self._wake_up: asyncio.Future[None] | None = None

    async def wait(self, until: float | None) -> None:
        """Wait until the wait may be over, at most until a moment of the monotonic clock."""
        loop = asyncio.get_running_loop()
        self._wake_up = loop.create_future()
        alarm = None if until is None else loop.call_later(max(0.0, until - time.monotonic()), self._wake)
        try:
            await self._wake_up
        finally:
            self._wake_up = None
            if alarm:
                alarm.cancel()

    def tell(self, job_id: str, answer: Job | SevenBridgesError, now: float) -> bool:
        """Take the answer for one id; return whether the wait is over."""
        lines = self.watch.take([job_id], [answer], now)
        is_over = self.watch.is_decided
        if is_over:
            self._wake()
        elif lines:
            self._news(self.watch, lines)
        return is_over

    def hurry(self, ids: Iterable[str]) -> None:
        """Have some ids polled at once."""
        if self.poller:
            self.poller.hurry(self.watch.kind, ids)

    def _wake(self) -> None:
        if self._wake_up and not self._wake_up.done():
            self._wake_up.set_result(None)


class PollerRegistry:
    """The pollers of one event loop: one for each endpoint and credential, however many connections name them."""

    def __init__(self) -> None:
        self._by_connection: dict[str, Poller] = {}
        self._by_credential: dict[str, Poller] = {}

    def add(self, waiter: Subscription) -> None:
        """Ask for a waiter's ids from now on, first in a few seconds."""
        if waiter.conn_id not in self._by_connection:
            self._by_connection[waiter.conn_id] = Poller(self)
        self._by_connection[waiter.conn_id].add(waiter)

    async def remove(self, waiter: Subscription) -> None:
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


class _Lane:
    """What is waited for of one kind: a request holds ids of one kind only."""

    def __init__(self, kind: JobKind[Any]) -> None:
        self.kind = kind
        self.waiters: dict[str, tuple[Subscription, ...]] = {}
        self.schedule = PollSchedule()
        self.apart: Apart = {}

    def leave(self, job_id: str, waiter: Subscription) -> None:
        """Poll an id no more for a waiter."""
        if others := tuple(each for each in self.waiters.get(job_id, ()) if each is not waiter):
            self.waiters[job_id] = others
        elif self.waiters.pop(job_id, None):
            self.schedule.drop(job_id)
            self.apart.pop(job_id, None)

    @property
    def in_a_request(self) -> int:
        """How many ids a request takes."""
        return min(len(self.waiters), BULK_LIMIT)


class Poller:
    """Polls all ids of its waiters, a hundred of a kind at a time, each as often as its waiter wants.

    All kinds share one rate limit and one order: what is due first is polled first.

    ``settings`` say where and as whom; None until a connection has been looked up, which is done once, and again
    after 5 minutes or a 401.
    """

    def __init__(self, pollers: PollerRegistry) -> None:
        self.settings: ConnectionSettings | None = None
        self._pollers = pollers
        self._hook = SevenBridgesAsyncHook()
        self._lanes: dict[JobKind[Any], _Lane] = {}
        self._pacing = RateLimiter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._more = asyncio.Event()
        self._sleeps_until: float | None = None
        self._leaving: set[Subscription] = set()
        self._has_left = asyncio.Event()
        self._look_up_at = 0.0
        self._unauthorized = False

    def use(self, settings: ConnectionSettings) -> None:
        """Ask where and as these settings say."""
        self.settings = settings
        self._look_up_at = time.monotonic() + CONNECTION_TTL

    def add(self, waiter: Subscription) -> None:
        """Poll a waiter's ids from now on."""
        waiter.poller = self
        now = time.monotonic()
        kind = waiter.watch.kind
        for job_id in waiter.watch.open:
            lane = self._lanes.get(kind) or self._lanes.setdefault(kind, _Lane(kind))
            lane.waiters[job_id] = (*lane.waiters.get(job_id, ()), waiter)
            lane.schedule.add(job_id, waiter.poll_interval, now)
        if not self._tasks:
            self._start(self._run())
        self._wake()

    def hurry(self, kind: JobKind[Any], ids: Iterable[str]) -> None:
        """Poll some ids at once."""
        now = time.monotonic()
        if lane := self._lanes.get(kind):
            for job_id in ids:
                lane.schedule.hurry(job_id, now)
            self._wake()

    async def remove(self, waiter: Subscription) -> None:
        """Forget a waiter; stop if it was the last."""
        self._drop(waiter)
        if not self._lanes:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()
            await self._stop()

    async def _stop(self) -> None:
        self._pollers.forget(self)
        Stats.gauge("sevenbridges.poller.waiters", 0, tags=self._tags)
        await self._hook.close()

    def _drop(self, waiter: Subscription) -> None:
        self._leaving.discard(waiter)
        self._has_left.set()
        for job_id in waiter.watch.ids:
            self._leave(job_id, waiter)

    def _leave(self, job_id: str, waiter: Subscription) -> None:
        if lane := self._lanes.get(waiter.watch.kind):
            lane.leave(job_id, waiter)
            if not lane.waiters:
                del self._lanes[lane.kind]

    @property
    def _next_at(self) -> float | None:
        """When the next request is due, of whatever kind; None if nothing is planned."""
        planned = [due for lane in self._lanes.values() if (due := lane.schedule.next_at) is not None]
        return min(planned) if planned else None

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # A context of its own: else the poller's log would land in the log of the trigger that came first.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        # In a thread, since Airflow's metrics read files when they are first used.
        await asyncio.to_thread(Stats.incr, "sevenbridges.poller.starts")
        while self._lanes:
            try:
                await self._ask_next()
            except Exception as error:
                # Nobody's wait may end by a mistake in here. Only its kind is told, since its words may show headers.
                self._hook.log.error("The poller stumbled over %s and goes on.", type(error).__name__)
                await asyncio.sleep(CONNECTION_RETRY_DELAY)
        # All have moved to another poller.
        await self._stop()

    async def _ask_next(self) -> None:
        await self._until_due()
        await self._look_up_connections()
        if self.settings is None or self._unauthorized:
            await asyncio.sleep(CONNECTION_RETRY_DELAY if self._lanes else 0)
            return
        await asyncio.sleep(self._pause())
        await self._connections.acquire()
        due = self._next_at
        lane = next((each for each in self._lanes.values() if each.schedule.next_at == due), None)
        batch = lane.schedule.take(time.monotonic()) if lane else []
        if not (lane and batch):
            self._connections.release()
            return
        asking = self._start(self._ask(lane, batch))
        # Only after the answers have been handed out, else they would pile up.
        asking.add_done_callback(lambda _: self._connections.release())
        if self._pacing.one_at_a_time:
            await asyncio.wait([asking])

    def _pause(self) -> float:
        lanes = self._lanes.values()
        wanted = sum(lane.schedule.wanted for lane in lanes)
        requests = sum(lane.schedule.wanted / lane.in_a_request for lane in lanes)
        # Several triggerers that wait for the same window should not all begin with it.
        return self._pacing.pause(wanted, time.time(), wanted / requests if requests else 1) * random.uniform(1, 1.05)

    async def _until_due(self) -> None:
        # Not for ever: on Python 3.11 wait_for swallows the cancellation that comes together with what it waits for.
        while self._lanes:
            due = self._next_at
            if due is not None and due <= time.monotonic():
                return
            self._sleeps_until = due
            self._more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), None if due is None else due - time.monotonic())

    def _wake(self) -> None:
        # Only if something is due sooner than it sleeps: most that come are not, and they come in thousands.
        due = self._next_at
        if due is not None and (self._sleeps_until is None or due < self._sleeps_until):
            self._more.set()

    async def _look_up_connections(self) -> None:
        if time.monotonic() < self._look_up_at:
            return
        self._look_up_at = time.monotonic() + CONNECTION_TTL
        self._unauthorized = False
        waiters_through: dict[str, set[Subscription]] = defaultdict(set)
        for lane in self._lanes.values():
            for each in lane.waiters.values():
                for waiter in each:
                    waiters_through[waiter.conn_id].add(waiter)
        for conn_id, waiters in waiters_through.items():
            try:
                settings = await load_settings(conn_id)
            except (SevenBridgesError, AirflowNotFoundException) as error:
                self._look_up_at = time.monotonic() + CONNECTION_RETRY_DELAY
                known = error if isinstance(error, SevenBridgesError) else SevenBridgesInputError(str(error))
                await self._tell_all(waiters, known)
                continue
            home = self._pollers.home(conn_id, settings, self)
            if home is not self:
                for waiter in waiters:
                    self._drop(waiter)
                    home.add(waiter)

    async def _tell_all(self, waiters: Iterable[Subscription], error: SevenBridgesError) -> None:
        for waiter in waiters:
            now = time.monotonic()
            for job_id in waiter.watch.open:
                lane = self._lanes.get(waiter.watch.kind)
                # Since the look-up began it may have gone.
                if lane and waiter in lane.waiters.get(job_id, ()):
                    self._tell(waiter, job_id, error, now)
            await asyncio.sleep(0)
            await self._stand_back()

    async def _ask(self, lane: _Lane, batch: list[str]) -> None:
        asked_at = time.monotonic()
        lookup: Lookup[Job] = Lookup(batch, lane.apart)
        is_first = True
        while asked := lookup.next():
            if not is_first:
                await asyncio.sleep(self._pause())
            answers = lookup.take(await self._request(lane.kind, asked))
            if is_first:
                # Before anything is reported, so that nothing that goes wrong then can end the wait of others.
                is_first = False
                self._plan(lane, batch, asked_at)
            await self._hand_out(lane, answers)
        if lane.apart:
            for job_id in batch:
                if job_id not in lane.waiters:
                    lane.apart.pop(job_id, None)

    async def _request(
        self, kind: JobKind[Any], asked: list[str]
    ) -> Sequence[Job | SevenBridgesApiError] | SevenBridgesError:
        """Send one request; return its answer, or the error that came instead."""
        answer: Sequence[Job | SevenBridgesApiError] | SevenBridgesError
        try:
            call: Call[list[Job | SevenBridgesApiError]] = kind.get_many(asked)
            assert self.settings is not None
            await self._hook.connect(self.settings)
            answer = await self._hook.send(call, retry=False)
        except SevenBridgesError as error:
            answer = error
        except Exception as error:
            # The wait goes on. Only the kind of error is logged, since a library's words may show headers.
            answer = SevenBridgesConnectionError(f"The poll failed with {type(error).__name__}.")
        if not isinstance(answer, SevenBridgesConnectionError):
            refused = isinstance(answer, SevenBridgesRateLimitError)
            self._pacing.told(self._hook.rate_limit, len(asked), time.time(), refused=refused)
        self._measure(answer)
        return answer

    def _plan(self, lane: _Lane, batch: list[str], asked_at: float) -> None:
        for job_id in batch:
            if job_id in lane.waiters:
                lane.schedule.asked(job_id, asked_at)
        self._wake()

    async def _hand_out(self, lane: _Lane, answers: Mapping[str, Job | SevenBridgesError]) -> None:
        if any(isinstance(answer, SevenBridgesAuthError) for answer in answers.values()):
            self._unauthorized = True
            self._look_up_at = 0.0
        now = time.monotonic()
        for number, (job_id, answer) in enumerate(answers.items()):
            for waiter in lane.waiters.get(job_id, ()):
                self._tell(waiter, job_id, answer, now)
                if waiter.watch.settled(job_id):
                    self._leave(job_id, waiter)
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                # So many that end at once would hold up everything else in the triggerer.
                await asyncio.sleep(0)
                await self._stand_back()

    def _tell(self, waiter: Subscription, job_id: str, answer: Job | SevenBridgesError, now: float) -> None:
        try:
            if waiter.tell(job_id, answer, now):
                self._leaving.add(waiter)
        except Exception as error:
            # One that cannot take its answer must not keep the others from theirs.
            title = waiter.watch.kind.title
            self._hook.log.error("%s %s: its news could not be reported (%s).", title, job_id, type(error).__name__)

    async def _stand_back(self) -> None:
        # Airflow logs each event in a thread, and thousands that wait for that are much for the garbage collector.
        while len(self._leaving) >= MAX_COMPLETING:
            self._has_left.clear()
            try:
                async with asyncio.timeout(COMPLETION_BACKOFF):
                    await self._has_left.wait()
            except TimeoutError:
                # A trigger that Airflow does not read any more never leaves, and must not hold up the others.
                self._leaving.clear()

    @property
    def _tags(self) -> dict[str, str]:
        return {"endpoint": self.settings.endpoint if self.settings else ""}

    def _measure(self, answer: Sequence[Job | SevenBridgesApiError] | SevenBridgesError) -> None:
        tags = self._tags
        Stats.incr("sevenbridges.poller.requests", tags=tags)
        if isinstance(answer, SevenBridgesError) and not answer.permanent:
            Stats.incr("sevenbridges.poller.failures", tags=tags)
        lanes = self._lanes.values()
        Stats.gauge("sevenbridges.poller.waiters", sum(len(lane.waiters) for lane in lanes), tags=tags)
        cycle = max((lane.schedule.cycle for lane in lanes), default=0.0)
        Stats.gauge("sevenbridges.poller.cycle_seconds", cycle, tags=tags)
        rate = self._hook.rate_limit
        if rate and rate.remaining is not None:
            Stats.gauge("sevenbridges.poller.rate_limit_remaining", rate.remaining, tags=tags)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, PollerRegistry] = WeakKeyDictionary()


def pollers() -> PollerRegistry:
    """Return this event loop's pollers."""
    loop = asyncio.get_running_loop()
    if loop not in _pollers:
        _pollers[loop] = PollerRegistry()
    return _pollers[loop]
