"""One seed, one schedule: real operators against a Platform, a store, a clock and an Airflow that are simulated.

Each try of a task runs in a greenlet and gives way before and after every request, store write and XCom, so that
anything can strike between any two steps: a crash, a lost or late answer, a twin, a clear, a zombie, another file
bound for the same place. The invariants are checked after every step.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import greenlet
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesReplyLost, SevenBridgesServerError
from airflow_sb_provider.exports.waiting import Watch
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.faults.platform import PAGE_CAP, Look, SimFile, SimObject, SimPlatform, Violation

FILE = "a" * 24
OTHER = "b" * 24
RETRIES = 3
MAX_STEPS = 4000
GATEWAY = 90.0


class Killed(BaseException):
    """SIGKILL: nothing in the process runs any more."""


class SimStoreRefused(Exception):
    """Airflow refuses a write of a task that has moved on."""


class SimHook(SevenBridgesHook):
    """The real hook with the simulated Platform instead of the network."""

    def __init__(self, process):
        self._process = process
        self._volumes = {}
        self.sevenbridges_conn_id = "sim"
        self.rate_limit = None

    settings = SimpleNamespace(endpoint="https://sim/v2", credential="me", gateway_timeout=GATEWAY)
    log = SimpleNamespace(info=lambda *a: None, warning=lambda *a: None)

    def send(self, call, *, again=True):
        return self._process.send(call)

    def reconnect(self):
        """Nothing to look up."""


class SimOperator(SevenBridgesExportOperator):
    """The real operator; only its hook and its log are the simulation's."""

    process: Any = None

    @property
    def hook(self):
        return self.process.hook

    @property
    def log(self):
        return self.process.log


@cache
def operator(slot: int, volume: str, location: str, overwrite: bool, copy_only: bool, deferrable: bool) -> SimOperator:
    return SimOperator(
        task_id=f"t{slot}",
        file=FILE,
        volume=volume,
        location=location,
        overwrite=overwrite,
        copy_only=copy_only,
        deferrable=deferrable,
        timeout=None,
        retries=RETRIES,
        poll_interval=20,
    )


@dataclass
class Task:
    """A task instance as Airflow knows it."""

    name: str
    template: SimOperator
    has_store: bool
    state: str = "scheduled"
    try_number: int = 0
    max_tries: int = RETRIES
    not_before: float = 0.0
    store: dict[str, Any] = field(default_factory=dict)
    deferred: TaskDeferred | None = None
    process: Process | None = None
    result: Any = None
    error: str = ""
    clears: int = 0


