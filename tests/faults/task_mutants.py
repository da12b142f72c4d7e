"""The rules of tasks, each broken on purpose: the simulation must notice every one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.task import Task, TaskState
from airflow_sb_provider.engine import task_policy
from airflow_sb_provider.engine.task_policy import TaskPolicy
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesTaskRefused
from airflow_sb_provider.jobs.decision import Adopt
from airflow_sb_provider.operators import task as operator
from airflow_sb_provider.operators.base import SevenBridgesOperator
from airflow_sb_provider.operators.state_store import StateStore
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator
from airflow_sb_provider.tasks import decision
from airflow_sb_provider.tasks.request import TaskRequest
from tests.faults.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.tasks.tracked import TrackedTask
    from tests.faults.mutants import Patch

    Break = Callable[[Patch], None]

TASK_MUTANTS: dict[str, Mutant] = {}


def mutant(seed: int | None, *needs: str, why: str = "") -> Callable[[Break], Break]:
    """Add a broken rule, with the seed of a schedule that notices."""

    def add(patch: Break) -> Break:
        TASK_MUTANTS[patch.__name__] = Mutant((patch.__doc__ or "").strip(), patch, (seed,), frozenset(needs), why)
        return patch

    return add


# The draft and its start


@mutant(0)
def created_and_run(patch: Patch) -> None:
    """the request that creates a task runs it too"""
    real = calls.create_task
    patch(calls, "create_task", lambda body: replace(real(body), query=(("action", "run"),)))


@mutant(0)
def started_before_the_record(patch: Patch) -> None:
    """a draft is started before its id is recorded"""
    real = TaskPolicy.post

    def post(self: TaskPolicy, requests: Sequence[TaskRequest], send_by: float) -> list[Any]:
        [draft] = real(self, requests, send_by)
        assert isinstance(draft, Task)
        return [self.hook.send(calls.run_task(draft.id))]

    patch(TaskPolicy, "post", post)


@mutant(3, "there is no store", "tries run twice")
def started_alone(patch: Patch) -> None:
    """a draft is started without a check of other tasks of the wish"""
    real = TaskPolicy.start

    def start(self: TaskPolicy, entry: TrackedTask, save: Any) -> Any:
        assert entry.job
        self._only.add(entry.job.id)
        return real(self, entry, save)

    patch(TaskPolicy, "start", start)


@mutant(180, "there is no store", "tries run twice", "workers pause")
def newest_draft(patch: Patch) -> None:
    """of several drafts the newest is started"""
    real = decision.best_task

    def best_task(request: TaskRequest, tasks: Sequence[Task]) -> Task | None:
        best = real(request, tasks)
        if best is None or best.state != TaskState.DRAFT:
            return best
        drafts = [task for task in tasks if task.state == TaskState.DRAFT]
        return max(drafts, key=lambda task: (task.created_on, task.id))

    for module in (decision, task_policy):
        patch(module, "best_task", best_task)


def _starts(patch: Patch, lost: Callable[[TaskPolicy, TrackedTask, Task], Any]) -> None:
    real = TaskPolicy._run

    def run(self: TaskPolicy, entry: TrackedTask, draft: Task, save: Any) -> Any:
        try:
            return self.hook.send(calls.run_task(draft.id), retry=False)
        except SevenBridgesError as error:
            if error.permanent:
                return real(self, entry, draft, save)
        return lost(self, entry, draft)

    patch(TaskPolicy, "_run", run)


@mutant(6, "responses are lost")
def another_draft(patch: Patch) -> None:
    """after a lost response to the start another draft is created and started"""

    def lost(policy: TaskPolicy, entry: TrackedTask, draft: Task) -> Task:
        other = policy.hook.send(calls.create_task(entry.request.body({"threads": 1})))
        return policy.hook.send(calls.run_task(other.id))

    _starts(patch, lost)


@mutant(5, "responses are lost")
def lost_start_is_a_failure(patch: Patch) -> None:
    """a lost response to the start counts as a rejection"""
    _starts(patch, lambda policy, entry, draft: SevenBridgesTaskRefused("The start was rejected."))


# What an earlier try has created


@mutant(0, "workers die", "there is no store")
def key_is_not_searched(patch: Patch) -> None:
    """no list of tasks is searched for the key"""
    real = TaskPolicy._tasks_of
    patch(TaskPolicy, "_tasks_of", lambda self, *about, **more: ([], real(self, *about, **more)[1]))


@mutant(
    1373, "items are in trouble", "lists are brief", "reads fail", "tasks are cleared", "writes are slow", "writes fail"
)
def lost_creation_is_not_searched(patch: Patch) -> None:
    """after a lost response to the creation another draft is created at once"""
    patch(decision, "_of_this_wish", lambda request, facts: None)
    patch(decision, "_doubt_lasts", lambda request, facts: None)


@mutant(3, "requests arrive late", "tasks are stopped")
def failed_is_adopted(patch: Patch) -> None:
    """a recorded task that failed or was aborted is adopted"""
    real = decision._recorded
    patch(
        decision,
        "_recorded",
        lambda request, facts, task: Adopt("recorded", task) if task.failed else real(request, facts, task),
    )


@mutant(2, "starts show late", "tasks are cleared")
def completed_is_adopted_after_a_clear(patch: Patch) -> None:
    """a recorded task that completed before a clear is adopted"""
    real = decision._recorded
    patch(
        decision,
        "_recorded",
        lambda request, facts, task: Adopt("recorded", task) if task.succeeded else real(request, facts, task),
    )


@mutant(3, "tasks are cleared", "workers die")
def aborting_has_ended(patch: Patch) -> None:
    """a task that is being aborted counts as aborted before it has ended"""
    recorded, best_task = decision._recorded, decision.best_task

    def ended(task: Task) -> Task:
        return replace(task, state="ABORTED") if task.state == TaskState.ABORTING else task

    patch(decision, "_recorded", lambda request, facts, task: recorded(request, facts, ended(task)))
    for module in (decision, task_policy):
        patch(module, "best_task", lambda request, tasks: best_task(request, [ended(task) for task in tasks]))


@mutant(202, "tasks are cleared", "workers die")
def adoption_is_not_recorded(patch: Patch) -> None:
    """an adopted task is not recorded as the one of this wish"""
    patch(TaskPolicy, "adopting", lambda self, entry, job: None)


@mutant(6, "tasks are cleared", "workers die", "there is no store")
def draft_keeps_its_generation(patch: Patch) -> None:
    """a draft from before a clear is started with the generation in its description"""
    patch(TaskPolicy, "_renew", lambda self, entry, draft: None)


@mutant(433, "workers die", "requests arrive late", "responses are lost")
def record_after(patch: Patch) -> None:
    """the record is written only after the response"""
    real = StateStore.save

    def save(self: StateStore[TrackedTask], entries: Sequence[TrackedTask]) -> None:
        if not all(entry.is_unanswered for entry in entries):
            real(self, entries)

    patch(StateStore, "save", save)


@mutant(
    None,
    "lists have no order",
    "there is no store",
    "workers die",
    why="searched for in 6,000 schedules, and not found; tests/unit/tasks/test_decision.py has the rule",
)
def incomplete_list_is_proof(patch: Patch) -> None:
    """a list that changed while it was read counts as complete"""
    real = TaskPolicy._tasks_of
    patch(TaskPolicy, "_tasks_of", lambda self, *about, **more: (real(self, *about, **more)[0], True))


# The key


@mutant(777, "tasks are cleared", "there is no store")
def key_without_generation(patch: Patch) -> None:
    """a task of any generation counts as one of this wish"""
    real = TaskRequest.generation_of

    def generation_of(self: TaskRequest, description: str) -> int | None:
        return None if real(self, description) is None else self.generation

    patch(TaskRequest, "generation_of", generation_of)


@mutant(0, "tasks have twins", "there is no store")
def key_without_identity(patch: Patch) -> None:
    """two Airflow tasks with the same inputs have the same key"""
    patch(operator, "wish_key", lambda *identity: "key")


# The end


@mutant(6, "tasks are cleared")
def start_on_its_way_is_forgotten(patch: Patch) -> None:
    """an Airflow task that is stopped while its draft is being started does not abort it"""
    real = SevenBridgesTaskOperator.on_kill

    def on_kill(self: SevenBridgesTaskOperator) -> None:
        if self._under_way and not any(entry.is_draft for entry in self._under_way.entries):
            real(self)

    patch(SevenBridgesTaskOperator, "on_kill", on_kill)


@mutant(6, "writes fail")
def failure_names_nothing(patch: Patch) -> None:
    """an error does not name the task in flight"""
    patch(SevenBridgesOperator, "_add_outstanding", lambda self, context, error: None)


@mutant(9, "drafts have errors", "workers die")
def draft_is_deleted_before_the_record(patch: Patch) -> None:
    """a draft that cannot run is deleted while the record still has its id"""
    real = TaskPolicy._refused

    def refused(self: TaskPolicy, entry: TrackedTask, draft: Task, problems: Any, save: Any) -> Any:
        self.hook.delete_draft(draft.id)
        return real(self, entry, draft, problems, save)

    patch(TaskPolicy, "_refused", refused)
