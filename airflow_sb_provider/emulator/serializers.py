"""How resources look as JSON."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_sb_provider.emulator.platform import ExportJob, File, Platform, Project, User, Volume
    from airflow_sb_provider.emulator.storage import StoredObject

Json = dict[str, Any]

BRIEF = {
    "export": {"href", "id", "state"},
    "file": {"href", "id", "name", "project", "parent", "type"},
    "volume": {"href", "id", "name"},
    "project": {"href", "id", "name"},
}
"""What the items of a list show unless `fields` asks for something else."""


class Views:
    """Turns the platform's things into JSON; `base` is the URL that the caller used, up to and with /v2."""

    def __init__(self, platform: Platform, base: str) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._base = base

    def export(self, job: ExportJob) -> Json:
        """A job; `result`, `error` and `finished_on` only once it has them, `copy_only` never."""
        view: Json = {
            "href": f"{self._base}/storage/exports/{job.id}",
            "id": job.id,
            "state": job.state,
            "source": {"file": job.file},
            "destination": {"volume": job.volume, "location": job.location},
            "started_on": self.time(job.started_on),
            "overwrite": job.overwrite,
        }
        if self._knobs.echo_properties:
            view["properties"] = dict(job.properties)
        if job.finished_on:
            view["finished_on"] = self.time(job.finished_on)
        file = self._platform.files.get(job.file)
        if file and job.state == "COMPLETED" and (self._knobs.result_in_copy or not job.copy_only):
            view["result"] = self.file(file)
        if job.error:
            view["error"] = job.error.as_json(self._knobs.code_type)
        return self._without_omitted("export", view)

    def file(self, file: File) -> Json:
        """A file with its storage, or a folder, which has neither size nor storage."""
        view: Json = {
            "href": f"{self._base}/files/{file.id}",
            "id": file.id,
            "name": file.name,
            "project": file.project,
            "type": file.type,
            "created_on": self.time(file.created_on),
            "modified_on": self.time(file.modified_on),
        }
        if file.parent:
            view["parent"] = file.parent
        if file.type == "file":
            view |= {
                "size": file.size,
                "storage": self._storage(file),
                "origin": {"task": file.task} if file.task else {},
                "tags": list(file.tags),
                "metadata": dict(file.metadata),
            }
            if file.secondary:
                view["_secondary_files"] = [
                    {"href": f"{self._base}/files/{each}", "id": each} for each in file.secondary
                ]
        return self._without_omitted("file", view)

    def _storage(self, file: File) -> Json:
        if not file.alias:
            return {"type": "PLATFORM", "hosted_on_locations": list(file.hosted_on)}
        volume_id, location = file.alias
        if self._knobs.alias_location_includes_prefix:
            location = self._platform.key(self._platform.volumes[volume_id], location)
        return {"type": "VOLUME", "volume": volume_id, "location": location}

    def volume(self, volume: Volume) -> Json:
        """A volume with the service behind it; secrets are never shown."""
        service: Json = {
            "type": self.service_type(volume),
            "bucket": volume.bucket,
            "prefix": volume.prefix,
            "properties": {"sse_algorithm": "AES256", **volume.properties},
        }
        if volume.service_type.upper() == "S3":
            service |= {"endpoint": "s3.amazonaws.com", "credentials": {"access_key_id": "AKIAIOSFODNN7EXAMPLE"}}
        else:
            service |= {"credentials": {"client_email": "exports@example.iam.gserviceaccount.com"}, "properties": {}}
        view = {
            "href": f"{self._base}/storage/volumes/{volume.id}",
            "id": volume.id,
            "name": volume.id.rpartition("/")[2],
            "description": "",
            "access_mode": volume.access_mode,
            "active": volume.active,
            "service": service,
            "created_on": self.time(volume.created_on),
            "modified_on": self.time(volume.created_on),
        }
        return self._without_omitted("volume", view)

    def stored_object(self, volume: Volume, location: str, found: StoredObject) -> Json:
        """An object of a volume."""
        etag = {"md5": found.etag, "quoted": f'"{found.etag}"', "multipart": f"{found.etag}-2"}[self._knobs.etag_style]
        view = {
            "href": f"{self._base}/storage/volumes/{volume.id}/object?location={quote(location, safe='')}",
            "location": location,
            "volume": volume.id,
            "type": self.service_type(volume),
            "metadata": {
                "bucket": volume.bucket,
                "size": found.size,
                "etag": etag,
                "last_modified": self._written(found.modified),
            },
        }
        return self._without_omitted("object", view)

    def project(self, project: Project) -> Json:
        """A project with its root folder."""
        view = {
            "href": f"{self._base}/projects/{project.id}",
            "id": project.id,
            "name": project.name,
            "description": "",
            "type": "v2",
            "tags": [],
            "settings": {"locked": False},
            "root_folder": project.root_folder,
            "created_by": project.id.partition("/")[0],
            "created_on": self.time(project.created_on),
            "modified_on": self.time(project.created_on),
        }
        return self._without_omitted("project", view)

    def user(self, user: User) -> Json:
        """A user, without anything about the token."""
        view = {
            "href": f"{self._base}/users/{user.username}",
            "username": user.username,
            "email": f"{user.username}@example.com",
            "first_name": user.username.capitalize(),
            "last_name": "Example",
            "role": "MEMBER",
            "tags": [],
        }
        return self._without_omitted("user", view)

    def time(self, moment: datetime) -> str:
        """A moment as the Platform's clock shows it, without fractions."""
        moment += timedelta(seconds=self._knobs.date_skew_seconds)
        return self._written(moment)

    def _written(self, moment: datetime) -> str:
        if self._knobs.timestamp_style == "offset":
            return moment.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="seconds")
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def service_type(self, volume: Volume) -> str:
        """The cloud service's name in the spelling that the knob says."""
        name = volume.service_type
        return name.lower() if self._knobs.service_type_case == "lower" else name.upper()

    def _without_omitted(self, kind: str, view: Json) -> Json:
        omit = self._knobs.omit
        return {name: value for name, value in view.items() if name not in omit and f"{kind}.{name}" not in omit}


def select(view: Json, fields: str | None, brief: set[str] | None = None) -> Json:
    """The part of a resource that `fields` asks for.

    :param view: the whole resource.
    :param fields: names, dotted names, `!name` to leave one out, or `_all`; nothing for what is usual.
    :param brief: what is usual in a list; a single resource is usually whole.
    """
    names = [name.strip() for name in (fields or "").split(",") if name.strip()]
    wanted = [name for name in names if not name.startswith("!")]
    unwanted = {name[1:] for name in names if name.startswith("!")}
    if "_all" in wanted:
        chosen = dict(view)
    elif wanted:
        chosen = {}
        for name in wanted:
            top, _, rest = name.partition(".")
            if top not in view:
                continue
            if rest and isinstance(view[top], dict):
                chosen[top] = {**chosen.get(top, {}), **select(view[top], rest)}
            else:
                chosen[top] = view[top]
    else:
        chosen = {name: value for name, value in view.items() if brief is None or name in brief}
    return {name: value for name, value in chosen.items() if name not in unwanted}
