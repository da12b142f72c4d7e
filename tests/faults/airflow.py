"""An Airflow that is simulated: tasks, their tries as greenlets, and what can strike them between any two steps."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import greenlet
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.faults.platform import SimPlatform, Violation

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

RETRIES = 3
MAX_POSTS = 4
GATEWAY = 90.0


class Killed(BaseException):
    """SIGKILL: nothing in the process runs any more."""


class StoreRefused(Exception):
    """Airflow refuses a write of a task that has moved on."""


class SimHook(SevenBridgesHook):
    """The real hook with the simulated Platform instead of the network."""

    def __init__(self, process):
        self._process = process
        self._volumes = {}
        self.sevenbridges_conn_id = "sim"
        self.rate_limit = None

    settings = SimpleNamespace(endpoint="https://sim/v2", credential="me", gateway_timeout=GATEWAY)

    @property
    def log(self):
        return self._process.log

    def send(self, call, *, again=True):
        return self._process.send(call)

    def reconnect(self):
        """Nothing to look up."""


class InProcess:
    """Mixed into a real operator: only its hook and its log are the simulation's."""

    process: Any = None

    @property
    def hook(self):
        return self.process.hook

    @property
    def log(self):
        return self.process.log


@dataclass
class SimTask:
    """A task instance as Airflow knows it."""

    name: str
    operator: Any
    has_store: bool
    state: str = "scheduled"
    try_number: int = 0
    max_tries: int = RETRIES
    not_before: float = 0.0
    store: dict[str, Any] = field(default_factory=dict)
    xcom: dict[str, Any] = field(default_factory=dict)
    deferred: TaskDeferred | None = None
    process: SimProcess | None = None
    error: str = ""
    clears: int = 0
    resumable: tuple[str, Mapping[str, Any]] | None = None
    """the method that a worker's own failure ended, and its arguments: Airflow 3.0 runs it again in a retry"""


class SimProcess:
    """One run of a task's code in a worker: a try, or what follows a deferral. ``send`` is the subclass's."""

    def __init__(self, world: SimAirflow, task: SimTask, method: str, arguments: Mapping[str, Any]) -> None:
        self.world = world
        self.task = task
        self.hook = SimHook(self)
        self.wake = 0.0
        self.current = True
        self.dies_at: float | None = None
        clone = object.__new__(type(task.operator))
        clone.__dict__.update(task.operator.__dict__)
        clone.__dict__["process"] = self
        self.operator = clone
        self.method, self.arguments = method, arguments
        self.log = SimpleNamespace(info=self._log, warning=self._log, error=self._log)
        self.greenlet = greenlet.greenlet(self._run)

    def _log(self, text, *arguments):
        self.note(str(text) % arguments if arguments else str(text))

    def note(self, text):
        self.world.platform.note(f"{self.task.name}.{self.task.try_number}: {text}")

    def _run(self):
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="run",
            task_id="export",
            map_index=-1,
            try_number=self.task.try_number,
            max_tries=self.task.max_tries,
            xcom_push=self.xcom_push,
            xcom_pull=self.xcom_pull,
        )
        context = {"ti": ti}
        if self.task.has_store and self.task.try_number > self.world.tries_without_store:
            context["task_state_store"] = self
        try:
            return "success", getattr(self.operator, self.method)(context, **self.arguments)
        except TaskDeferred as deferred:
            return "deferred", deferred
        except AirflowFailException as failure:
            return "failed", str(failure)
        except (AirflowException, StoreRefused) as failure:
            return "error", str(failure)
        except Killed:
            return "killed", ""

    def xcom_push(self, key, value):
        self._write(self.task.xcom, key, value)

    def xcom_pull(self, task_ids, key, map_indexes):
        self.give_way("XCom read")
        return self.task.xcom.get(key)

    def get(self, key, default=None):
        self.give_way("store read")
        return self.task.store.get(key, default)

    def set(self, key, value):
        self._write(self.task.store, key, value)

    def delete(self, key):
        self.give_way("store delete")
        self._must_be_current()
        self.task.store.pop(key, None)

    def _write(self, place, key, value):
        self.give_way("write")
        self._must_be_current()
        if self.world.resumes_in_retries and key.startswith("sevenbridges_batch") and self.world.strike(0.05):
            raise AirflowException("the API server does not answer")
        # What comes back is what the database gives, not the same object.
        place[key] = json.loads(json.dumps(value))
        self.give_way("after write")

    def _must_be_current(self):
        if not self.current:
            raise StoreRefused("the task has moved on")

    def give_way(self, where):
        """Let the rest of the world act; it may end this process here."""
        self.world.main.switch(where)

    def sleep(self, seconds):
        self.wake = self.world.platform.now + seconds
        self.give_way("sleep")

    def die(self):
        """Be killed by what was just done, which Airflow notices."""
        if self.current:
            self.current = False
            self.world.over(self.task, "error", "the worker is gone")
        raise Killed


