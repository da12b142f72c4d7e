"""One seed, one schedule: real operators against a Platform, a network, clocks and an Airflow that are simulated.

A schedule has one wish for the operator of one export, or several for that of many. Each try of a task runs in a
greenlet and gives way before and after every request, store write and XCom, so that anything can strike between any two
steps. What may strike is drawn from the `weakenings`; what must hold in spite of it are the invariants:

====  ==================================================================================================================
I1    never two accepted jobs for one wished move
I2    a copy at most once per wish, where a store exists
I3    success only with this file's object at this place
I4    nobody's only copy is destroyed, but what an overwriting wish names
I5    a task that fails says truthfully what goes on or may go on, and a retry finds it
I6    always an end
I7    at most 4 submissions of an export in a try, and at most 50 requests besides polls and lists of jobs
====  ==================================================================================================================

A schedule that breaks one is printed, made as small as it can be. To see it again::

    SEEDS=123:124 python -m pytest tests/faults/test_simulation.py
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter, defaultdict
from types import SimpleNamespace

from airflow_sb_provider.api.calls import get_exports
from airflow_sb_provider.api.models import error_from_json
from airflow_sb_provider.exceptions import SevenBridgesMalformedReply
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.faults.airflow import InProcess, SimAirflow, SimTask
from tests.faults.network import FATES, Fate, Process
from tests.faults.platform import SimFile, SimObject, Violation, error
from tests.faults.weakenings import CLOCK_SKEW, GATEWAY, LIST_LAG, READ_LAG, WEAKENINGS

HUNDRED = 3
RECORD_PAGE = 2
OTHER = "9" * 24
MANY = 0.1
_FIGURES = ("schedules", "success", "failed", "most submissions", "most requests", "violations")
# Words of an error that says nothing of an export: Airflow or the Platform did not answer.
_GOES_ON = re.compile("go(es)? on")
_IS_BAD = re.compile(" +(FAILED|REFUSED)")
_IN_TROUBLE = re.compile("does not answer|trouble|Bad Gateway")
_TIME_IS_OVER = re.compile("at the end of the time|The time for this task is over")


class OneExport(InProcess, SevenBridgesExportOperator):
    """The real operator in a simulated process."""


class ManyExports(InProcess, SevenBridgesBulkExportOperator):
    """The real operator in a simulated process."""


ONE = OneExport(task_id="one", file="", volume="", location="", poll_interval=20)
MANY_AT_ONCE = ManyExports(task_id="many", exports=[], poll_interval=20)


class World(SimAirflow):
    """A schedule, and what must hold in it."""

    process_class = Process

    def __init__(self, seed, *, off=frozenset(), only=None, dropped=frozenset(), many=None):
        super().__init__(seed, off, only, dropped)
        drawn = self.draw.random() < MANY
        self.many = drawn if many is None else many
        self.excuses: dict[str, set[str]] = defaultdict(set)
        self.meddled: set[str] = set()
        """files whose copies somebody has replaced, or which somebody has deleted"""
        self.lost_to_a_twin: set[str] = set()
        self.is_disturbed = False
        self.most_posts, self.most_requests = 0, 0.0
        self._checked_version = -1
        self._checked_jobs = self._checked_completed = self._checked_destroyed = 0
        self.is_hopeless = "the Platform accepts nothing" in self.on
        self.wishes = self._draw_wishes()
        self._furnish()
        self._draw_tasks()
        if {"clocks differ", "the Platform sends no date"} <= self.on:
            # The time that one process writes and another compares is then of two clocks.
            self.excuse("the Platform sends no date", *self.platform.files)

    # Who wishes what

    def _draw_wishes(self):
        draw = self.draw
        names = "abcdef"[: draw.randint(2, 6)] if self.many else "a"
        wishes = []
        mode = draw.random() < 0.5, draw.random() < 0.35
        is_mixed = draw.random() < 0.4
        volume = draw.choice(["o/plain", "o/prefixed"])
        for name in names:
            overwrite, copy_only = (draw.random() < 0.4, draw.random() < 0.3) if is_mixed else mode
            wishes.append(
                {
                    "file": name * 24,
                    "volume": draw.choice(["o/plain", "o/prefixed"]) if is_mixed else volume,
                    "location": f"key-{name}" if draw.random() < 0.85 else f"pre/key-{name}",
                    "overwrite": overwrite,
                    "copy_only": copy_only,
                }
            )
        return wishes

    def _furnish(self):
        platform, draw = self.platform, self.draw
        platform.files[OTHER] = SimFile(OTHER, draw.choice([7, 10]))
        for wish in self.wishes:
            platform.files[wish["file"]] = SimFile(wish["file"], 10)
        is_crowded = draw.random() < 0.4
        for number, wish in enumerate(self.wishes):
            chance = draw.random() if is_crowded else 1.0
            if chance < 0.05:
                platform.archived.add(wish["file"])
            elif chance < 0.4:
                self._occupy(f"{number + 1:024x}", wish, is_move=draw.random() < 0.5)
                if "objects are locked" in self.on:
                    platform.locked.add(self.key(wish))
            elif chance < 0.6:
                # Moved before: to where it should be, or elsewhere.
                place = wish if draw.random() < 0.5 else {**wish, "location": f"pre/{wish['location']}"}
                self._occupy(wish["file"], place, is_move=True)
                if place is not wish and draw.random() < 0.5:
                    # What lies at the destination may be as large as the file that lies elsewhere.
                    self._occupy(f"{number + 31:024x}", wish, is_move=False)
        others = draw.choice([0, 0, 0, 0, 5, 25])
        if {"jobs jump", "lists have no order", "totals lie"} & self.on:
            # These matter to a list of several pages.
            others = 25
        for number in range(others):
            file = f"{number + 201:024x}"
            platform.files[file] = SimFile(file, 5)
            destination = {"volume": "o/plain", "location": f"noise{number}"}
            platform.accept(
                {"source": {"file": file}, "destination": destination, "overwrite": False}, True, is_noise=True
            )

    def _occupy(self, file, place, *, is_move):
        """Put an object of a file there, as an earlier export of it would."""
        platform = self.platform
        known = platform.files.setdefault(file, SimFile(file, self.draw.choice([7, 10])))
        key = self.key(place)
        platform.put(key, SimObject(file, known.size, file if is_move else None))
        if is_move:
            known.alias_key = key
            known.alias = (place["volume"], key if platform.includes_prefix else place["location"])

    def _draw_tasks(self):
        draw = self.draw
        fields = {
            "deferrable": draw.random() < 0.5,
            "timeout": draw.choice([None] * 9 + [700]),
            "retries": draw.choice([0, 1, 2, 3, 3]),
        }
        if self.many:
            fields["max_active"] = draw.choice([1, 2, 4, 1000])
            fields["on_error"] = draw.choice(["fail_at_end", "fail_at_end", "fail_fast", "report"])
        else:
            fields["wait_for_completion"] = draw.random() < 0.9
        operator = object.__new__(ManyExports if self.many else OneExport)
        operator.__dict__.update((MANY_AT_ONCE if self.many else ONE).__dict__)
        operator.__dict__.update(fields)
        has_store = "there is no store" not in self.on
        are_mapped = draw.random() < 0.5
        count = 2 if "tasks have twins" in self.on else 1
        self.tasks = [
            SimTask(
                f"task{slot}",
                operator,
                has_store,
                self.wishes,
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
            "in the job" if platform.refuses_in_job else "at once",
            platform.includes_prefix,
            platform.with_slash,
        )
        platform.note("world", "without: %s", ", ".join(sorted(self.on)) or "nothing")
        for wish in self.wishes:
            there = platform.objects.get(self.key(wish))
            platform.note("world", "wish: %s%s", wish, f"; {there.content} is there" if there else "")

    def _start(self, task, method, arguments):
        super()._start(task, method, arguments)
        fields = {"exports": task.wishes} if self.many else task.wishes[0]
        task.process.operator.__dict__.update(fields | task.fields)

    def key(self, wish):
        return self.platform.key(wish["volume"], wish["location"])

    # What strikes

    def excuse(self, name, *files):
        spoils = WEAKENINGS[name].spoils
        for file in files if spoils else ():
            self.excuses[file].update(spoils)

    def fate_of_submission(self, *, is_bulk):
        if self.is_hopeless:
            return None, Fate("none", "lost")
        names = [name for name in FATES if is_bulk or not name.startswith("bulk")]
        name = self.strike(0.5, *names)
        return name, self.luck.choice(FATES[name]) if name else Fate()

    def spoiled(self, items):
        """Return the items of a poll's answer, spoiled where that strikes; None if all of it is rejected."""
        if not items or not self.strike(0.2, "poll answers are spoiled"):
            return items
        items = list(items)
        number = self.luck.randrange(len(items))
        how = self.luck.choice(["null", "stateless", "left out", "shuffled", "rejected"])
        if how == "rejected":
            return None
        if how == "null":
            items[number] = None
        elif how == "stateless" and "resource" in items[number]:
            items[number] = {"resource": {**items[number]["resource"], "state": None}}
        elif how == "left out":
            del items[number]
        else:
            self.luck.shuffle(items)
        return items

    def poll_answers(self, ids):
        items = self.spoiled([self.platform.job_item(each) for each in ids])
        if items is None:
            return error_from_json(error(9008))
        try:
            return get_exports(ids).read({"items": items}, {})
        except ValueError as problem:
            return SevenBridgesMalformedReply(200, message=str(problem))

    def change(self, task):
        """The task wishes something else: elsewhere, by another kind of export, less, or what it wished at first."""
        luck, task.changed_at = self.luck, self.platform.now
        changed = [dict(wish) for wish in self.wishes]
        luck.shuffle(changed)
        how = luck.choice(["elsewhere", "otherwise", "as at first", "wrong", *(["less"] if self.many else [])])
        # What no task can be run with, such as too many files.
        task.fields = ({"max_files": 0} if self.many else {"location": ""}) if how == "wrong" else {}
        if how == "elsewhere":
            for wish in changed[: luck.randint(1, 3)]:
                wish["location"] = f"changed-{wish['location']}"
            self.is_disturbed = True
        elif how == "otherwise":
            for wish in changed[: luck.randint(1, 3)]:
                field = luck.choice(["overwrite", "copy_only"])
                wish[field] = not wish[field]
            self.is_disturbed = True
        elif how == "less":
            del changed[: luck.randint(1, len(changed) - 1)]
        task.wishes = self.wishes if how == "as at first" else changed
        self.platform.note(task.name, "its wishes change, %s: %s", how, [wish["location"] for wish in task.wishes])

    def rival(self, _):
        """Somebody else exports to the same place: another file, or the same one by another kind of export."""
        self.is_disturbed = True
        wish, luck = self.luck.choice(self.wishes), self.luck
        body = {
            "source": {"file": wish["file"]},
            "destination": self._near(wish),
            "overwrite": luck.random() < 0.2,
        }
        if luck.random() < 0.3 and not body["overwrite"]:
            self.platform.accept(body, not wish["copy_only"])
            return True
        if self.platform.files[OTHER].alias_key:
            return False
        body["source"] = {"file": OTHER}
        self.platform.accept(body, luck.random() < 0.3)
        return True

    def _near(self, wish):
        """Return the wish's place, or one on another volume that is the same or is taken for it easily."""
        volume, location = wish["volume"], wish["location"]
        if self.luck.random() < 0.3:
            if volume == "o/prefixed":
                volume, location = "o/plain", self.luck.choice([f"pre/{location}", f"pre{location}"])
            elif location.startswith("pre/"):
                volume, location = "o/prefixed", location[4:]
        return {"volume": volume, "location": location}

    def delete_file(self, _):
        """A file is deleted after its copy was made."""
        copied = [job.file for job in self.platform.jobs if job.copy_only and job.state == "COMPLETED" and job.sent]
        if not copied:
            return False
        self.platform.files[copied[0]].deleted = True
        self.platform.version += 1
        self.meddled.add(copied[0])
        self.platform.note("somebody", "deletes file %s", copied[0])
        return True

    def replace_copy(self, _):
        """Somebody replaces a copy by something of their own."""
        for job in self.platform.jobs:
            found = self.platform.objects.get(job.key)
            if job.copy_only and job.sent and found and found.content == job.file and not found.only_copy_of:
                self.platform.put(job.key, SimObject("theirs", self.luck.choice([7, 10]), None, self.platform.now))
                self.meddled.add(job.file)
                if self.many or self.platform.objects[job.key].size == found.size:
                    # Neither a job nor a file says which etag a copy had, and many are not read again.
                    self.excuses[job.file].add("I3")
                self.platform.note("somebody", "replaces the copy at %s", job.key)
                return True
        return False

    # Running

    def run(self):
        self.go()
        if not any(task.state == "failed" for task in self.tasks):
            return
        # When all trouble is over, a person clears what failed.
        self.faults = 0
        for task in self.tasks:
            if task.state == "failed":
                task.wishes, task.fields = self.wishes, {}
                task.max_tries, task.state = task.try_number + task.operator.retries, "scheduled"
                task.not_before = task.wanted_since = self.platform.now
        self.platform.note("world", "all trouble is over, and what failed is cleared")
        self.platform.advance(self.platform.now + 1000)
        self.cleared_at_last = True
        self.go()
        self._check_that_all_is_made()

    cleared_at_last = False

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
        """Whether a try can know what an earlier one has sent."""
        return task.has_store and task.record_is_kept and not self.tries_without_store

    @staticmethod
    def _is_own(job):
        return job.sent is not None and not job.by.endswith("proxy")

    def _check_accepted(self, job):
        own = [other for other in self.platform.jobs if (other.file, other.by) == (job.file, job.by)]
        moves = [other.id for other in own if not other.copy_only and other.state != "FAILED"]
        if len(moves) > 1 and "I1" not in self.excuses[job.file]:
            raise Violation("I1", f"{job.by} has two moves of {job.file} accepted: {moves}")

    def _check_copied(self, job):
        [task] = [task for task in self.tasks if task.name == job.by]
        copies = [
            other.id
            for other in self.platform.completed
            if other.copy_only and (other.file, other.by, other.key) == (job.file, job.by, job.key)
        ]
        can_know = self._keeps_records(task)
        allowed = 1 + task.clears + self.cleared_at_last
        # What somebody has replaced or deleted is made again, and so is what no list shows.
        is_excused = "I2" in self.excuses[job.file] or job.file in self.meddled or self.is_disturbed
        if len(copies) > allowed and can_know and not is_excused and self.platform.lists_are_readable:
            raise Violation("I2", f"{job.by} has made copies of {job.file} for {allowed} wishes: {copies}")

    def _check_destroyed(self, job, found):
        if not found.only_copy_of:
            return
        if "I4" in self.excuses[job.file] or not job.sent:
            self.lost_to_a_twin.add(found.only_copy_of)
            return
        look = job.sent.look
        if found.only_copy_of == job.file:
            if not self._by_a_twin_at_the_same_moment(job, found):
                raise Violation("I4", f"{job.id} destroyed the only copy of its own file")
            self.lost_to_a_twin.add(job.file)
            return
        # What was there before the first request of the wish is named; what comes after the last check nobody can know.
        is_named = found.made <= self._first_look(job.sent)
        is_unseen = look.object_there and found.made >= look.object_at - READ_LAG
        if not (is_named or is_unseen):
            raise Violation("I4", f"{job.id} destroyed the only copy of {found.only_copy_of}, which came meanwhile")
        self.lost_to_a_twin.add(found.only_copy_of)

    def _first_look(self, sent):
        """When a task looked for an object before it sent the first request for a wish that may have done something."""
        [task] = [task for task in self.tasks if task.name == sent.by]
        place = sent.body["destination"]
        looks = [
            other.look.object_at
            for other in task.sent
            if (other.file, other.body["destination"]) == (sent.file, place)
            and not other.is_rejected
            and other.at >= max(task.wanted_since, task.changed_at)
            and (other.process is sent.process or self._keeps_records(task))
        ]
        return min(looks, default=sent.look.object_at)

    def _by_a_twin_at_the_same_moment(self, job, found):
        """Whether the only copy of a job's own file was made by another while it could not be seen.

        Two tasks overwrite the same place with the same file: no client can know. docs/exporting-once.md says so.
        """
        look = job.sent.look
        movers = [
            other
            for other in self.platform.jobs
            if (other.file, other.key, other.copy_only, other.state) == (job.file, job.key, False, "COMPLETED")
        ]
        lag = LIST_LAG if "lists lag" in self.on else 0.0
        return (
            bool(movers)
            and movers[-1].by != job.by
            and movers[-1].started >= look.listed_at - lag
            and look.object_there
        )

    def _is_made(self, wish, since):
        """Whether at some time since then the wish was fulfilled."""
        if wish["file"] in self.lost_to_a_twin or "I3" in self.excuses[wish["file"]]:
            return True
        key = self.key(wish)
        is_alias = self.platform.files[wish["file"]].alias_key == key
        return self.platform.has_held(key, wish["file"], since) and (wish["copy_only"] or is_alias)

    def _was_replaced(self, wish, before):
        """Whether before that time a job that is listed put another file's object in a copy's place."""
        if wish["file"] in self.lost_to_a_twin:
            return False
        key = self.key(wish)
        there = [job for job in self.platform.completed if job.key == key and job.ends < before - LIST_LAG]
        return bool(there) and there[-1].file != wish["file"] and not self.platform.has_held(key, wish["file"], before)

    def _passes_for_the_copy(self, wish):
        """Whether another export has replaced a copy by an object of its size, and lists cannot show that."""
        found, size = self.platform.objects.get(self.key(wish)), self.platform.files[wish["file"]].size
        return wish["copy_only"] and not self.platform.lists_are_readable and found is not None and found.size == size

    def ended(self, process, state, value):
        task = process.task
        if state == "success":
            self._check_success(task, process.operator, value)
            self._check_left_out(process, value)
        else:
            self._check_words(process, value)
            if "time to wait" in value or "time for this task" in value:
                self._check_time(task, process.operator)
            if state == "failed" or task.state == "failed":
                self._check_failure(process, value)

    def _check_success(self, task, operator, result):
        missing = [
            wish
            for wish in task.wishes
            if not (self._is_made(wish, task.wanted_since) and not self._was_replaced(wish, task.began))
            and not self._passes_for_the_copy(wish)
        ]
        if not self.many:
            if result["state"] == "COMPLETED" and missing:
                raise Violation("I3", f"{task.name} succeeds, but {missing} is not made")
            if result["state"] not in ("COMPLETED", *(() if operator.wait_for_completion else ("PENDING", "RUNNING"))):
                raise Violation("I3", f"{task.name} succeeds with state {result['state']}")
            return
        bad = {each["file"] for each in result["errors"]}
        missing = [wish for wish in missing if wish["file"] not in bad]
        if missing:
            raise Violation("I3", f"{task.name} succeeds, but {missing} is not made")
        if result["total"] != len(task.wishes) and "parameters change" not in self.on:
            raise Violation("I3", f"{task.name} succeeds for {result['total']} of {len(task.wishes)} files")
        if bad and operator.on_error != "report":
            raise Violation("I3", f"{task.name} succeeds although {bad} failed")

    def _check_left_out(self, process, result):
        """What a try knows to be in flight and does not wait for any more must be in the result or the warnings."""
        task = process.task
        if not (self.many or process.operator.wait_for_completion):
            return
        said = "\n".join([*task.said, str(result)])
        for sent in task.sent:
            # A later try may have overwritten the record of what a process sent that Airflow had declared dead.
            is_known = sent.process is process or (self._keeps_records(task) and not sent.by_the_dead)
            goes_on = sent.answered and sent.job.in_flight and not self._is_there(sent)
            if goes_on and is_known and sent.job.id not in said:
                raise Violation("I5", f"{task.name} succeeds without a word of {sent.job.id} of {sent.file} in flight")

    def _check_words(self, process, text):
        """What goes on, or may, must be in the error or in the log's warnings, and must not be denied."""
        task = process.task
        said = "\n".join([*task.said, text])
        can_know = self._keeps_records(task) and task.record_was_read
        for sent in task.sent:
            goes_on = sent.on_its_way or (sent.job is not None and sent.job.in_flight)
            if not goes_on or (sent.try_number != task.try_number and not can_know):
                continue
            if sent.on_its_way and any(other.file == sent.file and other.at > sent.at + GATEWAY for other in task.sent):
                # It is later than any bound: the next request has shown that it was taken for not accepted.
                continue
            if sent.is_denied and _IN_TROUBLE.search(text):
                # It is taken for rejected, and something else ends the task.
                continue
            if self._is_there(sent) or (not task.record_was_read and sent.process is not process):
                continue
            # Whoever got the response may have ended before it wrote that down.
            is_known = sent.answered and sent.process is process
            is_named = (sent.job and sent.job.id in said) or (not is_known and sent.file in said)
            if not task.record_is_kept and sent.process is not process:
                # Nobody can know which: it must say that something may.
                is_named = is_named or "continue" in said
            what = sent.job.id if sent.job else "a request"
            if not is_named:
                raise Violation("I5", f"{task.name} fails without a word of {what} of {sent.file}: {text}")
            denials = [
                line for line in text.splitlines() if sent.file in line and "nothing was submitted" in line.lower()
            ]
            if any(not sent.job or sent.job.id not in line for line in denials):
                raise Violation("I5", f"{task.name} says that nothing was submitted while {what} goes on: {text}")

    def stopped(self, process):
        """Whoever stops a task must learn that something goes on: the API has no cancel."""
        for sent in process.task.sent:
            goes_on = sent.on_its_way or (sent.job is not None and sent.job.in_flight)
            is_known = sent.process is process and not sent.is_denied and not self._is_there(sent)
            if goes_on and is_known and not any(_GOES_ON.search(line) for line in process.task.said):
                raise Violation("I5", f"{process.name} is stopped without a word of what goes on: {sent.file}")

    def _is_there(self, sent):
        """Whether what a request was for is there already."""
        place = sent.body["destination"]
        wish = {"file": sent.file, "copy_only": sent.copy_only, **place}
        return self._is_made(wish, self.platform.now)

    def _check_time(self, task, operator):
        """The time to wait counts from the submission, of many from the start of the first try."""
        jobs = [] if self.many else [sent.job for sent in task.sent if sent.job]
        starts = [job.started for job in jobs] or [task.wanted_since]
        tolerance = 60.0
        if operator.deferrable or "the Platform sends no date" in self.on:
            # The trigger compares a moment with another machine's clock.
            tolerance += 2 * CLOCK_SKEW if "clocks differ" in self.on else 0.0
        waited = self.platform.now - min(starts)
        if waited < operator.timeout - tolerance:
            raise Violation("I5", f"{task.name} says that its time is over after {waited:.0f} s")

    def _check_failure(self, process, text):
        task = process.task
        if not (task.record_is_kept or task.operator.retries):
            # It cannot know, and says so; there is no retry that would check.
            return
        if task.fields or _IN_TROUBLE.search(text) or any(sent.is_denied for sent in task.sent):
            return
        if _TIME_IS_OVER.search(text):
            # No verdict on the wish: a triggerer whose clock is ahead ends the time early, and its last poll may fail.
            return
        for wish in task.wishes:
            if wish["file"] in self.lost_to_a_twin or not self._is_known_as_made(process, wish):
                continue
            lines = [text]
            if self.many:
                lines = [line for line in text.splitlines() if wish["file"] in line and _IS_BAD.match(line)]
            # A twin may make the move after this task has read the file, and before it fails.
            is_overtaken = len(self.tasks) > 1 or self.is_disturbed
            if lines and not is_overtaken:
                raise Violation("I5", f"{task.name} fails for good although {wish} is made: {text}")

    def _is_known_as_made(self, process, wish):
        """Whether what a task wishes is made, and it must know."""
        task, key, file = process.task, self.key(wish), wish["file"]
        if not wish["copy_only"]:
            alias = self.platform.files[file]
            # The move may be made between the last check and the end of the task.
            return alias.alias_key == key and alias.shown_from <= process.files_read_at
        if not (self._keeps_records(task) and self.platform.lists_are_readable) or "I2" in self.excuses[file]:
            return False
        found = self.platform.objects.get(key)
        return (
            found is not None
            and found.content == file
            and any(
                (job.by, job.file, job.key, job.copy_only) == (task.name, file, key, True)
                and job.started >= task.wanted_since
                and job.ends <= process.listed_at
                for job in self.platform.completed
            )
        )

    def _check_that_all_is_made(self):
        """After a clear without trouble all is made that could be."""
        platform = self.platform
        if self.is_disturbed or self.is_hopeless or len(self.tasks) > 1 or not platform.lists_are_readable:
            return
        free = [wish for wish in self.wishes if self._is_free(wish)]
        operator, task = self.tasks[0].operator, self.tasks[0]
        if operator.timeout:
            return
        if self.many and operator.on_error == "fail_fast" and len(free) < len(self.wishes):
            return
        for wish in free:
            if not self._is_made(wish, 0.0):
                raise Violation("I5", f"all trouble is over, but {wish} is not made: {task.error}")

    def _is_free(self, wish):
        """Whether a wish can be fulfilled after any trouble; where doubt stays an overwriting move is not submitted."""
        file = self.platform.files[wish["file"]]
        found = self.platform.objects.get(self.key(wish))
        is_taken = found is not None and found.content != file.id
        is_elsewhere = file.alias_key is not None and (wish["copy_only"] or file.alias_key != self.key(wish))
        doubt_stays = wish["overwrite"] and not wish["copy_only"]
        can_be = file.id not in self.platform.archived and file.id not in self.meddled and "jobs fail" not in self.on
        return can_be and not (is_taken or is_elsewhere or doubt_stays)


