"""The trigger of an asset watcher: exports to a volume have completed."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider._compat import (
    AIRFLOW_CONFIRMS_EVENTS,
    WATCHERS_HAVE_QUEUES,
    AirflowNotFoundException,
    BaseEventTrigger,
    SharedStreamProducer,
    TriggerEvent,
    airflow_version,
)
from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import (
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesInputError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.exports.completed_feed import (
    MOST_PAGES,
    Checkpoint,
    CompletedFeed,
    completed_exports,
    export_event,
)
from airflow_sb_provider.exports.request import read_volume
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook

T = TypeVar("T")

WATCH_INTERVAL = 60.0
# The pause after a rejection that only a person can fix.
REJECTED_PAUSE = 300.0
# The maximum difference between the Platform's clock and this machine's, in seconds; beyond it, it is ignored.
MAX_CLOCK_SKEW = 86400.0
# Airflow ends a trigger that does not return to it within 300 s.
RESPONSE_TIMEOUT = 60.0


class SevenBridgesExportEventTrigger(BaseEventTrigger):
    """Fire an event when exports to a volume have completed; for an ``AssetWatcher``, on Airflow 3.3 and newer.

    It reports the exports of the connection's user, whatever submitted them, that complete after its first start. Each
    export is delivered at least once: the trigger stores its checkpoint in the asset's store only after Airflow has
    recorded the event. The payload is a dict with ``exports``, a list of at most 200 dicts. Each has ``export_id``,
    ``file``, ``volume``, ``location``, ``uri``, ``size``, ``started_on`` and ``finished_on``.

    :param volume: the volume's id, ``owner/name``.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls, of one to ten requests each; two events are at least as far apart.
    :param queue: the queue of triggerers that the watch runs in, for `[triggerer] queues_enabled`; from Airflow 3.4 on.
    :raises SevenBridgesInputError: if a value is invalid, or Airflow is older than 3.3, or than 3.4 with a ``queue``.
    """

    def __init__(
        self,
        volume: str,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        poll_interval: float = WATCH_INTERVAL,
        queue: str | None = None,
    ) -> None:
        if not AIRFLOW_CONFIRMS_EVENTS:
            raise SevenBridgesInputError(
                f"SevenBridgesExportEventTrigger needs Airflow 3.3 or newer; this is {airflow_version}."
            )
        if queue is not None and not WATCHERS_HAVE_QUEUES:
            raise SevenBridgesInputError(f"queue: it needs Airflow 3.4 or newer; this is {airflow_version}.")
        # Airflow reads the queue from the trigger, not from its serialized arguments.
        super().__init__(**({} if queue is None else {"queue": queue}))  # type: ignore[no-untyped-call]
        self.volume = volume
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self._validate()
        self._key = f"sevenbridges exports {sevenbridges_conn_id} {volume}"
        self._hook: SevenBridgesAsyncHook | None = None
        self._volume_details: Volume | None = None
        self._feed: CompletedFeed | None = None
        self._limiter = RateLimiter()
        self._due = self._cycle_started_at = 0.0
        self._cycle_is_over = True
        self._last_error_class: type[Exception] | None = None
        self._warned_undated = False

    def _validate(self) -> None:
        errors = []
        try:
            read_volume(self.volume)
        except ValueError as error:
            errors.append(f"volume: {error}")
        conn_id: Any = self.sevenbridges_conn_id
        if not (isinstance(conn_id, str) and conn_id):
            errors.append(f"sevenbridges_conn_id: {conn_id!r} is not a connection id; pass an Airflow connection's.")
        interval: Any = self.poll_interval
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        if not (is_number and 0 < interval < float("inf")):
            errors.append(f"poll_interval: {interval!r} is not a number of seconds; pass a number above 0.")
        if errors:
            raise SevenBridgesInputError(errors)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which identify the watch for Airflow."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "volume": self.volume,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Raise: without a shared stream Airflow does not confirm that it has recorded an event."""
        raise SevenBridgesError("This trigger runs only in an AssetWatcher, in the triggerer of Airflow 3.3 or newer.")
        yield

    def shared_stream_key(self) -> Hashable:
        """Return a key of its own: the stream is used for its confirmations, not for sharing."""
        return type(self).__qualname__, self.trigger_id

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the producer of this trigger's turns; in each turn, it reads one page."""
        return _Turns()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[_Turn]) -> AsyncIterator[TriggerEvent]:
        """Read one page in each turn; the next turn starts when the events of this one are recorded."""
        async for turn in shared_stream:
            exports = await self._poll_page()
            if exports:
                # One event per poll: Airflow 3.3 may queue further ones until the next event (apache/airflow#56050).
                yield TriggerEvent({"exports": exports})
            turn.pause = 0.0 if exports else max(self._due - time.monotonic(), 0.0)

    async def cleanup(self) -> None:
        """Close the session."""
        if self._hook:
            await self._hook.close()

    async def _poll_page(self) -> list[dict[str, Any]]:
        try:
            return await self._poll()
        except SevenBridgesError as error:
            if isinstance(error, SevenBridgesRateLimitError) and self._hook:
                self._limiter.observe(self._hook.rate_limit, 1, time.time(), throttled=True)
            self._record_failure(error, str(error), rejected=error.permanent)
        except AirflowNotFoundException as error:
            self._record_failure(error, f"{error} Create it, or change 'sevenbridges_conn_id'.", rejected=True)
        except Exception as error:
            # A bug must not end the watch. Only the error's class is logged: its text may contain headers.
            self._record_failure(error, f"unexpected {type(error).__name__}.", rejected=False)
        return []

    def _record_failure(self, error: Exception, message: str, *, rejected: bool) -> None:
        error_class = type(error)
        if error_class is not self._last_error_class and (rejected or self._last_error_class is None):
            self.log.warning("Polling volume %s failed; retrying: %s", self.volume, message)
        self._last_error_class = error_class
        pause = max(self.poll_interval, REJECTED_PAUSE if rejected else 0.0)
        self._due = time.monotonic() + max(pause, self._pause())

    async def _poll(self) -> list[dict[str, Any]]:
        """Store the checkpoint, read the next page if it is due, and return the exports to report."""
        if self._feed:
            self._feed.mark_announced()
            await self._save(self._feed.checkpoint)
        if time.monotonic() < self._due:
            return []
        hook = await self._open()
        if self._volume_details is None:
            self._volume_details = await self._send(hook, calls.get_volume(self.volume))
        if self._feed is None and (checkpoint := await self._load()):
            self._feed = CompletedFeed(self.volume, checkpoint)
        if self._cycle_is_over:
            self._cycle_started_at, self._cycle_is_over = time.monotonic(), False
            if self._feed:
                self._feed.begin_cycle()
        offset = (self._feed and self._feed.next_offset) or 0
        page, date = await self._send(hook, completed_exports(self.volume, offset))
        now = int(time.time())
        # If the clocks differed by more, either no export would ever count as new, or every one.
        if date is not None and abs(date - now) <= MAX_CLOCK_SKEW:
            now = date
        if self._feed is None:
            checkpoint = Checkpoint(now)
            await self._save(checkpoint)
            self._feed = CompletedFeed(self.volume, checkpoint)
            self.log.info("Watching volume %s: exports that complete from now on are reported.", self.volume)
        if self._last_error_class:
            self.log.info("Watching volume %s: recovered.", self.volume)
            self._last_error_class = None
        self._feed.take(page, now)
        if self._feed.undated and not self._warned_undated:
            self._warned_undated = True
            self.log.warning("Export %s has no finish time; such exports are not reported.", self._feed.undated)
        self._cycle_is_over = self._feed.next_offset is None
        after = self._cycle_started_at + self.poll_interval if self._cycle_is_over else 0.0
        self._due = max(after, time.monotonic() + self._pause())
        if not self._cycle_is_over:
            return []
        return [export_event(job, self._volume_details) for job in self._feed.next_batch()]

    def _pause(self) -> float:
        return self._limiter.pause(MOST_PAGES / self.poll_interval, time.time(), 1)

    async def _open(self) -> SevenBridgesAsyncHook:
        # Imported here, because a DAG file that contains the watcher does not need the hook's dependencies.
        if self._hook is None:
            module = await asyncio.to_thread(importlib.import_module, "airflow_sb_provider.hooks.sevenbridges_async")
            self._hook = module.SevenBridgesAsyncHook(self.sevenbridges_conn_id)
            await self._hook.reconnect()
        elif self._last_error_class:
            # The token may have been replaced.
            await self._hook.reconnect()
        return self._hook

    async def _send(self, hook: SevenBridgesAsyncHook, call: Call[T]) -> T:
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT):
                response = await hook.send(call, retry=False)
        except TimeoutError:
            raise SevenBridgesConnectionError(f"The Platform did not respond in {RESPONSE_TIMEOUT:.0f} s.") from None
        self._limiter.observe(hook.rate_limit, 1, time.time())
        return response

    # The asset's store. In Airflow 3.3.0 and 3.3.1 it has no asynchronous methods.

    async def _load(self) -> Checkpoint | None:
        head = await self._call_store("get", self._key)
        if head is None:
            return None
        try:
            pages = {
                number: await self._call_store("get", f"{self._key} {number}") for number in Checkpoint.numbers(head)
            }
            return Checkpoint.read(head, pages)
        except ValueError as error:
            raise SevenBridgesInputError(
                f"The key {self._key!r} of the asset's store is invalid: {error}. "
                "Delete it; the watch then starts again with exports that complete later."
            ) from error

    async def _save(self, checkpoint: Checkpoint) -> None:
        for name, value in checkpoint.changes():
            key = f"{self._key} {name}" if name else self._key
            if value is None:
                await self._call_store("delete", key)
            else:
                await self._call_store("set", key, value)
        checkpoint.mark_saved()

    async def _call_store(self, method: str, *arguments: Any) -> Any:
        store: Any = self.asset_state_store
        if store is None:
            raise SevenBridgesInputError("This trigger has no asset. Use it in an AssetWatcher of an Asset.")
        try:
            if hasattr(store, f"a{method}"):
                return await getattr(store, f"a{method}")(*arguments)
            return await asyncio.to_thread(getattr(store, method), *arguments)
        except ValueError as error:
            raise SevenBridgesInputError(
                f"Several assets share this watcher, and Airflow has no common store for them: {error}. "
                "Use one asset, or a watcher with a different 'poll_interval' for each."
            ) from error


class _Turn:
    """Permission to read one page, and how long to wait after it; Airflow passes it to the trigger and back."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.recorded = asyncio.Event()


class _Turns(SharedStreamProducer):
    """Produces one turn at a time: the next one when the events of the last are in Airflow's database."""

    async def open_stream(self) -> AsyncIterator[tuple[_Turn, _Turn]]:
        """Yield turns, each as Airflow's raw event and as the token that Airflow acknowledges."""
        while True:
            turn = _Turn()
            yield turn, turn
            await turn.recorded.wait()
            await asyncio.sleep(turn.pause)

    async def advance(self, batch: Sequence[Any]) -> None:
        """Mark the turns whose events Airflow has recorded."""
        for turn, outcome in batch:
            # If Airflow could not record them, it has ended this trigger and starts it again.
            if outcome.is_clean:
                turn.recorded.set()
