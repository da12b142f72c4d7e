"""One seed, one schedule: real operators against a Platform, a store, a clock and an Airflow that are simulated.

Each try of a task runs in a greenlet and gives way before and after every request, store write and XCom, so that
anything can strike between any two steps: a crash, a lost or late answer, a twin, a clear, a zombie, another file
bound for the same place. The invariants are checked after every step.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache

from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesReplyLost, SevenBridgesServerError
from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from tests.faults.airflow import GATEWAY, RETRIES, InProcess, SimAirflow, SimProcess, SimTask
from tests.faults.platform import PAGE_CAP, Look, SimFile, SimObject, SimPlatform, Violation

FILE = "a" * 24
OTHER = "b" * 24


class SimOperator(InProcess, SevenBridgesExportOperator):
    """The real operator in a simulated process."""


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


class Process(SimProcess):
    """A process whose requests the simulated Platform answers."""

    def __init__(self, *given):
        super().__init__(*given)
        self.look = Look()

    def send(self, call):
        world, platform, rng = self.world, self.world.platform, self.world.rng
        self.give_way(f"before {call.method} {call.path}")
        is_post = call.method == "POST" and call.path == "storage/exports"
        if is_post:
            fate = world.fate_of_post()
            self.note(f"POST, fate {fate}")
            if fate != "never sent":
                world.count_posts(self.task, [call.body["source"]["file"]])
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
                self.die()
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


class World(SimAirflow):
    """A schedule: everything that happens follows from its seed."""

    process_class = Process
    max_steps = 4000

    def __init__(self, seed: int, clock) -> None:
        rng = random.Random(seed)
        platform = SimPlatform(
            rng,
            includes_prefix=rng.random() < 0.5,
            with_slash=rng.random() < 0.7,
            order=rng.choice(["newest", "oldest", "shuffled"]),
            refuse_in_job=rng.random() < 0.4,
        )
        super().__init__(rng, platform, clock, most_faults=4)
        self._fill()
        volume = rng.choice(["o/plain", "o/prefixed"])
        location = "key" if rng.random() < 0.8 else "pre/key"
        self.overwrite, self.copy_only = rng.random() < 0.5, rng.random() < 0.35
        deferrable, has_store = rng.random() < 0.5, rng.random() < 0.6
        self.tasks = [
            SimTask(
                f"task{slot}", operator(slot, volume, location, self.overwrite, self.copy_only, deferrable), has_store
            )
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
        if self.copy_only and self.overwrite and rng.random() < 0.15:
            # The file was moved to this very place before.
            self.platform.objects[self.key] = SimObject(FILE, 10, FILE)
            self.platform.files[FILE].alias_key = self.key
            shown = self.key if self.platform.includes_prefix else location
            self.platform.files[FILE].alias = (volume, shown)
        if self.key in self.platform.objects and rng.random() < 0.3:
            self.platform.locked.add(self.key)
        # A Platform that answers every submission with a gateway's error.
        self.hopeless = not self.calm and rng.random() < 0.02
        self._checked = 0
        self.lost_to_a_twin = False
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

    def fate_of_post(self):
        if self.hopeless:
            return "not done, reply lost"
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

    def clear(self, task):
        super().clear(task)
        if self.rng.random() < 0.2:
            before = task.operator
            task.operator = operator(
                self.tasks.index(task), before.volume, "changed", before.overwrite, before.copy_only, before.deferrable
            )

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

    def misfortune(self):
        if self.strike(0.01):
            self.rival()
        for task in self.tasks:
            if task.process and self.strike(0.02):
                self.lose_worker(task)
            elif task.clears < 2 and task.try_number and self.strike(0.01):
                self.clear(task)
            if self.strike(0.003):
                self.spoil_record(task)

    def run(self):
        self.go()
        self.finish()

    def ended(self, process, state, value):
        if state == "success":
            self._check_success(process.task, value)
        else:
            self._check_failure(process.task, state, value)

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
                if platform.by_a_twin_at_the_same_moment(job):
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

    def _check_success(self, task, result):
        if self.lost_to_a_twin:
            return
        key = self.platform.key(task.operator.volume, task.operator.location)
        found = self.platform.objects.get(key)
        file = self.platform.files[FILE]
        if found is None or found.content != FILE:
            raise Violation("success without the right object at the destination")
        if not self.copy_only and file.alias_key != key:
            raise Violation("success of a move although the file is not an alias of the object")
        if result["state"] != "COMPLETED":
            raise Violation("success before the end")

    def _check_failure(self, task, state, error):
        key = self.platform.key(task.operator.volume, task.operator.location)
        made = self.platform.files[FILE].alias_key == key and not self.copy_only
        # A twin may make the move after this task has read the file, and before it fails.
        overtaken = len(self.tasks) > 1 and ("was a copy" in error or "has appeared there since" in error)
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
            # Without its record an overwriting copy of an earlier try is not known from one that is to be replaced.
            keeps_records = all(task.has_store for task in self.tasks) and not (
                self.tries_without_store or self.records_spoiled
            )
            # What is in flight cannot be known from a list without order on several pages: then a copy is repeated.
            readable = self.platform.order != "shuffled" or len(self.platform.jobs) <= PAGE_CAP
            if keeps_records and readable and self.copy_only and len(done) > allowed:
                raise Violation(f"{len(done)} copies were made for {allowed} wishes")
