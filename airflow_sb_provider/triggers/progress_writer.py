"""Writes what triggers have seen as XComs of their tasks: one at a time, without holding up anything that waits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from typing import Any
from weakref import WeakKeyDictionary

# Past any XCom backend, which would block the event loop and leave a reference where the tab reads.
from airflow_sb_provider._compat import PlainXCom as XCom

log = logging.getLogger(__name__)

_Task = tuple[str, str, str, int]

# Seconds between two writes at most: the pipe to Airflow is there for the ends of exports first.
PAUSE = 0.1


class ProgressWriter:
    """What is still to be written, the newest for each task. Where Airflow cannot do that in a triggerer, nothing is.

    A thousand triggers that see a change at once must not stand in the way of their own events, which go through the
    same pipe to Airflow: one write is under way at a time, and the rest waits here, where newer replaces older.
    """

    def __init__(self) -> None:
        self._waiting: dict[_Task, tuple[str, dict[str, Any]]] = {}
        self._writer: asyncio.Task[None] | None = None

    def publish(self, ti: Any, xcom_key: str, value: dict[str, Any]) -> None:
        """Have a task's progress written soon."""
        if ti is None or not hasattr(XCom, "aset"):
            return
        self._waiting[_task(ti)] = xcom_key, value
        if self._writer is None or self._writer.done():
            # Without a context of its own it would log into the first trigger's task.
            self._writer = asyncio.get_running_loop().create_task(self._write(), context=contextvars.Context())

    def discard(self, ti: Any) -> None:
        """Drop what is not written yet: the task goes on and tells more."""
        if ti is not None:
            self._waiting.pop(_task(ti), None)

    async def _write(self) -> None:
        while self._waiting:
            task = next(iter(self._waiting))
            xcom_key, value = self._waiting.pop(task)
            dag_id, run_id, task_id, map_index = task
            began = time.monotonic()
            try:
                await XCom.aset(
                    key=xcom_key, value=value, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index
                )
            except Exception as error:
                log.debug("The progress of %s could not be written: %s", task, error)
            # As long as the write took, so that the pipe is free for others half of the time.
            await asyncio.sleep(min(PAUSE, time.monotonic() - began))


def _task(ti: Any) -> _Task:
    map_index = getattr(ti, "map_index", -1)
    return ti.dag_id, ti.run_id, ti.task_id, -1 if map_index is None else map_index


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, ProgressWriter] = WeakKeyDictionary()


def progress_writer() -> ProgressWriter:
    """Return this event loop's writer."""
    return _writers.setdefault(asyncio.get_running_loop(), ProgressWriter())
