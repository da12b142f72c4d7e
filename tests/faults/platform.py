"""A simulated Platform in memory, with its own clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from heapq import heappop, heappush
from itertools import count
from typing import Any

from tests.faults.weakenings import CLOCK_SKEW, LIST_LAG, READ_LAG

BUCKET = "bucket"
PREFIXES = {"o/plain": "", "o/prefixed": "pre"}
PAGE_CAP = 20
START = 1_000_000.0
STATUS = {0: 503, 1000: 429, 5002: 404, 9000: 400, 9006: 403, 9008: 404, 9011: 400, 9100: 503, 9105: 404, 9107: 409,
          7002: 404, 7007: 400, 7011: 400, 7013: 400, 7024: 400, 7026: 400}  # fmt: skip


class Violation(AssertionError):
    """A violated invariant."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


@dataclass(frozen=True)
class Snapshot:
    """What a process knew about a destination when it submitted an export to it."""

    listed_at: float = 0.0
    """when it started to list the exports in flight"""
    object_at: float = 0.0
    object_there: bool = False


@dataclass(eq=False)
class SimFile:
    id: str
    size: int
    alias_key: str | None = None
    alias: tuple[str, str] | None = None
    """volume and location as the API shows them"""
    shown_from: float = 0.0
    deleted: bool = False


@dataclass(eq=False)
class SimObject:
    content: str
    size: int
    only_copy_of: str | None = None
    made: float = 0.0
    shown_from: float = 0.0


@dataclass(eq=False)
class Sent:
    """One export of a submission that a task sent."""

    by: str
    try_number: int
    file: str
    copy_only: bool
    snapshot: Snapshot
    body: dict[str, Any]
    job: SimJob | None = None
    answered: bool = False
    """whether the response reached the task"""
    is_denied: bool = False
    """whether it was accepted although the response is a rejection"""
    is_rejected: bool = False
    """whether the response proves that it was not accepted"""
    on_its_way: bool = False
    by_the_dead: bool = False
    """whether Airflow had declared its process dead before"""
    process: Any = None
    at: float = 0.0


@dataclass(eq=False)
class SimJob:
    id: str
    file: str
    volume: str
    location: str
    key: str
    copy_only: bool
    overwrite: bool
    started: float
    sent: Sent | None
    runs: float
    ends: float
    lag: float
    state: str = "PENDING"
    error: int | None = None
    result: dict[str, Any] | None = None
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def by(self):
        return self.sent.by if self.sent else "somebody"

    @property
    def in_flight(self):
        return self.state in ("PENDING", "RUNNING")


