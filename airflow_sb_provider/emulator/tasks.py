"""Tasks: what the Platform accepts, changes and lists. No HTTP."""

from __future__ import annotations

import dataclasses
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.drafts import Drafts
from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.platform import Job, now
from airflow_sb_provider.emulator.task_files import TaskFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.emulator.apps import App
    from airflow_sb_provider.emulator.platform import Platform, User

Json = dict[str, Any]

TERMINAL = {"COMPLETED", "FAILED", "ABORTED"}
STATUSES = {"QUEUED", "DRAFT", "RUNNING", "COMPLETED", "ABORTED", "FAILED"}
"""The values of a list's filter `status`."""
ORDERS = {
    "created_time": "started_on",
    "start_time": "start_time",
    "end_time": "finished_on",
    "name": "name",
    "created_by": "username",
}
"""The values of a list's `order_by`, with the attribute of each."""
_TIMES = {"created": "started_on", "started": "start_time", "ended": "finished_on"}


@dataclass(kw_only=True)
class Task(Job):
    """A task. `state`, `username`, `started_on` and `finished_on` are its status, creator, created and end time."""

    state: str = "DRAFT"
    project: str
    app: App
    name: str
    description: str | None = None
    inputs: Json = field(default_factory=dict)
    """The inputs as the API shows them."""
    batch: bool = False
    batch_input: str | None = None
    batch_by: Json | None = None
    batch_group: Json | None = None
    """Of a child: the group of inputs that it works on."""
    parent: str | None = None
    children: list[str] = field(default_factory=list)
    use_interruptible_instances: bool = False
    execution_settings: Json = field(default_factory=dict)
    output_location: Json = field(default_factory=dict)
    origin_id: str | None = None
    executed_by: str | None = None
    errors: list[Json | str] = field(default_factory=list)
    """Why the draft cannot run."""
    warnings: list[Json | str] = field(default_factory=list)
    start_time: datetime
    """When it was run; of a draft, when it was created."""
    outputs: Json = field(default_factory=dict)
    """The outputs as the API shows them."""
    logs: dict[str, str] = field(default_factory=dict)
    """The ids of its log files by name."""

    def entered(self, state: str) -> datetime | None:
        """Return when the task entered a state, or None."""
        states = [*(past for _, past in self.past_states), self.state]
        return self.past_states[states.index(state) - 1][0] if state in states[1:] else None


