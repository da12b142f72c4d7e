"""Simulation: real operators run against a simulated Platform, network, Airflow and clocks. A seed makes a schedule.

A schedule has one intended export for the single operator, or several for the bulk operator. Each try of a task runs in
a greenlet, which yields before and after every request, store write and XCom, so that faults can happen between any two
steps. The faults are drawn from the `weakenings`. The invariants must hold in spite of them:

====  ==================================================================================================================
I1    at most one accepted job for an intended move
I2    at most one copy for an intended copy, where a store exists
I3    a task succeeds only if the file's object is at its destination
I4    an only copy of a file is never destroyed, except the object that an overwriting export replaces if no check could
      show that another file is an alias of it
I5    a task that fails names what is or may be in flight, and a retry finds it
I6    every schedule ends
I7    at most 4 submissions of an export in a try, and at most 50 requests besides polls and lists of jobs
====  ==================================================================================================================

A schedule that violates an invariant is reduced to the smallest one that still does, and printed. To run it again::

    SEEDS=123:124 python -m pytest tests/faults/test_simulation.py
"""

from __future__ import annotations

import logging
import random
import re
import sys
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.faults.airflow import SimAirflow, SimTask, SimulatedOperator
from tests.faults.network import Process
from tests.faults.platform import SimFile, SimObject, Violation
from tests.faults.weakenings import CLOCK_SKEW, GATEWAY, LIST_LAG, READ_LAG, WEAKENINGS

SMALL_BULK_LIMIT = 3
RECORD_PAGE = 2
OTHER = "9" * 24
BULK_SHARE = 0.1
_FIGURES = ("schedules", "success", "failed", "most submissions", "most requests", "violations")
# Errors of Airflow or the Platform, which say nothing about an export.
_GOES_ON = re.compile("cannot cancel")
_IS_BAD = re.compile(" +(FAILED|REFUSED)")
_IN_TROUBLE = re.compile("does not answer|trouble|Bad Gateway|^refused")
_TIME_IS_OVER = re.compile("at the end of the time|The time for this task is over")


class SimExportOperator(SimulatedOperator, SevenBridgesExportOperator):
    """The real operator in a simulated process."""


class SimBulkExportOperator(SimulatedOperator, SevenBridgesBulkExportOperator):
    """The real operator in a simulated process."""


SINGLE_OPERATOR = SimExportOperator(task_id="one", file="", volume="", location="", poll_interval=20)
BULK_OPERATOR = SimBulkExportOperator(task_id="many", exports=[], poll_interval=20)


