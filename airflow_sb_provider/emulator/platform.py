"""The contents of the Platform, and its rules for exports. No HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from airflow_sb_provider.emulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sb_provider.emulator.apps import App
    from airflow_sb_provider.emulator.knobs import Knobs
    from airflow_sb_provider.emulator.records import RequestRecord
    from airflow_sb_provider.emulator.storage import Storage, StoredObject
    from airflow_sb_provider.emulator.tasks import Task

Resource = TypeVar("Resource")
Access = Literal["write", "read", "none"]
AnyJob = TypeVar("AnyJob", bound="Job")

CLOUDS = {"S3": "aws", "GCS": "google", "AZURE": "azure", "OSS": "ali"}
SSE_ALGORITHMS = {"AES256", "aws:kms", None}
STORAGE_CLASSES = {"STANDARD", "GLACIER", None}
CANNED_ACLS = {
    "private",
    "public-read",
    "public-read-write",
    "aws-exec-read",
    "authenticated-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
    None,
}


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass
class User:
    """The owner of a token; `access` applies to every project and volume."""

    username: str
    token: str
    access: Access = "write"


@dataclass
class Project:
    """A project; its files are below its root folder."""

    id: str
    name: str
    root_folder: str
    created_on: datetime = field(default_factory=now)


@dataclass
class Volume:
    """A volume: a customer's bucket. The API does not show `region`."""

    id: str
    bucket: str
    prefix: str = ""
    access_mode: str = "RW"
    active: bool = True
    service_type: str = "S3"
    region: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    created_on: datetime = field(default_factory=now)


@dataclass
class File:
    """A file or a folder. `alias` is the volume and location of its bytes if they are not on the Platform."""

    id: str
    name: str
    project: str
    parent: str | None
    type: Literal["file", "folder"] = "file"
    size: int = 0
    alias: tuple[str, str] | None = None
    public: bool = False
    archived: bool = False
    forbidden: bool = False
    """No user may read it, whatever their access."""
    hosted_on: tuple[str, ...] = ("aws:us-east-1",)
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    secondary: tuple[str, ...] = ()
    """Ids of its secondary files, such as an index."""
    created_on: datetime = field(default_factory=now)
    modified_on: datetime = field(default_factory=now)
    before_move: File | None = None
    """The file before a job moved it at `modified_on`."""


@dataclass(kw_only=True)
class Job:
    """What exports and tasks share. The API never shows `held` and what follows it."""

    id: str
    username: str
    state: str
    started_on: datetime = field(default_factory=now)
    """When the Platform accepted it."""
    finished_on: datetime | None = None
    error: ApiError | None = None
    held: str | None = None
    """The state in which the job stays until it is released."""
    fail_with: ApiError | None = None
    """The error with which the job will fail."""
    fail_as: str = "FAILED"
    """The terminal state if it fails; it may be one that is not documented."""
    reply_lost: bool = False
    """Whether the response to the submission was lost."""
    past_states: list[tuple[datetime, str]] = field(default_factory=list)
    """The earlier states, each with the time at which the job left it, oldest first."""

    def enter(self, state: str) -> None:
        """Change the state."""
        self.past_states.append((now(), self.state))
        self.state = state

    def as_of(self, moment: datetime) -> Self | None:
        """Return the job as of a moment; None before it was accepted."""
        if moment < self.started_on:
            return None
        past = [(left, state) for left, state in self.past_states if left <= moment]
        if len(past) == len(self.past_states):
            return self
        _, state = self.past_states[len(past)]
        return dataclasses.replace(self, state=state, past_states=past, finished_on=None, error=None)


@dataclass(kw_only=True)
class ExportJob(Job):
    """An accepted export. The API never shows `copy_only` and `username`."""

    state: str = "PENDING"
    file: str
    volume: str
    location: str
    overwrite: bool
    properties: dict[str, Any]
    copy_only: bool

    def states_listed(self, stale: bool) -> set[str]:
        """Return the states under which lists show the job."""
        if not stale or not self.past_states:
            return {self.state}
        left = self.past_states[-1][1]
        return {left, self.state} if self.finished_on else {left}


