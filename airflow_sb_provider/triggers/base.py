"""What the triggers that wait for jobs in the triggerer have in common: each only names its kind of job."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import BaseTrigger, TriggerEvent
from airflow_sb_provider.engine.polling import deadline_of
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.inputs import check_seconds, read_ids
from airflow_sb_provider.jobs.ids import read_job_ids
from airflow_sb_provider.jobs.progress import progress_key, progress_status
from airflow_sb_provider.jobs.watch import MAX_IDS, FinalPoll, Over, Watch
from airflow_sb_provider.triggers.log_writer import log_writer
from airflow_sb_provider.triggers.progress_writer import progress_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import ModuleType

    import jinja2

    from airflow_sb_provider.jobs.kind import JobKind

_loaded: set[ModuleType] = set()
_loading: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
# Not the event loop's own threads, which Airflow logs with.
_renderers = ThreadPoolExecutor(4, thread_name_prefix="sevenbridges-render")


class SevenBridgesJobTrigger(BaseTrigger):
    """Waits until jobs of one kind have ended, and only polls: it may run twice, so it never starts anything.

    Its event holds ``status`` (``terminal``, ``partial``, ``rejected`` or ``timeout``), for one job its id and ``job``,
    and a ``message`` if the Platform rejects the polls. Subclasses name the ids as their kind does, such as
    ``export_ids`` and ``export_id``, here and among their arguments.

    :param ids: what to wait for.
    :param given: instead of ``ids``, for a sensor that starts from its trigger: an id or a list, also as text, which
        Airflow renders before the trigger runs.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: when to give up, in epoch seconds, so that it survives a restart; None for never. It comes from
        the worker's clock: a triggerer's clock that is ahead by a minute gives up a minute early.
    :param min_finished: how many jobs must have ended for the wait to end; None for all.
    :param fail_fast: the first job that failed ends the wait too.
    :param silent_fail: a rejection (401, 403, 404) does not end the wait.
    """

    kind: ClassVar[JobKind[Any]]
    _rendering: Callable[[], None] | None = None

    def __init__(
        self,
        ids: Sequence[str],
        given: str | Sequence[str] | None,
        *,
        sevenbridges_conn_id: str,
        poll_interval: float,
        end_time: float | None,
        min_finished: int | None,
        fail_fast: bool,
        silent_fail: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_seconds(poll_interval=poll_interval)
        ids = read_ids(ids, self.kind.ids_key)
        if len(ids) > MAX_IDS:
            raise SevenBridgesInputError(f"{self.kind.ids_key}: {len(ids)} are too many; wait for at most {MAX_IDS}.")
        # By the kind's own names: Airflow renders what is called as a templated field of the sensor.
        setattr(self, self.kind.ids_key, ids)
        setattr(self, self.kind.id_key, given)
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.min_finished = min_finished
        self.fail_fast = fail_fast
        self.silent_fail = silent_fail

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: ids and numbers only, for they are stored in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                self.kind.ids_key: getattr(self, self.kind.ids_key),
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                self.kind.id_key: getattr(self, self.kind.id_key),
                "min_finished": self.min_finished,
                "fail_fast": self.fail_fast,
                # Only where it is set, so that a triggerer of an earlier version runs all others.
                **({"silent_fail": True} if self.silent_fail else {}),
            },
        )

    def render_template_fields(self, context: Mapping[str, Any], jinja_env: jinja2.Environment | None = None) -> None:
        """Render what a sensor that starts from its trigger gave as a template; on an event loop, `run` does it.

        A template may pull an XCom, and then an XCom backend may take its time.
        """
        ti = _AnsweredTaskInstance(context["ti"])
        answered: dict[str, Any] = {**context, "ti": ti, "task_instance": ti}
        render = partial(super().render_template_fields, answered, jinja_env)  # type: ignore[arg-type]
        if _is_on_event_loop():
            self._rendering = render
        else:
            render()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the poller has reported enough, then yield the one event."""
        if self._rendering:
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(_renderers, context.run, self._rendering)
        await _load_poller()
        from airflow_sb_provider.triggers.poller import Subscription, pollers

        try:
            ids = getattr(self, self.kind.ids_key) or read_job_ids(getattr(self, self.kind.id_key), self.kind)
        except SevenBridgesInputError as error:
            yield TriggerEvent({"status": "rejected", "message": str(error)})
            return
        watch: Watch[Any] = Watch(
            self.kind,
            ids,
            deadline_of(self.end_time),
            min_finished=self.min_finished,
            fail_fast=self.fail_fast,
            patient=self.silent_fail,
        )
        # The poller reports news in a context of its own, which would put them into no task's log.
        tell = partial(self._tell, contextvars.copy_context())
        waiter = Subscription(watch, self.sevenbridges_conn_id, self.poll_interval, tell)
        waiting = pollers()
        waiting.add(waiter)
        try:
            while not isinstance(step := watch.next_step(time.monotonic()), Over):
                if isinstance(step, FinalPoll):
                    waiter.hurry(step.ids)
                else:
                    await waiter.wait(step.until)
            yield TriggerEvent(step.event)
        finally:
            progress_writer().discard(self.task_instance)
            await waiting.remove(waiter)

    def _tell(self, context: contextvars.Context, watch: Watch[Any], lines: list[str]) -> None:
        log_writer.write(context, self.logger(), lines)
        value = progress_status(watch, lines[-1], time.time())
        progress_writer().publish(self.task_instance, progress_key(self.kind), value)


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _load_poller() -> None:
    """Import the poller without blocking the event loop.

    Operators import this module too and do not need what the poller needs, which takes a quarter of a second.
    """
    # A lock lets those that wait go on one by one: thousands in one turn of the event loop would hold up all others.
    async with _loading.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if not _loaded:
            _loaded.add(await asyncio.to_thread(importlib.import_module, "airflow_sb_provider.triggers.poller"))


class _AnsweredTaskInstance:
    """A task instance that pulls from an unmapped task unless told otherwise.

    Without ``map_indexes`` Airflow asks for all indexes, which the triggerer of 3.3 does not know and never answers.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *args: Any, map_indexes: Any = -1, **kwargs: Any) -> Any:
        return self._ti.xcom_pull(*args, map_indexes=map_indexes, **kwargs)
