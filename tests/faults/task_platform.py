"""The simulated Platform's tasks: a POST makes a draft, and a draft is started once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.faults.platform import PAGE_CAP, START, SimPlatform, error
from tests.faults.weakenings import LIST_LAG, READ_LAG

if TYPE_CHECKING:
    from collections.abc import Mapping

APP, PROJECT = "o/p/app", "o/p"
IN_FLIGHT = ("QUEUED", "RUNNING", "ABORTING")
NOT_FOUND, NO_DRAFT, NOT_VALID, NOT_RUNNING, NOT_CHANGEABLE = 7002, 7007, 7024, 7011, 7026


@dataclass(frozen=True)
class Wish:
    """What a process wants: one run of an app for one generation (clear) of one Airflow task with these inputs."""

    owner: str
    inputs: str
    generation: int

    @property
    def whose(self) -> tuple[str, str]:
        """Whose it is, and with which inputs, for any generation."""
        return self.owner, self.inputs


@dataclass(eq=False)
class SentTask:
    """A request that creates a draft, or starts one."""

    by: str
    try_number: int
    wish: Wish
    body: Mapping[str, Any]
    starts: str = ""
    """the draft to start; empty if it creates one"""
    runs: bool = False
    """whether it starts the draft that it creates"""
    job: PlatformTask | None = None
    answered: bool = False
    """whether the response reached the process"""
    is_denied: bool = False
    is_rejected: bool = False
    on_its_way: bool = False
    process: Any = None
    at: float = 0.0
    is_named: bool = False
    """of a start: whether Airflow's database or log had named the draft by then"""


@dataclass(eq=False)
class PlatformTask:
    """A task of the Platform."""

    id: str
    body: Mapping[str, Any]
    created: float
    sent: SentTask | None
    lag: float
    errors: tuple[str, ...] = ()
    states: list[tuple[float, str]] = field(default_factory=list)
    """each state with the time from which on the task was in it"""
    started: SentTask | None = None
    adopted_by: set[Wish] = field(default_factory=set)
    """the wishes for which Airflow's database had it while it was in flight"""

    @property
    def state(self) -> str:
        return self.states[-1][1]

    @property
    def in_flight(self) -> bool:
        return self.state in IN_FLIGHT

    @property
    def has_failed(self) -> bool:
        return self.state in ("FAILED", "ABORTED")

    @property
    def started_at(self) -> float | None:
        return next((at for at, state in self.states if state != "DRAFT"), None)

    @property
    def ended_at(self) -> float | None:
        return next((at for at, state in self.states if state in ("COMPLETED", "FAILED", "ABORTED")), None)

    def state_at(self, time: float) -> str | None:
        """The state at a time; None before it was created."""
        return next((state for at, state in reversed(self.states) if at <= time), None)


