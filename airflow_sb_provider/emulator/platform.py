"""What the Platform holds, and its rules for exports; no HTTP here."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_sb_provider.emulator.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sb_provider.emulator.knobs import Knobs
    from airflow_sb_provider.emulator.storage import Storage, StoredObject

Thing = TypeVar("Thing")
Access = Literal["write", "read", "none"]
State = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED"]

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
    """The Platform's clock."""
    return datetime.now(UTC)


@dataclass
class User:
    """Who a token belongs to; `access` is what they may do with every project and volume."""

    username: str
    token: str
    access: Access = "write"


@dataclass
class Project:
    """A project; its files hang under its root folder."""

    id: str
    name: str
    root_folder: str
    created_on: datetime = field(default_factory=now)


@dataclass
class Volume:
    """A customer's bucket as the Platform sees it. `region` is what the real API does not show."""

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
    """A file or a folder. `alias` is the volume and location of its bytes once they are not the Platform's."""

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
    """Nobody may see it, whatever their access."""
    hosted_on: tuple[str, ...] = ("aws:us-east-1",)
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    secondary: tuple[str, ...] = ()
    """Ids of the files that belong to it, such as an index."""
    created_on: datetime = field(default_factory=now)
    modified_on: datetime = field(default_factory=now)
    before_move: File | None = None
    """What it was before a job moved it at `modified_on`."""


@dataclass
class ExportJob:
    """One accepted export. What follows `properties` is never shown by the API."""

    id: str
    file: str
    volume: str
    location: str
    overwrite: bool
    properties: dict[str, Any]
    copy_only: bool
    username: str
    state: State | str = "PENDING"
    started_on: datetime = field(default_factory=now)
    finished_on: datetime | None = None
    error: Refusal | None = None
    held: State | None = None
    """The state that the job does not leave until it is released."""
    fail_with: Refusal | None = None
    """What this job is to fail with."""
    fail_as: str = "FAILED"
    """The state in which it is to end if it fails, perhaps one that is not documented."""
    reply_lost: bool = False
    """The caller never got the answer to the submission."""
    past_states: list[tuple[datetime, str]] = field(default_factory=list)
    """The states that the job has left, and when, oldest first."""

    def enter(self, state: str) -> None:
        """Change the state."""
        self.past_states.append((now(), self.state))
        self.state = state

    def as_of(self, moment: datetime) -> ExportJob | None:
        """The job as it was at a moment; None before it was accepted."""
        if moment < self.started_on:
            return None
        past = [(left, state) for left, state in self.past_states if left <= moment]
        if len(past) == len(self.past_states):
            return self
        _, state = self.past_states[len(past)]
        return dataclasses.replace(self, state=state, past_states=past, finished_on=None, error=None)

    def states_listed(self, stale: bool) -> set[str]:
        """The states under which lists find the job."""
        if not stale or not self.past_states:
            return {self.state}
        left = self.past_states[-1][1]
        return {left, self.state} if self.finished_on else {left}