class World(SimAirflow):
    """A schedule and its invariants."""

    process_class = Process
    kind = EXPORT
    incidents = (
        *SimAirflow.incidents,
        ("others export too", "rival"),
        ("files are deleted", "delete_file"),
        ("copies are replaced", "replace_copy"),
    )

    def __init__(self, seed, *, off=frozenset(), only=None, dropped=frozenset(), many=None):
        super().__init__(seed, off, only, dropped)
        drawn = self.draw.random() < BULK_SHARE
        self.many = drawn if many is None else many
        self.weakened: dict[str, set[str]] = defaultdict(set)
        self.changed_by_others: set[str] = set()
        """files that others deleted, or whose copies others replaced"""
        self.lost_to_another_task: set[str] = set()
        self.is_disturbed = False
        self._checked_version = -1
        self._checked_jobs = self._checked_completed = self._checked_destroyed = 0
        self.accepts_nothing = "the Platform accepts nothing" in self.on
        self.past = random.Random(f"{seed}: what was there before")
        self.intents = self._draw_intents()
        self._add_existing_objects()
        self._draw_tasks()
        if {"clocks differ", "the Platform sends no date"} <= self.on:
            # One process then compares times that another wrote with another clock.
            self.weaken("the Platform sends no date", *self.platform.files)

    # Intended exports

    def _draw_intents(self):
        draw = self.draw
        names = "abcdef"[: draw.randint(2, 6)] if self.many else "a"
        intents = []
        mode = draw.random() < 0.5, draw.random() < 0.35
        is_mixed = draw.random() < 0.4
        volume = draw.choice(["o/plain", "o/prefixed"])
        for name in names:
            overwrite, copy_only = (draw.random() < 0.4, draw.random() < 0.3) if is_mixed else mode
            intents.append(
                {
                    "file": name * 24,
                    "volume": draw.choice(["o/plain", "o/prefixed"]) if is_mixed else volume,
                    "location": f"key-{name}" if draw.random() < 0.85 else f"pre/key-{name}",
                    "overwrite": overwrite,
                    "copy_only": copy_only,
                }
            )
        return intents

    def _add_existing_objects(self):
        platform, draw = self.platform, self.draw
        platform.files[OTHER] = SimFile(OTHER, draw.choice([7, 10]))
        for intent in self.intents:
            platform.files[intent["file"]] = SimFile(intent["file"], 10)
        is_crowded = draw.random() < 0.4
        for number, intent in enumerate(self.intents):
            chance = draw.random() if is_crowded else 1.0
            if chance < 0.05:
                platform.archived.add(intent["file"])
            elif chance < 0.4:
                self._put_existing_object(f"{number + 1:024x}", intent, is_move=draw.random() < 0.5)
                if "objects are locked" in self.on:
                    platform.locked.add(self.key(intent))
            elif chance < 0.6:
                # Moved before, to its destination or to another one.
                place = intent if draw.random() < 0.5 else {**intent, "location": f"pre/{intent['location']}"}
                self._put_existing_object(intent["file"], place, is_move=True)
                if place is not intent and draw.random() < 0.5:
                    # The object at the destination may have the same size as the file.
                    self._put_existing_object(f"{number + 31:024x}", intent, is_move=False)
        others = draw.choice([0, 0, 0, 0, 5, 25])
        if {"jobs jump", "lists have no order", "totals lie"} & self.on:
            # These affect lists of several pages.
            others = 25
        for number in range(others):
            file = f"{number + 201:024x}"
            platform.files[file] = SimFile(file, 5)
            destination = {"volume": "o/plain", "location": f"noise{number}"}
            platform.accept(
                {"source": {"file": file}, "destination": destination, "overwrite": False}, True, is_noise=True
            )

    def _put_existing_object(self, file, place, *, is_move):
        """Put an object of a file at a destination, like an earlier export."""
        platform = self.platform
        known = platform.files.setdefault(file, SimFile(file, self.draw.choice([7, 10])))
        key = self.key(place)
        platform.put(key, SimObject(file, known.size, file if is_move else None))
        if is_move:
            known.alias_key = key
            known.alias = (place["volume"], key if platform.includes_prefix else place["location"])
        if self.past.random() < 0.4:
            platform.add_history(known, place, not is_move)
        elif not is_move and self.past.random() < 0.5:
            self._import_existing_object(place, key)

    def _import_existing_object(self, place, key):
        """Add an alias of an object, like an import of the token's user."""
        platform, found = self.platform, self.platform.objects[key]
        alias = SimFile(f"{len(platform.imports) + 301:024x}", found.size, key)
        alias.alias = (place["volume"], key if platform.includes_prefix else place["location"])
        platform.files[alias.id] = alias
        found.only_copy_of = alias.id
        platform.imports.append((place["volume"], place["location"], alias.id))

    def _draw_tasks(self):
        draw = self.draw
        fields = {
            "deferrable": draw.random() < 0.5,
            "timeout": draw.choice([None] * 9 + [700]),
            "retries": draw.choice([0, 1, 2, 3, 3]),
        }
        fields["overwrite_aliased"] = self.past.random() < 0.1
        if self.many:
            fields["max_active"] = draw.choice([1, 2, 4, 1000])
            fields["on_error"] = draw.choice(["fail_at_end", "fail_at_end", "fail_fast", "report"])
        else:
            fields["wait_for_completion"] = draw.random() < 0.9
        operator = object.__new__(SimBulkExportOperator if self.many else SimExportOperator)
        operator.__dict__.update((BULK_OPERATOR if self.many else SINGLE_OPERATOR).__dict__)
        operator.__dict__.update(fields)
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
                map_index=slot if are_mapped and count > 1 else -1,
            )
            for slot in range(count)
        ]
        platform = self.platform
        platform.note(
            "world",
            "seed %d: %s, store=%s, tasks=%d, lists %s, rejects %s, alias shows prefix=%s, slash=%s",
            self.seed,
            fields,
            has_store,
            count,
            platform.order,
            "in the job" if platform.rejects_in_job else "at once",
            platform.includes_prefix,
            platform.with_slash,
        )
        platform.note("world", "weakenings: %s", ", ".join(sorted(self.on)) or "none")
        for intent in self.intents:
            there = platform.objects.get(self.key(intent))
            platform.note("world", "intent: %s%s", intent, f"; {there.content} is there" if there else "")

    def _start(self, task, method, arguments):
        super()._start(task, method, arguments)
        fields = {"exports": task.intents} if self.many else task.intents[0]
        task.process.operator.__dict__.update(fields | task.fields)

    def key(self, intent):
        return self.platform.key(intent["volume"], intent["location"])

    # Faults

    def weaken(self, name, *files):
        spoils = WEAKENINGS[name].spoils
        for file in files if spoils else ():
            self.weakened[file].update(spoils)

    def change_parameters(self, task):
        """Change the task's exports: other destinations, other options, fewer exports, invalid, or as at first."""
        luck, task.changed_at = self.luck, self.platform.now
        changed = [dict(intent) for intent in self.intents]
        luck.shuffle(changed)
        how = luck.choice(["elsewhere", "otherwise", "as at first", "wrong", *(["less"] if self.many else [])])
        # Parameters with which no task can run.
        task.fields = ({"max_files": 0} if self.many else {"location": ""}) if how == "wrong" else {}
        if how == "elsewhere":
            for intent in changed[: luck.randint(1, 3)]:
                intent["location"] = f"changed-{intent['location']}"
            self.is_disturbed = True
        elif how == "otherwise":
            for intent in changed[: luck.randint(1, 3)]:
                field = luck.choice(["overwrite", "copy_only"])
                intent[field] = not intent[field]
            self.is_disturbed = True
        elif how == "less":
            del changed[: luck.randint(1, len(changed) - 1)]
        task.intents = self.intents if how == "as at first" else changed
        self.platform.note(task.name, "parameters change, %s: %s", how, [intent["location"] for intent in task.intents])

    def rival(self, _):
        """Another client exports to the same destination: another file, or the same file with other options."""
        self.is_disturbed = True
        intent, luck = self.luck.choice(self.intents), self.luck
        body = {
            "source": {"file": intent["file"]},
            "destination": self._near(intent),
            "overwrite": luck.random() < 0.2,
        }
        if luck.random() < 0.3 and not body["overwrite"]:
            self.platform.accept(body, not intent["copy_only"])
            return True
        if self.platform.files[OTHER].alias_key:
            return False
        body["source"] = {"file": OTHER}
        self.platform.accept(body, luck.random() < 0.3)
        return True

    def _near(self, intent):
        """Return the destination, or one on another volume that is the same, or resembles it."""
        volume, location = intent["volume"], intent["location"]
        if self.luck.random() < 0.3:
            if volume == "o/prefixed":
                volume, location = "o/plain", self.luck.choice([f"pre/{location}", f"pre{location}"])
            elif location.startswith("pre/"):
                volume, location = "o/prefixed", location[4:]
        return {"volume": volume, "location": location}

    def delete_file(self, _):
        """A file is deleted after its copy has completed."""
        copied = [job.file for job in self.platform.jobs if job.copy_only and job.state == "COMPLETED" and job.sent]
        if not copied:
            return False
        self.platform.files[copied[0]].deleted = True
        self.platform.version += 1
        self.changed_by_others.add(copied[0])
        self.platform.note("somebody", "deletes file %s", copied[0])
        return True

    def replace_copy(self, _):
        """Another client replaces a copy with its own object."""
        for job in self.platform.jobs:
            found = self.platform.objects.get(job.key)
            if job.copy_only and job.sent and found and found.content == job.file and not found.only_copy_of:
                self.platform.put(job.key, SimObject("theirs", self.luck.choice([7, 10]), None, self.platform.now))
                self.changed_by_others.add(job.file)
                if self.many or self.platform.objects[job.key].size == found.size:
                    # Neither jobs nor files show the etag of a copy, and a bulk task does not read its objects again.
                    self.weakened[job.file].add("I3")
                self.platform.note("somebody", "replaces the copy at %s", job.key)
                return True
        return False

    # Invariants

    def check(self):
        platform = self.platform
        if platform.version == self._checked_version:
            return
        self._checked_version = platform.version
        for job in platform.jobs[self._checked_jobs :]:
            if self._is_own(job) and not job.copy_only:
                self._check_accepted(job)
        self._checked_jobs = len(platform.jobs)
        for job in platform.completed[self._checked_completed :]:
            if self._is_own(job) and job.copy_only:
                self._check_copied(job)
        self._checked_completed = len(platform.completed)
        for job, found in platform.destroyed[self._checked_destroyed :]:
            self._check_destroyed(job, found)
        self._checked_destroyed = len(platform.destroyed)

    def _keeps_records(self, task):
        """Whether a try can read what an earlier one has submitted."""
        return task.has_store and task.record_is_kept and not self.tries_without_store

    @staticmethod
    def _is_own(job):
        return job.sent is not None and not job.by.endswith("proxy")

    def _check_accepted(self, job):
        own = [other for other in self.platform.jobs if (other.file, other.by) == (job.file, job.by)]
        moves = [other.id for other in own if not other.copy_only and other.state != "FAILED"]
        if len(moves) > 1 and "I1" not in self.weakened[job.file]:
            raise Violation("I1", f"{job.by} has two accepted moves of {job.file}: {moves}")

    def _check_copied(self, job):
        [task] = [task for task in self.tasks if task.name == job.by]
        copies = [
            other.id
            for other in self.platform.completed
            if other.copy_only and (other.file, other.by, other.key) == (job.file, job.by, job.key)
        ]
        can_know = self._keeps_records(task)
        allowed = 1 + task.clears + self.cleared_at_last
        # A copy is made again if others replaced or deleted it, or if no list shows it.
        is_weakened = "I2" in self.weakened[job.file] or job.file in self.changed_by_others or self.is_disturbed
        is_weakened = is_weakened or any(
            (other.key, found.content) == (job.key, job.file) and other.by != job.by
            for other, found in self.platform.destroyed
        )
        if len(copies) > allowed and can_know and not is_weakened and self.platform.lists_are_readable:
            raise Violation("I2", f"{job.by} has made {len(copies)} copies of {job.file}, {allowed} allowed: {copies}")

    def _check_destroyed(self, job, found):
        if not found.only_copy_of:
            return
        if "I4" in self.weakened[job.file] or not job.sent:
            self.lost_to_another_task.add(found.only_copy_of)
            return
        snapshot = job.sent.snapshot
        if found.only_copy_of == job.file:
            if not self._replaced_by_a_concurrent_task(job, found):
                raise Violation("I4", f"{job.id} destroyed the only copy of its own file")
            self.lost_to_another_task.add(job.file)
            return
        if self._could_be_known(job, found.only_copy_of, found.made):
            raise Violation("I4", f"{job.id} destroyed what {found.only_copy_of}, a visible file, is an alias of")
        # The object of the first check may be replaced, and no client can know of one written after its check.
        is_named = found.made <= self._first_check_of_object(job.sent)
        is_unseen = snapshot.object_there and found.made >= snapshot.object_at - READ_LAG
        if not (is_named or is_unseen):
            raise Violation(
                "I4", f"{job.id} destroyed the only copy of {found.only_copy_of}, which was written meanwhile"
            )
        self.lost_to_another_task.add(found.only_copy_of)

    def _could_be_known(self, job, file, made):
        """Whether the check before a submission could see that a file is an alias of the object that it overwrites."""
        [task] = [task for task in self.tasks if task.name == job.by]
        checked_at = job.sent.snapshot.listed_at
        if task.operator.overwrite_aliased or made > checked_at:
            return False
        if any(alias == file for *_, alias in self.platform.imports):
            return True
        return self.platform.lists_are_readable and any(
            (other.file, other.key, other.copy_only) == (file, job.key, False)
            and other.ends + (other.lag if "lists lag" in self.on else 0.0) <= checked_at
            for other in self.platform.completed
        )

    def _first_check_of_object(self, sent):
        """Return when a task checked the object before the first submission that may have been accepted."""
        [task] = [task for task in self.tasks if task.name == sent.by]
        place = sent.body["destination"]
        check_times = [
            other.snapshot.object_at
            for other in task.sent
            if (other.file, other.body["destination"]) == (sent.file, place)
            and not other.is_rejected
            # A change of the parameters makes a new intent.
            and other.at >= task.requested_since
            and other.at > task.changed_at
            and (other.process is sent.process or self._keeps_records(task))
        ]
        return min(check_times, default=sent.snapshot.object_at)

    def _replaced_by_a_concurrent_task(self, job, found):
        """Whether another task moved the job's file at a time when its lists could not show it.

        Two tasks overwrite the same destination with the same file, which no client can detect. See
        docs/exporting-once.md.
        """
        snapshot = job.sent.snapshot
        movers = [
            other
            for other in self.platform.jobs
            if (other.file, other.key, other.copy_only, other.state) == (job.file, job.key, False, "COMPLETED")
        ]
        lag = LIST_LAG if "lists lag" in self.on else 0.0
        return (
            bool(movers)
            and movers[-1].by != job.by
            and movers[-1].started >= snapshot.listed_at - lag
            and snapshot.object_there
        )

    def _was_fulfilled(self, intent, since):
        """Whether the export was complete at any time since then."""
        if intent["file"] in self.lost_to_another_task or "I3" in self.weakened[intent["file"]]:
            return True
        key = self.key(intent)
        is_alias = self.platform.files[intent["file"]].alias_key == key
        return self.platform.has_contained(key, intent["file"], since) and (intent["copy_only"] or is_alias)

    def _was_replaced(self, intent, before):
        """Whether a job that lists show replaced the copy with another file's object before that time."""
        if intent["file"] in self.lost_to_another_task:
            return False
        key = self.key(intent)
        there = [job for job in self.platform.completed if job.key == key and job.ends < before - LIST_LAG]
        return (
            bool(there)
            and there[-1].file != intent["file"]
            and not self.platform.has_contained(key, intent["file"], before)
        )

    def _passes_for_the_copy(self, intent):
        """Whether another export has replaced a copy by an object of its size, and lists cannot show that."""
        found, size = self.platform.objects.get(self.key(intent)), self.platform.files[intent["file"]].size
        is_hidden = intent["copy_only"] and not self.platform.lists_are_readable
        return is_hidden and found is not None and found.size == size

    def check_ended_try(self, process, state, value):
        task = process.task
        if state == "success":
            self._check_success(task, process.operator, value)
            self._check_omitted_exports(process, value)
        else:
            self._check_messages(process, value)
            if "time to wait" in value or "time for this task" in value:
                self._check_time(task, process.operator)
            if state == "failed" or task.state == "failed":
                self._check_failure(process, value)

    def _check_success(self, task, operator, result):
        missing = [
            intent
            for intent in task.intents
            if not (self._was_fulfilled(intent, task.requested_since) and not self._was_replaced(intent, task.began))
            and not self._passes_for_the_copy(intent)
        ]
        if not self.many:
            if result["state"] == "COMPLETED" and missing:
                raise Violation("I3", f"{task.name} succeeds, but {missing} is not complete")
            if result["state"] not in ("COMPLETED", *(() if operator.wait_for_completion else ("PENDING", "RUNNING"))):
                raise Violation("I3", f"{task.name} succeeds with state {result['state']}")
            return
        bad = {each["file"] for each in result["errors"]}
        missing = [intent for intent in missing if intent["file"] not in bad]
        if missing:
            raise Violation("I3", f"{task.name} succeeds, but {missing} is not complete")
        if result["total"] != len(task.intents) and "parameters change" not in self.on:
            raise Violation("I3", f"{task.name} succeeds for {result['total']} of {len(task.intents)} files")
        if bad and operator.on_error != "report":
            raise Violation("I3", f"{task.name} succeeds although {bad} failed")

    def _check_omitted_exports(self, process, result):
        """Check that the result or the warnings name each known export in flight that the task does not wait for."""
        task = process.task
        if not (self.many or process.operator.wait_for_completion):
            return
        messages = "\n".join([*task.messages, str(result)])
        for sent in task.sent:
            # A later try may have overwritten the record of what a process sent that Airflow had declared dead.
            is_known = sent.process is process or (self._keeps_records(task) and not sent.by_the_dead)
            goes_on = sent.answered and sent.job.in_flight and not self._is_already_fulfilled(sent)
            if goes_on and is_known and sent.job.id not in messages:
                raise Violation(
                    "I5", f"{task.name} succeeds and does not name {sent.job.id} of {sent.file}, which is in flight"
                )

    def _check_messages(self, process, text):
        """Check that the error or the warnings name each export that is or may be in flight, and do not deny it."""
        task = process.task
        messages = "\n".join([*task.messages, text])
        can_know = self._keeps_records(task) and task.record_was_read
        for sent in task.sent:
            goes_on = sent.on_its_way or (sent.job is not None and sent.job.in_flight)
            if not goes_on or (sent.try_number != task.try_number and not can_know):
                continue
            if self._is_given_up(task, sent):
                continue
            if sent.is_denied and _IN_TROUBLE.search(text):
                # The task treats it as rejected, and fails because of another error.
                continue
            if self._is_already_fulfilled(sent) or (not task.record_was_read and sent.process is not process):
                continue
            # The process that got the response may have died before it wrote the record.
            is_known = sent.answered and sent.process is process
            is_named = (sent.job and sent.job.id in messages) or (not is_known and sent.file in messages)
            if not task.record_is_kept and sent.process is not process:
                # The task cannot know which; it must say that exports may be in flight.
                is_named = is_named or "continue" in messages
            what = sent.job.id if sent.job else "a request"
            if not is_named:
                raise Violation("I5", f"{task.name} fails and does not name {what} of {sent.file}: {text}")
            denials = [
                line for line in text.splitlines() if sent.file in line and "nothing was submitted" in line.lower()
            ]
            if any(not sent.job or sent.job.id not in line for line in denials):
                raise Violation("I5", f"{task.name} says that nothing was submitted while {what} is in flight: {text}")

    def check_stopped_task(self, process):
        """Check that the log of a stopped task says what stays in flight, because the API has no cancel."""
        for sent in process.task.sent:
            goes_on = sent.on_its_way or (sent.job is not None and sent.job.in_flight)
            goes_on = goes_on and not self._is_given_up(process.task, sent)
            # A task that adopted a copy has ended its work, even if others have replaced the copy since.
            is_done = self._is_already_fulfilled(sent, since=sent.at)
            is_known = sent.process is process and not sent.is_denied and not is_done
            if goes_on and is_known and not any(_GOES_ON.search(line) for line in process.task.messages):
                raise Violation(
                    "I5",
                    f"{process.name} is stopped, and its log does not say that an export is in flight: {sent.file}",
                )

    def _is_given_up(self, task, sent):
        """Whether a request is later than any bound: the next one shows that it was taken for not accepted."""
        is_late = sent.on_its_way or (sent.job and not sent.answered and sent.job.started > sent.at + GATEWAY)
        return is_late and any(other.file == sent.file and other.at > sent.at + GATEWAY for other in task.sent)

    def _is_already_fulfilled(self, sent, since=None):
        """Whether the export of a submission is complete, or was at any time since then."""
        place = sent.body["destination"]
        intent = {"file": sent.file, "copy_only": sent.copy_only, **place}
        return self._was_fulfilled(intent, self.platform.now if since is None else since)

    def _check_time(self, task, operator):
        """Check that the time-out is counted from the submission, for a bulk task from the start of the first try."""
        jobs = [] if self.many else [sent.job for sent in task.sent if sent.job]
        starts = [job.started for job in jobs] or [task.requested_since]
        tolerance = 60.0
        if operator.deferrable or "the Platform sends no date" in self.on:
            # The trigger compares a time with another machine's clock.
            tolerance += 2 * CLOCK_SKEW if "clocks differ" in self.on else 0.0
        waited = self.platform.now - min(starts)
        if waited < operator.timeout - tolerance:
            raise Violation("I5", f"{task.name} times out after {waited:.0f} s")

    def _check_failure(self, process, text):
        task = process.task
        if not (task.record_is_kept or task.operator.retries):
            # It cannot know, and says so; there is no retry that would check.
            return
        if task.fields or _IN_TROUBLE.search(text) or any(sent.is_denied for sent in task.sent):
            return
        if _TIME_IS_OVER.search(text):
            # A time-out says nothing about the export: a triggerer whose clock is ahead may end the wait early.
            return
        for intent in task.intents:
            if intent["file"] in self.lost_to_another_task or not self._must_know_it_is_fulfilled(process, intent):
                continue
            lines = [text]
            if self.many:
                lines = [line for line in text.splitlines() if intent["file"] in line and _IS_BAD.match(line)]
            # Another task may make the move after this task has read the file, and before it fails.
            is_overtaken = len(self.tasks) > 1 or self.is_disturbed
            if lines and not is_overtaken:
                raise Violation("I5", f"{task.name} fails permanently although {intent} is complete: {text}")

    def _must_know_it_is_fulfilled(self, process, intent):
        """Whether an export is complete and the task is able to know it."""
        task, key, file = process.task, self.key(intent), intent["file"]
        if not intent["copy_only"]:
            alias = self.platform.files[file]
            # The move may be made between the last check and the end of the task.
            return alias.alias_key == key and alias.shown_from <= process.files_read_at
        if not (self._keeps_records(task) and self.platform.lists_are_readable) or "I2" in self.weakened[file]:
            return False
        found = self.platform.objects.get(key)
        # After a clear the copy is to be made again: one that was requested before is not what the task wants.
        earlier = {sent.job.id for sent in task.sent if sent.job and sent.at < task.requested_since}
        return (
            found is not None
            and found.content == file
            and any(
                (job.by, job.file, job.key, job.copy_only) == (task.name, file, key, True)
                and job.started >= task.requested_since
                and job.id not in earlier
                and job.ends <= process.listed_at
                for job in self.platform.completed
            )
        )

    def check_all_fulfilled(self):
        """Check that every possible export is complete after the last clear."""
        platform = self.platform
        if self.is_disturbed or self.accepts_nothing or len(self.tasks) > 1 or not platform.lists_are_readable:
            return
        free = [intent for intent in self.intents if self._is_free(intent)]
        operator, task = self.tasks[0].operator, self.tasks[0]
        if operator.timeout:
            return
        if self.many and operator.on_error == "fail_fast" and len(free) < len(self.intents):
            return
        for intent in free:
            if not self._was_fulfilled(intent, 0.0):
                raise Violation("I5", f"{intent} is not complete although there are no more faults: {task.error}")

    def _is_free(self, intent):
        """Whether an export can complete after any faults; an overwriting move that stays in doubt is not submitted."""
        file = self.platform.files[intent["file"]]
        found = self.platform.objects.get(self.key(intent))
        is_taken = found is not None and found.content != file.id
        is_elsewhere = file.alias_key is not None and (intent["copy_only"] or file.alias_key != self.key(intent))
        doubt_stays = intent["overwrite"] and not intent["copy_only"]
        can_be = (
            file.id not in self.platform.archived
            and file.id not in self.changed_by_others
            and "jobs fail" not in self.on
        )
        return can_be and not (is_taken or is_elsewhere or doubt_stays)