class SimAirflow(ABC):
    """A schedule: everything follows from its seed. What strikes and what must hold is the subclass's matter."""

    process_class: type[SimProcess]
    max_steps: int

    def __init__(self, rng: random.Random, platform: SimPlatform, clock: Any, most_faults: int) -> None:
        self.rng = rng
        self.main = greenlet.getcurrent()
        self.platform = platform
        clock.world = self
        self.calm = rng.random() < 0.1
        self.faults = 0 if self.calm else rng.randint(1, most_faults)
        # Airflow 3.0 has no store, and runs in a retry the method again that a deferral had resumed, XComs kept.
        self.resumes_in_retries = not self.calm and rng.random() < 0.15
        # The first try may run on a worker of an older Airflow.
        self.tries_without_store = 1 if not self.calm and rng.random() < 0.1 else 0
        self.records_spoiled = 0
        self.posts: Counter[tuple[str, int, str]] = Counter()
        self.running: SimProcess | None = None
        self.processes: list[SimProcess] = []
        self.tasks: list[Any] = []
        self.unanswered = 0

    def strike(self, probability):
        """Whether something that has this probability goes wrong now; it can as long as faults are left."""
        if self.faults > 0 and self.rng.random() < probability:
            self.faults -= 1
            return True
        return False

    @abstractmethod
    def misfortune(self):
        """What may strike before any step."""

    @abstractmethod
    def check(self):
        """What must hold after every step."""

    def ended(self, process, state, value):  # noqa: B027 - a world may have nothing to check then
        """What must hold when a try has ended."""

    def stepped(self, process):  # noqa: B027 - a world may have nothing to check then
        """What must hold when a process has given way."""

    def count_posts(self, task, files):
        """Count the requests for each file in a try: there are few, whatever happens."""
        for file in files:
            self.posts[task.name, task.try_number, file] += 1
            if self.posts[task.name, task.try_number, file] > MAX_POSTS:
                raise Violation(f"{task.name} submits {file} more than {MAX_POSTS} times in a try")

    def spoil_record(self, task):
        """What the task wrote is replaced by something that it cannot read."""
        place = task.store if task.has_store else task.xcom
        keys = [key for key in place if key.startswith("sevenbridges_batch")]
        if keys:
            key = self.rng.choice(keys)
            self.records_spoiled += 1
            place[key] = self.rng.choice(["backend://elsewhere", {"version": 99}, [], 7])
            self.platform.note(f"{task.name}: {key} is now {place[key]}")

    def over(self, task, state, told):
        """A try has ended."""
        task.process = None
        if state == "error":
            state = "up_for_retry" if task.try_number <= task.max_tries else "failed"
            task.not_before = self.platform.now + self.rng.choice([0, 5, 60, 300])
        task.state, task.error = state, told
        self.platform.note(f"{task.name}.{task.try_number}: {state} {told}")

    def kill(self, task, *, zombie):
        """End a task's process, or let it live on where Airflow does not see it."""
        process = task.process
        process.current = False
        # A zombie does not last: its supervisor stops it within seconds.
        process.dies_at = self.platform.now + 15
        self.unanswered += zombie
        if not zombie:
            self._stop(process)
        self.platform.note(f"{task.name}.{task.try_number}: killed{' (lives on)' if zombie else ''}")

    def lose_worker(self, task):
        """A worker dies, or only Airflow believes so."""
        self.kill(task, zombie=self.rng.random() < 0.3)
        self.over(task, "error", "the worker is gone")

    def clear(self, task):
        """A person clears the task in the UI."""
        if task.process:
            self.kill(task, zombie=False)
        task.clears += 1
        task.process, task.deferred = None, None
        task.max_tries = max(task.try_number, 0) + RETRIES
        task.state, task.not_before = "scheduled", self.platform.now
        self.platform.note(f"{task.name}: cleared")

    def go(self):
        """Run until nothing is left to happen."""
        for _ in range(self.max_steps):
            self.platform.now += self.rng.uniform(0, 2)
            self.platform.arrive()
            if self.rng.random() < 0.5:
                self.platform.tick()
                self.check()
            self.misfortune()
            for task in self.tasks:
                self._schedule(task)
            for zombie in [each for each in self.processes if each.dies_at and each.dies_at < self.platform.now]:
                self._stop(zombie)
            ready = [process for process in self.processes if process.wake <= self.platform.now]
            if ready:
                self._step(self.rng.choice(ready))
            elif not self._anything_left():
                return
            else:
                self.platform.now += self.rng.uniform(0, 20)
            self.check()
        raise Violation("the schedule does not end")

    def _anything_left(self):
        return (
            self.processes
            or any(task.state not in ("success", "failed") for task in self.tasks)
            or self.platform.late
            or any(job.state in ("PENDING", "RUNNING") for job in self.platform.jobs)
        )

    def _schedule(self, task):
        if task.state in ("scheduled", "up_for_retry") and task.not_before <= self.platform.now:
            task.try_number += 1
            if task.resumable and task.state == "up_for_retry" and self.resumes_in_retries and not task.has_store:
                self.platform.note(f"{task.name}: {task.resumable[0]} runs again in a retry")
                self._start(task, *task.resumable)
                return
            # Airflow deletes a task's XComs when a try begins.
            task.xcom.clear()
            self._start(task, "execute", {})
        elif task.state == "deferred":
            trigger = task.deferred.trigger
            if isinstance(trigger, SevenBridgesExportTrigger):
                if event := self._event(trigger):
                    self._start(task, task.deferred.method_name, {"event": event})
            elif trigger.moment.timestamp() <= self.platform.now:
                self._start(task, task.deferred.method_name, {"event": None})

    def _event(self, trigger):
        watch = Watch(EXPORT, trigger.export_ids, enough=trigger.enough, fail_fast=trigger.fail_fast)
        jobs = {job.id: job for job in self.platform.jobs}
        answers = [ExportJob.from_json(self.platform.job_json(jobs[each])) for each in trigger.export_ids]
        watch.take(trigger.export_ids, answers, self.platform.now)
        return watch.event(self.platform.now)

    def _start(self, task, method, arguments):
        task.state, task.resumable = "running", None
        task.process = self.process_class(self, task, method, arguments)
        self.processes.append(task.process)

    def _stop(self, process):
        self.processes.remove(process)
        if process.greenlet:
            process.greenlet.throw(Killed)

    def _step(self, process):
        self.running = process
        process.wake = 0.0
        told = process.greenlet.switch()
        self.stepped(process)
        if not process.greenlet.dead:
            return
        self.processes.remove(process)
        if not process.current:
            return
        state, value = told
        if state == "deferred":
            process.task.state, process.task.deferred, process.task.process = "deferred", value, None
            return
        if state == "error" and process.method != "execute":
            process.task.resumable = process.method, process.arguments
        self.over(process.task, state, "" if state == "success" else value)
        self.ended(process, state, value)


