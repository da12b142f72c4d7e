"""End a task in the triggerer, without a worker."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_sb_provider._compat import PlainXCom, TaskSuccessEvent
from airflow_sb_provider.jobs.report import log_lines, wait_status
from airflow_sb_provider.task_status import STATUS, TaskStatus
from airflow_sb_provider.triggers.log_writer import log_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import TriggerEvent
    from airflow_sb_provider.jobs.kind import J, JobKind
    from airflow_sb_provider.jobs.watch import Watch


# One push at a time: Airflow's supervisor reads one message per cycle, and events would wait behind all pushes.
_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def needs_worker(task: Any) -> bool:
    """Whether a task's success includes what Airflow does only in a worker.

    :param task: the task of a DAG, also as a triggerer has it.
    """
    return bool(
        task.outlets
        or task.has_on_success_callback
        or task.has_on_execute_callback
        or task.multiple_outputs
        # Airflow counts the items of the result, to map over them, when a worker pushes it.
        or any(task.iter_mapped_dependants())
    )


def plain_result(kind: JobKind[J], jobs: Sequence[J], *, single: bool) -> Any:
    """Return the result of a task that sends no request after its jobs have succeeded.

    :param single: whether it is that of one job, not a list.
    """
    assert kind.result
    results = [kind.result(job) for job in jobs]
    return results[0] if single else results


async def success_event(ti: Any, watch: Watch[Any], logger: Any, *, single: bool, push_result: bool) -> TriggerEvent:
    """Push the result of a wait whose jobs have all succeeded, and return the event that ends its task.

    :param single: whether the result is that of one job, not a list.
    :param push_result: false if the task pushes no result.
    """
    kind, jobs = watch.kind, [watch.jobs[job_id] for job_id in watch.ids]
    if push_result:
        # Not with the event: Airflow encodes the event's XComs twice, so that a task would pull text.
        async with _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            await PlainXCom.aset(
                key="return_value",
                value=plain_result(kind, jobs, single=single),
                dag_id=ti.dag_id,
                run_id=ti.run_id,
                task_id=ti.task_id,
                map_index=ti.map_index,
            )
    log_writer.write(contextvars.copy_context(), logger, log_lines(kind, jobs))
    status = TaskStatus({"ti": ti}, "sensor").updated(**wait_status(kind, watch.ids, watch.jobs))
    return TaskSuccessEvent(xcoms={STATUS: status})
