"""The trigger that waits for tasks of the Platform."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import state_of
from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesError
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.jobs.watch import POLL_INTERVAL
from airflow_sb_provider.tasks.kind import TASK
from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence


class SevenBridgesTaskTrigger(SevenBridgesJobTrigger):
    """Wait until tasks of the Platform reach a terminal state.

    It only polls, because Airflow may run a trigger twice; its event is that of `SevenBridgesExportTrigger`, with
    ``task_id``.

    :param task_ids: the ids of the tasks to wait for.
    :param sevenbridges_task_id: an id or a list, also as text, instead of ``task_ids``.
    :param on_kill_abort: whether to abort the tasks when the Airflow task is cleared or marked, which Airflow 3.3 and
        later report to a trigger.

    The other arguments are those of `SevenBridgesExportTrigger`.
    """

    kind = TASK
    continues = "On the Platform, {} may continue."
    task_ids: tuple[str, ...]
    sevenbridges_task_id: str | Sequence[str] | None

    def __init__(
        self,
        task_ids: Sequence[str] = (),
        sevenbridges_conn_id: str = DEFAULT_CONN_NAME,
        poll_interval: float = POLL_INTERVAL,
        end_time: float | None = None,
        sevenbridges_task_id: str | Sequence[str] | None = None,
        min_finished: int | None = None,
        fail_fast: bool = False,
        silent_fail: bool = False,
        on_kill_abort: bool = False,
    ) -> None:
        super().__init__(
            task_ids,
            sevenbridges_task_id,
            sevenbridges_conn_id=sevenbridges_conn_id,
            poll_interval=poll_interval,
            end_time=end_time,
            min_finished=min_finished,
            fail_fast=fail_fast,
            silent_fail=silent_fail,
        )
        self.on_kill_abort = on_kill_abort

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: only ids, numbers and flags."""
        path, arguments = super().serialize()
        return path, {**arguments, "on_kill_abort": self.on_kill_abort}

    async def on_kill(self) -> None:
        """Abort the tasks, if that is set. Airflow 3.3 and later call it when the task is cleared or marked.

        Up to 3.3.2 they also call it when another triggerer takes over (apache/airflow#73454). Then the task is still
        deferred. So is one that was cleared and has deferred again, whose worker has aborted these tasks itself.
        """
        ids = self._watch.open if self._watch else []
        if not (self.on_kill_abort and ids) or await self._may_be_deferred():
            await super().on_kill()
            return
        from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook

        lines = []
        async with SevenBridgesAsyncHook(self.sevenbridges_conn_id) as hook:
            for task_id in ids:
                try:
                    await hook.send(calls.abort_task(task_id))
                except SevenBridgesError as error:
                    lines.append(f"Task {task_id} could not be aborted, so it may go on: {error}")
                else:
                    lines.append(f"Task {task_id} is being aborted: the Airflow task was cleared or marked.")
        self._write_log(lines)

    async def _may_be_deferred(self) -> bool:
        try:
            return await asyncio.to_thread(state_of, self.task_instance) == "deferred"
        except Exception as error:
            self._write_log([f"The state of the Airflow task is not known, so nothing is aborted: {error}"])
            return True
