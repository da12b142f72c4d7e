"""The policy for tasks: how they are checked, created as drafts, and started."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pendulum

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import File
from airflow_sb_provider.api.task import Task, TaskState
from airflow_sb_provider.engine.job_lists import list_jobs
from airflow_sb_provider.engine.policy import Policy
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesError,
    SevenBridgesInDoubt,
    SevenBridgesTaskRefused,
)
from airflow_sb_provider.inputs import first_problems
from airflow_sb_provider.jobs.decision import CheckAgain, Fail, Submit
from airflow_sb_provider.tasks.decision import ABORT_PAUSE, RemoteTasks, best_task, decide, is_outdated
from airflow_sb_provider.tasks.ports import Port, convert_inputs, file_ids
from airflow_sb_provider.tasks.request import ITEM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.decision import Decision
    from airflow_sb_provider.tasks.request import TaskRequest
    from airflow_sb_provider.tasks.tracked import TrackedTask

# The task is no draft: it was started before, or the response to its start was lost.
NOT_A_DRAFT = (7007, 7010)
_STARTS = 4
# After so many aborts that have no effect, a task is adopted.
_ABORTS = 3
# How often the other tasks of a wish are listed before a start, if the list is not certainly complete.
_LISTINGS = 3
# In seconds: how far back a task is searched if no record says when it may have been created, and a margin.
_SEARCHED = 30 * 86_400.0
_MARGIN = 3600.0


class TaskPolicy(Policy["TrackedTask"]):
    """Checks, creates and starts tasks; `tasks.decision` has the rules.

    :param hook: sends all requests.
    :param aborts_cleared: whether to abort a task that runs although its Airflow task was cleared, which is a wish to
        run the app again.
    :param has_store: whether this Airflow keeps what was recorded across tries. If not, another process may have
        created a task for the same wish at any time, so the Platform is checked before each start.
    """

    single = True

    def __init__(self, hook: SevenBridgesHook, *, has_store: bool, aborts_cleared: bool) -> None:
        self.hook = hook
        self._aborts_cleared = aborts_cleared
        self._has_store = has_store
        self._inputs: dict[str, dict[str, object]] = {}
        # The drafts of this process that no other process can have created a second time.
        self._only: set[str] = set()
        self._is_untroubled = False
        # Since when other tasks of the wish may have been created, in epoch seconds of the Platform's clock.
        self._since: float | None = None

    def needs_check(self, entry: TrackedTask) -> bool:
        """Whether to check the Platform first: always, since the inputs are validated against the app."""
        return True

    def calls(self, entries: Sequence[TrackedTask]) -> list[list[TrackedTask]]:
        """Return each entry alone: there is no call that creates several tasks."""
        return [[entry] for entry in entries]

    def decide(self, entries: Sequence[TrackedTask], since: float) -> list[Decision]:
        """Check the Platform and return what to do about each entry, in order; see `Policy.decide`."""
        return [self._decide(entry) for entry in entries]

    def _decide(self, entry: TrackedTask) -> Decision:
        request, submission = entry.request, entry.submission
        self._is_untroubled = submission.can_submit_unchecked and self._has_store
        # No other process of a first try creates one much earlier than this.
        self._since = self.hook.clock.now() if submission.can_submit_unchecked else submission.sent_at
        recorded: Task | SevenBridgesApiError | None = None
        tasks: list[Task] = []
        is_complete = True
        if submission.job_id:
            recorded = self._read(submission.job_id)
        elif not submission.can_submit_unchecked:
            tasks, is_complete = self._tasks_of(request, self._since)
        if check := self._abort_cleared(entry, [recorded] if isinstance(recorded, Task) else tasks):
            return check
        settings = self.hook.settings
        facts = RemoteTasks(
            submission,
            self.hook.clock.now(),
            recorded,
            tasks,
            is_complete,
            doubt_seconds=settings.gateway_timeout + settings.visibility_delay,
            visibility_delay=settings.visibility_delay,
        )
        decision = decide(request, facts)
        if isinstance(decision, Submit) and (problems := self._problems(request)):
            decision = Fail(
                SevenBridgesTaskRefused(f"The {request} was not created. Nothing runs.", first_problems(problems))
            )
        return entry.believe(decision, facts.now, settings.visibility_delay)

    def _abort_cleared(self, entry: TrackedTask, tasks: Sequence[Task]) -> CheckAgain | None:
        """Abort the tasks of this wish from before the last clear, and return when to check them again.

        The trigger of a cleared task aborts them too, on some versions of Airflow and perhaps only after this check.
        """
        submission = entry.submission
        outdated = [task for task in tasks if submission.is_new_request and is_outdated(entry.request, task)]
        if not (self._aborts_cleared and outdated) or submission.rechecks >= _ABORTS:
            return None
        for task in outdated:
            try:
                self.hook.send(calls.abort_task(task.id), retry=False)
            except SevenBridgesApiError as error:
                _raise_if_transient(error)
                self.hook.log.warning("Task %s could not be aborted: %s", task.id, error)
        why = f"Task {outdated[0].id} ran before the Airflow task was cleared, so it is aborted."
        return CheckAgain(why, self.hook.clock.now() + ABORT_PAUSE)

    def validate(self, request: TaskRequest) -> Task:
        """Create a draft, delete it, and return it, with the errors and warnings of its validation.

        :raises SevenBridgesTaskRefused: naming everything that is wrong before a draft can be created.
        """
        if problems := self._problems(request):
            raise SevenBridgesTaskRefused(f"The {request} cannot run:", first_problems(problems))
        # Without a key: no try may adopt and start this draft.
        body = replace(request, key="").body(self._inputs[request.fingerprint])
        draft = self.hook.send(calls.create_task(body))
        if not self.hook.delete_draft(draft.id):
            self.hook.log.warning("Delete the draft %s on the Platform.", draft.id)
        return draft

    def _problems(self, request: TaskRequest) -> list[str]:
        """Return everything that is wrong with a request, as far as project, app and files show it."""
        problems: list[str] = []
        try:
            self.hook.send(calls.get_project(request.project), retry=False)
        except SevenBridgesApiError as error:
            _raise_if_transient(error)
            problems.append(f"project: {error}")
        inputs = dict(request.inputs)
        try:
            app = self.hook.send(calls.get_app(request.app), retry=False)
        except SevenBridgesApiError as error:
            _raise_if_transient(error)
            problems.append(f"app: {error}")
        else:
            if app.inputs:
                ports = [Port.from_json(port) for port in app.inputs]
                inputs, found = convert_inputs(inputs, ports, request.batch_input)
                problems += found
        problems += self._file_problems(request, inputs)
        self._inputs[request.fingerprint] = inputs
        return problems

    def _file_problems(self, request: TaskRequest, inputs: dict[str, object]) -> list[str]:
        classes = dict(file_ids(inputs))
        problems: list[str] = []
        files: dict[str, File] = {}
        for file_id, file in zip(classes, self.hook.get_files(list(classes), retry=False), strict=True):
            if isinstance(file, File):
                files[file_id] = file
                if file.is_folder != (classes[file_id] == "Directory"):
                    problems.append(
                        f"inputs: {file_id} is a {file.type}; the input expects {classes[file_id]}. Give another id."
                    )
            else:
                _raise_if_transient(file)
                problems.append(f"inputs: {file}")
        if request.batch_by and request.batch_by != (ITEM,):
            batched = [
                files[file_id] for file_id, _ in file_ids(inputs.get(request.batch_input or "")) if file_id in files
            ]
            for criterion in request.batch_by:
                name = criterion.removeprefix("metadata.")
                if batched and not any(file.metadata.get(name) for file in batched):
                    problems.append(
                        f"batch_by: no file of inputs.{request.batch_input} has the metadata field {name!r}; set it on "
                        "the files, or use another criterion."
                    )
        return problems

    def post(self, requests: Sequence[TaskRequest], send_by: float) -> Sequence[Task | SevenBridgesApiError]:
        """Create the draft of a task."""
        [request] = requests
        call = calls.create_task(request.body(self._inputs[request.fingerprint]))
        draft = self.hook.send(replace(call, send_by=send_by), retry=False)
        if self._is_untroubled:
            self._only.add(draft.id)
        return [draft]

    def start(self, entry: TrackedTask, save: Callable[[], None]) -> Task | SevenBridgesError:
        """Start the draft of an entry, unless another task of the same wish was started; see `Policy.start`."""
        draft: Task = entry.job or self.hook.get_task(entry.job_id or "")
        for warning in draft.warnings:
            self.hook.log.warning("Task %s: %s", draft.id, warning)
        if draft.errors:
            return self._refused(entry, draft, draft.errors, save)
        if draft.id not in self._only:
            best, is_complete = self._best(entry, draft)
            if best.id != draft.id:
                # It is not deleted, since the other process might start it.
                self.hook.log.warning(
                    "Task %s, which is %s, was created for the same Airflow task; adopting it. The draft %s stays; "
                    "delete it.",
                    best.id,
                    best.state,
                    draft.id,
                )
                entry.adopt(best)
                self.adopting(entry, best)
                if best.state != TaskState.DRAFT:
                    return best
                # Recorded before it is started, as every draft is; a process that Airflow took for dead stops here.
                entry.follow(best)
                save()
                draft = best
            elif not is_complete:
                return SevenBridgesInDoubt(
                    f"Task {draft.id} is a draft, and the list of the project's tasks changed while it was read, so "
                    "another task may run for it.",
                    remedy="A retry checks again and starts it.",
                )
        return self._run(entry, draft, save)

    def _best(self, entry: TrackedTask, draft: Task) -> tuple[Task, bool]:
        """Return the task to start or to adopt for a wish that has a draft, and whether all others were seen."""
        best, is_complete = draft, False
        since = self._since or (entry.record.sent_at if entry.record else None)
        for check in range(_LISTINGS):
            if check:
                # If lists are brief, a new task, whosever it is, may be listed before it can be read.
                time.sleep(self.hook.settings.visibility_delay)
            others, is_complete = self._tasks_of(entry.request, since, besides=draft.id)
            best = best_task(entry.request, [draft, *others]) or draft
            if is_complete or best.id != draft.id:
                break
        return best, is_complete

    def _run(self, entry: TrackedTask, draft: Task, save: Callable[[], None]) -> Task | SevenBridgesError:
        if entry.request.generation_of(draft.description) != entry.request.generation:
            self._renew(entry, draft)
        for attempt in range(_STARTS):
            try:
                task = self.hook.send(calls.run_task(draft.id))
            except SevenBridgesApiError as error:
                if not error.permanent:
                    raise
                task = self.hook.send(calls.get_task(draft.id))
                if task.state == TaskState.DRAFT and error.code not in NOT_A_DRAFT:
                    return self._refused(entry, task, [str(error), *task.errors], save)
            if task.state != TaskState.DRAFT:
                return task
            if task.errors:
                return self._refused(entry, task, task.errors, save)
            # The Platform may show the start late.
            time.sleep(2.0**attempt)
            task = self.hook.send(calls.get_task(draft.id))
            if task.state != TaskState.DRAFT:
                return task
        return SevenBridgesInDoubt(
            f"Task {draft.id} stays a draft, although it was started {_STARTS} times.",
            remedy="Check the task on the Platform. A retry starts it again.",
        )

    def _renew(self, entry: TrackedTask, draft: Task) -> None:
        """Mark a draft from before a clear as one of this wish, so that a retry without a record adopts its task."""
        try:
            self.hook.send(calls.describe_task(draft.id, entry.request.full_description))
        except SevenBridgesApiError as error:
            # Another process may have started it meanwhile.
            _raise_if_transient(error)

    def _refused(
        self, entry: TrackedTask, draft: Task, problems: Sequence[str], save: Callable[[], None]
    ) -> SevenBridgesTaskRefused:
        """Delete a draft that cannot run, and return the error that names all problems."""
        # Recorded first: a draft that a later try knows by its id, and cannot read, is in doubt.
        entry.give_up_draft()
        save()
        if self.hook.delete_draft(draft.id):
            what = f"The {entry.request} cannot run. Its draft was deleted."
        else:
            what = f"The {entry.request} cannot run. Its draft {draft.id} could not be deleted; delete it."
        return SevenBridgesTaskRefused(what, first_problems(list(problems)))

    def fetch(self, ids: Sequence[str]) -> Sequence[Task | SevenBridgesApiError]:
        """Return the tasks of some ids, in order."""
        return self.hook.get_tasks(ids)

    def adopting(self, entry: TrackedTask, job: Job) -> None:
        """Record an adopted task as the one of this wish, also if it was started before a clear."""
        entry.take_over(job, now=self.hook.clock.now(), credential=self.hook.settings.credential)

    def without_effect(self, adopted: Sequence[tuple[TrackedTask, Job]]) -> set[TrackedTask]:
        """Return none: a completed task has run the app."""
        return set()

    def may_be_done(self, refusal: SevenBridgesApiError) -> bool:
        """Whether a failed task may have done its work: never."""
        return False

    def skips(self, error: SevenBridgesError) -> bool:
        """Whether to skip a task with this error: never."""
        return False

    def _read(self, task_id: str) -> Task | SevenBridgesApiError:
        try:
            return self.hook.send(calls.get_task(task_id), retry=False)
        except SevenBridgesApiError as error:
            _raise_if_transient(error)
            return error

    def _tasks_of(self, request: TaskRequest, since: float | None, *, besides: str = "") -> tuple[list[Task], bool]:
        """Return the tasks that carry the request's key, newest first, and whether the list is certainly complete.

        :param since: the earliest time at which one may have been created, in epoch seconds of the Platform's clock.
        :param besides: the id of a task to leave out. If it is new, it may not be readable by its id yet.
        """
        since = self.hook.clock.now() - _SEARCHED if since is None else since
        created_from = pendulum.from_timestamp(since - _MARGIN).isoformat()
        tasks, is_complete = list_jobs(
            self.hook,
            lambda _, offset: calls.list_tasks(request.project, created_from=created_from, offset=offset),
            "",
        )
        tasks = [task for task in tasks if task.id != besides]
        if any(task.state == TaskState.UNKNOWN for task in tasks):
            # The list is brief.
            full = self.hook.get_tasks([task.id for task in tasks], retry=False)
            tasks = [task for task in full if isinstance(task, Task)]
            is_complete = is_complete and len(tasks) == len(full)
        found = [task for task in tasks if request.generation_of(task.description) is not None]
        return sorted(found, key=_created, reverse=True), is_complete


def _created(task: Task) -> float:
    return task.created_on.timestamp() if task.created_on else 0.0


def _raise_if_transient(error: SevenBridgesApiError) -> None:
    if not error.permanent:
        raise error
