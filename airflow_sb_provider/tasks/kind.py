"""Tasks as a kind of job."""

from __future__ import annotations

from typing import Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.task import Task, TaskState
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesTaskFailed
from airflow_sb_provider.jobs.kind import JobKind

_LIMITS = (("account_limit", "the account's limit of instances"), ("system_limit", "the Platform's limit of instances"))


def _progress(task: Task) -> str:
    """Return how far a task is: steps, tasks of a batch, why it is queued.

    Not its price, which is another one at each poll: each new text is a line of the log.
    """
    execution = task.execution
    parts = []
    if execution.steps_total:
        parts.append(f"{execution.steps_completed or 0} of {execution.steps_total} steps completed")
    if execution.children:
        parts.append(", ".join(f"{count} {name}" for name, count in execution.children.items()))
    if limits := _limits(task):
        parts.append(f"waits for {limits}")
    return ", ".join(parts)


def _details(task: Task) -> dict[str, Any]:
    execution = task.execution
    return {
        "steps_completed": execution.steps_completed,
        "steps_total": execution.steps_total,
        "counts": {name.upper(): count for name, count in execution.children.items()} if task.batch else None,
        "waits_for": _limits(task) or None,
        "price": price_of(task) or None,
    }


def _limits(task: Task) -> str:
    """Return what a queued task waits for; empty if the Platform does not say."""
    if task.state not in (TaskState.QUEUED, TaskState.CREATING):
        return ""
    return " and ".join(text for name, text in _LIMITS if getattr(task.execution, name))


def _describe(task: Task) -> str:
    return readable(", ".join(filter(None, [task.name, task.app, price_of(task)])), 500)


def price_of(task: Task) -> str:
    """Return a task's price in words; empty if it is not known."""
    return " ".join(str(task.price[name]) for name in ("amount", "currency") if task.price.get(name))


TASK: JobKind[Task] = JobKind(
    "task",
    Task.from_json,
    calls.get_tasks,
    failure=SevenBridgesTaskFailed,
    done="completed",
    initial_states=frozenset({TaskState.DRAFT, TaskState.CREATING, TaskState.QUEUED}),
    describe=_describe,
    progress=_progress,
    details=_details,
    # Airflow's `task_id` is the id of the sensor itself.
    parameter="sevenbridges_task_id",
    drafts=frozenset({TaskState.DRAFT}),
)
