"""Runs jobs, and lets them wait in their states."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from airflow_sb_provider.emulator.knobs import Knobs
    from airflow_sb_provider.emulator.platform import Job

_WAITING = {"PENDING", "QUEUED"}
"""The states of a job that has not started to run."""


class Jobs:
    """Runs each job as a task of the server's event loop.

    Call every method except `wake` in the loop's thread.
    """

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: collections.Counter[type[Job]] = collections.Counter()
        self._knobs.on_change(self.wake)

    def start(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start an accepted job."""
        task = self._loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Cancel all jobs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Let waiting jobs check the knobs, their states and holds again. Any thread may call it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def running(self, job: Job) -> Iterator[None]:
        """Count the job as a running one of its type."""
        self._running[type(job)] += 1
        try:
            yield
        finally:
            self._running[type(job)] -= 1
            if self._knobs.max_running:
                self._wake()

    async def wait_in_state(self, job: Job, seconds: Callable[[], float]) -> None:
        """Return when the job has left its state, or has been in it for long enough and is not held there."""
        start, state = time.monotonic(), job.state
        while job.state == state:
            changed = self._changed
            remaining = start + seconds() - time.monotonic()
            held = job.held == state
            if state in _WAITING:
                full = 0 < self._knobs.max_running <= self._running[type(job)]
                held = held or full or self._knobs.stuck
            if remaining <= 0 and not held:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if held else remaining)
