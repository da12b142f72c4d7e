"""The JSON of each resource."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_sb_provider.emulator.platform import now

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_sb_provider.emulator.apps import App
    from airflow_sb_provider.emulator.platform import ExportJob, File, ImportJob, Platform, Project, User, Volume
    from airflow_sb_provider.emulator.storage import StoredObject
    from airflow_sb_provider.emulator.tasks import Task

Json = dict[str, Any]

BRIEF = {
    "export": {"href", "id", "state"},
    "import": {"href", "id", "state"},
    "file": {"href", "id", "name", "project", "parent", "type"},
    "volume": {"href", "id", "name"},
    "project": {"href", "id", "name"},
    "app": {"href", "id", "name", "project"},
    "task": {"href", "id", "name", "project"},
}
"""The fields of a list's items by default."""
_MESSAGES = {"CREATING": "Initializing...", "QUEUED": "Initializing..."}


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

    def app(self, app: App) -> Json:
        """Return a revision of an app, with its CWL."""
        resource = {
            "href": f"{self._base}/apps/{app.id}/{app.revision}",
            "id": f"{app.id}/{app.revision}",
            "project": app.project,
            "name": app.name,
            "revision": app.revision,
            "raw": app.raw,
        }
        return self._without_omitted("app", resource)

    def listed_app(self, app: App) -> Json:
        """Return the newest revision of an app as lists show it, under the id without the revision."""
        return {**self.app(app), "href": f"{self._base}/apps/{app.id}", "id": app.id}

    def task(self, task: Task) -> Json:
        """Return a task, with its outputs once it has COMPLETED."""
        resource: Json = {
            "href": f"{self._base}/tasks/{task.id}",
            "id": task.id,
            "name": task.name,
            "status": task.state,
            "description": task.description,
            "project": task.project,
            "app": f"{task.app.id}/{task.app.revision}",
            "type": "v2",
            "created_by": task.username,
            "created_time": self.time(task.started_on),
            "start_time": self.time(task.start_time),
            "batch": task.batch,
            "use_interruptible_instances": task.use_interruptible_instances,
            "execution_settings": task.execution_settings,
            "output_location": task.output_location,
            "inputs": task.inputs,
            "outputs": self._outputs(task),
            "errors": task.errors,
            "warnings": task.warnings,
        }
        if task.batch_by:
            resource |= {"batch_input": task.batch_input, "batch_by": task.batch_by}
        if task.parent:
            resource |= {"parent": task.parent, "batch_group": task.batch_group}
        if task.origin_id:
            resource["origin_id"] = task.origin_id
        if task.state != "DRAFT":
            resource |= {
                "executed_by": task.executed_by,
                "execution_status": self._execution_status(task),
                "price": self._price(task),
            }
        if task.finished_on:
            resource["end_time"] = self.time(task.finished_on)
        return self._without_omitted("task", resource)

    def _outputs(self, task: Task) -> Json:
        if task.state == "COMPLETED" and task.finished_on and not task.batch:
            late = self._platform.is_within(task.finished_on, self._knobs.task_outputs_lag_seconds)
            return {} if late else task.outputs
        return dict.fromkeys(task.app.outputs)

    def _execution_status(self, task: Task) -> Json:
        end = task.finished_on or now()
        running_since = task.entered("RUNNING")
        seconds = {
            "duration": (end - task.start_time).total_seconds(),
            "queued_duration": ((running_since or end) - task.start_time).total_seconds(),
            "running_duration": (end - running_since).total_seconds() if running_since else 0.0,
        }
        numbers = {name: int(1000 * value) for name, value in seconds.items()}
        numbers["execution_duration"] = numbers["running_duration"]
        if task.batch:
            states = Counter(child.state for child in self._platform.batch_children(task))
            numbers |= {name: states[name.upper()] for name in ("queued", "running", "completed", "failed", "aborted")}
        else:
            steps = task.app.steps
            numbers |= {"steps_total": steps, "steps_completed": steps if task.state == "COMPLETED" else 0}
        queued = task.state == "QUEUED"
        return {
            "message": task.error.message if task.error else _MESSAGES.get(task.state, task.state.capitalize()),
            **(numbers if self._knobs.task_numbers == "int" else {name: str(value) for name, value in numbers.items()}),
            "account_limit": queued and self._knobs.queue_reason == "account_limit",
            "system_limit": queued and self._knobs.queue_reason == "system_limit",
            "instance_init": False,
        }

    def _price(self, task: Task) -> Json:
        tasks = self._platform.batch_children(task) if task.batch else [task]
        amount = sum(map(_cost, tasks))
        return {
            "currency": "USD",
            "amount": f"{amount:.2f}",
            "breakdown": {"storage": "0.00", "computation": f"{amount:.2f}"},
        }

    def execution_details(self, task: Task) -> Json:
        """Return the jobs that a task ran; a batch runs none itself."""
        started = task.entered("RUNNING")
        details: Json = {
            "href": f"{self._base}/tasks/{task.id}/execution_details",
            "start_time": self.time(task.start_time),
            "status": task.state,
            "message": task.error.message if task.error else _MESSAGES.get(task.state, task.state.capitalize()),
            "jobs": [],
        }
        ended = {"end_time": self.time(task.finished_on)} if task.finished_on else {}
        if started and not task.batch:
            job = {
                "name": task.app.id.rpartition("/")[2],
                "start_time": self.time(started),
                **ended,
                "status": task.state,
                "command_line": " ".join(task.app.raw["baseCommand"]),
                "retried": False,
                "instance": {
                    "id": f"i-{task.id.replace('-', '')[:17]}",
                    "type": str(task.execution_settings.get("instance_type", "c4.2xlarge")).partition(";")[0],
                    "provider": "AWS",
                    "disk": {"size": 1024, "unit": "GB", "type": "amazon-gp2"},
                },
                "docker": {"checksum": f"sha256:{hashlib.sha256(task.app.id.encode()).hexdigest()}"},
                "logs": {name: f"{self._base}/files/{file}/download_info" for name, file in task.logs.items()},
            }
            details["jobs"] = [job]
        return self._without_omitted("execution_details", {**details, **ended})

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
        if not omit:
            return resource
        return {name: value for name, value in resource.items() if name not in omit and f"{kind}.{name}" not in omit}


def _cost(task: Task) -> float:
    """Return the price of a task in USD: a cent for each second in which it runs, and one for its start."""
    started = task.entered("RUNNING")
    return 0.01 + 0.01 * int(((task.finished_on or now()) - started).total_seconds()) if started else 0.0


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