@dataclass
class ImportJob:
    """A completed import, which made an alias of an object."""

    id: str
    volume: str
    location: str
    file: str
    username: str
    finished_on: datetime = field(default_factory=now)


class Platform:
    """Users, projects, files, volumes, apps and jobs, and who may access them.

    Any thread may read. `submit` reads the storage, so it blocks.
    """

    def __init__(self, knobs: Knobs, storage: Storage) -> None:
        self.knobs = knobs
        self.storage = storage
        self.users: dict[str, User] = {}
        self.projects: dict[str, Project] = {}
        self.volumes: dict[str, Volume] = {}
        self.files: dict[str, File] = {}
        self.exports: dict[str, ExportJob] = {}
        self.imports: dict[str, ImportJob] = {}
        self.apps: dict[str, list[App]] = {}
        """All revisions of each app, oldest first."""
        self.tasks: dict[str, Task] = {}
        self.exported: dict[tuple[str, str], datetime] = {}
        """The times at which exports and tasks wrote objects, by bucket and key."""
        self._file_numbers = itertools.count(1)

    # Contents

    def add_user(self, username: str, token: str | None = None, access: Access = "write") -> User:
        """Add a user; by default with a new token of 32 hex characters."""
        user = User(username, token or secrets.token_hex(16), access)
        self.users[user.token] = user
        return user

    def add_project(self, project_id: str, name: str | None = None, root_folder: str | None = None) -> Project:
        """Add a project `owner/name` with its root folder."""
        root_folder = root_folder or self._new_file_id()
        project = Project(project_id, name or project_id.partition("/")[2], root_folder)
        self.projects[project_id] = project
        self.files[root_folder] = File(root_folder, project.name, project_id, None, "folder")
        return project

    def add_folder(self, name: str, project: str, parent: str | None = None, file_id: str | None = None) -> File:
        """Add a folder to a project, by default at its root."""
        parent = parent or self.projects[project].root_folder
        folder = File(file_id or self._new_file_id(), name, project, parent, "folder")
        self.files[folder.id] = folder
        return folder

    def folder_at(self, path: str, project: str) -> File:
        """Return the folder at a path such as `a/b` below the project's root; missing folders are created."""
        folder = self.files[self.projects[project].root_folder]
        for name in filter(None, path.split("/")):
            folders = (child for child in self.children(folder) if child.type == "folder" and child.name == name)
            folder = next(folders, None) or self.add_folder(name, project, folder.id)
        return folder

    def add_file(
        self,
        name: str,
        data: bytes,
        project: str,
        parent: str | None = None,
        file_id: str | None = None,
        alias: tuple[str, str] | None = None,
        **details: Any,
    ) -> File:
        """Add a file with its bytes, stored on the Platform or as an alias of (volume, location).

        `details` are fields of `File`: public, archived, hosted_on, tags, metadata, task, secondary.
        """
        parent = parent or self.projects[project].root_folder
        file = File(file_id or self._new_file_id(), name, project, parent, size=len(data), alias=alias, **details)
        if alias:
            volume = self.volumes[alias[0]]
            self.storage.write(volume.bucket, self.key(volume, alias[1]), data)
        else:
            self.storage.put_source(file.id, data)
        self.files[file.id] = file
        return file

    def file_bytes(self, file: File) -> bytes:
        """Return the bytes of a file, wherever they are. It blocks; raises FileNotFoundError if there are none."""
        if file.alias:
            volume = self.volumes[file.alias[0]]
            return self.storage.read(volume.bucket, self.key(volume, file.alias[1]))
        return self.storage.read_source(file.id)

    def add_app(self, app: App) -> None:
        """Add a revision of an app, which must be its newest."""
        self.apps.setdefault(app.id, []).append(app)

    def add_import(
        self, username: str, volume_id: str, location: str, project: str, name: str, parent: str | None = None
    ) -> ImportJob:
        """Import an object that is on a volume: add an alias of it, and the user's job that made it."""
        size = self.object_of(self.volumes[volume_id], location).size
        parent = parent or self.projects[project].root_folder
        file = File(self._new_file_id(), name, project, parent, size=size, alias=(volume_id, location))
        self.files[file.id] = file
        job = ImportJob(_new_job_id(), volume_id, location, file.id, username)
        self.imports[job.id] = job
        return job

    def add_volume(self, volume_id: str, bucket: str | None = None, **details: Any) -> Volume:
        """Add a volume `owner/name` on a bucket, created if it does not exist; `details` are fields of `Volume`."""
        volume = Volume(volume_id, bucket or re.sub("[^A-Za-z0-9.-]", "-", volume_id), **details)
        self.storage.make_bucket(volume.bucket)
        self.volumes[volume_id] = volume
        return volume

    def clear(self) -> None:
        """Remove everything but users, and what exports and tasks wrote. It blocks; no job may run meanwhile."""
        for bucket, key in list(self.exported):
            self.storage.delete(bucket, key)
        for file in list(self.files.values()):
            with contextlib.suppress(FileNotFoundError):
                self.storage.delete_source(file.id)
        for contents in (self.projects, self.volumes, self.files, self.exports, self.exported, self.apps, self.tasks):
            contents.clear()

    def _new_file_id(self) -> str:
        return f"5fa{next(self._file_numbers):021x}"

    # Access

    def project(self, user: User, project_id: str) -> Project:
        """Return the project; errors 3002, 3001."""
        return self.readable(user, self.projects.get(project_id), 3002, 3001)

    def file(self, user: User, file_id: str, missing: int = 5002, forbidden: int = 5001) -> File:
        """Return the file; errors `missing`, `forbidden`."""
        file = self.readable(user, self.files.get(file_id), missing, forbidden)
        if file.forbidden:
            raise ApiError(forbidden)
        return file

    def volume(self, user: User, volume_id: str) -> Volume:
        """Return the volume; errors 9007, 9020."""
        return self.readable(user, self.volumes.get(volume_id), 9007, 9020)

    def as_read(self, file: File) -> File:
        """Return the file as the API shows it, which may be its version before a move."""
        moved_late = file.before_move and self.is_within(file.modified_on, self.knobs.alias_lag_seconds)
        return file.before_move if file.before_move and moved_late else file

    def job(self, user: User, export_id: str) -> ExportJob:
        """Return the user's job; errors 9008, and 9005 for another user's job."""
        job = self.exports.get(export_id)
        if job is None or self._is_expired(job) or self.is_within(job.started_on, self.knobs.job_lag_seconds):
            raise ApiError(9008)
        if job.username != user.username:
            raise ApiError(9005)
        return job

    def jobs(self, user: User, volume: str | None = None, states: Iterable[str] = ()) -> list[ExportJob]:
        """Return the user's jobs as lists show them, in the order that the knob sets."""
        wanted = set(states)
        return [
            job
            for job in self.listed(job for job in list(self.exports.values()) if not self._is_expired(job))
            if job.username == user.username
            and (volume is None or job.volume == volume)
            and (not wanted or wanted & job.states_listed(self.knobs.stale_states))
        ]

    def listed(self, jobs: Iterable[AnyJob]) -> list[AnyJob]:
        """Return jobs, oldest first, as lists show them: late, and in the order that the knob sets."""
        moment = now() - timedelta(seconds=self.knobs.list_lag_seconds)
        listed = [job for job in (job.as_of(moment) for job in jobs) if job]
        if self.knobs.list_order == "newest":
            listed.reverse()
        elif self.knobs.list_order == "shuffled":
            random.shuffle(listed)
        return listed

    def release(self, job_id: str) -> Job:
        """Release a held export or task; KeyError if there is none of this id."""
        job: Job = self.exports[job_id] if job_id in self.exports else self.tasks[job_id]
        job.held = None
        return job

    def jobs_of(self, record: RequestRecord) -> list[Job]:
        """Return the exports and tasks that a request started."""
        return [self.exports[each] for each in record.exports] + [
            self.tasks[each] for each in record.tasks if each in self.tasks
        ]

    def batch_children(self, task: Task) -> list[Task]:
        """Return the children of a batch."""
        return [self.tasks[child] for child in task.children if child in self.tasks]

    def import_job(self, user: User, import_id: str) -> ImportJob:
        """Return the user's import; errors 9008, and 9005 for another user's."""
        job = self.imports.get(import_id)
        if job is None:
            raise ApiError(9008)
        if job.username != user.username:
            raise ApiError(9005)
        return job

    def import_jobs(
        self, user: User, volume: str | None = None, project: str | None = None, states: Iterable[str] = ()
    ) -> list[ImportJob]:
        """Return the user's imports, all of which are COMPLETED, newest first."""
        wanted = set(states)
        return [
            job
            for job in reversed(list(self.imports.values()))
            if job.username == user.username
            and volume in (None, job.volume)
            and project in (None, self.files[job.file].project)
            and (not wanted or "COMPLETED" in wanted)
        ]

    def children(self, folder: File) -> list[File]:
        """Return the files and folders directly in a folder."""
        return [file for file in list(self.files.values()) if file.parent == folder.id]

    def object_of(self, volume: Volume, location: str) -> StoredObject:
        """Return the object at a volume's location; errors 9105, and 9069 for an inactive volume."""
        if not volume.active:
            raise ApiError(9069)
        key = self.key(volume, location)
        stored = self.storage.stat(volume.bucket, key)
        if stored is None or self._is_hidden(volume, key, self.knobs.object_lag_seconds):
            raise ApiError(9105)
        return stored

    def objects(self, volume: Volume, prefix: str) -> list[StoredObject]:
        """Return the objects whose keys begin with `prefix`, as lists of the volume show them."""
        objects = self.storage.list(volume.bucket, prefix)
        lag = max(self.knobs.object_lag_seconds, self.knobs.volume_list_lag_seconds)
        return [stored for stored in objects if not self._is_hidden(volume, stored.key, lag)]

    def checksums(self, volume: Volume, key: str) -> dict[str, str]:
        """Return the checksums that the volume's cloud shows of an object."""
        if volume.service_type.upper() != "GCS":
            return {}
        md5, crc32c = self.storage.checksums(volume.bucket, key)
        return {"md5Hash": md5, "crc32c": crc32c}

    def key(self, volume: Volume, location: str) -> str:
        """Return the object's key for a location of a volume."""
        if self.knobs.leading_slash == "strip":
            location = location.lstrip("/")
        if not volume.prefix:
            return location
        if self.knobs.prefix_joined_with_slash:
            return f"{volume.prefix.rstrip('/')}/{location}"
        return volume.prefix + location

    def _is_hidden(self, volume: Volume, key: str, lag: float) -> bool:
        exported = self.exported.get((volume.bucket, key))
        return exported is not None and self.is_within(exported, lag)

    def is_within(self, since: datetime, seconds: float) -> bool:
        """Whether less than this time has passed since a moment."""
        return (now() - since).total_seconds() < seconds

    def readable(self, user: User, resource: Resource | None, missing: int, forbidden: int) -> Resource:
        """Return the resource; errors `missing`, `forbidden`."""
        if resource is None:
            raise ApiError(missing)
        if user.access == "none":
            raise ApiError(forbidden)
        return resource

    def _is_expired(self, job: ExportJob) -> bool:
        limit = self.knobs.retention_seconds
        return bool(limit and job.finished_on and (now() - job.finished_on).total_seconds() > limit)

    # Exports

    def submit(self, user: User, body: Any, copy_only: bool, overwrite: bool = False) -> ExportJob:
        """Accept or reject an export.

        :param user: the user who submits it.
        :param body: the JSON object of one export.
        :param copy_only: whether the file stays on the Platform.
        :param overwrite: the value in the query; a value in the body takes precedence.
        """
        file_id, volume_id, location, overwrite, properties = _parsed(body, overwrite)
        if location.endswith("/"):
            raise ApiError(9072)
        if location.startswith("/") and self.knobs.leading_slash == "refuse":
            raise ApiError(9011)
        volume = self.volume(user, volume_id)
        if volume.service_type.upper() == "S3":
            _check_properties(properties)
        if user.access != "write":
            raise ApiError(9020)
        file = self.file(user, file_id, missing=9009, forbidden=9004)
        if not self.knobs.refuse_in_job:
            self.check_volume(volume)
            if not (overwrite and self.knobs.overwrite_deletes_first):
                self.check_source(file, volume)
            if not overwrite:
                self.check_free(volume, location)
            if self.knobs.refuse_busy_file and not copy_only and self._is_moving(file):
                raise ApiError(9006)
        defaults = {"sse_algorithm": "AES256"} if volume.service_type.upper() == "S3" else {}
        job = ExportJob(
            id=_new_job_id(),
            file=file.id,
            volume=volume.id,
            location=location,
            overwrite=overwrite,
            properties={**defaults, **volume.properties, **properties},
            copy_only=copy_only,
            username=user.username,
        )
        self.exports[job.id] = job
        return job

    def check_volume(self, volume: Volume) -> None:
        """Reject (9069, 9026) a volume that cannot be written."""
        if not volume.active:
            raise ApiError(9069)
        if volume.access_mode != "RW":
            raise ApiError(9026)

    def check_source(self, file: File, volume: Volume) -> None:
        """Reject (9006, 9027) a file that cannot be exported."""
        if file.type == "folder":
            raise ApiError(self.knobs.folder_export_code)
        if file.alias or file.public or file.archived:
            raise ApiError(9006)
        cloud = CLOUDS.get(volume.service_type.upper())
        if not any(region.partition(":")[0] == cloud for region in file.hosted_on):
            raise ApiError(9027)
        if volume.region and f"{cloud}:{volume.region}" not in file.hosted_on:
            raise ApiError(self.knobs.region_mismatch_code)

    def check_free(self, volume: Volume, location: str) -> None:
        """Reject (9107) a location that holds an object."""
        if self.storage.stat(volume.bucket, self.key(volume, location)):
            raise ApiError(9107)

    def _is_moving(self, file: File) -> bool:
        return any(
            job.file == file.id and not job.copy_only and job.finished_on is None for job in list(self.exports.values())
        )


