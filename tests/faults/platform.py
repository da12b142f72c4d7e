"""A Platform in memory with a clock of its own: what it accepts, when, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

BUCKET = "bucket"
PREFIXES = {"o/plain": "", "o/prefixed": "pre"}
PAGE_CAP = 12


class Violation(AssertionError):
    """An invariant that does not hold; the text says which."""


@dataclass(frozen=True)
class Look:
    """When a process began to look, and whether it saw an object at its destination."""

    began: float = 0.0
    object_there: bool = False


@dataclass
class SimFile:
    id: str
    size: int
    alias_key: str | None = None
    alias: tuple[str, str] | None = None
    """volume and location as the API shows them"""


@dataclass
class SimObject:
    content: str
    size: int
    only_copy_of: str | None = None


@dataclass
class SimJob:
    id: str
    file: str
    volume: str
    location: str
    key: str
    copy_only: bool
    overwrite: bool
    started: float
    by: Any = None
    look: Look | None = None
    """what its caller had seen"""
    state: str = "PENDING"
    error: int | None = None


class SimPlatform:
    """Files, objects and jobs; `check` is called after every change."""

    def __init__(self, rng, *, includes_prefix, with_slash, order, refuse_in_job):
        self.rng = rng
        self.now = 1_000_000.0
        self.includes_prefix = includes_prefix
        self.with_slash = with_slash
        self.order = order
        self.refuse_in_job = refuse_in_job
        self.files: dict[str, SimFile] = {}
        self.objects: dict[str, SimObject] = {}
        self.jobs: list[SimJob] = []
        self.late: list[tuple[float, dict, bool, Any, Look]] = []
        self.destroyed: list[tuple[SimJob, SimObject]] = []
        self.history: list[str] = []
        self.locked: set[str] = set()
        """keys of objects that cannot be deleted, by an object lock or a policy"""

    def note(self, text):
        self.history.append(f"{self.now - 1_000_000:8.1f} {text}")

    def key(self, volume, location):
        prefix = PREFIXES[volume]
        return f"{prefix}/{location}" if prefix and self.with_slash else prefix + location

    # What the API does

    def submit(self, body, copy_only, by, look=None) -> SimJob | int:
        """Accept an export and return its job, or return the code of the refusal."""
        file = self.files[body["source"]["file"]]
        volume, location = body["destination"]["volume"], body["destination"]["location"]
        key = self.key(volume, location)
        if not self.refuse_in_job:
            if file.alias_key:
                return 9006
            if key in self.objects and not body["overwrite"]:
                return 9107
        job = SimJob(
            f"job{len(self.jobs)}",
            file.id,
            volume,
            location,
            key,
            copy_only,
            body["overwrite"],
            self.now,
            by,
            look,
        )
        self.jobs.append(job)
        self.note(f"accepted {job.id} by {by}")
        return job

    def arrive(self):
        """Accept what was late and is due."""
        for entry in [entry for entry in self.late if entry[0] <= self.now]:
            self.late.remove(entry)
            answer = self.submit(*entry[1:])
            self.note(f"late acceptance: {answer if isinstance(answer, int) else answer.id}")

    def tick(self):
        """Let one job go a step."""
        going = [job for job in self.jobs if job.state in ("PENDING", "RUNNING")]
        if going:
            job = self.rng.choice(going)
            if job.state == "PENDING":
                job.state = "RUNNING"
            else:
                self._end(job)

    def _end(self, job):
        file = self.files[job.file]
        found = self.objects.get(job.key)
        if found and (not job.overwrite or job.key in self.locked):
            job.state, job.error = "FAILED", 9107
        else:
            if found:
                # Overwriting deletes first, and only then looks at the source.
                del self.objects[job.key]
                self.destroyed.append((job, found))
                self.note(f"{job.id} deletes {job.key} ({found.content}, only copy of {found.only_copy_of})")
            if file.alias_key:
                job.state, job.error = "FAILED", 9006
            else:
                self.objects[job.key] = SimObject(file.id, file.size, None if job.copy_only else file.id)
                if not job.copy_only:
                    file.alias_key = job.key
                    shown = job.location
                    if self.includes_prefix:
                        shown = job.key
                    file.alias = (job.volume, shown)
                job.state = "COMPLETED"
        self.note(f"{job.id} {job.state} {job.error or ''}")

    # What the API shows

    def answer(self, call, by, look):
        """Return (status, body) for a call."""
        path, query = call.path, dict(call.query)
        if call.method == "POST" and path == "storage/exports":
            told = self.submit(call.body, query.get("copy_only") == "true", by, look)
            return (403 if told == 9006 else 409, error(told)) if isinstance(told, int) else (200, self.job_json(told))
        if path == "storage/exports":
            return 200, self._list(call.query)
        if path == "bulk/storage/exports/get":
            return 200, {"items": [self._job_item(export_id) for export_id in call.body["export_ids"]]}
        if path == "bulk/files/get":
            return 200, {"items": [{"resource": self.file_json(self.files[i])} for i in call.body["file_ids"]]}
        if path.startswith("files/"):
            return 200, self.file_json(self.files[path.removeprefix("files/")])
        if path.endswith("/object"):
            volume = path.removeprefix("storage/volumes/").removesuffix("/object")
            found = self.objects.get(self.key(volume, query["location"]))
            if not found:
                return 404, error(9105)
            return 200, {
                "location": query["location"],
                "volume": volume,
                "metadata": {"size": found.size, "etag": found.content},
            }
        if path.startswith("storage/volumes/"):
            volume = path.removeprefix("storage/volumes/")
            service = {"type": "S3", "bucket": BUCKET, "prefix": PREFIXES[volume]}
            return 200, {"id": volume, "access_mode": "RW", "active": True, "service": service}
        raise AssertionError(f"the simulation knows no {call.method} {path}")

    def _list(self, query):
        states = [value for key, value in query if key == "state"]
        offset = int(dict(query)["offset"])
        jobs = [job for job in self.jobs if job.state in states]
        if self.order == "newest":
            jobs.reverse()
        elif self.order == "shuffled":
            self.rng.shuffle(jobs)
        page = jobs[offset : offset + PAGE_CAP]
        links = [{"rel": "next", "href": "https://sim/v2/storage/exports?x"}] if offset + PAGE_CAP < len(jobs) else []
        return {"items": [self.job_json(job) for job in page], "links": links, "total": len(jobs)}

    def _job_item(self, export_id):
        job = next((job for job in self.jobs if job.id == export_id), None)
        return {"resource": self.job_json(job)} if job else {"error": error(9008)}

    def job_json(self, job):
        started = datetime.fromtimestamp(job.started, UTC).isoformat()
        data = {
            "id": job.id,
            "state": job.state,
            "source": {"file": job.file},
            "destination": {"volume": job.volume, "location": job.location},
            "overwrite": job.overwrite,
            "started_on": started,
        }
        if job.error:
            data["error"] = error(job.error)
        if job.state == "COMPLETED":
            data["result"] = self.file_json(self.files[job.file])
        return data

    def file_json(self, file):
        storage = {"type": "PLATFORM"}
        if file.alias:
            storage = {"type": "VOLUME", "volume": file.alias[0], "location": file.alias[1]}
        return {"id": file.id, "name": "f", "size": file.size, "type": "file", "storage": storage}

    def by_a_twin_at_the_same_moment(self, job):
        """Whether a job that destroyed the only copy of its own file was asked for while a twin's was not to be seen.

        Two tasks overwrite the same place with the same file: no client can know. docs/exporting-once.md says so.
        """
        mover = next(
            (
                other
                for other in self.jobs
                if (other.file, other.state, other.copy_only) == (job.file, "COMPLETED", False)
            ),
            None,
        )
        return bool(mover) and mover.by != job.by and mover.started >= job.look.began and job.look.object_there


def error(code):
    status = {9006: 403, 9107: 409, 9008: 404, 9105: 404}[code]
    return {"status": status, "code": code, "message": f"code {code}"}
