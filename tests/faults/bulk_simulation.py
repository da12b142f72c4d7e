"""One seed, one schedule of a bulk export: the real operator and its ledger in a world that is simulated.

As `simulation` does for one file, but a hundred is three, a page of the ledger two, and the Platform may also answer
a call short or swapped, do half of it, refuse one item or all, while the list of exports may change between tries.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from airflow_sb_provider.exports.batch import IN_DOUBT

from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import (
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesReplyLost,
    SevenBridgesServerError,
)
from airflow_sb_provider.hooks.retry import settle
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.faults.airflow import GATEWAY, RETRIES, InProcess, SimAirflow, SimProcess, SimTask
from tests.faults.platform import PAGE_CAP, Look, SimFile, SimObject, SimPlatform, Violation, error

HUNDRED = 3
LEDGER_PAGE = 2
CREATE = "bulk/storage/exports/create"
# Every module that has a hundred or a page by name.
SMALL = {
    "api.calls.BULK_LIMIT": HUNDRED,
    "exports.batch.BULK_LIMIT": HUNDRED,
    "jobs.watch.BULK_LIMIT": HUNDRED,
    "jobs.poll_schedule.BULK_LIMIT": HUNDRED,
    "operators.ledger.PAGE": LEDGER_PAGE,
}
CLOCKED = (
    "operators.base",
    "operators.bulk_export",
    "engine.submitter",
    "engine.reconcile",
    "engine.polling",
    "engine.result",
    "hooks.sevenbridges",
)


class BulkPlatform(SimPlatform):
    """The simulated Platform with bulk calls and archived files."""

    def __init__(self, rng, **unknowns):
        super().__init__(rng, **unknowns)
        self.archived: set[str] = set()

    def submit(self, body, copy_only, by, look=None):
        if body["source"]["file"] in self.archived:
            return 9006
        return super().submit(body, copy_only, by, look)

    def submit_all(self, items, copy_only, by, looks):
        """Accept or refuse each, and return the items of the answer."""
        told = [self.submit(item, copy_only, by, look) for item, look in zip(items, looks, strict=True)]
        return [{"error": error(each)} if isinstance(each, int) else {"resource": self.job_json(each)} for each in told]


class SimOperator(InProcess, SevenBridgesBulkExportOperator):
    """The real operator in a simulated process."""


@dataclass
class Task(SimTask):
    """A task instance, and what has been checked of what it believes."""

    exports: list[dict[str, Any]] = field(default_factory=list)
    claims: set[tuple[int, str, str]] = field(default_factory=set)


class Process(SimProcess):
    """A process whose requests the simulated Platform answers."""

    def __init__(self, world, task, *given):
        super().__init__(world, task, *given)
        self.operator.exports = task.exports
        self.looked_at = 0.0
        self.objects_seen: dict[tuple[str, str], bool] = {}

    def send(self, call):
        try:
            return self._send(call)
        except SevenBridgesError as failure:
            raise settle(call, failure) from failure

    def _send(self, call):
        world, platform = self.world, self.world.platform
        self.give_way(f"before {call.method} {call.path}")
        query = dict(call.query)
        if call.path == CREATE:
            body = self._create(call, query.get("copy_only") == "true")
        elif world.reads_fail():
            raise SevenBridgesServerError(502, message="trouble")
        else:
            if call.path == "storage/exports" and ("state", "PENDING") in call.query and query["offset"] == "0":
                self.looked_at = platform.now
            status, body = platform.answer(call, self.task.name, None)
            if call.path.endswith("/object"):
                volume = call.path.removeprefix("storage/volumes/").removesuffix("/object")
                self.objects_seen[volume, query["location"]] = status == 200
            if status != 200:
                return read_reply(call, status, {}, json.dumps(body).encode())
        headers = {"X-Total-Matching-Query": str(body["total"])} if "total" in body else {}
        world.check()
        self.give_way(f"after {call.method} {call.path}")
        return read_reply(call, 200, headers, json.dumps(body).encode())

    def _create(self, call, copy_only):
        items = call.body["items"]
        world, platform, rng = self.world, self.world.platform, self.world.rng
        fate = world.fate_of_post()
        self.note(f"POST of {[item['source']['file'][0] for item in items]}, fate {fate}")
        looks = [self._look_for(item) for item in items]
        if fate != "never sent":
            world.count_posts(self.task, [item["source"]["file"] for item in items])
        given = (copy_only, self.task.name)
        if fate == "never sent":
            raise SevenBridgesConnectionError("refused", sent=False)
        if fate in ("error", "rate limit", "maintenance"):
            status, code = {"error": (400, 9000), "rate limit": (429, 1000), "maintenance": (503, 0)}[fate]
            self.give_way("refused as a whole")
            return self._refuse(call, status, code)
        world.unanswered += fate not in ("answered", "an item in trouble")
        done = {"not done": 0, "half": len(items) // 2, "late": 0}.get(fate.split(",")[0], len(items))
        answers = platform.submit_all(items[:done], *given, looks[:done])
        if fate.startswith("late") or fate.endswith("rest late"):
            overwrites = any(item["overwrite"] for item in items) and not copy_only
            # Where a second request could destroy something, no time is long enough to be sure.
            due = platform.now + rng.uniform(1, 1000 if overwrites else GATEWAY - 30)
            for item, look in list(zip(items, looks, strict=True))[done:]:
                platform.late.append((due, item, copy_only, self.task.name, look))
        if fate.endswith("killed"):
            self.die()
        if "lost" in fate or fate.startswith("late"):
            world.check()
            self.give_way("reply lost")
            raise SevenBridgesReplyLost("lost")
        if fate == "short":
            answers.pop()
        elif fate == "swapped":
            answers[:2] = answers[1::-1]
        elif fate == "an item in trouble":
            answers[rng.randrange(len(answers))] = {"error": {"status": 500, "code": 90004, "message": "trouble"}}
        return {"items": answers}

    def _refuse(self, call, status, code):
        body = {"status": status, "code": code, "message": "refused"}
        return read_reply(call, status, {}, json.dumps(body).encode())

    def _look_for(self, item):
        place = item["destination"]["volume"], item["destination"]["location"]
        return Look(self.looked_at, self.objects_seen.get(place, False))


class World(SimAirflow):
    """A schedule: everything that happens follows from its seed."""

    process_class = Process
    max_steps = 20_000

    def __init__(self, seed: int, clock) -> None:
        rng = random.Random(seed)
        # The product's own jitter.
        random.seed(seed)
        platform = BulkPlatform(
            rng,
            includes_prefix=rng.random() < 0.5,
            with_slash=rng.random() < 0.7,
            order=rng.choice(["newest", "oldest", "shuffled"]),
            refuse_in_job=rng.random() < 0.4,
        )
        super().__init__(rng, platform, clock, most_faults=5)
        self.lost_to_a_twin: set[str] = set()
        self.disturbed = False
        # A Platform that answers every submission with a gateway's error.
        self.hopeless = not self.calm and rng.random() < 0.02
        self._checked = 0
        self._checked_history = -1
        self.files = [character * 24 for character in "0123456789"[: rng.randint(4, 9)]]
        self.wishes = self._wishes()
        self._fill()
        has_store = rng.random() < 0.6
        settings = {
            "deferrable": rng.random() < 0.6,
            "max_active": rng.choice([1, 2, 4, 5, 1000]),
            "on_error": rng.choice(["fail_at_end", "fail_at_end", "fail_fast", "report"]),
        }
        self.tasks = [
            Task(f"task{slot}", self._operator(slot, **settings), has_store, exports=self.wishes)
            for slot in range(2 if not self.calm and rng.random() < 0.25 else 1)
        ]
        self.platform.note(
            f"seed {seed}: {settings} store={has_store} tasks={len(self.tasks)} order={self.platform.order} "
            f"in job={self.platform.refuse_in_job} prefix shown={self.platform.includes_prefix} "
            f"archived={self.platform.archived and 'yes'}"
        )
        for wish in self.wishes:
            self.platform.note(str(wish))

    def _operator(self, slot, **settings):
        return SimOperator(task_id=f"t{slot}", exports=[], timeout=None, retries=RETRIES, poll_interval=20, **settings)

    def _wishes(self):
        rng = self.rng
        uniform = (rng.random() < 0.4, rng.random() < 0.3) if rng.random() < 0.6 else None
        wishes = []
        for number, file in enumerate(self.files):
            overwrite, copy_only = uniform or (rng.random() < 0.4, rng.random() < 0.3)
            wishes.append(
                {
                    "file": file,
                    "volume": rng.choice(["o/plain", "o/prefixed"]),
                    "location": f"key{number}" if rng.random() < 0.9 else f"pre/key{number}",
                    "overwrite": overwrite,
                    "copy_only": copy_only,
                }
            )
        return wishes

    def _fill(self):
        platform, rng = self.platform, self.rng
        for file in self.files:
            platform.files[file] = SimFile(file, rng.choice([7, 10]))
        # Where nothing is in the way from the start, all must be made in the end.
        crowded = rng.random() < 0.4
        for number, wish in enumerate(self.wishes):
            chance = rng.random() if crowded else 1.0
            if chance < 0.05:
                platform.archived.add(wish["file"])
            elif chance < 0.15:
                self._occupy(f"{number + 100:024x}", wish, move=rng.random() < 0.5)
                if rng.random() < 0.3:
                    platform.locked.add(self.key(wish))
            elif chance < 0.18:
                # Moved before this batch: to where it should be, or elsewhere.
                place = wish if rng.random() < 0.5 else {**wish, "location": f"pre/{wish['location']}"}
                self._occupy(wish["file"], place, move=True)
                if place is not wish and rng.random() < 0.5:
                    # What lies at the destination may be as large as the file that lies elsewhere.
                    lookalike = f"{number + 300:024x}"
                    platform.files[lookalike] = SimFile(lookalike, platform.files[wish["file"]].size)
                    self._occupy(lookalike, wish, move=False)
        for number in range(rng.choice([0, 0, 3, 20, 30])):
            file = f"{number + 200:024x}"
            platform.files[file] = SimFile(file, 5)
            destination = {"volume": "o/plain", "location": f"noise{number}"}
            platform.submit({"source": {"file": file}, "destination": destination, "overwrite": False}, True, "noise")

    def _occupy(self, file, place, *, move):
        """Put an object of a file there, as an earlier export of it would."""
        platform = self.platform
        known = platform.files.setdefault(file, SimFile(file, self.rng.choice([7, 10])))
        key = platform.key(place["volume"], place["location"])
        platform.objects[key] = SimObject(file, known.size, file if move else None)
        if move:
            known.alias_key = key
            known.alias = (place["volume"], key if platform.includes_prefix else place["location"])

    # Faults

    def fate_of_post(self):
        if self.hopeless:
            return "not done, reply lost"
        if not self.strike(0.35):
            return "answered"
        return self.rng.choice(
            [
                "done, reply lost",
                "not done, reply lost",
                "half, reply lost",
                "half, rest late",
                "late",
                "done and killed",
                "not done, killed",
                "half, killed",
                "late and killed",
                "never sent",
                "short",
                "swapped",
                "an item in trouble",
                "error",
                "rate limit",
                "maintenance",
            ]
        )

    def reads_fail(self):
        return self.strike(0.01)

    def change_list(self, task):
        """The list of exports is another one at the next try: other order, places, fewer files, or as at first."""
        rng = self.rng
        changed = [dict(wish) for wish in self.wishes]
        rng.shuffle(changed)
        kind = rng.choice(["order", "places", "fewer", "as at first"])
        if kind == "places":
            for wish in changed[: rng.randint(1, 3)]:
                wish["location"] += "changed"
        elif kind == "fewer":
            del changed[: rng.randint(1, len(changed) - 1)]
        task.exports = self.wishes if kind == "as at first" else changed
        self.disturbed = self.disturbed or kind == "places"
        self.platform.note(f"{task.name}: the list changes, {kind}: {[wish['location'] for wish in task.exports]}")

    def lose_page(self, task):
        """A page of the ledger expires, or a person deletes it."""
        place = task.store if task.has_store else task.xcom
        pages = [key for key in place if key.startswith("sevenbridges_batch_")]
        if pages:
            page = self.rng.choice(pages)
            del place[page]
            self.platform.note(f"{task.name}: lost {page}")

    def rival(self):
        """Somebody else exports to the same place: another file, or the same one by another kind of export."""
        self.disturbed = True
        wish = self.rng.choice(self.wishes)
        destination = {"volume": wish["volume"], "location": wish["location"]}
        if self.rng.random() < 0.5 and not (wish["copy_only"] and wish["overwrite"]):
            body = {"source": {"file": wish["file"]}, "destination": destination, "overwrite": False}
            self.platform.submit(body, not wish["copy_only"], "colleague")
            return
        other = "b" * 24
        self.platform.files.setdefault(other, SimFile(other, self.rng.choice([7, 10])))
        body = {"source": {"file": other}, "destination": destination, "overwrite": False}
        if not self.platform.files[other].alias_key:
            self.platform.submit(body, False, "rival")

    # Running

    def run(self):
        self.go()
        if not any(task.state == "failed" for task in self.tasks):
            return
        # When all trouble is over, a person clears what failed.
        self.faults = 0
        for task in self.tasks:
            if task.state == "failed":
                task.exports = self.wishes
                self.clear(task)
        self.platform.now += 1000
        self.go()
        self.finish()

    def misfortune(self):
        if self.strike(0.005):
            self.rival()
        for task in self.tasks:
            if task.process and self.strike(0.01):
                self.lose_worker(task)
            elif task.clears < 2 and task.try_number and self.strike(0.004):
                self.clear(task)
            if task.state in ("scheduled", "up_for_retry") and task.try_number and self.strike(0.1):
                self.change_list(task)
            if self.strike(0.001):
                self.lose_page(task)
            if self.strike(0.001):
                self.spoil_record(task)

    def stepped(self, process):
        self._check_claims(process)

    def ended(self, process, state, value):
        if state == "success":
            self._check_success(process.task, process, value)

    # Invariants

    def check(self):
        platform = self.platform
        if len(platform.history) == self._checked_history:
            return
        self._checked_history = len(platform.history)
        for file in self.files:
            moves = [job for job in platform.jobs if job.file == file and not job.copy_only]
            if sum(job.state == "COMPLETED" for job in moves) > 1:
                raise Violation(f"{file} was moved twice")
            for task in self.tasks:
                own = [job for job in moves if job.by == task.name and job.state != "FAILED"]
                if len(own) > 1:
                    raise Violation(f"{task.name} has two moves of {file} accepted: {[job.id for job in own]}")
        for job, found in platform.destroyed[self._checked :]:
            self._checked += 1
            if found.only_copy_of == job.file:
                if not platform.by_a_twin_at_the_same_moment(job):
                    raise Violation(f"{job.id} destroyed the only copy of the file that it moves")
                self.lost_to_a_twin.add(job.file)
            elif found.only_copy_of and not job.overwrite:
                raise Violation(f"{job.id} destroyed the only copy of {found.only_copy_of}")
        for file in self.files:
            key = platform.files[file].alias_key
            if key and file not in self.lost_to_a_twin:
                found = platform.objects.get(key)
                if (found is None or found.content != file) and not self._meant_to_be_overwritten(key, file):
                    raise Violation(f"the moved file {file} has lost its object")

    def _meant_to_be_overwritten(self, key, file):
        return any(wish["overwrite"] and self.key(wish) == key for wish in self.wishes if wish["file"] != file)

    def key(self, wish):
        return self.platform.key(wish["volume"], wish["location"])

    def _is_made(self, file, volume, location, copy_only):
        key = self.platform.key(volume, location)
        found = self.platform.objects.get(key)
        if found is None or found.content != file:
            return False
        return copy_only or self.platform.files[file].alias_key == key

    def _check_claims(self, process):
        """What a task believes of an export must be so, at the moment when it comes to believe it."""
        for entry in process.operator._batch.entries if process.operator._batch else ():
            request = entry.request
            claim = process.task.try_number, request.file, entry.state
            if claim in process.task.claims or not (entry.done or entry.bad):
                continue
            process.task.claims.add(claim)
            made = self._is_made(request.file, request.volume, request.location, request.copy_only)
            if request.file in self.lost_to_a_twin:
                continue
            if entry.done and not made:
                raise Violation(f"{process.task.name} takes the {request} for made, which it is not")
            overtaken = len(self.tasks) > 1 and "was a copy" in entry.message
            if entry.bad and entry.state != IN_DOUBT and made and not request.copy_only and not overtaken:
                raise Violation(f"{process.task.name}: the {request} is made, but {entry.state}: {entry.message}")

    def _check_success(self, task, process, result):
        if result["total"] != len(task.exports):
            raise Violation(f"success for {result['total']} of {len(task.exports)} files")
        missing = [
            wish
            for wish in task.exports
            if wish["file"] not in self.lost_to_a_twin
            and not self._is_made(wish["file"], wish["volume"], wish["location"], wish["copy_only"])
        ]
        if result["state"] == "COMPLETED" and missing:
            raise Violation(f"success, but {missing} is not made")
        if result["state"] != "COMPLETED" and process.operator.on_error != "report":
            raise Violation(f"success, but the summary says {result['state']}")

    def finish(self):
        """After a clear without trouble all is made that could be."""
        readable = self.platform.order != "shuffled" or len(self.platform.jobs) <= PAGE_CAP
        if self.disturbed or self.hopeless or len(self.tasks) > 1 or not readable:
            return
        free = [
            wish
            for wish in self.wishes
            if wish["file"] not in self.platform.archived
            and not self._was_in_the_way(wish)
            # Where a second request could destroy something, doubt stays.
            and not (wish["overwrite"] and not wish["copy_only"])
        ]
        operator = self.tasks[0].operator
        if operator.on_error == "fail_fast" and len(free) < len(self.wishes):
            return
        for wish in free:
            if not self._is_made(wish["file"], wish["volume"], wish["location"], wish["copy_only"]):
                raise Violation(f"all trouble is over, but {wish} is not made: {self.tasks[0].error}")

    def _was_in_the_way(self, wish):
        found = self.platform.objects.get(self.key(wish))
        taken = found is not None and found.content != wish["file"]
        alias = self.platform.files[wish["file"]].alias_key
        return taken or (alias is not None and (wish["copy_only"] or alias != self.key(wish)))
