"""Decide about a task before it is created: which task of the Platform, if any, an earlier try has created for it.

To create a task costs nothing, since it is a draft; only its start does, and the Platform starts each draft once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_sb_provider.api.task import Task, TaskState
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesInDoubt, SevenBridgesTaskRefused
from airflow_sb_provider.jobs.decision import (
    MAX_CHECKS,
    Adopt,
    CheckAgain,
    Decision,
    Fail,
    Submit,
    doubt_lasts,
    is_clock_stuck,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.jobs.record import SubmissionState
    from airflow_sb_provider.tasks.request import TaskRequest

# A new task may not be visible at once.
_INVISIBLE_RECHECKS = 3
# An abort takes minutes: instances are stopped.
ABORT_PAUSE = 20.0
_ABORT_RECHECKS = 60


@dataclass(frozen=True)
class RemoteTasks:
    """What one check of the Platform found for one task.

    :param submission: what this try knows about earlier submissions.
    :param now: the time of the check, in epoch seconds of the Platform's clock.
    :param recorded: the task that an earlier try recorded, or why it cannot be read; None if there is none.
    :param tasks: the tasks of the project that carry the wish's key, newest first; empty if they were not listed.
    :param is_complete: whether the list certainly has all of them.
    :param doubt_seconds: for how many seconds after a request was sent its task may be missing in the list.
    :param visibility_delay: for how many seconds the Platform may not show the effect of a request.
    """

    submission: SubmissionState
    now: float
    recorded: Task | SevenBridgesApiError | None = None
    tasks: Sequence[Task] = field(default_factory=list)
    is_complete: bool = True
    doubt_seconds: float = 120.0
    visibility_delay: float = 30.0


def decide(request: TaskRequest, facts: RemoteTasks) -> Decision:
    """Return what to do: adopt a task, check again, create a draft, or fail."""
    submission = facts.submission
    if isinstance(facts.recorded, Task):
        return _recorded(request, facts, facts.recorded)
    if facts.recorded is not None:
        return _invisible(request, facts, facts.recorded)
    if decision := _of_this_wish(request, facts):
        return decision
    if refusal := submission.refusal:
        return Fail(
            SevenBridgesTaskRefused(
                refusal.reason,
                remedy=refusal.remedy,
                subject=f"The Platform rejected the {request}",
                details=refusal.details,
                code=refusal.code,
            )
        )
    if submission.in_doubt and (decision := _doubt_lasts(request, facts)):
        return decision
    return Submit(submission.why, request)


def _recorded(request: TaskRequest, facts: RemoteTasks, task: Task) -> Decision:
    if task.state == TaskState.ABORTING:
        return _aborting(request, facts, task)
    if task.failed:
        return Submit(f"Task {task.id} of an earlier try is {task.state}; running the app in a new task.", request)
    if task.succeeded and facts.submission.is_new_request:
        return Submit(
            f"Task {task.id} completed before the Airflow task was cleared; running the app in a new task.", request
        )
    return Adopt(f"An earlier try created task {task.id}, which is {task.state}; adopting it.", task)


def _invisible(request: TaskRequest, facts: RemoteTasks, error: SevenBridgesApiError) -> Decision:
    """Fail in doubt: a task that cannot be read may run, for example if the token was replaced."""
    task_id = facts.submission.job_id
    return Fail(
        SevenBridgesInDoubt(
            f"Task {task_id} of an earlier try cannot be read: {error.reason}",
            remedy=f"Check on the Platform whether task {task_id} exists and who started it. If it was deleted, start "
            "a new DAG run.",
            subject=f"The {request} is in doubt",
            details=error.details,
            code=error.code,
        ),
        rechecks=_INVISIBLE_RECHECKS,
    )


def _of_this_wish(request: TaskRequest, facts: RemoteTasks) -> Decision | None:
    """Adopt a task that carries the key of this wish; None if there is none to adopt."""
    if found := best_task(request, facts.tasks):
        if found.state == TaskState.ABORTING:
            return _aborting(request, facts, found)
        return Adopt(f"Task {found.id}, which is {found.state}, carries this Airflow task's key; adopting it.", found)
    if not facts.is_complete:
        return Fail(
            SevenBridgesInDoubt(
                "An earlier try may have started it, and the list of the project's tasks changed while it was read.",
                remedy="Retry later.",
                subject=f"The {request} is in doubt",
            ),
            rechecks=MAX_CHECKS,
        )
    return None


def best_task(request: TaskRequest, tasks: Sequence[Task]) -> Task | None:
    """Return the task to adopt among those that carry a wish's key, which are listed newest first.

    A task that was started comes before any draft, so that no second one is started. Of several drafts it is the
    oldest, whichever process decides. A task that completed before the Airflow task was cleared is not adopted.
    """
    drafts = [task for task in tasks if task.state == TaskState.DRAFT]
    started = [task for task in tasks if task.state != TaskState.DRAFT]
    in_flight = [task for task in started if not task.ended]
    completed = [
        task for task in started if task.succeeded and request.generation_of(task.description) == request.generation
    ]
    oldest_first = sorted(drafts, key=lambda task: (task.created_on.timestamp() if task.created_on else 0.0, task.id))
    return next(iter([*in_flight, *completed, *oldest_first]), None)


def is_outdated(request: TaskRequest, task: Task) -> bool:
    """Whether a task of this wish was started before the Airflow task was cleared, and is in flight."""
    is_running = not task.ended and task.state not in (TaskState.DRAFT, TaskState.ABORTING)
    return is_running and request.generation_of(task.description) not in (None, request.generation)


def _aborting(request: TaskRequest, facts: RemoteTasks, task: Task) -> Decision:
    if facts.submission.rechecks >= _ABORT_RECHECKS:
        return Fail(
            SevenBridgesInDoubt(
                f"Task {task.id} is still ABORTING.",
                remedy=f"Check task {task.id} on the Platform; when it is aborted, clear the Airflow task.",
                subject=f"The {request} is in doubt",
            )
        )
    return CheckAgain(f"Task {task.id} of an earlier try is being aborted.", facts.now + ABORT_PAUSE)


def _doubt_lasts(request: TaskRequest, facts: RemoteTasks) -> Decision | None:
    if is_clock_stuck(facts.submission, facts.now):
        return Fail(
            SevenBridgesInDoubt(
                "It may have been created before, and the Platform's clock does not advance.",
                remedy="Check the project's tasks.",
                subject=f"The {request} is in doubt",
            )
        )
    return doubt_lasts(
        facts.submission,
        facts.now,
        doubt_seconds=facts.doubt_seconds,
        visibility_delay=facts.visibility_delay,
        why="The Platform shows no task of an earlier try, which may have created one; checking once more before a "
        "task is created.",
    )