class Process:
    """One run of a task's code in a worker: a try, or its second half after a deferral."""

    def __init__(self, world: World, task: Task, method: str, arguments: dict[str, Any]) -> None:
        self.world = world
        self.task = task
        self.hook = SimHook(self)
        self.wake = 0.0
        self.current = True
        self.dies_at: float | None = None
        self.look = Look()
        clone = object.__new__(SimOperator)
        clone.__dict__.update(task.template.__dict__)
        clone.__dict__["process"] = self
        self.operator = clone
        self.method, self.arguments = method, arguments
        self.lines: list[str] = []
        self.log = SimpleNamespace(info=self._log, warning=self._log, error=self._log)
        self.greenlet = greenlet.greenlet(self._run)

    def _log(self, text, *arguments):
        line = str(text) % arguments if arguments else str(text)
        self.lines.append(line)
        self.world.platform.note(f"{self.task.name}.{self.task.try_number}: {line}")

    def _run(self):
        context = {
            "ti": SimpleNamespace(
                try_number=self.task.try_number, max_tries=self.task.max_tries, xcom_push=self._xcom_push
            )
        }
        if self.task.has_store:
            context["task_state_store"] = self
        try:
            return "success", getattr(self.operator, self.method)(context, **self.arguments)
        except TaskDeferred as deferred:
            return "deferred", deferred
        except AirflowFailException as error:
            return "failed", str(error)
        except (AirflowException, SimStoreRefused) as error:
            return "error", str(error)
        except Killed:
            return "killed", ""

    # What the operator sees of Airflow

    def _xcom_push(self, key, value):
        self.give_way(f"XCom {key}")

    def get(self, key, default=None):
        self.give_way("store read")
        return self.task.store.get(key, default)

    def set(self, key, value):
        self.give_way("store write")
        if not self.current:
            raise SimStoreRefused("the task has moved on")
        self.task.store[key] = value
        self.give_way("after store write")

    def give_way(self, where):
        """Let the rest of the world act; it may end this process here."""
        self.world.main.switch(where)

    def sleep(self, seconds):
        self.wake = self.world.platform.now + seconds
        self.give_way("sleep")

    # What the operator sees of the Platform

    def send(self, call):
        world, platform, rng = self.world, self.world.platform, self.world.rng
        self.give_way(f"before {call.method} {call.path}")
        is_post = call.method == "POST" and call.path == "storage/exports"
        if is_post:
            fate = world.fate_of_post()
            platform.note(f"{self.task.name}.{self.task.try_number}: POST, fate {fate}")
            world.unanswered += fate != "answered"
            arguments = (call.body, dict(call.query).get("copy_only") == "true", self.task.name, self.look)
            if fate == "never sent":
                raise SevenBridgesConnectionError("refused", sent=False)
            if fate in ("late", "late and killed"):
                longest = 1000 if world.overwrite and not world.copy_only else GATEWAY - 30
                # Where a second request could destroy something, no time is long enough to be sure.
                platform.late.append((platform.now + rng.uniform(1, longest), *arguments))
            elif fate in ("done, reply lost", "done and killed"):
                platform.submit(*arguments)
            if fate.endswith("killed"):
                if self.current:
                    self.current = False
                    world.lost_worker(self.task)
                raise Killed
            if fate != "answered":
                world.check()
                self.give_way("reply lost")
                raise SevenBridgesReplyLost("lost")
        elif call.path == "storage/exports" and ("state", "PENDING") in call.query and ("offset", "0") in call.query:
            self.look = Look(platform.now)
        elif world.reads_fail():
            raise SevenBridgesServerError(502, message="trouble")
        status, body = platform.answer(call, self.task.name, self.look)
        headers = {"X-Total-Matching-Query": str(body["total"])} if "total" in body else {}
        if call.path.endswith("/object"):
            self.look = replace(self.look, object_there=status == 200)
        world.check()
        self.give_way(f"after {call.method} {call.path}")
        return read_reply(call, status, headers, json.dumps(body).encode())