def _new_job_id() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))


def _parsed(body: Any, overwrite: bool) -> tuple[str, str, str, bool, dict[str, Any]]:
    try:
        texts = (body["source"]["file"], body["destination"]["volume"], body["destination"]["location"])
        overwrite_value: Any = body.get("overwrite", overwrite)
        properties = body.get("properties") or {}
    except (KeyError, TypeError, AttributeError):
        raise ApiError(9011) from None
    if not all(isinstance(text, str) and text and _is_unicode(text) for text in texts):
        raise ApiError(9011)
    if not isinstance(overwrite_value, bool) or not isinstance(properties, dict):
        raise ApiError(9011)
    return *texts, overwrite_value, properties


def _is_unicode(text: str) -> bool:
    """Whether the text can be sent and stored; JSON can contain single surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_properties(properties: dict[str, Any]) -> None:
    checks: tuple[tuple[str, set[str | None], int], ...] = (
        ("sse_algorithm", SSE_ALGORITHMS, 9023),
        ("aws_canned_acl", CANNED_ACLS, 9022),
        ("aws_storage_class", STORAGE_CLASSES, 9024),
    )
    for name, allowed, code in checks:
        value = properties.get(name)
        if not isinstance(value, str | None) or value not in allowed:
            raise ApiError(code)
    if not isinstance(properties.get("sse_aws_kms_key_id"), str | None):
        raise ApiError(9011)
