"""A simulated Airflow: its tasks, their tries as greenlets, and faults between any two steps, for any kind of job."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import greenlet
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_sb_provider.api.models import error_from_json
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesMalformedReply
from airflow_sb_provider.jobs.watch import FinalPoll, Over, Watch
from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger
from tests.faults.deliveries import DELIVERIES, Delivery
from tests.faults.platform import START, Sent, SimPlatform, Violation, error
from tests.faults.weakenings import CLOCK_SKEW, PAUSE, WEAKENINGS, Weakening

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.kind import JobKind

RECORD = "sevenbridges_batch"
MAX_STEPS = 6000


class Killed(BaseException):
    """SIGKILL: the process stops immediately."""


class WriteRejected(Exception):
    """Airflow rejects a write, because another try of the task runs now."""


class SimulatedOperator:
    """Mixin for a real operator, whose hook and log are simulated."""

    process: Any = None

    @property
    def hook(self):
        return self.process.hook

    @property
    def log(self):
        return self.process.log


@dataclass(eq=False)
class SimTask:
    """A task instance in Airflow's database, with what it submitted and the messages that it logged."""

    name: str
    operator: Any
    has_store: bool
    intents: list[dict[str, Any]]
    max_tries: int
    map_index: int = -1
    task_id: str = "export"
    fields: dict[str, Any] = field(default_factory=dict)
    """parameters of its operator that were changed"""
    state: str = "scheduled"
    try_number: int = 0
    not_before: float = START
    store: dict[str, Any] = field(default_factory=dict)
    xcom: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    """the previous value of each key of its record"""
    deferred: TaskDeferred | None = None
    watch: Watch | None = None
    polls_at: float = 0.0
    event: Any = None
    """the last event that resumed it in this try"""
    was_resumed: bool = False
    process: SimProcess | None = None
    clears: int = 0
    requested_since: float = START
    """the time at which it was scheduled or cleared"""
    changed_at: float = START
    """the time at which its parameters were changed"""
    resumable: tuple[str, Mapping[str, Any]] | None = None
    """the method that failed in a worker, and its arguments: Airflow 3.0 runs it again in a retry"""
    began: float = 0.0
    """the start time of its try"""
    sent: list[Sent] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """the warnings and errors that its try has logged"""
    error: str = ""
    posts: Counter[tuple[int, str]] = field(default_factory=Counter)
    """the number of submissions by try and file"""
    requests: Counter[int] = field(default_factory=Counter)
    record_is_kept: bool = True
    """whether a later try can read what an earlier one has submitted"""
    record_was_read: bool = True
    """whether this try could read its record"""
    reads_fail_until: float = 0.0
    reads_fail_with: int = 0


