"""Write the progress of triggers as XComs of their tasks, one at a time, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from typing import Any
from weakref import WeakKeyDictionary

# Bypasses any XCom backend, which would block the event loop and store a reference that the tab cannot read.
from airflow_sb_provider._compat import PlainXCom as XCom

log = logging.getLogger(__name__)

_Task = tuple[str, str, str, int]

# The longest pause between two writes, in seconds: the events of finished triggers use the same pipe to Airflow.
PAUSE = 0.1


class ProgressWriter:
    """The newest unwritten progress of each task. If Airflow cannot write XComs in a triggerer, nothing is written.

    Progress and events share one pipe to Airflow. So that the progress of a thousand triggers does not delay their
    events, one write is under way at a time; the others are queued, and newer progress replaces older.
    """

    def __init__(self) -> None:
        self._queued: dict[_Task, tuple[str, dict[str, Any]]] = {}
        self._writer: asyncio.Task[None] | None = None

    def publish(self, ti: Any, xcom_key: str, value: dict[str, Any]) -> None:
        """Queue a task's progress for writing."""
        if ti is None or not hasattr(XCom, "aset"):
            return
        self._queued[_task(ti)] = xcom_key, value
        if self._writer is None or self._writer.done():
            # A context of its own: otherwise it would write into the log of the first trigger.
            self._writer = asyncio.get_running_loop().create_task(self._write(), context=contextvars.Context())

    def discard(self, ti: Any) -> None:
        """Drop a task's unwritten progress: the resumed task publishes its own."""
        if ti is not None:
            self._queued.pop(_task(ti), None)

    async def _write(self) -> None:
        while self._queued:
            task = next(iter(self._queued))
            xcom_key, value = self._queued.pop(task)
            dag_id, run_id, task_id, map_index = task
            began = time.monotonic()
            try:
                await XCom.aset(
                    key=xcom_key, value=value, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index
                )
            except Exception as error:
                log.debug("Could not write the progress of task %s: %s", task, error)
            # Pause as long as the write took, so that the pipe is free half of the time.
            await asyncio.sleep(min(PAUSE, time.monotonic() - began))


def _task(ti: Any) -> _Task:
    map_index = getattr(ti, "map_index", -1)
    return ti.dag_id, ti.run_id, ti.task_id, -1 if map_index is None else map_index


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, ProgressWriter] = WeakKeyDictionary()


def progress_writer() -> ProgressWriter:
    """Return the writer of this event loop."""
    return _writers.setdefault(asyncio.get_running_loop(), ProgressWriter())