class World:
    """A schedule: everything that happens follows from its seed."""

    def __init__(self, seed: int, clock) -> None:
        self.rng = rng = random.Random(seed)
        self.main = greenlet.getcurrent()
        self.platform = SimPlatform(
            rng,
            includes_prefix=rng.random() < 0.5,
            with_slash=rng.random() < 0.7,
            order=rng.choice(["newest", "oldest", "shuffled"]),
            refuse_in_job=rng.random() < 0.4,
        )
        clock.world = self
        self.calm = rng.random() < 0.1
        self.faults = 0 if self.calm else rng.randint(1, 4)
        self.running: Process | None = None
        self.processes: list[Process] = []
        self._fill()
        volume = rng.choice(["o/plain", "o/prefixed"])
        location = "key" if rng.random() < 0.8 else "pre/key"
        self.overwrite, self.copy_only = rng.random() < 0.5, rng.random() < 0.35
        deferrable, has_store = rng.random() < 0.5, rng.random() < 0.6
        self.tasks = [
            Task(f"task{slot}", operator(slot, volume, location, self.overwrite, self.copy_only, deferrable), has_store)
            for slot in range(2 if not self.calm and rng.random() < 0.25 else 1)
        ]
        self.key = self.platform.key(volume, location)
        self.volume, self.location = volume, location
        if rng.random() < 0.25:
            size = rng.choice([7, 10])
            self.platform.objects[self.key] = SimObject("old", size, OTHER if rng.random() < 0.5 else None)
            if self.platform.objects[self.key].only_copy_of:
                self.platform.files[OTHER].alias_key = self.key
                self.platform.files[OTHER].alias = (volume, location)
        if rng.random() < 0.2:
            self.platform.objects[self.platform.key(volume, "changed")] = SimObject("lookalike", 10)
        self._checked = 0
        self.lost_to_a_twin = False
        self.unanswered = 0
        self.platform.note(
            f"seed {seed}: {volume}/{location} overwrite={self.overwrite} copy={self.copy_only} "
            f"deferrable={deferrable} store={has_store} tasks={len(self.tasks)} order={self.platform.order} "
            f"in job={self.platform.refuse_in_job} prefix shown={self.platform.includes_prefix}"
        )

    def _fill(self):
        platform, rng = self.platform, self.rng
        platform.files[FILE] = SimFile(FILE, 10)
        platform.files[OTHER] = SimFile(OTHER, 7 if rng.random() < 0.7 else 10)
        for number in range(rng.choice([0, 0, 3, 20, 30])):
            file = f"{number:024x}"
            platform.files[file] = SimFile(file, 5)
            body = {
                "source": {"file": file},
                "destination": {"volume": "o/plain", "location": f"noise{number}"},
                "overwrite": False,
            }
            platform.submit(body, True, "noise")

    # Faults

    def strike(self, probability):
        if self.faults > 0 and self.rng.random() < probability:
            self.faults -= 1
            return True
        return False

    def fate_of_post(self):
        if not self.strike(0.6):
            return "answered"
        return self.rng.choice(
            [
                "done, reply lost",
                "not done, reply lost",
                "late",
                "done and killed",
                "not done and killed",
                "late and killed",
                "never sent",
            ]
        )

    def reads_fail(self):
        return self.strike(0.02)

    def lost_worker(self, task):
        """Airflow misses the heartbeat of a task's worker."""
        self._over(task, "error", "the worker is gone")

    def _over(self, task, state, error):
        task.process = None
        if state == "error":
            state = "up_for_retry" if task.try_number <= task.max_tries else "failed"
            task.not_before = self.platform.now + self.rng.choice([0, 5, 60, 300])
        task.state, task.error = state, error
        self.platform.note(f"{task.name}.{task.try_number}: {state} {error}")

    def _kill(self, task, zombie):
        process = task.process
        process.current = False
        # A zombie does not last: its supervisor stops it within seconds.
        process.dies_at = self.platform.now + 15
        self.unanswered += zombie
        if not zombie:
            self._stop(process)
        self.platform.note(f"{task.name}.{task.try_number}: killed{' (lives on)' if zombie else ''}")

    def _stop(self, process):
        self.processes.remove(process)
        if process.greenlet:
            process.greenlet.throw(Killed)

    def clear(self, task):
        """A person clears the task in the UI."""
        if task.process:
            self._kill(task, zombie=False)
        task.clears += 1
        task.process, task.deferred = None, None
        task.max_tries = max(task.try_number, 0) + RETRIES
        task.state, task.not_before = "scheduled", self.platform.now
        if self.rng.random() < 0.2:
            template = task.template
            task.template = operator(
                self.tasks.index(task),
                template.volume,
                "changed",
                template.overwrite,
                template.copy_only,
                template.deferrable,
            )
        self.platform.note(f"{task.name}: cleared")

    def rival(self):
        """Somebody else exports to the same place: another file, or the same one by another kind of export."""
        if self.rng.random() < 0.3 and not (self.copy_only and self.overwrite):
            body = {
                "source": {"file": FILE},
                "destination": {"volume": self.volume, "location": self.location},
                "overwrite": False,
            }
            self.platform.submit(body, not self.copy_only, "colleague")
            return
        body = {
            "source": {"file": OTHER},
            "destination": {"volume": self.volume, "location": self.location},
            "overwrite": False,
        }
        if not self.platform.files[OTHER].alias_key:
            self.platform.submit(body, False, "rival")

    # Running

    def run(self):
        for _ in range(MAX_STEPS):
            self.platform.now += self.rng.uniform(0, 2)
            self.platform.arrive()
            if self.rng.random() < 0.5:
                self.platform.tick()
                self.check()
            if self.strike(0.01):
                self.rival()
            for task in self.tasks:
                if task.process and self.strike(0.02):
                    self._kill(task, zombie=self.rng.random() < 0.3)
                    self._over(task, "error", "the worker is gone")
                elif task.clears < 2 and task.try_number and self.strike(0.01):
                    self.clear(task)
                self._schedule(task)
            for zombie in [each for each in self.processes if each.dies_at and each.dies_at < self.platform.now]:
                self._stop(zombie)
            ready = [process for process in self.processes if process.wake <= self.platform.now]
            if ready:
                self._step(self.rng.choice(ready))
            elif not self._anything_left():
                break
            else:
                self.platform.now += self.rng.uniform(0, 20)
            self.check()
        else:
            raise Violation("the schedule does not end")
        self.finish()

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
            task.state = "running"
            self._start(task, "execute", {})
        elif task.state == "deferred":
            trigger = task.deferred.trigger
            if isinstance(trigger, SevenBridgesExportTrigger):
                if event := self._event(trigger):
                    task.state = "running"
                    self._start(task, task.deferred.method_name, {"event": event})
            elif trigger.moment.timestamp() <= self.platform.now:
                task.state = "running"
                self._start(task, task.deferred.method_name, {"event": None})

    def _event(self, trigger):
        watch = Watch(trigger.export_ids)
        answers = [
            ExportJob.from_json(self.platform.job_json(job))
            for job in self.platform.jobs
            if job.id in trigger.export_ids
        ]
        watch.take(trigger.export_ids, answers)
        event = watch.event(self.platform.now)
        return event and {**event, "adopted": trigger.adopted}

    def _start(self, task, method, arguments):
        task.process = Process(self, task, method, arguments)
        self.processes.append(task.process)

    def _step(self, process):
        self.running = process
        process.wake = 0.0
        told = process.greenlet.switch()
        if not process.greenlet.dead:
            return
        self.processes.remove(process)
        if not process.current:
            return
        state, value = told
        task = process.task
        if state == "deferred":
            task.state, task.deferred, task.process = "deferred", value, None
        elif state == "success":
            self._over(task, "success", "")
            task.result = value
            self._check_success(task, value)
        elif state in ("failed", "error"):
            self._check_failure(task, state, value)
            self._over(task, state, value)

    # Invariants

    def check(self):
        platform = self.platform
        moves = [job for job in platform.jobs if job.file == FILE and not job.copy_only]
        if sum(job.state == "COMPLETED" for job in moves) > 1:
            raise Violation("a file was moved twice")
        for task in self.tasks:
            own = [job for job in moves if job.by == task.name and job.state != "FAILED"]
            if len(own) > 1:
                raise Violation(f"{task.name} has two moves accepted: {[job.id for job in own]}")
        for job, found in platform.destroyed[self._checked :]:
            self._checked += 1
            if found.only_copy_of == job.file:
                if self._by_a_twin_at_the_same_moment(job):
                    self.lost_to_a_twin = True
                    continue
                raise Violation(f"{job.id} destroyed the only copy of the file that it moves")
            if (
                found.only_copy_of
                and not (job.overwrite and not job.copy_only and self.overwrite)
                and not self.copy_only
            ):
                raise Violation(f"{job.id} destroyed the only copy of {found.only_copy_of}")
        key = platform.files[FILE].alias_key
        if key and not self.lost_to_a_twin:
            found = platform.objects.get(key)
            if found is None or found.content != FILE:
                raise Violation("the moved file's object is gone")

    def _by_a_twin_at_the_same_moment(self, job):
        # Two tasks that overwrite the same place with the same file, the second asking while the first was not yet to
        # be seen by any look: no client can know. docs/exporting-once.md says so.
        mover = next(
            other
            for other in self.platform.jobs
            if (other.file, other.state, other.copy_only) == (job.file, "COMPLETED", False)
        )
        return mover.by != job.by and mover.started >= job.look.began and job.look.object_there

    def _check_success(self, task, result):
        if self.lost_to_a_twin:
            return
        key = self.platform.key(task.template.volume, task.template.location)
        found = self.platform.objects.get(key)
        file = self.platform.files[FILE]
        if found is None or found.content != FILE:
            raise Violation("success without the right object at the destination")
        if not self.copy_only and file.alias_key != key:
            raise Violation("success of a move although the file is not an alias of the object")
        if result["state"] != "COMPLETED":
            raise Violation("success before the end")

    def _check_failure(self, task, state, error):
        key = self.platform.key(task.template.volume, task.template.location)
        made = self.platform.files[FILE].alias_key == key and not self.copy_only
        # A twin may make the move after this task has looked at the file that its colleague copied.
        overtaken = len(self.tasks) > 1 and "was a copy" in error
        if state == "failed" and made and not self.lost_to_a_twin and not overtaken:
            raise Violation(f"{task.name} is refused although its move is made: {error}")

    def finish(self):
        """At the end: what was accepted is known to somebody, and repeats are those that the table allows."""
        platform = self.platform
        for task in self.tasks:
            if task.state == "success" or not any(job.by == task.name for job in platform.jobs):
                continue
            if not task.error:
                raise Violation(f"{task.name} ended without a word")
        if not self.copy_only or self.overwrite:
            done = [job for job in platform.jobs if job.file == FILE and job.state == "COMPLETED"]
            allowed = len(self.tasks) + sum(task.clears for task in self.tasks) + self.unanswered
            keeps_records = all(task.has_store for task in self.tasks)
            # What is in flight cannot be known from a list without order on several pages: then a copy is repeated.
            readable = self.platform.order != "shuffled" or len(self.platform.jobs) <= PAGE_CAP
            if keeps_records and readable and self.copy_only and len(done) > allowed:
                raise Violation(f"{len(done)} copies were made for {allowed} wishes")