class SimPlatform:
    """Files, objects and jobs. ``version`` increases with every change."""

    def __init__(self, rng, on):
        self.rng, self.on = rng, on
        self.now = START
        self.skew = rng.uniform(-CLOCK_SKEW, CLOCK_SKEW) if "clocks differ" in on else 0.0
        self.includes_prefix = rng.random() < 0.5
        self.with_slash = rng.random() < 0.7
        self.order = "shuffled" if "lists have no order" in on else rng.choice(["newest", "oldest"])
        self.rejects_in_job = rng.random() < 0.4
        self.total_is = rng.choice(["missing", "more"]) if "totals lie" in on else "true"
        self.files: dict[str, SimFile] = {}
        self.objects: dict[str, SimObject] = {}
        self.contents: dict[str, list[tuple[float, str | None]]] = {}
        """by key, the file whose object is there from each time on"""
        self.jobs: list[SimJob] = []
        self.by_id: dict[str, SimJob] = {}
        self.completed: list[SimJob] = []
        self.imports: list[tuple[str, str, str]] = []
        """volume and location of the objects that were imported, and their aliases, from before the start"""
        self.destroyed: list[tuple[SimJob, SimObject]] = []
        self.history: list[tuple[float, str, str, tuple[Any, ...]]] = []
        self.locked: set[str] = set()
        """keys of objects that cannot be deleted, because of an object lock or a policy"""
        self.archived: set[str] = set()
        self.version = 0
        self.open = 0
        """the number of submissions that are on their way and of jobs in flight"""
        self._events: list[tuple[float, int, str, Any]] = []
        self._number = count()

    def note(self, who, text, *arguments):
        self.history.append((self.now - START, who, text, arguments))

    def key(self, volume, location):
        prefix = PREFIXES[volume]
        return f"{prefix}/{location}" if prefix and self.with_slash else prefix + location

    @property
    def lists_are_readable(self):
        """Whether lists show all exports in flight."""
        return self.total_is == "true" and (
            len(self.jobs) <= PAGE_CAP or not {"jobs jump", "lists have no order"} & self.on
        )

    # Time

    @property
    def next_at(self):
        return self._events[0][0] if self._events else None

    def at(self, time, what, item):
        heappush(self._events, (time, next(self._number), what, item))
        self.version += 1

    def advance(self, now):
        """Advance the clock, and process the events that are due."""
        while self._events and self._events[0][0] <= now:
            due, _, what, item = heappop(self._events)
            self.now = max(self.now, due)
            self.version += 1
            if what == "arrives":
                item.on_its_way = False
                self.open -= 1
                answer = self.submit(item)
                self.note("Platform", "the late request was %s", answer if isinstance(answer, int) else answer.id)
            elif what == "again":
                self.submit(type(item)(**{**vars(item), "by": f"{item.by}'s proxy", "job": None}))
            elif what == "runs":
                self.run(item)
            else:
                self.end(item)
        self.now = max(self.now, now)

    def send_late(self, sent, seconds):
        sent.on_its_way = True
        self.open += 1
        self.at(self.now + seconds, "arrives", sent)

    # Submissions

    def submit(self, sent) -> SimJob | int:
        """Accept an export and return its job, or return the error code of the rejection."""
        sent.job = answer = self.accept(sent.body, sent.copy_only, sent)
        if isinstance(answer, int):
            sent.job = None
        return answer

    def accept(self, body, copy_only, sent=None, *, is_noise=False):
        file = self.files[body["source"]["file"]]
        volume, location = body["destination"]["volume"], body["destination"]["location"]
        key, overwrite = self.key(volume, location), body["overwrite"]
        if file.deleted:
            return 5002
        if file.id in self.archived or (file.alias_key and not self.rejects_in_job):
            return 9006
        if key in self.objects and not overwrite and not self.rejects_in_job:
            return 9107
        rng = self.rng
        runs = self.now + (rng.uniform(0, 3) if rng.random() < 0.3 else rng.uniform(1, 60))
        ends = runs + (rng.uniform(0, 3) if rng.random() < 0.3 else rng.uniform(1, 120))
        if is_noise:
            ends += 200
        number = len(self.jobs)
        job = SimJob(
            f"job{number}", file.id, volume, location, key, copy_only, overwrite, self.now, sent, runs, ends,
            rng.uniform(5, LIST_LAG),
        )  # fmt: skip
        self.jobs.append(job)
        self.by_id[job.id] = job
        self.at(runs, "runs", job)
        self.at(ends, "ends", job)
        if not is_noise:
            self.open += 1
            how = f"{'copy' if copy_only else 'move'}{' with overwrite' if overwrite else ''}"
            self.note("Platform", "accepts %s by %s: %s of %s to %s", job.id, job.by, how, file.id, key)
        return job

    def add_history(self, file, place, copy_only):
        """Add an export that has completed before the start."""
        volume, location = place["volume"], place["location"]
        number, ended = len(self.jobs), START - 1000.0
        job = SimJob(
            f"job{number}", file.id, volume, location, self.key(volume, location), copy_only, False,
            ended - 20.0, None, ended - 10.0, ended, 0.0, "COMPLETED",
        )  # fmt: skip
        job.result = self.file_json(file, at_once=True)
        self.jobs.append(job)
        self.by_id[job.id] = job
        self.completed.append(job)

    def run(self, job):
        """Let a job run."""
        job.state = "RUNNING"

    def end(self, job):
        """End a job."""
        file = self.files[job.file]
        found = self.objects.get(job.key)
        if job.sent or not job.location.startswith("noise"):
            self.open -= 1
        if found and (not job.overwrite or job.key in self.locked):
            job.state, job.error = "FAILED", 9107
        else:
            if found:
                # An overwriting job deletes the object before it checks the source.
                self.remove(job.key)
                self.destroyed.append((job, found))
                only = f", the only copy of {found.only_copy_of}" if found.only_copy_of else ""
                self.note("Platform", "%s deletes the object at %s: %s%s", job.id, job.key, found.content, only)
            if file.deleted:
                job.state, job.error = "FAILED", 5002
            elif file.alias_key:
                job.state, job.error = "FAILED", 9006
            elif "jobs fail" in self.on and job.sent and self.rng.random() < 0.3:
                job.state, job.error = "FAILED", 9100
            else:
                self._make(job, file)
        if job.sent or job.error:
            self.note("Platform", "%s is %s %s", job.id, job.state, job.error or "")

    def _make(self, job, file):
        rng = self.rng
        late = rng.uniform(0, READ_LAG) if "objects lag" in self.on else 0.0
        made = SimObject(file.id, file.size, None if job.copy_only else file.id, self.now, self.now + late)
        self.put(job.key, made)
        if not job.copy_only:
            file.alias_key = job.key
            file.alias = (job.volume, job.key if self.includes_prefix else job.location)
            file.shown_from = self.now + (rng.uniform(0, READ_LAG) if "files lag" in self.on else 0.0)
        job.result = self.file_json(file, at_once=True)
        job.state = "COMPLETED"
        self.completed.append(job)

    def put(self, key, made):
        self.objects[key] = made
        self.contents.setdefault(key, []).append((self.now, made.content))
        self.version += 1

    def remove(self, key):
        del self.objects[key]
        self.contents.setdefault(key, []).append((self.now, None))
        self.version += 1

    def has_contained(self, key, content, since):
        """Whether the key held an object with this content at any time since then."""
        for time, held in reversed(self.contents.get(key, ())):
            if held == content:
                return True
            if time < since:
                return False
        return False

    # Reads

    def headers(self):
        return (
            {} if "the Platform sends no date" in self.on else {"Date": formatdate(self.now + self.skew, usegmt=True)}
        )

    def answer(self, call):
        """Return status, body and headers of the response to a read."""
        path = call.path
        if path == "storage/exports":
            return self._list(call.query)
        if path == "storage/imports":
            return self._list_imports(dict(call.query)["volume"])
        if path == "bulk/storage/exports/get":
            return 200, {"items": [self.job_item(each) for each in call.body["export_ids"]]}, {}
        if path == "bulk/files/get":
            return 200, {"items": [self._file_item(each) for each in call.body["file_ids"]]}, {}
        if path.startswith("files/"):
            item = self._file_item(path[6:])
            return (200, item["resource"], {}) if "resource" in item else (404, item["error"], {})
        if path.startswith("storage/exports/"):
            item = self.job_item(path[16:])
            return (200, item["resource"], {}) if "resource" in item else (404, item["error"], {})
        if path.endswith("/object"):
            volume, location = path[16:-7], dict(call.query)["location"]
            found = self.object_shown(self.key(volume, location))
            if not found:
                return 404, error(9105), {}
            details = {"size": found.size, "etag": found.content}
            return 200, {"location": location, "volume": volume, "metadata": details}, {}
        if path.startswith("storage/volumes/"):
            volume = path[16:]
            service = {"type": "S3", "bucket": BUCKET, "prefix": PREFIXES[volume]}
            return 200, {"id": volume, "access_mode": "RW", "active": True, "service": service}, {}
        raise AssertionError(f"the simulation does not implement {call.method} {path}")

    def object_shown(self, key):
        found = self.objects.get(key)
        return found if found and found.shown_from <= self.now else None

    def _list(self, query):
        states = [value for key, value in query if key == "state"]
        offset = int(dict(query)["offset"])
        lags = "lists lag" in self.on
        jobs = []
        for job in self.jobs:
            state = self._listed_as(job) if lags else job.state
            if state in states:
                jobs.append(job)
        if self.order == "newest":
            jobs.reverse()
        return self.page(jobs, offset, self.job_json)

    def page(self, jobs, offset, to_json):
        """Return a page of a list of jobs in their order, or out of it."""
        if self.order == "shuffled":
            self.rng.shuffle(jobs)
        total = len(jobs)
        if "jobs jump" in self.on and 0 < offset < total and self.rng.random() < 0.8:
            # Prefer a job that a task submitted.
            wanted = [place for place in range(offset, total) if jobs[place].sent]
            jobs.insert(0, jobs.pop(self.rng.choice(wanted or range(offset, total))))
        page = jobs[offset : offset + PAGE_CAP]
        has_next = offset + PAGE_CAP < total and self.total_is != "more"
        links = [{"rel": "next", "href": "https://sim/v2/next?x"}] if has_next else []
        headers = {} if self.total_is == "missing" else {"X-Total-Matching-Query": str(total)}
        return 200, {"items": [to_json(job) for job in page], "links": links}, headers

    def _list_imports(self, volume):
        items = [
            {
                "id": f"import{number}",
                "state": "COMPLETED",
                "source": {"volume": source, "location": location},
                "result": self.file_json(self.files[file]),
            }
            for number, (source, location, file) in enumerate(self.imports)
            if source == volume
        ]
        return 200, {"items": items, "links": []}, {}

    def _listed_as(self, job):
        """Return the state that lists show, which is the state of a while ago."""
        then = self.now - job.lag
        if job.started > then:
            return None
        if job.runs > then:
            return "PENDING"
        return "RUNNING" if job.ends > then else job.state

    def job_item(self, export_id):
        job = self.by_id.get(export_id)
        if job is None or ("jobs lag" in self.on and job.started + job.lag > self.now):
            return {"error": error(9008)}
        return {"resource": self.job_json(job)}

    def job_json(self, job):
        if body := job.bodies.get(job.state):
            return body
        data = {
            "id": job.id,
            "state": job.state,
            "source": {"file": job.file},
            "destination": {"volume": job.volume, "location": job.location},
            "overwrite": job.overwrite,
            "started_on": self._moment(job.started),
        }
        if job.error:
            data["error"] = error(job.error)
        if not job.in_flight:
            data["finished_on"] = self._moment(job.ends)
        if job.result:
            data["result"] = job.result
        job.bodies[job.state] = data
        return data

    def _moment(self, time):
        return datetime.fromtimestamp(int(time + self.skew), UTC).isoformat()

    def _file_item(self, file_id):
        file = self.files[file_id]
        return {"error": error(5002)} if file.deleted else {"resource": self.file_json(file)}

    def file_json(self, file, *, at_once=False):
        storage = {"type": "PLATFORM"}
        if file.alias and (at_once or file.shown_from <= self.now):
            storage = {"type": "VOLUME", "volume": file.alias[0], "location": file.alias[1]}
        return {"id": file.id, "name": "f", "size": file.size, "type": "file", "storage": storage}


def error(code):
    return {"status": STATUS[code], "code": code, "message": f"code {code}"}