class Platform:
    """Users, projects, files, volumes and jobs, and who may do what with them.

    Reads may come from any thread. `submit` looks at the storage, so it blocks.
    """

    def __init__(self, knobs: Knobs, storage: Storage) -> None:
        self.knobs = knobs
        self.storage = storage
        self.users: dict[str, User] = {}
        self.projects: dict[str, Project] = {}
        self.volumes: dict[str, Volume] = {}
        self.files: dict[str, File] = {}
        self.exports: dict[str, ExportJob] = {}
        self.exported: dict[tuple[str, str], datetime] = {}
        """When jobs made objects, by bucket and key."""
        self._file_numbers = itertools.count(1)

    # Filling it

    def add_user(self, username: str, token: str | None = None, access: Access = "write") -> User:
        """A user with a token of 32 hex characters (a new one unless given)."""
        user = User(username, token or secrets.token_hex(16), access)
        self.users[user.token] = user
        return user

    def add_project(self, project_id: str, name: str | None = None, root_folder: str | None = None) -> Project:
        """A project `owner/name` with its root folder."""
        root_folder = root_folder or self._new_file_id()
        project = Project(project_id, name or project_id.partition("/")[2], root_folder)
        self.projects[project_id] = project
        self.files[root_folder] = File(root_folder, project.name, project_id, None, "folder")
        return project

    def add_folder(self, name: str, project: str, parent: str | None = None, file_id: str | None = None) -> File:
        """A folder in a project, at its root unless `parent` is given."""
        parent = parent or self.projects[project].root_folder
        folder = File(file_id or self._new_file_id(), name, project, parent, "folder")
        self.files[folder.id] = folder
        return folder

    def folder_at(self, path: str, project: str) -> File:
        """The folder at a path such as `a/b` below the project's root; folders are made where none are."""
        folder = self.files[self.projects[project].root_folder]
        for name in filter(None, path.split("/")):
            found = (each for each in self.children(folder) if each.type == "folder" and each.name == name)
            folder = next(found, None) or self.add_folder(name, project, folder.id)
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
        """A file with its bytes: the Platform's own, or an alias of (volume, location).

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

    def add_volume(self, volume_id: str, bucket: str | None = None, **details: Any) -> Volume:
        """A volume `owner/name` on a bucket, made if it is not there; `details` are fields of `Volume`."""
        volume = Volume(volume_id, bucket or re.sub("[^A-Za-z0-9.-]", "-", volume_id), **details)
        self.storage.make_bucket(volume.bucket)
        self.volumes[volume_id] = volume
        return volume

    def _new_file_id(self) -> str:
        return f"5fa{next(self._file_numbers):021x}"

    # Who may see what

    def project(self, user: User, project_id: str) -> Project:
        """The project, or 3002, or 3001."""
        return self._seen(user, self.projects.get(project_id), 3002, 3001)

    def file(self, user: User, file_id: str, missing: int = 5002, forbidden: int = 5001) -> File:
        """The file, or one of the two refusals."""
        file = self._seen(user, self.files.get(file_id), missing, forbidden)
        if file.forbidden:
            raise Refusal(forbidden)
        return file

    def volume(self, user: User, volume_id: str) -> Volume:
        """The volume, or 9007, or 9020."""
        return self._seen(user, self.volumes.get(volume_id), 9007, 9020)

    def shown(self, file: File) -> File:
        """The file as reads show it, which may be late."""
        moved_late = file.before_move and self._is_within(file.modified_on, self.knobs.alias_lag_seconds)
        return file.before_move if file.before_move and moved_late else file

    def job(self, user: User, export_id: str) -> ExportJob:
        """The user's own job, or 9008, or 9005 for another user's."""
        job = self.exports.get(export_id)
        if job is None or self._forgotten(job) or self._is_within(job.started_on, self.knobs.job_lag_seconds):
            raise Refusal(9008)
        if job.username != user.username:
            raise Refusal(9005)
        return job

    def jobs(self, user: User, volume: str | None = None, states: Iterable[str] = ()) -> list[ExportJob]:
        """The user's own jobs as lists show them, in the order that the knob says."""
        wanted, moment = set(states), now() - timedelta(seconds=self.knobs.list_lag_seconds)
        listed = [job.as_of(moment) for job in list(self.exports.values()) if not self._forgotten(job)]
        found = [
            job
            for job in listed
            if job
            and job.username == user.username
            and (volume is None or job.volume == volume)
            and (not wanted or wanted & job.states_listed(self.knobs.stale_states))
        ]
        if self.knobs.list_order == "newest":
            found.reverse()
        elif self.knobs.list_order == "shuffled":
            random.shuffle(found)
        return found

    def children(self, folder: File) -> list[File]:
        """What lies directly in a folder."""
        return [each for each in list(self.files.values()) if each.parent == folder.id]

    def object_of(self, volume: Volume, location: str) -> StoredObject:
        """The object at a volume's location, or 9105; 9069 where the volume is inactive."""
        if not volume.active:
            raise Refusal(9069)
        key = self.key(volume, location)
        found = self.storage.look(volume.bucket, key)
        if found is None or self._is_late(volume, key):
            raise Refusal(9105)
        return found

    def objects(self, volume: Volume, prefix: str) -> list[StoredObject]:
        """The objects whose keys begin with `prefix`, as lists of the volume show them."""
        found = self.storage.list(volume.bucket, prefix)
        return [each for each in found if not self._is_late(volume, each.key)]

    def key(self, volume: Volume, location: str) -> str:
        """The object's key for a location of a volume."""
        if self.knobs.leading_slash == "strip":
            location = location.lstrip("/")
        if not volume.prefix:
            return location
        if self.knobs.prefix_joined_with_slash:
            return f"{volume.prefix.rstrip('/')}/{location}"
        return volume.prefix + location

    def _is_late(self, volume: Volume, key: str) -> bool:
        exported = self.exported.get((volume.bucket, key))
        return exported is not None and self._is_within(exported, self.knobs.object_lag_seconds)

    def _is_within(self, since: datetime, seconds: float) -> bool:
        return (now() - since).total_seconds() < seconds

    def _seen(self, user: User, found: Thing | None, missing: int, forbidden: int) -> Thing:
        if found is None:
            raise Refusal(missing)
        if user.access == "none":
            raise Refusal(forbidden)
        return found

    def _forgotten(self, job: ExportJob) -> bool:
        limit = self.knobs.retention_seconds
        return bool(limit and job.finished_on and (now() - job.finished_on).total_seconds() > limit)

    # Exports

    def submit(self, user: User, body: Any, copy_only: bool, overwrite: bool = False) -> ExportJob:
        """Accept an export, or refuse it.

        :param user: whose export it is.
        :param body: the JSON object of one export.
        :param copy_only: whether the file stays on the Platform.
        :param overwrite: the query's value, which the body's replaces.
        """
        file_id, volume_id, location, overwrite, given = _parsed(body, overwrite)
        if location.endswith("/"):
            raise Refusal(9072)
        if location.startswith("/") and self.knobs.leading_slash == "refuse":
            raise Refusal(9011)
        volume = self.volume(user, volume_id)
        if volume.service_type.upper() == "S3":
            _check_properties(given)
        if user.access != "write":
            raise Refusal(9020)
        file = self.file(user, file_id, missing=9009, forbidden=9004)
        if not self.knobs.refuse_in_job:
            self.check_volume(volume)
            if not (overwrite and self.knobs.overwrite_deletes_first):
                self.check_source(file, volume)
            if not overwrite:
                self.check_free(volume, location)
            if self.knobs.refuse_busy_file and not copy_only and self._moving(file):
                raise Refusal(9006)
        defaults = {"sse_algorithm": "AES256"} if volume.service_type.upper() == "S3" else {}
        job = ExportJob(
            id="".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32)),
            file=file.id,
            volume=volume.id,
            location=location,
            overwrite=overwrite,
            properties={**defaults, **volume.properties, **given},
            copy_only=copy_only,
            username=user.username,
        )
        self.exports[job.id] = job
        return job

    def check_volume(self, volume: Volume) -> None:
        """Refuse (9069, 9026) a volume that cannot be written now."""
        if not volume.active:
            raise Refusal(9069)
        if volume.access_mode != "RW":
            raise Refusal(9026)

    def check_source(self, file: File, volume: Volume) -> None:
        """Refuse (9006, 9027) a file that cannot be exported now."""
        if file.type == "folder":
            raise Refusal(self.knobs.folder_export_code)
        if file.alias or file.public or file.archived:
            raise Refusal(9006)
        cloud = CLOUDS.get(volume.service_type.upper())
        if not any(place.partition(":")[0] == cloud for place in file.hosted_on):
            raise Refusal(9027)
        if volume.region and f"{cloud}:{volume.region}" not in file.hosted_on:
            raise Refusal(self.knobs.region_mismatch_code)

    def check_free(self, volume: Volume, location: str) -> None:
        """Refuse (9107) a location where an object is."""
        if self.storage.look(volume.bucket, self.key(volume, location)):
            raise Refusal(9107)

    def _moving(self, file: File) -> bool:
        return any(
            job.file == file.id and not job.copy_only and job.finished_on is None for job in list(self.exports.values())
        )


def _parsed(body: Any, overwrite: bool) -> tuple[str, str, str, bool, dict[str, Any]]:
    try:
        texts = (body["source"]["file"], body["destination"]["volume"], body["destination"]["location"])
        replacing: Any = body.get("overwrite", overwrite)
        properties = body.get("properties") or {}
    except (KeyError, TypeError, AttributeError):
        raise Refusal(9011) from None
    if not all(isinstance(text, str) and text and _is_unicode(text) for text in texts):
        raise Refusal(9011)
    if not isinstance(replacing, bool) or not isinstance(properties, dict):
        raise Refusal(9011)
    return *texts, replacing, properties


def _is_unicode(text: str) -> bool:
    """Whether the text can be sent and stored; JSON can escape halves of surrogate pairs."""
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
            raise Refusal(code)
    if not isinstance(properties.get("sse_aws_kms_key_id"), str | None):
        raise Refusal(9011)
