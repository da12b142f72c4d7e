"""The trigger of an asset watcher: an export into a volume has completed, wherever it was started."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider._compat import (
    AIRFLOW_CONFIRMS_EVENTS,
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
# How long nothing is asked after a refusal that only a person can mend.
REFUSED_PAUSE = 300.0
# How far the Platform's clock may be from this machine's, in seconds, to be believed.
MOST_SKEW = 86400.0
# Airflow ends a watch that does not come back to it within 300 s.
ANSWER_WITHIN = 60.0


class SevenBridgesExportEventTrigger(BaseEventTrigger):
    """Fires when exports into a volume have completed; for an ``AssetWatcher``, on Airflow 3.3 and newer.

    It sees the exports of the connection's user, wherever they were started, and begins with those that complete after
    its first start. Each is told at least once: where the watch has come to is written to the asset's store only after
    Airflow has recorded what was told. The payload holds ``exports``, a list of at most 200: of each ``export_id``,
    ``file``, ``volume``, ``location``, ``uri``, ``size``, ``started_on`` and ``finished_on``.

    :param volume: the volume's id, ``owner/name``.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two looks, of one to ten requests each, and at least between two events.
    """

    def __init__(
        self,
        volume: str,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        poll_interval: float = WATCH_INTERVAL,
    ) -> None:
        if not AIRFLOW_CONFIRMS_EVENTS:
            raise SevenBridgesInputError(
                f"SevenBridgesExportEventTrigger needs Airflow 3.3 or newer; this is {airflow_version}."
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.volume = volume
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self._check()
        self._key = f"sevenbridges exports {sevenbridges_conn_id} {volume}"
        self._hook: SevenBridgesAsyncHook | None = None
        self._details: Volume | None = None
        self._history: CompletedFeed | None = None
        self._pacing = RateLimiter()
        self._due = self._cycle_began = 0.0
        self._cycle_is_over = True
        self._trouble: type[Exception] | None = None
        self._told_undated = False

    def _check(self) -> None:
        problems = []
        try:
            read_volume(self.volume)
        except ValueError as problem:
            problems.append(f"volume: {problem}")
        conn_id: Any = self.sevenbridges_conn_id
        if not (isinstance(conn_id, str) and conn_id):
            problems.append(f"sevenbridges_conn_id: {conn_id!r} is no name; give the id of an Airflow connection.")
        interval: Any = self.poll_interval
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        if not (is_number and 0 < interval < float("inf")):
            problems.append(f"poll_interval: {interval!r} is no number of seconds above 0.")
        if problems:
            raise SevenBridgesInputError(problems)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, by which Airflow tells watches apart."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "volume": self.volume,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Refuse: on its own Airflow does not tell what it has recorded."""
        raise SevenBridgesError("This trigger is for an AssetWatcher in the triggerer of Airflow 3.3 or newer.")
        yield

    def shared_stream_key(self) -> Hashable:
        """Return what no other trigger has: the stream is there for what it confirms, not to be shared."""
        return type(self).__qualname__, self.trigger_id

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what gives this trigger its turns."""
        return _Turns()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[_Turn]) -> AsyncIterator[TriggerEvent]:
        """Ask for one page in each turn; when the next turn comes, what was told in this one has been recorded."""
        async for turn in shared_stream:
            exports = await self._take_turn()
            if exports:
                # One event for a look: of several, Airflow 3.3 may leave the later ones lying (apache/airflow#56050).
                yield TriggerEvent({"exports": exports})
            turn.pause = 0.0 if exports else max(self._due - time.monotonic(), 0.0)

    async def cleanup(self) -> None:
        """Close the session."""
        if self._hook:
            await self._hook.close()

    async def _take_turn(self) -> list[dict[str, Any]]:
        try:
            return await self._look()
        except SevenBridgesError as error:
            if isinstance(error, SevenBridgesRateLimitError) and self._hook:
                self._pacing.told(self._hook.rate_limit, 1, time.time(), refused=True)
            self._stumble(error, str(error), refused=error.permanent)
        except AirflowNotFoundException as error:
            self._stumble(error, f"{error} Make it, or name another in 'sevenbridges_conn_id'.", refused=True)
        except Exception as error:
            # No mistake may end the watch. Only its kind is told, since its words may show headers.
            self._stumble(error, f"it stumbled over {type(error).__name__}.", refused=False)
        return []

    def _stumble(self, error: Exception, message: str, *, refused: bool) -> None:
        kind = type(error)
        if kind is not self._trouble and (refused or self._trouble is None):
            self.log.warning("The watch of %s goes on in spite of trouble: %s", self.volume, message)
        self._trouble = kind
        pause = max(self.poll_interval, REFUSED_PAUSE if refused else 0.0)
        self._due = time.monotonic() + max(pause, self._pause())

    async def _look(self) -> list[dict[str, Any]]:
        """Write down what has been recorded, and if it is time, ask for the next page; return what to tell."""
        if self._history:
            self._history.mark_announced()
            await self._save(self._history.checkpoint)
        if time.monotonic() < self._due:
            return []
        hook = await self._open()
        if self._details is None:
            self._details = await self._ask(hook, calls.get_volume(self.volume))
        if self._history is None and (cursor := await self._load()):
            self._history = CompletedFeed(self.volume, cursor)
        if self._cycle_is_over:
            self._cycle_began, self._cycle_is_over = time.monotonic(), False
            if self._history:
                self._history.begin_cycle()
        offset = (self._history and self._history.next_offset) or 0
        page, date = await self._ask(hook, completed_exports(self.volume, offset))
        now = int(time.time())
        # By a clock more wrong than that nothing that completes would ever be new, or all of it.
        if date is not None and abs(date - now) <= MOST_SKEW:
            now = date
        if self._history is None:
            cursor = Checkpoint(now)
            await self._save(cursor)
            self._history = CompletedFeed(self.volume, cursor)
            self.log.info("The watch of %s begins with what completes from now on.", self.volume)
        if self._trouble:
            self.log.info("The watch of %s goes on without trouble.", self.volume)
            self._trouble = None
        self._history.take(page, now)
        if self._history.undated and not self._told_undated:
            self._told_undated = True
            self.log.warning(
                "Export %s does not tell when it finished; such exports are not announced.", self._history.undated
            )
        self._cycle_is_over = self._history.next_offset is None
        after = self._cycle_began + self.poll_interval if self._cycle_is_over else 0.0
        self._due = max(after, time.monotonic() + self._pause())
        return [export_event(job, self._details) for job in self._history.next_batch()] if self._cycle_is_over else []

    def _pause(self) -> float:
        return self._pacing.pause(MOST_PAGES / self.poll_interval, time.time(), 1)

    async def _open(self) -> SevenBridgesAsyncHook:
        # Not at the top: a DAG file that names the watcher does not need what the hook needs.
        if self._hook is None:
            module = await asyncio.to_thread(importlib.import_module, "airflow_sb_provider.hooks.sevenbridges_async")
            self._hook = module.SevenBridgesAsyncHook(self.sevenbridges_conn_id)
            await self._hook.reconnect()
        elif self._trouble:
            # The token may have been replaced.
            await self._hook.reconnect()
        return self._hook

    async def _ask(self, hook: SevenBridgesAsyncHook, call: Call[T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await hook.send(call, retry=False)
        except TimeoutError:
            raise SevenBridgesConnectionError(f"No answer from the Platform within {ANSWER_WITHIN:.0f} s.") from None
        self._pacing.told(hook.rate_limit, 1, time.time())
        return answer

    # The asset's store. Airflow 3.3.0 and 3.3.1 have it without its asynchronous methods.

    async def _load(self) -> Checkpoint | None:
        head = await self._in_store("get", self._key)
        if head is None:
            return None
        try:
            pages = {
                number: await self._in_store("get", f"{self._key} {number}") for number in Checkpoint.numbers(head)
            }
            return Checkpoint.read(head, pages)
        except ValueError as error:
            raise SevenBridgesInputError(
                f"The key {self._key!r} of the asset's store: {error}. "
                "Delete it to begin with what completes from then on."
            ) from error

    async def _save(self, cursor: Checkpoint) -> None:
        for name, value in cursor.changes():
            key = f"{self._key} {name}" if name else self._key
            if value is None:
                await self._in_store("delete", key)
            else:
                await self._in_store("set", key, value)
        cursor.mark_saved()

    async def _in_store(self, verb: str, *arguments: Any) -> Any:
        store: Any = self.asset_state_store
        if store is None:
            raise SevenBridgesInputError("There is no asset; name this trigger in an AssetWatcher of an Asset.")
        try:
            if hasattr(store, f"a{verb}"):
                return await getattr(store, f"a{verb}")(*arguments)
            return await asyncio.to_thread(getattr(store, verb), *arguments)
        except ValueError as error:
            raise SevenBridgesInputError(
                f"Several assets share this watcher, and Airflow keeps no common store for them: {error}. "
                "Give them one asset, or each a watcher with another 'poll_interval'."
            ) from error


class _Turn:
    """What Airflow hands to the trigger and back: a page's turn, and how long to wait after it."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.recorded = asyncio.Event()


class _Turns(SharedStreamProducer):
    """Gives one turn at a time, the next when the events of the last are in Airflow's database."""

    async def open_stream(self) -> AsyncIterator[tuple[_Turn, _Turn]]:
        """Yield turns, each both as Airflow's raw event and as what it acknowledges."""
        while True:
            turn = _Turn()
            yield turn, turn
            await turn.recorded.wait()
            await asyncio.sleep(turn.pause)

    async def advance(self, batch: Sequence[Any]) -> None:
        """Take note that turns are over and their events recorded."""
        for turn, outcome in batch:
            # Where Airflow could not record them it has ended this trigger, and begins it anew.
            if outcome.is_clean:
                turn.recorded.set()