class SimProcess:
    """A worker's process that runs a try, or its part after a deferral. Subclasses define ``request``."""

    hook_class: type[SevenBridgesHook]

    def __init__(self, world: SimAirflow, task: SimTask, method: str, arguments: Mapping[str, Any]) -> None:
        self.world = world
        self.task = task
        self.try_number = task.try_number
        self.name = f"{task.name}.{task.try_number}"
        self.skew = world.clock_skew()
        self.wake = 0.0
        self.current = True
        self.stops_at: float | None = None
        clone = object.__new__(type(task.operator))
        clone.__dict__.update(task.operator.__dict__)
        clone.__dict__["process"] = self
        self.operator = clone
        self.method, self.arguments = method, arguments
        self.log = SimpleNamespace(
            debug=self._log, info=self._log, warning=self._warn, error=self._warn, exception=self._warn
        )
        self.hook = self.hook_class(self)
        self.greenlet = greenlet.greenlet(self._run)

    def _log(self, text, *arguments, **_):
        self.note(text, *arguments)

    def _warn(self, text, *arguments, **_):
        self.task.messages.append(str(text) % arguments if arguments else str(text))
        self.note(text, *arguments)

    def note(self, text, *arguments):
        self.world.platform.note(self.name, text, *arguments)

    def _run(self):
        task = self.task
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="run",
            task_id=task.task_id,
            map_index=task.map_index,
            try_number=task.try_number,
            max_tries=task.max_tries,
            xcom_push=self.xcom_push,
            xcom_pull=self.xcom_pull,
        )
        context = {"ti": ti}
        if task.has_store and task.try_number > self.world.tries_without_store:
            context["task_state_store"] = self
        try:
            return "success", getattr(self.operator, self.method)(context, **self.arguments)
        except TaskDeferred as deferred:
            return "deferred", deferred
        except AirflowFailException as failure:
            return "failed", str(failure)
        except (AirflowException, WriteRejected, SevenBridgesError) as failure:
            return "error", str(failure)
        except Killed:
            return "killed", ""

    # The interfaces that Airflow provides to a task

    def xcom_push(self, key, value):
        self._write(self.task.xcom, key, value)

    def xcom_pull(self, task_ids, key, map_indexes):
        return self._read(self.task.xcom, key, None)

    def get(self, key, default=None):
        return self._read(self.task.store, key, default)

    def set(self, key, value):
        self._write(self.task.store, key, value)

    def delete(self, key):
        self.yield_control()
        self._must_be_current()
        self.task.store.pop(key, None)

    def _read(self, place, key, default):
        self.yield_control()
        if self.world.draw_fault(0.1, "reads of the record fail"):
            self.task.record_was_read = False
            raise AirflowException("the API server does not answer")
        if key in self.task.before and self.world.draw_fault(0.3, "records are stale"):
            self.world.weaken("records are stale", *self.world.platform.files)
            self.task.record_is_kept = False
            return self.task.before[key]
        return place.get(key, default)

    def _write(self, place, key, value):
        self.yield_control()
        if self.world.draw_fault(0.08, "writes are slow"):
            self.sleep(60.0)
        self._must_be_current()
        fails = self.world.draw_fault(0.08, "writes fail")
        if fails and self.world.luck.random() < 0.5:
            raise AirflowException("the API server does not answer")
        if key.startswith(RECORD):
            self.task.before[key] = place.get(key)
        # A later read returns a copy, as from a database.
        place[key] = json.loads(json.dumps(value))
        self.yield_control()
        if fails:
            raise AirflowException("the API server does not answer")

    def _must_be_current(self):
        if self.current:
            return
        if "writes of the dead are accepted" in self.world.on:
            self.world.weaken("writes of the dead are accepted", *self.world.platform.files)
            return
        raise WriteRejected("the task has moved on")

    def yield_control(self):
        """Let other processes and events run. They may kill this process."""
        self.world.main.switch()

    def sleep(self, seconds):
        self.wake = self.world.platform.now + seconds
        self.yield_control()

    def die(self):
        """Kill this process; Airflow notices it."""
        if self.current:
            self.current = False
            self.world.end_try(self.task, "error", "the worker is gone")
        raise Killed