# Running and reducing schedules


class Clock:
    """Replaces ``time`` in the package: the clock of the current process."""

    def __init__(self):
        self.world = None

    def time(self):
        process = self.world.running
        return self.world.platform.now + (process.skew if process else 0.0)

    def monotonic(self):
        return self.world.platform.now

    def sleep(self, seconds):
        self.world.running.sleep(seconds)


def simulated_clock(patch):
    """Replace the clock and the log in all modules, and reduce the limit of bulk calls."""
    clock = Clock()
    log = SimpleNamespace(
        **{
            level: lambda *arguments, level=level, **more: getattr(clock.world.running.log, level)(*arguments, **more)
            for level in ("debug", "info", "warning", "error", "exception")
        }
    )
    for name, module in list(sys.modules.items()):
        if name.startswith("airflow_sb_provider."):
            if getattr(module, "time", None) is time:
                patch(module, "time", clock)
            if isinstance(getattr(module, "log", None), logging.Logger):
                patch(module, "log", log)
            if hasattr(module, "BULK_LIMIT"):
                patch(module, "BULK_LIMIT", SMALL_BULK_LIMIT)
    patch("airflow_sb_provider.operators.state_store.PAGE", RECORD_PAGE)
    patch("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
    for module in ("tenacity", "tenacity.nap"):
        patch(sys.modules[module], "time", clock)
    return clock


def run(seed, clock, *, world_class=World, **options):
    """Run a schedule, and return its world and the violation, if any."""
    clock.world = world = world_class(seed, **options)
    try:
        world.run()
    except Violation as violation:
        return world, violation
    except Exception as problem:
        problem.add_note(f"replay with SEEDS={seed}:{seed + 1}\n{trace(world)}")
        raise
    return world, None


def shrink(seed, invariant, clock, *, off=frozenset(), **options):
    """Return the smallest world that violates the same invariant, with as few weakenings and faults as possible."""
    dropped = frozenset()
    world, violation = run(seed, clock, off=off, **options)

    def breaks_when(**less):
        smaller, problem = run(seed, clock, **options, **less)
        return (smaller, problem) if problem and problem.invariant == invariant else None

    is_smaller = True
    while is_smaller:
        is_smaller = False
        for name in sorted(world.on - off):
            if found := breaks_when(off=off | {name}, dropped=dropped):
                world, violation = found
                off, is_smaller = off | {name}, True
        for number in range(1, world.fired + 1):
            if number not in dropped and (found := breaks_when(off=off, dropped=dropped | {number})):
                world, violation = found
                dropped, is_smaller = dropped | {number}, True
    return world, violation


def trace(world):
    """Return the history of a schedule, with times in seconds since its start."""
    lines = [
        f"{at:8.1f}  {who:9} {text % arguments if arguments else text}"
        for at, who, text, arguments in world.platform.history
    ]
    # An id consists of one repeated letter; print the letter.
    return re.sub(r"\b([0-9a-f])\1{23}\b", r"\1", "\n".join(lines))


def survey(seeds, clock, **options):
    """Run a schedule for each seed, and return the total figures and the first violation with its smallest schedule."""
    figures: Counter[str] = Counter()
    first = None
    for seed in seeds:
        world, violation = run(seed, clock, **options)
        if violation:
            print(f"\nseed {seed}: {violation}", flush=True)
        if violation and not first:
            smallest, first = shrink(seed, violation.invariant, clock, **options)
            first.add_note(f"replay with SEEDS={seed}:{seed + 1}\n{trace(smallest)}")
        ends = Counter(task.state for task in world.tasks if task.state in ("success", "failed"))
        most = {"most submissions": world.most_posts, "most requests": round(world.most_requests)}
        add(figures, Counter({"schedules": 1, "violations": int(violation is not None)}) + ends | Counter(most))
    return figures, first


def add(figures, more):
    """Add figures; of those that begin with "most", keep the maximum."""
    for name, number in more.items():
        figures[name] = max(figures[name], number) if name.startswith("most") else figures[name] + number


def format_figures(figures):
    """Return the figures on one line."""
    return ", ".join(f"{figures[name]:,} {name}" for name in _FIGURES)