# Running many, and making one small


class Clock:
    """What product modules import as ``time``: the clock of the process that runs."""

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
    """Put the simulated clock and log in place of the machine's in all modules, and make what is hundreds small."""
    clock = Clock()
    log = SimpleNamespace(
        **{
            level: lambda *told, level=level, **more: getattr(clock.world.running.log, level)(*told, **more)
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
                patch(module, "BULK_LIMIT", HUNDRED)
    patch("airflow_sb_provider.operators.state_store.PAGE", RECORD_PAGE)
    patch("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
    for module in ("tenacity", "tenacity.nap"):
        patch(sys.modules[module], "time", clock)
    return clock


def run(seed, clock, **options):
    """Run a schedule and return its world, and the violation if there is one."""
    clock.world = world = World(seed, **options)
    try:
        world.run()
    except Violation as violation:
        return world, violation
    except Exception as problem:
        problem.add_note(f"replay with SEEDS={seed}:{seed + 1}\n{trace(world)}")
        raise
    return world, None


def shrink(seed, invariant, clock, *, off=frozenset(), **options):
    """Return the smallest world that breaks the same invariant: weakenings off and faults dropped one by one."""
    dropped = frozenset()
    world, violation = run(seed, clock, off=off, **options)

    def still(**less):
        smaller, problem = run(seed, clock, **options, **less)
        return (smaller, problem) if problem and problem.invariant == invariant else None

    is_smaller = True
    while is_smaller:
        is_smaller = False
        for name in sorted(world.on - off):
            if found := still(off=off | {name}, dropped=dropped):
                world, violation = found
                off, is_smaller = off | {name}, True
        for number in range(1, world.fired + 1):
            if number not in dropped and (found := still(off=off, dropped=dropped | {number})):
                world, violation = found
                dropped, is_smaller = dropped | {number}, True
    return world, violation


def trace(world):
    """Return who did what when, in seconds since the start."""
    lines = [
        f"{at:8.1f}  {who:9} {text % arguments if arguments else text}"
        for at, who, text, arguments in world.platform.history
    ]
    # An id is one letter, many times.
    return re.sub(r"\b([0-9a-f])\1{23}\b", r"\1", "\n".join(lines))


def survey(seeds, clock, **options):
    """Run a schedule for each seed; return the figures of all, and the first violation with its smallest schedule."""
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
    """Add figures, of which some are of the most that one export has cost in a try."""
    for name, number in more.items():
        figures[name] = max(figures[name], number) if name.startswith("most") else figures[name] + number


def shown(figures):
    """Return figures on one line."""
    return ", ".join(f"{figures[name]:,} {name}" for name in _FIGURES)