class TaskPlatform(SimPlatform):
    """A project with tasks; `started` has the starts in their order."""

    def __init__(self, rng: Any, on: frozenset[str]) -> None:
        super().__init__(rng, on)
        self.tasks: dict[str, PlatformTask] = {}
        self.started: list[PlatformTask] = []

    def add_noise(self, count: int) -> None:
        """Add tasks of other people, some of them from before the last month."""
        for _ in range(count):
            task = self._new({"name": "noise", "description": "theirs"}, None)
            task.created = START - self.rng.choice([20.0, 40 * 86_400.0])
            task.states = [(task.created, self.rng.choice(["DRAFT", "COMPLETED", "RUNNING"]))]

    @property
    def lists_are_readable(self) -> bool:
        """Whether lists certainly show all tasks."""
        is_one_page = len(self.tasks) <= PAGE_CAP
        return self.total_is == "true" and (is_one_page or not {"jobs jump", "lists have no order"} & self.on)

    # Changes

    def submit(self, sent: SentTask) -> PlatformTask | int:  # type: ignore[override]
        answer = self._start(sent, self.tasks.get(sent.starts)) if sent.starts else self._create(sent)
        sent.job = None if isinstance(answer, int) else answer
        return answer

    def _new(self, body: Mapping[str, Any], sent: SentTask | None) -> PlatformTask:
        name = f"{self.rng.randrange(16**6):06x}-{len(self.tasks)}"
        task = PlatformTask(name, body, self.now, sent, self.rng.uniform(5, LIST_LAG))
        task.states = [(self.now, "DRAFT")]
        self.tasks[name] = task
        return task

    def _create(self, sent: SentTask) -> PlatformTask:
        task = self._new(sent.body, sent)
        if "drafts have errors" in self.on and self.rng.random() < 0.5:
            task.errors = ("threads: the app has no such input",)
        self.version += 1
        self.note("Platform", "creates the draft %s for %s", task.id, sent.wish)
        if sent.runs:
            self._start(sent, task)
        return task

    def _start(self, sent: SentTask, task: PlatformTask | None) -> PlatformTask | int:
        if task is None:
            return NOT_FOUND
        if task.state != "DRAFT":
            return NO_DRAFT
        if task.errors:
            return NOT_VALID
        rng = self.rng
        task.started = sent
        self._enter(task, "QUEUED")
        self.open += 1
        self.started.append(task)
        runs = self.now + rng.choice([rng.uniform(0, 3), rng.uniform(1, 60)])
        self.at(runs, "runs", task)
        self.at(runs + rng.choice([rng.uniform(0, 3), rng.uniform(1, 300)]), "ends", task)
        self.note("Platform", "starts %s for %s", task.id, sent.wish)
        return task

    def _enter(self, task: PlatformTask, state: str) -> None:
        task.states.append((self.now, state))
        self.version += 1

    def run(self, task: PlatformTask) -> None:  # type: ignore[override]
        if task.state == "QUEUED":
            self._enter(task, "RUNNING")

    def end(self, task: PlatformTask) -> None:  # type: ignore[override]
        if not task.in_flight:
            return
        fails = "jobs fail" in self.on and self.rng.random() < 0.5
        self._enter(task, "ABORTED" if task.state == "ABORTING" else "FAILED" if fails else "COMPLETED")
        self.open -= 1
        self.note("Platform", "%s is %s", task.id, task.state)

    def abort(self, task_id: str) -> PlatformTask | int:
        """Begin to stop a task."""
        task = self.tasks.get(task_id)
        if task is None:
            return NOT_FOUND
        if task.state not in ("QUEUED", "RUNNING"):
            return NOT_RUNNING
        self._enter(task, "ABORTING")
        self.at(self.now + self.rng.uniform(0, 90), "ends", task)
        self.note("Platform", "%s is ABORTING", task_id)
        return task

    def describe(self, task_id: str, description: str) -> PlatformTask | int:
        """Change the description of a draft."""
        task = self.tasks.get(task_id)
        if task is None:
            return NOT_FOUND
        if task.state != "DRAFT":
            return NOT_CHANGEABLE
        task.body = {**task.body, "description": description}
        return task

    def delete(self, task_id: str) -> int | None:
        """Delete a task that is not in flight; return an error, if any."""
        task = self.tasks.get(task_id)
        if task is None:
            return NOT_FOUND
        if task.in_flight:
            return 7013
        del self.tasks[task_id]
        self.version += 1
        self.note("Platform", "deletes %s, which is %s", task_id, task.state)
        return None

    # Reads

    def answer(self, call: Any) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers of the response to a call that neither creates nor starts."""
        path = call.path
        if path == "tasks":
            return self._list(call.query)
        if path == "bulk/tasks/get":
            return 200, {"items": [self.job_item(task_id) for task_id in call.body["task_ids"]]}, {}
        if path.startswith(("apps/", "projects/")):
            return 200, {"id": path.partition("/")[2], "raw": {"inputs": [{"id": "threads", "type": "int"}]}}, {}
        task_id, _, action = path.removeprefix("tasks/").partition("/")
        if call.method == "DELETE":
            code = self.delete(task_id)
            return (204, None, {}) if code is None else _rejected(code)
        if call.method == "PATCH":
            answer = self.describe(task_id, call.body["description"])
            return _rejected(answer) if isinstance(answer, int) else (200, self.job_json(answer), {})
        if action == "actions/abort":
            answer = self.abort(task_id)
            return _rejected(answer) if isinstance(answer, int) else (200, self.job_json(answer), {})
        if not action:
            item = self.job_item(task_id)
            return (200, item["resource"], {}) if "resource" in item else (404, item["error"], {})
        raise AssertionError(f"the simulation does not implement {call.method} {path}")

    def _list(self, query: Any) -> tuple[int, Any, dict[str, str]]:
        values = dict(query)
        since = datetime.fromisoformat(values["created_from"]).timestamp() - self.skew
        then = self.now
        tasks, states = [], {}
        for task in sorted(self.tasks.values(), key=lambda task: task.created):
            state = task.state_at(then - task.lag if "lists lag" in self.on else then)
            if state and int(task.created) >= int(since):
                tasks.append(task)
                states[task.id] = state
        if self.order == "newest":
            tasks.reverse()

        def to_json(task: PlatformTask) -> dict[str, Any]:
            if "lists are brief" in self.on:
                return {"id": task.id, "name": task.body["name"]}
            return self.job_json(task, states[task.id])

        return self.page(tasks, int(values["offset"]), to_json)

    def job_item(self, task_id: str) -> dict[str, Any]:
        task = self.tasks.get(task_id)
        if task is None or ("jobs lag" in self.on and task.created + task.lag > self.now):
            return {"error": error(NOT_FOUND)}
        late = min(task.lag, READ_LAG) if "starts show late" in self.on else 0.0
        state = task.state
        if late and task.started_at and task.started_at + late > self.now:
            state = "DRAFT"
        return {"resource": self.job_json(task, state)}

    def job_json(self, task: PlatformTask, state: str = "") -> dict[str, Any]:  # type: ignore[override]
        state = state or task.state
        body = task.body
        data = {
            "id": task.id,
            "status": state,
            "name": body.get("name"),
            "description": body.get("description"),
            "app": body.get("app"),
            "project": body.get("project"),
            "created_time": self._moment(task.created),
            "errors": list(task.errors),
            "execution_status": {"message": "out of memory"} if state == "FAILED" else {},
        }
        if state != "DRAFT" and task.started_at:
            data["start_time"] = self._moment(task.started_at)
        if state in ("COMPLETED", "FAILED", "ABORTED") and task.ended_at:
            data["end_time"] = self._moment(task.ended_at)
        if state == "COMPLETED":
            data["outputs"] = {"count": 5}
        return data


def _rejected(code: int) -> tuple[int, Any, dict[str, str]]:
    body = error(code)
    return body["status"], body, {}
