"""Runs tasks: CREATING, QUEUED, RUNNING while the app's function computes, then a terminal status."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.platform import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.jobs import Jobs
    from airflow_sb_provider.emulator.knobs import Knobs
    from airflow_sb_provider.emulator.tasks import Task, Tasks

log = logging.getLogger(__name__)


class _AbortedError(Exception):
    """The task left its state because it is to be aborted."""


class TaskRuns:
    """Runs tasks and the children of batches, and computes in threads.

    :param faults: the injected faults, which apply to a task that runs and to each child, but not to a batch.
    """

    def __init__(self, tasks: Tasks, jobs: Jobs, knobs: Knobs, faults: Faults) -> None:
        self._tasks = tasks
        self._jobs = jobs
        self._knobs = knobs
        self._faults = faults

    def start(self, task: Task) -> asyncio.Task[None]:
        """Start a task that left DRAFT."""
        if not task.batch:
            self._faults.apply_to(task, f"/v2/tasks/{task.parent or task.id}/actions/run")
        return self._jobs.start(self._run_to_end(task))

    async def _run_to_end(self, task: Task) -> None:
        try:
            if task.state == "CREATING":
                await self._stay(task, lambda: self._knobs.task_creating_seconds)
            await (self._run_children(task) if task.batch else self._run(task))
        except _AbortedError:
            await self._jobs.wait_in_state(task, lambda: self._knobs.task_aborting_seconds)
            self._finish(task, "ABORTED")
        except Exception:
            log.exception("Task %s: the storage failed.", task.id)
            task.error = ApiError(90004)
            self._finish(task, "FAILED")

    async def _run(self, task: Task) -> None:
        if task.state == "CREATING":
            task.enter("QUEUED")
        await self._stay(task, lambda: self._knobs.task_queued_seconds)
        task.enter("RUNNING")
        with self._jobs.running(task):
            error = await self._compute(task)
            await asyncio.to_thread(self._tasks.files.write_logs, task, error.message if error else "")
            self._check_not_aborted(task)
            task.error = error
            self._finish(task, task.fail_as if error else "COMPLETED")

    async def _compute(self, task: Task) -> ApiError | None:
        """Make the outputs, or return why there are none."""
        files = self._tasks.files
        try:
            results = {} if task.fail_with else await asyncio.to_thread(files.compute, task)
            await self._stay(task, lambda: self._knobs.task_running_seconds)
            if task.fail_with:
                return task.fail_with
            task.outputs = await asyncio.to_thread(files.publish, task, results)
        except _AbortedError:
            raise
        except ApiError as failure:
            return failure
        except Exception as failure:
            # The app's function failed; what it raises is the tool's own message.
            log.debug("Task %s failed.", task.id, exc_info=True)
            return ApiError(90004, str(failure) or type(failure).__name__)
        return None

    async def _run_children(self, task: Task) -> None:
        task.enter("RUNNING")
        children = self._tasks.create_children(task)
        await asyncio.gather(*map(self.start, children))
        self._check_not_aborted(task)
        failed = any(child.state not in {"COMPLETED", "ABORTED"} for child in children)
        self._finish(task, self._knobs.batch_failed_status if failed else "COMPLETED")

    async def _stay(self, task: Task, seconds: Callable[[], float]) -> None:
        # It may be aborted while its app computes, and then no longer be in the state to wait in.
        self._check_not_aborted(task)
        await self._jobs.wait_in_state(task, seconds)
        self._check_not_aborted(task)

    def _check_not_aborted(self, task: Task) -> None:
        if task.state == "ABORTING":
            raise _AbortedError

    def _finish(self, task: Task, status: str) -> None:
        task.finished_on = now()
        task.enter(status)
