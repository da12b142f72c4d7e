"""One poller for all triggers of a triggerer: one request per hundred jobs of a kind, however many tasks wait.

All triggers of a triggerer share one process and one event loop, so plain dicts need no locks.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import chain
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
    from collections.abc import Coroutine, Iterable, Mapping, Sequence
    from typing import Protocol

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.exceptions import SevenBridgesApiError
    from airflow_sb_provider.hooks.connection import ConnectionSettings
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.jobs.watch import Watch

    class _Waiter(Protocol):
        def report_progress(self, watch: Watch[Any], lines: list[str], /) -> None: ...


CONNECTIONS = 4
CONNECTION_TTL = 300.0
CONNECTION_RETRY_DELAY = 10.0
YIELD_EVERY = 10
# At most this many finished triggers are released at a time; delivery to the others pauses for this many seconds.
MAX_COMPLETING = 100
COMPLETION_BACKOFF = 1.0


class Subscription:
    """A waiting trigger: its watch, connection and poll interval.

    There may be ten thousand of them, and a garbage collection stops them all while it visits what they hold. So each
    is small, and wakes only when its wait may be over.

    :param waiter: the trigger, whose `report_progress` gets the watch and the lines to log, in the poller's context. It
        is not called when the wait ends, because the task then resumes and reports the result.
    """

    __slots__ = ("_alarm", "_waiter", "_wake_up", "conn_id", "poll_interval", "poller", "watch")

    def __init__(self, watch: Watch[Any], conn_id: str, poll_interval: float, waiter: _Waiter) -> None:
        self.watch = watch
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.poller: Poller | None = None
        self._waiter = waiter
        self._wake_up: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def wait(self, until: float | None) -> asyncio.Future[None]:
        """Return a future that is done when the watch may be over, at the latest at a time of the monotonic clock."""
        self.cancel_alarm()
        loop = asyncio.get_running_loop()
        self._wake_up = loop.create_future()
        if until is not None:
            context = self.poller.alarm_context if self.poller else None
            self._alarm = loop.call_later(max(0.0, until - time.monotonic()), self._wake, context=context)
        return self._wake_up

    def cancel_alarm(self) -> None:
        """Forget the time of the last `wait`."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None

    def deliver(self, job_id: str, result: Job | SevenBridgesError, now: float) -> bool:
        """Apply the result for one id; return whether the wait is over."""
        lines = self.watch.update([job_id], [result], now)
        is_over = self.watch.is_decided
        if is_over:
            self._wake()
            return True
        if lines:
            self._waiter.report_progress(self.watch, lines)
        return False

    def poll_now(self, ids: Iterable[str]) -> None:
        """Have the poller poll some ids immediately."""
        if self.poller:
            self.poller.poll_now(self.watch.kind, ids)

    def _wake(self) -> None:
        if self._wake_up and not self._wake_up.done():
            self._wake_up.set_result(None)


class PollerRegistry:
    """The pollers of one event loop: one per endpoint and credential, shared by all connections that name them."""

    def __init__(self) -> None:
        self._by_connection: dict[str, Poller] = {}
        self._by_credential: dict[str, Poller] = {}

    def add(self, subscription: Subscription) -> None:
        """Poll a subscription's ids from now on, first in a few seconds."""
        if subscription.conn_id not in self._by_connection:
            self._by_connection[subscription.conn_id] = Poller(self)
        self._by_connection[subscription.conn_id].add(subscription)

    async def remove(self, subscription: Subscription) -> None:
        """Remove a subscription; its poller stops with the last one."""
        subscription.cancel_alarm()
        if subscription.poller:
            await subscription.poller.remove(subscription)

    def poller_for(self, conn_id: str, settings: ConnectionSettings, current: Poller) -> Poller:
        """Return the poller for these settings: an existing one, ``current`` if it has none yet, or a new one."""
        poller = self._by_credential.get(settings.credential)
        if poller is None:
            poller = current if current.settings is None else Poller(self)
        if poller is current or poller.settings is None:
            poller.use(settings)
        self._by_credential[settings.credential] = self._by_connection[conn_id] = poller
        return poller

    def discard(self, poller: Poller) -> None:
        """Remove a poller that has stopped."""
        self._by_connection = {key: other for key, other in self._by_connection.items() if other is not poller}
        self._by_credential = {key: other for key, other in self._by_credential.items() if other is not poller}


