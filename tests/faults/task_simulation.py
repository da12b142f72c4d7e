"""Tasks of the Platform as a population of the simulation: one run of an app, with the faults of `simulation`.

A schedule has one or two Airflow tasks, each with the real `SevenBridgesTaskOperator`. A *wish* is one generation
(clear) of one Airflow task with certain inputs. The invariants:

====  ==================================================================================================================
T1    no wish has two tasks that were started, except where the first has failed or was aborted; no two tasks of an
      Airflow task with the same inputs are in flight at the same time
T2    a task that runs is named by XCom, record or log before it is started; a failure names it, and a retry finds it
T3    an Airflow task succeeds only with a COMPLETED task that was created for it, and that was started for this wish or
      was still in flight when the Airflow task was cleared
T4    every schedule ends
T5    at most 4 creations in a try, and at most 50 requests besides polls and lists of tasks
T6    a draft is left only by a process that died, by a creation whose response was lost, or if a message names it
====  ==================================================================================================================

To run a schedule again::

    SEEDS=123:124 python -m pytest tests/faults/test_simulation.py -k task
"""

from __future__ import annotations

import json

import greenlet

from airflow_sb_provider.exceptions import SevenBridgesConnectionError
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator
from airflow_sb_provider.tasks.kind import TASK
from tests.faults.airflow import RECORD, SimAirflow, SimTask, SimulatedOperator
from tests.faults.network import Process
from tests.faults.platform import Violation, error
from tests.faults.task_platform import APP, NOT_FOUND, PROJECT, SentTask, TaskPlatform, Wish
from tests.faults.weakenings import CLOCK_SKEW, LIST_LAG, TASK_WEAKENINGS


class SimTaskOperator(SimulatedOperator, SevenBridgesTaskOperator):
    """The real operator in a simulated process."""


OPERATOR = SimTaskOperator(task_id="run", app=APP, project=PROJECT, poll_interval=20)