class SimAirflow:
    """A schedule, determined by its seed. Subclasses define the kind of jobs, the wishes and the invariants."""

    process_class: type[SimProcess]
    platform_class: type[SimPlatform] = SimPlatform
    kind: JobKind[Any]
    state_key = "state"
    """where the API shows a job's state"""
    not_found = 9008
    """the API's code for a job that does not exist"""
    ends, costs = "I6", "I7"
    """the invariants that a schedule ends, and that its requests are few"""
    weakenings: Mapping[str, Weakening] = WEAKENINGS
    incidents: tuple[tuple[str, str], ...] = (
        ("workers die", "lose_worker"),
        ("workers pause", "pause"),
        ("tasks are cleared", "clear"),
        ("records are unreadable", "corrupt_record"),
        ("pages are lost", "lose_page"),
    )
    """weakenings, and the methods that cause them between two steps"""
    accepts_nothing = False
    cleared_at_last = False

    def __init__(self, seed: int, off: frozenset[str], only: frozenset[str] | None, dropped: frozenset[int]) -> None:
        # Separate random streams, so that a disabled weakening changes the rest as little as possible.
        self.draw, self.rng, self.luck = (random.Random(seed * 4 + stream) for stream in range(3))
        # The jitter of the package.
        random.seed(seed)
        self.seed, self.dropped = seed, dropped
        self.is_fault_free = self.draw.random() < 0.06
        drawn = {name for name, weakening in self.weakenings.items() if self.draw.random() < weakening.chance}
        self.on = frozenset() if self.is_fault_free else frozenset(drawn - off)
        if only is not None:
            self.on = only - off
        self.faults = self.draw.randint(1, 6)
        self.fired = 0
        self.main = greenlet.getcurrent()
        self.platform = self.platform_class(random.Random(seed * 4 + 3), self.on)
        self.triggerer_skew = self.clock_skew()
        self.tries_without_store = 1 if "the first try has no store" in self.on else 0
        self.running: SimProcess | None = None
        self.processes: list[SimProcess] = []
        self.tasks: list[SimTask] = []
        self.most_posts, self.most_requests = 0, 0.0
        self._incidents = [(name, getattr(self, method)) for name, method in self.incidents if name in self.on]

    def clock_skew(self):
        return self.rng.uniform(-CLOCK_SKEW, CLOCK_SKEW) if "clocks differ" in self.on else 0.0

    # Faults

    def draw_fault(self, chance, *names):
        """Return one of these weakenings if a fault happens now, else None. A schedule has few faults."""
        if self.faults <= 0:
            return None
        enabled = [name for name in names if name in self.on]
        if not enabled or self.luck.random() >= chance:
            return None
        name = enabled[0] if len(enabled) == 1 else self.luck.choice(enabled)
        return name if self._use_fault(name) else None

    def _use_fault(self, name):
        self.faults -= 1
        self.fired += 1
        if self.fired in self.dropped:
            return False
        self.platform.note("fault", "%d: %s", self.fired, name)
        return True

    def cause_incident(self):
        """Cause a random incident between two steps."""
        name, act = self.luck.choice(self._incidents)
        task = self.luck.choice(self.tasks)
        place = len(self.platform.history)
        if self._use_fault(name) and act(task) is False:
            # The incident was not possible.
            self.faults += 1
            del self.platform.history[place:]

    def weaken(self, name, *files):
        """Weaken the invariants of these files from now on, as the weakening specifies."""
        raise NotImplementedError

    def draw_delivery(self, *, is_bulk):
        """Return how a submission is delivered, and by which weakening, if any."""
        if self.accepts_nothing:
            return None, Delivery("none", "lost")
        names = [name for name in DELIVERIES if is_bulk or not name.startswith("bulk")]
        name = self.draw_fault(0.5, *names)
        return name, self.luck.choice(DELIVERIES[name]) if name else Delivery()

    def corrupted(self, items):
        """Return a poll's items, corrupted if that fault happens; None if the whole call is rejected."""
        if not items or not self.draw_fault(0.2, "poll answers are spoiled"):
            return items
        items = list(items)
        number = self.luck.randrange(len(items))
        how = self.luck.choice(["null", "stateless", "left out", "shuffled", "rejected"])
        if how == "rejected":
            return None
        if how == "null":
            items[number] = None
        elif how == "stateless" and "resource" in items[number]:
            items[number] = {"resource": {**items[number]["resource"], self.state_key: None}}
        elif how == "left out":
            del items[number]
        else:
            self.luck.shuffle(items)
        return items

    def poll_answers(self, ids):
        """Return the response to a poll."""
        items = self.corrupted([self.platform.job_item(each) for each in ids])
        if items is None:
            return error_from_json(error(self.not_found))
        try:
            return self.kind.get_many(ids).read({"items": items}, {})
        except ValueError as problem:
            return SevenBridgesMalformedReply(200, message=str(problem))

    def lose_worker(self, task):
        """A worker dies, or Airflow assumes that it died."""
        if not task.process:
            return False
        self.kill(task, lives_on="dead workers live on" in self.on and self.luck.random() < 0.5)
        self.end_try(task, "error", "the worker is gone")
        return True

    def pause(self, task):
        """A worker is paused and continues later; meanwhile Airflow may assume that it died."""
        process = task.process
        if not process:
            return False
        seconds = self.luck.uniform(5, PAUSE)
        process.wake = max(process.wake, self.platform.now) + seconds
        process.note("is paused for %.0f s", seconds)
        if self.luck.random() < 0.7:
            process.current = False
            self.end_try(task, "error", "the worker sends no heartbeat")
        return True

    def kill(self, task, *, lives_on):
        """Kill a task's process, or let it run on without Airflow's knowledge."""
        process = task.process
        process.current = False
        # It does not run for long: its supervisor stops it within seconds.
        process.stops_at = self.platform.now + 15
        if not lives_on:
            self._stop(process)
        process.note("assumed dead, but runs on" if lives_on else "killed")

    def clear(self, task):
        """A user clears the task in the UI."""
        if not task.try_number or task.clears >= 2:
            return False
        self.stop(task)
        task.clears += 1
        task.process, task.deferred, task.resumable = None, None, None
        task.max_tries = task.try_number + task.operator.retries
        task.state = "scheduled"
        task.not_before = task.requested_since = self.platform.now
        if "records are discarded" in self.on:
            task.store.clear()
            task.before.clear()
            task.record_is_kept = False
        self.platform.note(task.name, "cleared")
        if self.draw_fault(0.3, "parameters change"):
            self.change_parameters(task)
        return True

    def stop(self, task):
        """A user stops the task."""
        if task.process:
            task.process.operator.on_kill()
            self.check_stopped_task(task.process)
            self.kill(task, lives_on=False)

    def corrupt_record(self, task):
        """A part of the record is replaced by a value that the task cannot read."""
        place = task.store if task.has_store else task.xcom
        keys = [key for key in place if key.startswith(RECORD)]
        if not keys:
            return False
        key = self.luck.choice(keys)
        place[key] = self.luck.choice(["backend://elsewhere", {"version": 99}, [], 7])
        task.record_is_kept = False
        self.platform.note(task.name, "%s is now %s", key, place[key])
        return True

    def lose_page(self, task):
        """A page of the record expires or is deleted."""
        place = task.store if task.has_store else task.xcom
        pages = [key for key in place if key.startswith(f"{RECORD}_")]
        if not pages:
            return False
        del place[pages[0]]
        task.record_is_kept = False
        self.platform.note(task.name, "lost %s", pages[0])
        return True

    # Execution

    def run(self):
        """Run the schedule to its end; what has failed then is cleared, and must do without further faults."""
        self.run_until_idle()
        if not any(task.state == "failed" for task in self.tasks):
            return
        self.faults = 0
        for task in self.tasks:
            if task.state == "failed":
                task.intents, task.fields = self.intents, {}
                task.max_tries, task.state = task.try_number + task.operator.retries, "scheduled"
                task.not_before = task.requested_since = self.platform.now
        self.platform.note("world", "no more faults; the failed tasks are cleared")
        self.platform.advance(self.platform.now + 1000)
        self.cleared_at_last = True
        self.run_until_idle()
        self.check_all_fulfilled()

    def end_try(self, task, state, text):
        """End a try of a task."""
        task.process = None
        if state == "error":
            state = "up_for_retry" if task.try_number <= task.max_tries else "failed"
            task.not_before = self.platform.now + self.rng.choice([0, 5, 60, 300])
        task.state, task.error = state, text
        self.platform.note(f"{task.name}.{task.try_number}", "%s %s", state, text)
        if state == "up_for_retry" and self.draw_fault(0.3, "parameters change"):
            self.change_parameters(task)

    def run_until_idle(self):
        """Run until no event is left."""
        platform, processes, luck = self.platform, self.processes, self.luck
        for _ in range(MAX_STEPS):
            platform.advance(platform.now + self.rng.random() * 2)
            if self.faults > 0 and self._incidents and luck.random() < 0.04:
                self.cause_incident()
            for task in self.tasks:
                self._schedule(task)
            for zombie in [each for each in processes if each.stops_at and each.stops_at < platform.now]:
                self._stop(zombie)
            ready = [process for process in processes if process.wake <= platform.now]
            if ready:
                self._step(ready[0] if len(ready) == 1 else self.rng.choice(ready))
            elif self._is_over():
                return
            elif (moment := self._next_moment()) is not None:
                platform.advance(moment)
            self.check()
        raise Violation(self.ends, "the schedule does not end")

    def _is_over(self):
        return (
            not self.processes
            and not self.platform.open
            and all(task.state in ("success", "failed") for task in self.tasks)
        )

    def _next_moment(self):
        moments = [process.wake for process in self.processes]
        moments += [process.stops_at + 0.001 for process in self.processes if process.stops_at]
        for task in self.tasks:
            if task.state in ("scheduled", "up_for_retry"):
                moments.append(task.not_before)
            elif task.state == "deferred":
                moments.append(task.polls_at)
        if (moment := self.platform.next_at) is not None:
            moments.append(moment)
        return min((moment for moment in moments if moment > self.platform.now), default=None)

    def check(self):
        """Check the invariants that hold after every step."""
        raise NotImplementedError

    def check_ended_try(self, process, state, value):
        """Check the invariants that hold when a try has ended."""
        raise NotImplementedError

    def check_stopped_task(self, process):
        """Check the invariants that hold when a user stops a task."""
        raise NotImplementedError

    def check_all_fulfilled(self):
        """Check that every wish that can be fulfilled is, after the last clear."""
        raise NotImplementedError

    def change_parameters(self, task):
        """Change the task's parameters from its next try on."""
        raise NotImplementedError

    def _schedule(self, task):
        if task.state in ("scheduled", "up_for_retry"):
            if task.not_before > self.platform.now:
                return
            task.try_number += 1
            task.messages, task.record_was_read = [], True
            task.event, task.was_resumed = None, False
            task.began, task.reads_fail_until = self.platform.now, 0.0
            again = "resumed methods run again" in self.on and not task.has_store
            if task.resumable and task.state == "up_for_retry" and again:
                self.platform.note(task.name, "%s runs again in a retry", task.resumable[0])
                self._start(task, *task.resumable)
                return
            # Airflow deletes a task's XComs when a try begins.
            task.xcom.clear()
            self._start(task, "execute", {})
        elif task.state == "deferred" and task.polls_at <= self.platform.now:
            event: Any = self._poll(task) if task.watch else task.deferred.trigger.moment
            if event is not None:
                task.event, task.was_resumed = event, True
                self._start(task, task.deferred.method_name, {"event": task.event})

    def _defer(self, task, deferred):
        task.state, task.deferred, task.process = "deferred", deferred, None
        trigger, now = deferred.trigger, self.platform.now
        if isinstance(trigger, SevenBridgesJobTrigger):
            # As in the trigger: from now on the triggerer's clock counts.
            deadline = trigger.end_time and trigger.end_time - self.triggerer_skew
            ids = getattr(trigger, self.kind.ids_key)
            task.watch = Watch(self.kind, ids, deadline, min_finished=trigger.min_finished, fail_fast=trigger.fail_fast)
            task.polls_at = now
        else:
            task.watch = None
            task.polls_at = trigger.moment.timestamp() - self.triggerer_skew
        self.platform.note(task.name, "defers until %.1f", task.polls_at - START)
        if task.was_resumed and self.draw_fault(0.5, "events come twice"):
            self._start(task, deferred.method_name, {"event": task.event})

    def _poll(self, task):
        """Poll like the trigger, and return its event if there is one."""
        watch, now = task.watch, self.platform.now
        for batch in watch.batches:
            watch.update(batch, self.poll_answers(batch), now)
        step = watch.next_step(now)
        if isinstance(step, FinalPoll):
            watch.update(step.ids, self.poll_answers(step.ids), now)
            step = watch.next_step(now)
        task.polls_at = now + task.deferred.trigger.poll_interval
        return step.event if isinstance(step, Over) else None

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
        outcome = process.greenlet.switch()
        if not process.greenlet.dead:
            return
        self.processes.remove(process)
        if not process.current:
            return
        state, value = outcome
        task = process.task
        if state == "deferred":
            self._defer(task, value)
            return
        if state == "error" and process.method != "execute":
            task.resumable = process.method, process.arguments
        self.end_try(task, state, "" if state == "success" else value)
        self.check_ended_try(process, state, value)