def simulated_clock(monkeypatch, modules):
    """Put the simulated world's clock in place of the machine's, in every module that asks for the time."""
    clock = SimpleNamespace(world=None)
    fake = SimpleNamespace(
        time=lambda: clock.world.platform.now,
        monotonic=lambda: clock.world.platform.now,
        sleep=lambda seconds: clock.world.running.sleep(seconds),
    )
    # Thousands of schedules would log thousands of lines.
    for module in ("operators.ledger", "lineage.outlets"):
        monkeypatch.setattr(f"airflow_sb_provider.{module}.log", logging.getLogger("silent"))
    logging.getLogger("silent").disabled = True
    for module in modules:
        monkeypatch.setattr(f"airflow_sb_provider.{module}.time", fake)
    return clock


def count_ends(world_class, seeds, clock):
    """Run a schedule for each seed and return how its tasks ended; a broken invariant tells how to see it again."""
    ends = {"success": 0, "failed": 0}
    for seed in seeds:
        world = world_class(seed, clock)
        try:
            world.run()
        except Violation as violation:
            violation.add_note(f"replay with SEEDS={seed}:{seed + 1}")
            violation.add_note("\n".join(world.platform.history))
            raise
        for task in world.tasks:
            ends[task.state] += 1
    return ends


def first_violation(world_class, seeds, clock):
    """Run schedules until one breaks an invariant, and tell which and how; None if none does."""
    for seed in seeds:
        try:
            world_class(seed, clock).run()
        except Violation as violation:
            return f"seed {seed:5}: {str(violation)[:150]}"
    return None