class _Lane:
    """The subscriptions and the poll schedule of one kind of job: a request has ids of one kind only."""

    def __init__(self, kind: JobKind[Any]) -> None:
        self.kind = kind
        self.subscriptions: dict[str, tuple[Subscription, ...]] = {}
        self.schedule = PollSchedule()
        self.apart: Apart = {}

    def unsubscribe(self, job_id: str, subscription: Subscription) -> None:
        """Stop polling an id for a subscription."""
        if others := tuple(other for other in self.subscriptions.get(job_id, ()) if other is not subscription):
            self.subscriptions[job_id] = others
        elif self.subscriptions.pop(job_id, None):
            self.schedule.drop(job_id)
            self.apart.pop(job_id, None)

    @property
    def ids_per_request(self) -> int:
        """How many ids a request has."""
        return min(len(self.subscriptions), BULK_LIMIT)


class Poller:
    """Polls the ids of all its subscriptions, up to a hundred of a kind per request, at each subscription's interval.

    All kinds share one rate limit and one order: the earliest due is polled first. ``settings`` are None until the
    connection has been read, which is repeated after 5 minutes or a 401.
    """

    def __init__(self, pollers: PollerRegistry) -> None:
        self.settings: ConnectionSettings | None = None
        # One for all alarms: asyncio would copy the trigger's for each.
        self.alarm_context = contextvars.Context()
        self._pollers = pollers
        self._hook = SevenBridgesAsyncHook()
        self._lanes: dict[JobKind[Any], _Lane] = {}
        self._limiter = RateLimiter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._sooner = asyncio.Event()
        self._sleeping_until: float | None = None
        self._completing: set[Subscription] = set()
        self._has_completed = asyncio.Event()
        self._refresh_at = 0.0
        self._unauthorized = False

    def use(self, settings: ConnectionSettings) -> None:
        """Poll with these settings."""
        self.settings = settings
        self._refresh_at = time.monotonic() + CONNECTION_TTL

    def add(self, subscription: Subscription) -> None:
        """Poll a subscription's ids from now on."""
        subscription.poller = self
        now = time.monotonic()
        kind = subscription.watch.kind
        for job_id in subscription.watch.open:
            lane = self._lanes.get(kind) or self._lanes.setdefault(kind, _Lane(kind))
            lane.subscriptions[job_id] = (*lane.subscriptions.get(job_id, ()), subscription)
            lane.schedule.add(job_id, subscription.poll_interval, now)
        if not self._tasks:
            self._start(self._run())
        self._wake()

    def poll_now(self, kind: JobKind[Any], ids: Iterable[str]) -> None:
        """Poll some ids immediately."""
        now = time.monotonic()
        if lane := self._lanes.get(kind):
            for job_id in ids:
                lane.schedule.poll_now(job_id, now)
            self._wake()

    async def remove(self, subscription: Subscription) -> None:
        """Remove a subscription; stop if it was the last."""
        self._drop(subscription)
        if not self._lanes:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()
            await self._stop()

    async def _stop(self) -> None:
        self._pollers.discard(self)
        Stats.gauge("sevenbridges.poller.waiters", 0, tags=self._tags)
        await self._hook.close()

    def _drop(self, subscription: Subscription) -> None:
        self._completing.discard(subscription)
        self._has_completed.set()
        for job_id in subscription.watch.ids:
            self._unsubscribe(job_id, subscription)

    def _unsubscribe(self, job_id: str, subscription: Subscription) -> None:
        if lane := self._lanes.get(subscription.watch.kind):
            lane.unsubscribe(job_id, subscription)
            if not lane.subscriptions:
                del self._lanes[lane.kind]

    @property
    def _next_at(self) -> float | None:
        """When the next request of any kind is due; None if none is planned."""
        planned = [due for lane in self._lanes.values() if (due := lane.schedule.next_at) is not None]
        return min(planned) if planned else None

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # A context of its own: otherwise the poller would write into the log of the first trigger.
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        # In a thread, because Airflow's metrics read files when they are first used.
        await asyncio.to_thread(Stats.incr, "sevenbridges.poller.starts")
        while self._lanes:
            try:
                await self._poll_next()
            except Exception as error:
                # A bug here must not end a wait. Only the error's class is logged: its text may contain headers.
                self._hook.log.error("Unexpected %s in the poller; polling continues.", type(error).__name__)
                await asyncio.sleep(CONNECTION_RETRY_DELAY)
        # All subscriptions have moved to another poller.
        await self._stop()

    async def _poll_next(self) -> None:
        await self._wait_until_due()
        await self._refresh_connections()
        if self.settings is None or self._unauthorized:
            await asyncio.sleep(CONNECTION_RETRY_DELAY if self._lanes else 0)
            return
        await asyncio.sleep(self._pause())
        await self._connections.acquire()
        due = self._next_at
        lane = next((lane for lane in self._lanes.values() if lane.schedule.next_at == due), None)
        batch = lane.schedule.next_batch(time.monotonic()) if lane else []
        if not (lane and batch):
            self._connections.release()
            return
        request = self._start(self._poll_batch(lane, batch))
        # Only after the results are delivered; otherwise responses would pile up.
        request.add_done_callback(lambda _: self._connections.release())
        if self._limiter.one_at_a_time:
            await asyncio.wait([request])

    def _pause(self) -> float:
        lanes = self._lanes.values()
        ids_per_second = sum(lane.schedule.ids_per_second for lane in lanes)
        requests = sum(lane.schedule.ids_per_second / lane.ids_per_request for lane in lanes)
        # With jitter, so that triggerers that wait for the same window do not all send a request when it begins.
        items = ids_per_second / requests if requests else 1
        return self._limiter.pause(ids_per_second, time.time(), items) * random.uniform(1, 1.05)

    async def _wait_until_due(self) -> None:
        # In a loop: on Python 3.11 wait_for swallows a cancellation that comes together with the awaited event.
        while self._lanes:
            due = self._next_at
            if due is not None and due <= time.monotonic():
                return
            self._sleeping_until = due
            self._sooner.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), None if due is None else due - time.monotonic())

    def _wake(self) -> None:
        # Only for a request that is due before it wakes: thousands of subscriptions may come that are not.
        due = self._next_at
        if due is not None and (self._sleeping_until is None or due < self._sleeping_until):
            self._sooner.set()

    async def _refresh_connections(self) -> None:
        if time.monotonic() < self._refresh_at:
            return
        self._refresh_at = time.monotonic() + CONNECTION_TTL
        self._unauthorized = False
        by_connection: dict[str, set[Subscription]] = defaultdict(set)
        for lane in self._lanes.values():
            for subscription in chain.from_iterable(lane.subscriptions.values()):
                by_connection[subscription.conn_id].add(subscription)
        for conn_id, subscriptions in by_connection.items():
            try:
                settings = await load_settings(conn_id)
            except (SevenBridgesError, AirflowNotFoundException) as error:
                self._refresh_at = time.monotonic() + CONNECTION_RETRY_DELAY
                own_error = error if isinstance(error, SevenBridgesError) else SevenBridgesInputError(str(error))
                await self._deliver_to_all(subscriptions, own_error)
                continue
            poller = self._pollers.poller_for(conn_id, settings, self)
            if poller is not self:
                for subscription in subscriptions:
                    self._drop(subscription)
                    poller.add(subscription)

    async def _deliver_to_all(self, subscriptions: Iterable[Subscription], error: SevenBridgesError) -> None:
        for subscription in subscriptions:
            now = time.monotonic()
            for job_id in subscription.watch.open:
                lane = self._lanes.get(subscription.watch.kind)
                # It may have been removed while the connection was read.
                if lane and subscription in lane.subscriptions.get(job_id, ()):
                    self._deliver(subscription, job_id, error, now)
            await asyncio.sleep(0)
            await self._throttle_completions()

    async def _poll_batch(self, lane: _Lane, batch: list[str]) -> None:
        polled_at = time.monotonic()
        lookup: Lookup[Job] = Lookup(batch, lane.apart)
        is_first = True
        while ids := lookup.next():
            if not is_first:
                await asyncio.sleep(self._pause())
            results = lookup.take(await self._request(lane.kind, ids))
            if is_first:
                # Before any delivery, so that an error in one cannot end the waits of others.
                is_first = False
                self._plan(lane, batch, polled_at)
            await self._deliver_results(lane, results)
        if lane.apart:
            for job_id in batch:
                if job_id not in lane.subscriptions:
                    lane.apart.pop(job_id, None)

    async def _request(
        self, kind: JobKind[Any], ids: list[str]
    ) -> Sequence[Job | SevenBridgesApiError] | SevenBridgesError:
        """Send one request; return its response or its error."""
        response: Sequence[Job | SevenBridgesApiError] | SevenBridgesError
        try:
            # The jobs are those of many tasks, and each task gets the error.
            call: Call[list[Job | SevenBridgesApiError]]
            call = replace(kind.get_many(ids), together=f"{len(ids)} {kind.name}s")
            assert self.settings is not None
            await self._hook.connect(self.settings)
            response = await self._hook.send(call, retry=False)
        except SevenBridgesError as error:
            response = error
        except Exception as error:
            # The wait continues. Only the error's class is logged: a library's text may contain headers.
            response = SevenBridgesConnectionError(f"The poll failed with {type(error).__name__}.")
        if not isinstance(response, SevenBridgesConnectionError):
            throttled = isinstance(response, SevenBridgesRateLimitError)
            self._limiter.observe(self._hook.rate_limit, len(ids), time.time(), throttled=throttled)
        self._measure(response)
        return response

    def _plan(self, lane: _Lane, batch: list[str], polled_at: float) -> None:
        for job_id in batch:
            if job_id in lane.subscriptions:
                lane.schedule.mark_polled(job_id, polled_at)
        self._wake()

    async def _deliver_results(self, lane: _Lane, results: Mapping[str, Job | SevenBridgesError]) -> None:
        if any(isinstance(result, SevenBridgesAuthError) for result in results.values()):
            self._unauthorized = True
            self._refresh_at = 0.0
        now = time.monotonic()
        for number, (job_id, result) in enumerate(results.items()):
            for subscription in lane.subscriptions.get(job_id, ()):
                self._deliver(subscription, job_id, result, now)
                if subscription.watch.is_closed(job_id):
                    self._unsubscribe(job_id, subscription)
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                # Many jobs that finish together must not block the other triggers of the triggerer.
                await asyncio.sleep(0)
                await self._throttle_completions()

    def _deliver(self, subscription: Subscription, job_id: str, result: Job | SevenBridgesError, now: float) -> None:
        try:
            if subscription.deliver(job_id, result, now):
                self._completing.add(subscription)
        except Exception as error:
            # An error in one delivery must not prevent the others.
            job = f"{subscription.watch.kind.name} {job_id}"
            self._hook.log.error("Could not deliver the result of %s to its trigger: %s.", job, type(error).__name__)

    async def _throttle_completions(self) -> None:
        # Airflow keeps a finished trigger until a thread has logged its event; thousands burden the garbage collector.
        while len(self._completing) >= MAX_COMPLETING:
            self._has_completed.clear()
            try:
                async with asyncio.timeout(COMPLETION_BACKOFF):
                    await self._has_completed.wait()
            except TimeoutError:
                # A trigger whose events Airflow no longer reads never completes, and must not block the others.
                self._completing.clear()

    @property
    def _tags(self) -> dict[str, str]:
        return {"endpoint": self.settings.endpoint if self.settings else ""}

    def _measure(self, response: Sequence[Job | SevenBridgesApiError] | SevenBridgesError) -> None:
        tags = self._tags
        Stats.incr("sevenbridges.poller.requests", tags=tags)
        if isinstance(response, SevenBridgesError) and not response.permanent:
            Stats.incr("sevenbridges.poller.failures", tags=tags)
        lanes = self._lanes.values()
        Stats.gauge("sevenbridges.poller.waiters", sum(len(lane.subscriptions) for lane in lanes), tags=tags)
        cycle = max((lane.schedule.observed_interval for lane in lanes), default=0.0)
        Stats.gauge("sevenbridges.poller.cycle_seconds", cycle, tags=tags)
        rate = self._hook.rate_limit
        if rate and rate.remaining is not None:
            Stats.gauge("sevenbridges.poller.rate_limit_remaining", rate.remaining, tags=tags)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, PollerRegistry] = WeakKeyDictionary()


def pollers() -> PollerRegistry:
    """Return the pollers of this event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _pollers:
        _pollers[loop] = PollerRegistry()
    return _pollers[loop]
