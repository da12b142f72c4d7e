"""The base class of the triggers that wait for jobs: a subclass only names its kind of job."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import TRIGGERS_ARE_KILLED, BaseTrigger, TriggerEvent
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.hooks.polling import deadline_of
from airflow_sb_provider.inputs import check_seconds, read_ids
from airflow_sb_provider.jobs.ids import is_one_id, read_job_ids
from airflow_sb_provider.jobs.progress import PROGRESS, progress_status
from airflow_sb_provider.jobs.watch import MAX_IDS, PER_JOB_LOG_LIMIT, FinalPoll, Over, Watch
from airflow_sb_provider.triggers.ending import needs_worker, success_event
from airflow_sb_provider.triggers.log_writer import log_writer
from airflow_sb_provider.triggers.progress_writer import progress_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import ModuleType

    import jinja2

    from airflow_sb_provider.jobs.kind import JobKind

_loaded_modules: set[ModuleType] = set()
_import_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
# Not the event loop's default threads, which Airflow uses for logging.
_renderers = ThreadPoolExecutor(4, thread_name_prefix="sevenbridges-render")


class SevenBridgesJobTrigger(BaseTrigger):
    """Wait until jobs of one kind reach a terminal state.

    It only polls and never submits, because Airflow may run a trigger twice. Its event has a ``status``: ``terminal``,
    ``partial``, ``rejected`` or ``timeout``. It also has the id and the ``job`` if there is one job, and a ``message``
    if the Platform rejects the polls. A subclass names the ids as its kind does, such as ``export_ids`` and
    ``export_id``, in its arguments and attributes.

    :param ids: the ids of the jobs to wait for.
    :param given: an id or a list, also as text, instead of ``ids``, for a sensor that starts from its trigger. Airflow
        renders it before the trigger runs.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: the end of the wait in epoch seconds, which survives a restart; None for no limit. It is a time of
        the worker's clock: a triggerer whose clock is a minute ahead ends the wait a minute early.
    :param min_finished: the number of terminal jobs that ends the wait; None for all.
    :param fail_fast: whether the first failed job ends the wait.
    :param silent_fail: whether the wait continues when the Platform rejects the polls (401, 403, 404).
    :param end_from_trigger: whether to end the task here when all jobs have succeeded, see `triggers.ending`.
    :param do_xcom_push: whether to push the result then.
    :raises SevenBridgesInputError: if an id or the interval is invalid, or there are more than 1000 ids.
    """

    kind: ClassVar[JobKind[Any]]
    continues: ClassVar[str] = "The Platform cannot cancel {}, which may continue."
    """What happens to jobs for which Airflow does not wait any longer, for the log."""

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
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_seconds(poll_interval=poll_interval)
        ids = read_ids(ids, self.kind.ids_key)
        if len(ids) > MAX_IDS:
            raise SevenBridgesInputError(f"{self.kind.ids_key}: {len(ids)} ids are too many; pass at most {MAX_IDS}.")
        # Named by the kind: Airflow renders the attributes that have the name of a templated field of the sensor.
        # A garbage collection does not visit a tuple of texts.
        setattr(self, self.kind.ids_key, tuple(ids))
        setattr(self, self.kind.parameter, given)
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.min_finished = min_finished
        self.fail_fast = fail_fast
        self.silent_fail = silent_fail
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        # An attribute that is only set later gives each of many triggers a dict of its own.
        self._rendering: Callable[[], None] | None = None
        self._pulling_ti: _TaskInstanceWithMapIndex | None = None
        self._watch: Watch[Any] | None = None
        self._context: contextvars.Context | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: only ids and numbers, because Airflow stores them in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                self.kind.ids_key: list(getattr(self, self.kind.ids_key)),
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                self.kind.parameter: getattr(self, self.kind.parameter),
                "min_finished": self.min_finished,
                "fail_fast": self.fail_fast,
                # Only if set, so that a triggerer with an earlier version can run all other triggers.
                **({"silent_fail": True} if self.silent_fail else {}),
                **({"end_from_trigger": True} if self.end_from_trigger else {}),
                **({} if self.do_xcom_push else {"do_xcom_push": False}),
            },
        )

    def render_template_fields(self, context: Mapping[str, Any], jinja_env: jinja2.Environment | None = None) -> None:
        """Render the templates of a sensor that starts from its trigger; on an event loop, `run` does this later.

        A template may pull an XCom, and an XCom backend may be slow.
        """
        ti = self._pulling_ti = _TaskInstanceWithMapIndex(context["ti"])
        rendering_context: dict[str, Any] = {**context, "ti": ti, "task_instance": ti}
        render = partial(super().render_template_fields, rendering_context, jinja_env)  # type: ignore[arg-type]
        if _is_on_event_loop():
            self._rendering = render
        else:
            render()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the watch is over, then yield its event."""
        if self._rendering:
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(_renderers, context.run, self._rendering)
        await _load_poller()
        from airflow_sb_provider.triggers.poller import Subscription, pollers

        try:
            ids = getattr(self, self.kind.ids_key) or tuple(read_job_ids(getattr(self, self.kind.parameter), self.kind))
        except SevenBridgesInputError as error:
            yield TriggerEvent({"status": "rejected", "message": str(error)})
            return
        watch: Watch[Any] = Watch(
            self.kind,
            ids,
            deadline_of(self.end_time),
            min_finished=self.min_finished,
            fail_fast=self.fail_fast,
            tolerate_rejections=self.silent_fail,
        )
        self._watch = watch
        # The poller runs in a context of its own, from which nothing reaches a task's log.
        self._context = contextvars.copy_context()
        subscription = Subscription(watch, self.sevenbridges_conn_id, self.poll_interval, self)
        registry = pollers()
        registry.add(subscription)
        try:
            while not isinstance(step := watch.next_step(time.monotonic()), Over):
                if isinstance(step, FinalPoll):
                    subscription.poll_now(step.ids)
                else:
                    until = step.until
                    # What ten thousand triggers hold while they wait, each garbage collection visits.
                    del step
                    await subscription.wait(until)
            yield await self._end(watch, step.event)
        except asyncio.CancelledError:
            if not TRIGGERS_ARE_KILLED:
                self._report_open_jobs()
            raise
        finally:
            progress_writer().discard(self.task_instance)
            await registry.remove(subscription)

    async def _end(self, watch: Watch[Any], event: dict[str, Any]) -> TriggerEvent:
        """Return the event with which the task ends here, if it may, or with which it resumes in a worker."""
        succeeded = event["status"] == "terminal" and all(job.succeeded for job in watch.jobs.values())
        # Without ids, or with one that was not found, a worker renders them again: see `_TaskInstanceWithMapIndex`.
        is_complete = bool(watch.ids) and not (self._pulling_ti and self._pulling_ti.has_missed)
        if not (self.end_from_trigger and succeeded and is_complete):
            return TriggerEvent(event)
        single = is_one_id(getattr(self, self.kind.parameter))
        try:
            # Without a task, it was the sensor that decided, when it deferred.
            if self.task is None or not needs_worker(self.task):
                return await success_event(
                    self.task_instance, watch, self.logger(), single=single, push_result=self.do_xcom_push
                )
        except Exception as error:
            line = f"Could not end the task in the triggerer, so a worker ends it: {type(error).__name__}."
            log_writer.write(contextvars.copy_context(), self.logger(), [line])
        return TriggerEvent(event)

    async def on_kill(self) -> None:
        """Log that the jobs continue. Airflow 3.3 and later call it when the task is cleared or marked."""
        self._report_open_jobs()

    def _report_open_jobs(self) -> None:
        ids = self._watch.open if self._watch else []
        if ids:
            jobs = f"{self.kind.name}s" if len(ids) > 1 else self.kind.name
            shown = ", ".join(ids[:PER_JOB_LOG_LIMIT])
            more = f" and {len(ids) - PER_JOB_LOG_LIMIT} more" if len(ids) > PER_JOB_LOG_LIMIT else ""
            line = (
                "Airflow ended this wait: the task was cleared or marked, or another triggerer takes over. "
                f"{self.continues.format(f'the {jobs} {shown}{more}')} A cleared task waits again."
            )
            self._write_log([line])

    def _write_log(self, lines: list[str]) -> None:
        log_writer.write(contextvars.copy_context(), self.logger(), lines)

    def report_progress(self, watch: Watch[Any], lines: list[str]) -> None:
        """Log lines, and publish the progress for the task's tab; the poller calls it."""
        assert self._context
        log_writer.write(self._context, self.logger(), lines)
        value = progress_status(watch, lines[-1], time.time())
        progress_writer().publish(self.task_instance, PROGRESS, value)


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _load_poller() -> None:
    """Import the poller without blocking the event loop.

    Operators import this module too and do not need the poller, whose import takes a quarter of a second.
    """
    # A lock resumes the waiting triggers one by one: thousands in one cycle of the event loop would block all others.
    async with _import_locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        if not _loaded_modules:
            _loaded_modules.add(await asyncio.to_thread(importlib.import_module, "airflow_sb_provider.triggers.poller"))


class _TaskInstanceWithMapIndex:
    """A task instance whose `xcom_pull` reads from an unmapped task by default.

    Without ``map_indexes`` Airflow requests all indexes, and the triggerer of Airflow 3.3 never answers that request.
    ``has_missed`` says that a pull found nothing, which may be there for a worker: what mapped tasks pushed.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self.has_missed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *args: Any, map_indexes: Any = -1, **kwargs: Any) -> Any:
        value = self._ti.xcom_pull(*args, map_indexes=map_indexes, **kwargs)
        self.has_missed |= value is None or (isinstance(value, list | tuple) and None in value)
        return value