class TaskProcess(Process):
    """A process that runs an app."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        [intent] = self.task.intents
        self.wish = Wish(self.task.name, json.dumps({**intent, **self.task.fields}), self.task.max_tries)
        self.named: set[str] = set()
        """the tasks that this process has named in XCom or record"""
        self.is_second = False
        """whether Airflow runs its try in another process too"""

    def is_list(self, call):
        return call.path == "tasks" and call.method == "GET"

    def respond(self, call):
        world = self.world
        if call.path == "tasks" and call.method == "POST":
            runs = ("action", "run") in call.query
            return self._submit_one(call, SentTask(self.task.name, self.try_number, self.wish, call.body, runs=runs))
        if call.path.endswith("/actions/run"):
            task_id = call.path.split("/")[1]
            return self._submit_one(call, SentTask(self.task.name, self.try_number, self.wish, {}, task_id))
        is_stopping = greenlet.getcurrent() is world.main
        if not is_stopping and (trouble := self.failed_read()):
            return trouble
        status, body, headers = world.platform.answer(call)
        changes = call.method in ("DELETE", "PATCH") or call.path.endswith("/actions/abort")
        if changes and world.draw_fault(0.3, "responses are lost"):
            raise SevenBridgesConnectionError("cut")
        return self.polled(call, status, body, headers)

    def _submit_one(self, call, sent):
        world = self.world
        weakening, delivery = world.draw_delivery(is_bulk=False)
        self.note("%s %s: %s", "starts" if sent.starts else "creates", sent.starts or "a draft", delivery)
        if delivery.answer == "unsent":
            raise SevenBridgesConnectionError("refused", sent=False)
        if weakening:
            world.weaken(weakening)
        if not sent.starts:
            self.count_submissions([self.wish.owner])
        sent.process, sent.at = self, world.platform.now
        sent.is_named = sent.starts in self.named or any(sent.starts in line for line in self.task.messages)
        answers, failure = self.deliver([sent], delivery)
        if failure:
            return failure
        [answer] = answers
        sent.answered = not isinstance(answer, int)
        if isinstance(answer, int):
            body = error(answer)
            return body["status"], body, {}
        body = world.platform.job_json(answer)
        if delivery.answer == "no state":
            sent.answered = False
            body["status"] = None
        return 200, body, {}

    def _must_be_current(self):
        if not self.is_second:
            super()._must_be_current()

    def _write(self, place, key, value):
        super()._write(place, key, value)
        self.named.update(task_id for task_id in self.world.platform.tasks if task_id in json.dumps(value))
        if key == RECORD and place is self.task.store:
            for entry in value["entries"]:
                task = self.world.platform.tasks.get(entry.get("job_id"))
                if task and task.in_flight:
                    task.adopted_by.add(self.wish)


class TaskWorld(SimAirflow):
    """A schedule with tasks, and its invariants."""

    process_class = TaskProcess
    platform_class = TaskPlatform
    kind = TASK
    state_key = "status"
    not_found = NOT_FOUND
    ends, costs = "T4", "T5"
    weakenings = TASK_WEAKENINGS
    incidents = (
        *SimAirflow.incidents,
        ("tasks are stopped", "stop_task"),
        ("drafts are deleted", "delete_draft"),
    )

    def __init__(self, seed, *, off=frozenset(), only=None, dropped=frozenset()):
        super().__init__(seed, off, only, dropped)
        self.spoiled: set[str] = set()
        self.said: dict[str, list[str]] = {}
        """all messages and errors of each Airflow task, in all its tries"""
        self.is_disturbed = False
        self._checked_version = -1
        self._checked_starts = 0
        self.accepts_nothing = "the Platform accepts nothing" in self.on
        draw = self.draw
        self.intents = [{"inputs": {"threads": 1}}]
        others = draw.choice([0, 0, 0, 0, 5, 25])
        if {"jobs jump", "lists have no order", "totals lie"} & self.on:
            others = 25
        self.platform.add_noise(others)
        fields = {
            "deferrable": draw.random() < 0.5,
            "timeout": draw.choice([None] * 9 + [700]),
            "retries": draw.choice([0, 1, 2, 3, 3]),
            "wait_for_completion": draw.random() < 0.9,
            "on_kill_abort": draw.random() < 0.7,
        }
        operator = object.__new__(SimTaskOperator)
        operator.__dict__.update(OPERATOR.__dict__ | fields)
        has_store = "there is no store" not in self.on
        are_mapped = draw.random() < 0.5
        count = 2 if "tasks have twins" in self.on else 1
        self.tasks = [
            SimTask(
                f"task{slot}",
                operator,
                has_store,
                self.intents,
                max_tries=fields["retries"],
                map_index=slot if are_mapped else -1,
                task_id="run" if are_mapped else f"run{slot}",
            )
            for slot in range(count)
        ]
        note = self.platform.note
        note("world", "seed %d: %s, store=%s, tasks=%d, %d others", seed, fields, has_store, count, others)
        note("world", "weakenings: %s", ", ".join(sorted(self.on)) or "none")

    def _start(self, task, method, arguments):
        super()._start(task, method, arguments)
        task.process.operator.__dict__.update(task.intents[0] | task.fields)
        # From Airflow 3 on, the API server lets one process begin a try.
        if method == "execute" and not task.has_store and self.draw_fault(0.2, "tries run twice"):
            if "lists lag" in self.on:
                self.weaken("tries run twice")
            second = self.process_class(self, task, method, arguments)
            second.operator.__dict__.update(task.intents[0] | task.fields)
            second.current, second.is_second = False, True
            self.processes.append(second)

    # Faults

    def weaken(self, name, *files):
        self.spoiled.update(self.weakenings[name].spoils)

    def change_parameters(self, task):
        """Change the inputs, or back, or to some with which no task can run."""
        how = self.luck.choice(["other", "as at first", "wrong"])
        task.fields = {"app": ""} if how == "wrong" else {}
        task.intents = [{"inputs": {"threads": 2}}] if how == "other" else self.intents
        self.platform.note(task.name, "parameters change, %s", how)

    def stop(self, task):
        """A user stops an Airflow task: its worker stops the task of the Platform, or its trigger from 3.3 on."""
        self.running = task.process
        super().stop(task)
        if task.state == "deferred" and task.watch and task.has_store and task.deferred.trigger.on_kill_abort:
            for task_id in task.watch.open:
                self.platform.abort(task_id)

    def stop_task(self, _):
        """A person stops a task on the Platform."""
        running = [task for task in self.platform.tasks.values() if task.sent and task.state in ("QUEUED", "RUNNING")]
        if not running:
            return False
        self.platform.note("somebody", "stops a task")
        self.platform.abort(self.luck.choice(running).id)
        return True

    def delete_draft(self, _):
        """A person deletes a draft."""
        drafts = [task for task in self.platform.tasks.values() if task.sent and task.state == "DRAFT"]
        if not drafts:
            return False
        self.platform.note("somebody", "deletes a draft")
        self.platform.delete(self.luck.choice(drafts).id)
        self.is_disturbed = True
        return True

    # Invariants

    def end_try(self, task, state, text):
        self.said.setdefault(task.name, []).extend([*task.messages, str(text)])
        super().end_try(task, state, text)

    def check(self):
        platform = self.platform
        if platform.version == self._checked_version:
            return
        self._checked_version = platform.version
        for task in platform.started[self._checked_starts :]:
            self._check_start(task)
        self._checked_starts = len(platform.started)

    def _check_start(self, task):
        start = task.started
        if not start.is_named:
            raise Violation("T2", f"{task.id} is started, and neither XCom nor record nor log names it")
        if "T1" in self.spoiled:
            return
        for other in self.platform.started:
            if other is task or other.sent.wish.whose != task.sent.wish.whose or other.has_failed:
                continue
            if other.in_flight:
                raise Violation("T1", f"{task.id} is started for {start.wish} while {other.id} is {other.state}")
            can_know = start.process.task.record_is_kept
            if start.wish == other.started.wish or (start.wish in other.adopted_by and can_know):
                raise Violation("T1", f"{task.id} is started for {start.wish}, although {other.id} is {other.state}")

    def check_ended_try(self, process, state, value):
        if state == "success":
            self._check_success(process, value)
        else:
            if "at the end of the time" in value:
                self._check_time(process.task, process.operator)
            self._check_named(process, value, "fails")

    def _check_success(self, process, result):
        name, wish = process.task.name, process.wish
        task = next((each for each in self._started() if each.id == result["task_id"]), None)
        if task is None:
            raise Violation("T3", f"{name} succeeds with {result['task_id']}, which was never started")
        if task.sent.wish.whose != wish.whose:
            raise Violation("T3", f"{name} succeeds with {task.id} of {task.sent.wish}")
        if process.operator.wait_for_completion and (task.state, result["status"]) != ("COMPLETED",) * 2:
            raise Violation("T3", f"{name} succeeds with {task.id}, which is {task.state}")
        is_earlier = task.ended_at is not None and task.ended_at < process.task.requested_since - LIST_LAG
        if is_earlier and task.started.wish != wish:
            raise Violation("T3", f"{name} succeeds with {task.id}, which was done for {task.started.wish}")
        self._check_named(process, json.dumps(result), "succeeds")

    def _started(self):
        return self.platform.started

    def _check_named(self, process, text, what):
        """Check that a try that ends names each task in flight that it knows of."""
        task = process.task
        said = "\n".join([*task.messages, text])
        for each in self._started():
            if not each.in_flight or each.state == "ABORTING" or each.id in said:
                continue
            if each.sent.wish.owner == task.name and self._is_known(process, each):
                raise Violation("T2", f"{process.name} {what} and does not name {each.id}, which is in flight: {text}")

    def _is_known(self, process, task):
        """Whether a process could know of a task in flight."""
        start = task.started
        if start.process is process and not start.on_its_way:
            return True
        return (
            process.task.has_store
            and process.task.record_is_kept
            and process.task.record_was_read
            and not self.tries_without_store
        )

    def _check_time(self, task, operator):
        """Check that the time-out is counted from the start."""
        starts = [each.started_at for each in self._started() if each.sent.wish.owner == task.name]
        tolerance = 60.0
        if operator.deferrable or "the Platform sends no date" in self.on:
            tolerance += 2 * CLOCK_SKEW if "clocks differ" in self.on else 0.0
        waited = self.platform.now - min([*starts, task.requested_since])
        if waited < operator.timeout - tolerance:
            raise Violation("T2", f"{task.name} times out after {waited:.0f} s")

    def check_stopped_task(self, process):
        """Check that a stopped process has aborted its task, or that its log names it."""
        said = "\n".join(process.task.messages)
        for each in self._started():
            is_its_own = each.started.process is process
            if is_its_own and each.state in ("QUEUED", "RUNNING") and each.id not in said:
                raise Violation("T2", f"{process.name} is stopped, and {each.id} runs on unnamed")

    def run(self):
        super().run()
        self._check_drafts()

    def _check_drafts(self):
        """Check that each draft that is left is named, or was left by a process that died or a lost response."""
        for task in self.platform.tasks.values():
            sent = task.sent
            if sent is None or task.state != "DRAFT":
                continue
            is_named = any(task.id in line for line in self.said.get(sent.wish.owner, ()))
            is_lost = not sent.answered or not sent.process.current or sent.by != sent.wish.owner
            if not (is_named or is_lost):
                raise Violation("T6", f"the draft {task.id} is left, and nothing names it")

    def check_all_fulfilled(self):
        can_fail = {"jobs fail", "starts show late"} & self.on
        if self.accepts_nothing or can_fail or self.is_disturbed or not self.platform.lists_are_readable:
            return
        for task in self.tasks:
            is_wrong = "drafts have errors" in self.on and "cannot run" in task.error
            if task.state != "success" and not task.operator.timeout and not is_wrong:
                raise Violation("T2", f"{task.name} has not succeeded although there are no more faults: {task.error}")
