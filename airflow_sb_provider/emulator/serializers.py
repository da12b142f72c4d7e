"""The JSON of each resource."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_sb_provider.emulator.platform import ExportJob, File, ImportJob, Platform, Project, User, Volume
    from airflow_sb_provider.emulator.storage import StoredObject

Json = dict[str, Any]

BRIEF = {
    "export": {"href", "id", "state"},
    "import": {"href", "id", "state"},
    "file": {"href", "id", "name", "project", "parent", "type"},
    "volume": {"href", "id", "name"},
    "project": {"href", "id", "name"},
}
"""The fields of a list's items by default."""


class Serializer:
    """Converts the platform's resources to JSON; `base` is the URL that the caller used, including /v2."""

    def __init__(self, platform: Platform, base: str) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._base = base

    def export(self, job: ExportJob) -> Json:
        """Return a job, with `result`, `error` and `finished_on` once it has them; `copy_only` is never shown."""
        resource: Json = {
            "href": f"{self._base}/storage/exports/{job.id}",
            "id": job.id,
            "state": job.state,
            "source": {"file": job.file},
            "destination": {"volume": job.volume, "location": job.location},
            "started_on": self.time(job.started_on),
            "overwrite": job.overwrite,
        }
        if self._knobs.echo_properties:
            resource["properties"] = dict(job.properties)
        if job.finished_on:
            resource["finished_on"] = self.time(job.finished_on)
        file = self._platform.files.get(job.file)
        if file and job.state == "COMPLETED" and (self._knobs.result_in_copy or not job.copy_only):
            resource["result"] = self.file(file)
        if job.error:
            resource["error"] = job.error.as_json(self._knobs.code_type)
        return self._without_omitted("export", resource)

    def import_job(self, job: ImportJob) -> Json:
        """Return a completed import with the alias that it made."""
        file = self._platform.files[job.file]
        resource = {
            "href": f"{self._base}/storage/imports/{job.id}",
            "id": job.id,
            "state": "COMPLETED",
            "overwrite": False,
            "autorename": False,
            "source": {"volume": job.volume, "location": job.location},
            "destination": {"project": file.project, "name": file.name},
            "started_on": self.time(job.finished_on),
            "finished_on": self.time(job.finished_on),
            "result": self.file(file),
        }
        return self._without_omitted("import", resource)

    def file(self, file: File) -> Json:
        """Return a file with its storage, or a folder, which has neither size nor storage."""
        resource: Json = {
            "href": f"{self._base}/files/{file.id}",
            "id": file.id,
            "name": file.name,
            "project": file.project,
            "type": file.type,
            "created_on": self.time(file.created_on),
            "modified_on": self.time(file.modified_on),
        }
        if file.parent:
            resource["parent"] = file.parent
        if file.type == "file":
            resource |= {
                "size": file.size,
                "storage": self._storage(file),
                "origin": {"task": file.task} if file.task else {},
                "tags": list(file.tags),
                "metadata": dict(file.metadata),
            }
            if file.secondary:
                resource["_secondary_files"] = [
                    {"href": f"{self._base}/files/{file_id}", "id": file_id} for file_id in file.secondary
                ]
        return self._without_omitted("file", resource)

    def _storage(self, file: File) -> Json:
        if not file.alias:
            return {"type": "PLATFORM", "hosted_on_locations": list(file.hosted_on)}
        volume_id, location = file.alias
        if self._knobs.alias_location_includes_prefix:
            location = self._platform.key(self._platform.volumes[volume_id], location)
        return {"type": "VOLUME", "volume": volume_id, "location": location}

    def volume(self, volume: Volume) -> Json:
        """Return a volume with its service; secrets are never shown."""
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
        resource = {
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
        return self._without_omitted("volume", resource)

    def stored_object(self, volume: Volume, location: str, stored: StoredObject) -> Json:
        """Return an object of a volume; of one on Google Cloud Storage, its bytes are read for the checksums."""
        etags = {"md5": stored.etag, "quoted": f'"{stored.etag}"', "multipart": f"{stored.etag}-2"}
        resource = {
            "href": f"{self._base}/storage/volumes/{volume.id}/object?location={quote(location, safe='')}",
            "location": location,
            "volume": volume.id,
            "type": self.service_type(volume),
            "metadata": {
                "bucket": volume.bucket,
                "size": stored.size,
                "etag": etags[self._knobs.etag_style],
                "last_modified": self._format_time(stored.modified),
                **self._platform.checksums(volume, stored.key),
            },
        }
        return self._without_omitted("object", resource)

    def folder(self, volume: Volume, prefix: str) -> Json:
        """Return what a list of a volume shows for all objects below a prefix."""
        href = f"{self._base}/storage/volumes/{volume.id}/list?prefix={quote(prefix, safe='')}"
        return {"href": href, "prefix": prefix, "volume": volume.id}

    def project(self, project: Project) -> Json:
        """Return a project with its root folder."""
        resource = {
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
        return self._without_omitted("project", resource)

    def user(self, user: User) -> Json:
        """Return a user, without the token."""
        resource = {
            "href": f"{self._base}/users/{user.username}",
            "username": user.username,
            "email": f"{user.username}@example.com",
            "first_name": user.username.capitalize(),
            "last_name": "Example",
            "role": "MEMBER",
            "tags": [],
        }
        return self._without_omitted("user", resource)

    def time(self, moment: datetime) -> str:
        """Return a time as the Platform's clock shows it, without fractions of a second."""
        moment += timedelta(seconds=self._knobs.date_skew_seconds)
        return self._format_time(moment)

    def _format_time(self, moment: datetime) -> str:
        if self._knobs.timestamp_style == "offset":
            return moment.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="seconds")
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def service_type(self, volume: Volume) -> str:
        """Return the cloud service's name in the spelling that the knob sets."""
        name = volume.service_type
        return name.lower() if self._knobs.service_type_case == "lower" else name.upper()

    def _without_omitted(self, kind: str, resource: Json) -> Json:
        omit = self._knobs.omit
        return {name: value for name, value in resource.items() if name not in omit and f"{kind}.{name}" not in omit}


def select(resource: Json, fields: str | None, brief: set[str] | None = None) -> Json:
    """Return the part of a resource that `fields` selects.

    :param resource: the complete resource.
    :param fields: names, dotted names, `!name` to leave one out, or `_all`; None for the default fields.
    :param brief: the default fields of a list's items; a single resource is complete by default.
    """
    names = [name.strip() for name in (fields or "").split(",") if name.strip()]
    wanted = [name for name in names if not name.startswith("!")]
    unwanted = {name[1:] for name in names if name.startswith("!")}
    if "_all" in wanted:
        chosen = dict(resource)
    elif wanted:
        chosen = {}
        for name in wanted:
            top, _, rest = name.partition(".")
            if top not in resource:
                continue
            if rest and isinstance(resource[top], dict):
                chosen[top] = {**chosen.get(top, {}), **select(resource[top], rest)}
            else:
                chosen[top] = resource[top]
    else:
        chosen = {name: value for name, value in resource.items() if brief is None or name in brief}
    return {name: value for name, value in chosen.items() if name not in unwanted}
