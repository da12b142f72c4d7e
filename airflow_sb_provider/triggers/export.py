"""The trigger that waits for exports in the triggerer."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import BaseTrigger, TriggerEvent
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import check_seconds, read_ids
from airflow_sb_provider.jobs.watch import LAST_LOOK, MAX_IDS, POLL_INTERVAL, Watch, read_export_ids
from airflow_sb_provider.task_status import progress_status
from airflow_sb_provider.triggers.log_writer import log_writer
from airflow_sb_provider.triggers.progress import progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import ModuleType

    import jinja2

_loaded: set[ModuleType] = set()
_loading: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
# Not the event loop's own threads, which Airflow logs with.
_renderers = ThreadPoolExecutor(4, thread_name_prefix="sevenbridges-render")


class SevenBridgesExportTrigger(BaseTrigger):
    """Waits until exports have ended, and only polls: it may run twice, so it never starts anything.

    Its event holds ``status`` (``ended``, ``some ended``, ``refused`` or ``timeout``), for one export its ``job``, and
    a ``message`` if the Platform refuses to tell.

    :param export_ids: what to wait for.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: when to give up, in epoch seconds, so that it survives a restart; None for never.
    :param export_id: instead of ``export_ids``, for a sensor that starts from its trigger: an id or a list, also as
        text, which Airflow renders before the trigger runs.
    :param enough: how many exports must have ended for the wait to end; None for all.
    :param fail_fast: the first export that failed ends the wait too.
    :param silent_fail: a rejection (401, 403, 404) does not end the wait.
    """

    _rendering: Callable[[], None] | None = None

    def __init__(
        self,
        export_ids: Sequence[str] = (),
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        poll_interval: float = POLL_INTERVAL,
        end_time: float | None = None,
        export_id: str | Sequence[str] | None = None,
        enough: int | None = None,
        fail_fast: bool = False,
        silent_fail: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_seconds(poll_interval=poll_interval)
        self.export_ids = read_ids(export_ids, "export_ids")
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.export_id = export_id
        self.enough = enough
        self.fail_fast = fail_fast
        self.silent_fail = silent_fail
        if len(self.export_ids) > MAX_IDS:
            raise SevenBridgesInputError(
                f"export_ids: {len(self.export_ids)} are too many; wait for at most {MAX_IDS}."
            )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: ids and numbers only, for they are stored in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "export_ids": self.export_ids,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "export_id": self.export_id,
                "enough": self.enough,
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
        """Wait until the poller has told enough, then yield the one event."""
        if self._rendering:
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(_renderers, context.run, self._rendering)
        await _load_poller()
        from airflow_sb_provider.triggers.poller import Waiter, pollers

        try:
            export_ids = self.export_ids or read_export_ids(self.export_id)
        except SevenBridgesInputError as error:
            yield TriggerEvent({"status": "refused", "message": str(error)})
            return
        watch = Watch(export_ids, enough=self.enough, fail_fast=self.fail_fast, patient=self.silent_fail)
        waiter = Waiter(watch, self.sevenbridges_conn_id, self.poll_interval, self._tell)
        waiting = pollers()
        waiting.add(waiter)
        last_look: float | None = None
        try:
            while True:
                now = time.time()
                if last_look is None and self.end_time is not None and now >= self.end_time:
                    # What ended since the last poll, or while no triggerer lived, has ended in time.
                    last_look = now + LAST_LOOK
                    waiter.hurry()
                looking = last_look is None or waiter.unasked
                watch.end_time = (last_look or self.end_time) if looking else self.end_time
                if event := watch.event(now):
                    break
                left = None if watch.end_time is None else watch.end_time - now
                await waiter.wait(left)
            yield TriggerEvent(event)
        finally:
            progress().forget(self.task_instance)
            await waiting.remove(waiter)

    def _tell(self, watch: Watch, lines: list[str]) -> None:
        log_writer.write(self.logger(), lines)
        progress().tell(self.task_instance, progress_status(watch, lines[-1], time.time()))


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