class Tasks:
    """The rules of tasks.

    :param platform: holds the tasks, apps and files.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self.files = TaskFiles(platform)
        self._drafts = Drafts(platform, self.files)

    # Read

    def app(self, user: User, app_id: str) -> App:
        """Return an app by `owner/project/name` (its newest revision) or `owner/project/name/revision`.

        Errors 6011, 6002, 6001.
        """
        match = re.fullmatch(r"([^/]+/[^/]+/[^/]+)(?:/([0-9]{1,9}))?", app_id)
        if not match:
            raise ApiError(6011)
        revisions = self._platform.apps.get(match[1], [])
        if match[2]:
            revisions = [app for app in revisions if app.revision == int(match[2])]
        app = self._platform.readable(user, revisions[-1] if revisions else None, 6002, 6001)
        if app.forbidden:
            raise ApiError(6001)
        return app

    def get(self, user: User, task_id: str) -> Task:
        """Return a task of a project that the user may read; errors 7005, 7002, 7001."""
        try:
            uuid.UUID(task_id)
        except ValueError:
            raise ApiError(7005) from None
        return self._platform.readable(user, self._platform.tasks.get(task_id.lower()), 7002, 7001)

    def shown(self, user: User, task_id: str) -> Task:
        """Return a task as a request by its id shows it, which a new one may not be yet; errors as `get`."""
        task = self.get(user, task_id)
        if self._platform.is_within(task.started_on, self._knobs.job_lag_seconds):
            raise ApiError(7002)
        return task

    def listed(self, user: User, query: Mapping[str, str]) -> list[Task]:
        """Return the tasks that a query selects, as lists show them; errors 3002, 3001, 7006, 90000."""
        if project := query.get("project"):
            self._platform.project(user, project)
        if (status := query.get("status")) and status not in STATUSES:
            raise ApiError(7006)
        if query.get("batch", "true").lower() not in {"true", "false"}:
            raise ApiError(90000)
        wanted: Json = {
            "project": project,
            "state": status,
            "batch": query["batch"].lower() == "true" if "batch" in query else None,
            "parent": query.get("parent"),
            "origin_id": query.get("origin_id"),
        }
        wanted = {name: value for name, value in wanted.items() if value is not None}
        times = {
            (attribute, end): _time(query[f"{name}_{end}"])
            for name, attribute in _TIMES.items()
            for end in ("from", "to")
            if f"{name}_{end}" in query
        }
        # Times are compared as they are shown: by the Platform's clock, in whole seconds.
        skew = timedelta(seconds=self._knobs.date_skew_seconds)

        def matches(task: Task) -> bool:
            if any(getattr(task, name) != value for name, value in wanted.items()):
                return False
            if task.parent and "parent" not in wanted and not self._knobs.list_shows_children:
                return False
            for (attribute, end), limit in times.items():
                moment = getattr(task, attribute)
                if moment is None:
                    return False
                shown = (moment + skew).replace(microsecond=0)
                if shown < limit if end == "from" else shown > limit:
                    return False
            return True

        known = [] if user.access == "none" else list(self._platform.tasks.values())
        tasks = [task for task in self._platform.listed(known) if matches(task)]
        if order_by := query.get("order_by"):
            if order_by not in ORDERS or query.get("order", "asc") not in {"asc", "desc"}:
                raise ApiError(90000)
            # A task without a value, such as the end time of a running one, comes last.
            attribute, descending = ORDERS[order_by], query.get("order") == "desc"
            ordered = [task for task in tasks if getattr(task, attribute) is not None]
            ordered.sort(key=lambda task: getattr(task, attribute), reverse=descending)
            tasks = ordered + [task for task in tasks if getattr(task, attribute) is None]
        return tasks

    # Change

    def create(self, user: User, body: Any, batch: bool = True) -> Task:
        """Create a draft; errors 3006, 3012, 3002, 3001, 7015, 6011, 6002, 6001, 7018 to 7023, 90000.

        :param batch: false to make a single task of a batch.
        """
        if not isinstance(body, dict):
            raise ApiError(90000)
        project = self._writable(user, body.get("project"))
        moment = now()
        app = self._app_of(user, body)
        task = Task(
            id=str(uuid.uuid4()),
            username=user.username,
            project=project,
            app=app,
            name=f"{app.name} run - {moment:%m-%d-%y %H:%M:%S}",
            started_on=moment,
            start_time=moment,
        )
        task = dataclasses.replace(task, **self._changes(task, body))
        if not batch:
            self._disable_batch(task)
        self._drafts.validate(user, task)
        self._platform.tasks[task.id] = task
        return task

    def edit(self, user: User, task: Task, body: Any) -> None:
        """Change a draft, or rename a task; inputs that the body leaves out stay. Errors 7001, 7026."""
        self._check_write(user)
        if not isinstance(body, dict):
            raise ApiError(90000)
        if task.state != "DRAFT" and body.keys() - {"name"}:
            raise ApiError(7026)
        changes = self._changes(task, body)
        if "app" in body:
            changes["app"] = self._app_of(user, body)
        for name, value in changes.items():
            setattr(task, name, value)
        if task.state == "DRAFT":
            self._drafts.validate(user, task)

    def clone(self, user: User, task: Task) -> Task:
        """Return a new draft with the same app and inputs; error 7001."""
        self._check_write(user)
        moment = now()
        names = ("name", "description", "project", "app", "inputs", "batch", "batch_input", "batch_by")
        settings = ("use_interruptible_instances", "execution_settings", "output_location")
        clone = Task(
            id=str(uuid.uuid4()),
            username=user.username,
            started_on=moment,
            start_time=moment,
            **{name: getattr(task, name) for name in (*names, *settings)},
        )
        self._drafts.validate(user, clone)
        self._platform.tasks[clone.id] = clone
        return clone

    def delete(self, user: User, task: Task) -> None:
        """Delete a draft or a terminal task, with its children; its files stay. Errors 7001, 7013."""
        self._check_write(user)
        if task.state not in {"DRAFT", *TERMINAL}:
            raise ApiError(7013)
        for task_id in (task.id, *task.children):
            self._platform.tasks.pop(task_id, None)

    def start(self, user: User, task: Task, batch: bool = True, interruptible: bool | None = None) -> None:
        """Let a draft leave its state; errors 7001, 7007 or 7010, 7022, 7024.

        :param batch: false to run a batch as one task.
        """
        self._check_write(user)
        if task.state != "DRAFT":
            raise ApiError(self._knobs.run_refused_code)
        if not batch:
            self._disable_batch(task)
        self._drafts.validate(user, task)
        if task.errors:
            raise ApiError(7024)
        if interruptible is not None:
            task.use_interruptible_instances = interruptible
        task.executed_by, task.start_time = user.username, now()
        task.enter("CREATING" if task.batch or self._knobs.task_creating_seconds else "QUEUED")

    def _disable_batch(self, task: Task) -> None:
        if not task.batch:
            raise ApiError(7022)
        task.batch = False

    def abort(self, user: User, task: Task) -> None:
        """Start to abort a task and its children; errors 7001, 7011 or 7008."""
        self._check_write(user)
        code = self._knobs.abort_refused_code
        allowed = {"RUNNING"} if code == 7008 else {"CREATING", "QUEUED", "RUNNING"}
        if task.state not in allowed:
            raise ApiError(code)
        for each in (*self._platform.batch_children(task), task):
            if each.state not in {"ABORTING", *TERMINAL}:
                each.enter("ABORTING")

    def create_children(self, task: Task) -> list[Task]:
        """Create the children of a batch that runs, each in the state in which it starts."""
        groups = self._drafts.groups(task)
        for number, (group, value) in enumerate(groups, start=1):
            moment = now()
            child = dataclasses.replace(
                task,
                id=str(uuid.uuid4()),
                name=f"{task.name} - {number} of {len(groups)}: {group['value']}",
                state="DRAFT",
                past_states=[],
                started_on=moment,
                start_time=moment,
                inputs={**task.inputs, str(task.batch_input): value},
                batch=False,
                batch_input=None,
                batch_by=None,
                batch_group=group,
                parent=task.id,
                children=[],
                logs={},
                held=None,
            )
            child.enter("QUEUED")
            self._platform.tasks[child.id] = child
            task.children.append(child.id)
        return self._platform.batch_children(task)

    def _writable(self, user: User, project: Any) -> str:
        if not isinstance(project, str) or not project:
            raise ApiError(3006)
        if not re.fullmatch("[^/]+/[^/]+", project):
            raise ApiError(3012)
        self._platform.project(user, project)
        if user.access != "write":
            raise ApiError(3001)
        return project

    def _check_write(self, user: User) -> None:
        if user.access != "write":
            raise ApiError(7001)

    def _app_of(self, user: User, body: Json) -> App:
        if not isinstance(body.get("app"), str) or not body["app"]:
            raise ApiError(7015)
        return self.app(user, body["app"])

    def _changes(self, task: Task, body: Json) -> Json:
        """Return the fields of a task that a body sets, or reject it; null leaves a field as it is."""
        given = {name: value for name, value in body.items() if value is not None}
        kinds = {
            "name": str,
            "description": str,
            "inputs": dict,
            "batch": bool,
            "execution_settings": dict,
            "output_location": dict,
            "use_interruptible_instances": bool,
        }
        if any(not isinstance(given[name], kind) for name, kind in kinds.items() if name in given):
            raise ApiError(90000)
        changes = {name: given[name] for name in kinds if name in given}
        if "inputs" in changes:
            changes["inputs"] = {**task.inputs, **self.files.named(changes["inputs"])}
        instances = changes.get("execution_settings", {}).get("max_parallel_instances", 1)
        if isinstance(instances, bool) or not isinstance(instances, int) or instances < 1:
            raise ApiError(90000)
        if given.keys() & {"batch", "batch_input", "batch_by"}:
            changes |= _batch(task, given)
        return changes


def _batch(task: Task, given: Json) -> Json:
    """Return the batch settings of a task after a change; errors 7018 to 7020, 7023."""
    batch_input, batch_by = given.get("batch_input", task.batch_input), given.get("batch_by", task.batch_by)
    if batch_input == "":
        raise ApiError(7018)
    if (batch_input is None) != (batch_by is None) or (given.get("batch") and batch_by is None):
        raise ApiError(7023)
    if batch_by is not None:
        if not isinstance(batch_input, str) or not isinstance(batch_by, dict):
            raise ApiError(90000)
        kind, criteria = str(batch_by.get("type")).upper(), batch_by.get("criteria")
        if kind not in {"ITEM", "CRITERIA"}:
            raise ApiError(7020)
        if kind == "CRITERIA":
            if not isinstance(criteria, list) or not criteria or not all(isinstance(each, str) for each in criteria):
                raise ApiError(7019)
            batch_by = {"type": kind, "criteria": criteria}
        else:
            batch_by = {"type": kind}
    return {"batch": given.get("batch", batch_by is not None), "batch_input": batch_input, "batch_by": batch_by}


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(90000) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
