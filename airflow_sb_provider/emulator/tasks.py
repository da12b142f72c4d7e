"""Tasks: what the Platform accepts, validates and lists, and how inputs become outputs. No HTTP."""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.apps import (
    App,
    InputFile,
    InputFolder,
    OutputFile,
    OutputFolder,
    accepts_list,
    is_optional,
    mismatch,
)
from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.platform import Job, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.emulator.platform import File, Platform, User, Volume

Json = dict[str, Any]

TERMINAL = {"COMPLETED", "FAILED", "ABORTED"}
STATUSES = {"QUEUED", "DRAFT", "RUNNING", "COMPLETED", "ABORTED", "FAILED"}
"""The values of a list's filter `status`."""
ORDERS = {
    "created_time": "started_on",
    "start_time": "start_time",
    "end_time": "finished_on",
    "name": "name",
    "created_by": "username",
}
"""The values of a list's `order_by`, with the attribute of each."""
_TIMES = {"created": "started_on", "started": "start_time", "ended": "finished_on"}
_MAX_DEPTH = 20
_FILES = ("File", "Directory")
_VOLUMES = "volumes://"


@dataclass(kw_only=True)
class Task(Job):
    """A task. `state`, `username`, `started_on` and `finished_on` are its status, creator, created and end time."""

    state: str = "DRAFT"
    project: str
    app: App
    name: str
    description: str | None = None
    inputs: Json = field(default_factory=dict)
    """The inputs as the API shows them."""
    batch: bool = False
    batch_input: str | None = None
    batch_by: Json | None = None
    batch_group: Json | None = None
    """Of a child: the group of inputs that it works on."""
    parent: str | None = None
    children: list[str] = field(default_factory=list)
    use_interruptible_instances: bool = False
    execution_settings: Json = field(default_factory=dict)
    output_location: Json = field(default_factory=dict)
    origin_id: str | None = None
    executed_by: str | None = None
    errors: list[Json | str] = field(default_factory=list)
    """Why the draft cannot run."""
    warnings: list[Json | str] = field(default_factory=list)
    start_time: datetime
    """When it was run; of a draft, when it was created."""
    outputs: Json = field(default_factory=dict)
    """The outputs as the API shows them."""
    logs: dict[str, str] = field(default_factory=dict)
    """The ids of its log files by name."""

    def entered(self, state: str) -> datetime | None:
        """Return when the task entered a state, or None."""
        states = [*(past for _, past in self.past_states), self.state]
        return self.past_states[states.index(state) - 1][0] if state in states[1:] else None


class Tasks:
    """The rules of tasks. All methods but `compute`, `publish` and `write_logs`, which block, are fast.

    :param platform: holds the tasks, apps and files.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._publishing = threading.Lock()

    # Read

    def app(self, user: User, app_id: str) -> App:
        """Return an app by `owner/project/name` (its newest revision) or `owner/project/name/revision`.

        Errors 6011, 6002, 6001.
        """
        match = re.fullmatch(r"([^/]+/[^/]+/[^/]+)(?:/([0-9]{1,9}))?", app_id)
        if not match:
            raise ApiError(6011)
        revisions = self._platform.apps.get(match[1], [])
        if match[2]:
            revisions = [app for app in revisions if app.revision == int(match[2])]
        app = self._platform.readable(user, revisions[-1] if revisions else None, 6002, 6001)
        if app.forbidden:
            raise ApiError(6001)
        return app

    def get(self, user: User, task_id: str) -> Task:
        """Return a task of a project that the user may read; errors 7005, 7002, 7001."""
        try:
            uuid.UUID(task_id)
        except ValueError:
            raise ApiError(7005) from None
        task = self._platform.readable(user, self._platform.tasks.get(task_id.lower()), 7002, 7001)
        if self._platform.is_within(task.started_on, self._knobs.job_lag_seconds):
            raise ApiError(7002)
        return task

    def listed(self, user: User, query: Mapping[str, str]) -> list[Task]:
        """Return the tasks that a query selects, as lists show them; errors 3002, 3001, 7006, 90000."""
        if project := query.get("project"):
            self._platform.project(user, project)
        if (status := query.get("status")) and status not in STATUSES:
            raise ApiError(7006)
        if query.get("batch", "true").lower() not in {"true", "false"}:
            raise ApiError(90000)
        wanted: Json = {
            "project": project,
            "state": status,
            "batch": query["batch"].lower() == "true" if "batch" in query else None,
            "parent": query.get("parent"),
            "origin_id": query.get("origin_id"),
        }
        wanted = {name: value for name, value in wanted.items() if value is not None}
        times = {
            (attribute, end): _time(query[f"{name}_{end}"])
            for name, attribute in _TIMES.items()
            for end in ("from", "to")
            if f"{name}_{end}" in query
        }
        # Times are compared as they are shown: by the Platform's clock, in whole seconds.
        skew = timedelta(seconds=self._knobs.date_skew_seconds)

        def matches(task: Task) -> bool:
            if any(getattr(task, name) != value for name, value in wanted.items()):
                return False
            if task.parent and "parent" not in wanted and not self._knobs.list_shows_children:
                return False
            for (attribute, end), limit in times.items():
                moment = getattr(task, attribute)
                if moment is None:
                    return False
                shown = (moment + skew).replace(microsecond=0)
                if shown < limit if end == "from" else shown > limit:
                    return False
            return True

        known = [] if user.access == "none" else list(self._platform.tasks.values())
        tasks = [task for task in self._platform.listed(known) if matches(task)]
        if order_by := query.get("order_by"):
            if order_by not in ORDERS or query.get("order", "asc") not in {"asc", "desc"}:
                raise ApiError(90000)
            # A task without a value, such as the end time of a running one, comes last.
            attribute, descending = ORDERS[order_by], query.get("order") == "desc"
            ordered = [task for task in tasks if getattr(task, attribute) is not None]
            ordered.sort(key=lambda task: getattr(task, attribute), reverse=descending)
            tasks = ordered + [task for task in tasks if getattr(task, attribute) is None]
        return tasks

    def children(self, task: Task) -> list[Task]:
        """Return the children of a batch."""
        return [self._platform.tasks[child] for child in task.children if child in self._platform.tasks]

    # Change

    def create(self, user: User, body: Any, batch: bool = True) -> Task:
        """Create a draft; errors 3006, 3012, 3002, 3001, 7015, 6011, 6002, 6001, 7018 to 7023, 90000.

        :param batch: false to make a single task of a batch.
        """
        if not isinstance(body, dict):
            raise ApiError(90000)
        project = self._writable(user, body.get("project"))
        moment = now()
        app = self._app_of(user, body)
        task = Task(
            id=str(uuid.uuid4()),
            username=user.username,
            project=project,
            app=app,
            name=f"{app.name} run - {moment:%m-%d-%y %H:%M:%S}",
            started_on=moment,
            start_time=moment,
        )
        task = dataclasses.replace(task, **self._changes(task, body))
        if not batch:
            self._disable_batch(task)
        self.validate(user, task)
        self._platform.tasks[task.id] = task
        return task

    def edit(self, user: User, task: Task, body: Any) -> None:
        """Change a draft, or rename a task; inputs that the body leaves out stay. Errors 7001, 7026."""
        self._check_write(user)
        if not isinstance(body, dict):
            raise ApiError(90000)
        if task.state != "DRAFT" and body.keys() - {"name"}:
            raise ApiError(7026)
        changes = self._changes(task, body)
        if "app" in body:
            changes["app"] = self._app_of(user, body)
        for name, value in changes.items():
            setattr(task, name, value)
        if task.state == "DRAFT":
            self.validate(user, task)

    def clone(self, user: User, task: Task) -> Task:
        """Return a new draft with the same app and inputs; error 7001."""
        self._check_write(user)
        moment = now()
        names = ("name", "description", "project", "app", "inputs", "batch", "batch_input", "batch_by")
        settings = ("use_interruptible_instances", "execution_settings", "output_location")
        clone = Task(
            id=str(uuid.uuid4()),
            username=user.username,
            started_on=moment,
            start_time=moment,
            **{name: getattr(task, name) for name in (*names, *settings)},
        )
        self.validate(user, clone)
        self._platform.tasks[clone.id] = clone
        return clone

    def delete(self, user: User, task: Task) -> None:
        """Delete a draft or a terminal task, with its children; its files stay. Errors 7001, 7013."""
        self._check_write(user)
        if task.state not in {"DRAFT", *TERMINAL}:
            raise ApiError(7013)
        for task_id in (task.id, *task.children):
            self._platform.tasks.pop(task_id, None)

    def start(self, user: User, task: Task, batch: bool = True, interruptible: bool | None = None) -> None:
        """Let a draft leave its state; errors 7001, 7007 or 7010, 7022, 7024.

        :param batch: false to run a batch as one task.
        """
        self._check_write(user)
        if task.state != "DRAFT":
            raise ApiError(self._knobs.run_refused_code)
        if not batch:
            self._disable_batch(task)
        self.validate(user, task)
        if task.errors:
            raise ApiError(7024)
        if interruptible is not None:
            task.use_interruptible_instances = interruptible
        task.executed_by, task.start_time = user.username, now()
        task.enter("CREATING" if task.batch or self._knobs.task_creating_seconds else "QUEUED")

    def _disable_batch(self, task: Task) -> None:
        if not task.batch:
            raise ApiError(7022)
        task.batch = False

    def abort(self, user: User, task: Task) -> None:
        """Start to abort a task and its children; errors 7001, 7011 or 7008."""
        self._check_write(user)
        code = self._knobs.abort_refused_code
        allowed = {"RUNNING"} if code == 7008 else {"CREATING", "QUEUED", "RUNNING"}
        if task.state not in allowed:
            raise ApiError(code)
        for each in (*self.children(task), task):
            if each.state not in {"ABORTING", *TERMINAL}:
                each.enter("ABORTING")

    def create_children(self, task: Task) -> list[Task]:
        """Create the children of a batch that runs, each in the state in which it starts."""
        groups = self._groups(task)
        for number, (group, value) in enumerate(groups, start=1):
            moment = now()
            child = dataclasses.replace(
                task,
                id=str(uuid.uuid4()),
                name=f"{task.name} - {number} of {len(groups)}: {group['value']}",
                state="DRAFT",
                past_states=[],
                started_on=moment,
                start_time=moment,
                inputs={**task.inputs, str(task.batch_input): value},
                batch=False,
                batch_input=None,
                batch_by=None,
                batch_group=group,
                parent=task.id,
                children=[],
                logs={},
                held=None,
            )
            child.enter("QUEUED")
            self._platform.tasks[child.id] = child
            task.children.append(child.id)
        return self.children(task)

    def _writable(self, user: User, project: Any) -> str:
        if not isinstance(project, str) or not project:
            raise ApiError(3006)
        if not re.fullmatch("[^/]+/[^/]+", project):
            raise ApiError(3012)
        self._platform.project(user, project)
        if user.access != "write":
            raise ApiError(3001)
        return project

    def _check_write(self, user: User) -> None:
        if user.access != "write":
            raise ApiError(7001)

    def _app_of(self, user: User, body: Json) -> App:
        if not isinstance(body.get("app"), str) or not body["app"]:
            raise ApiError(7015)
        return self.app(user, body["app"])

    def _changes(self, task: Task, body: Json) -> Json:
        """Return the fields of a task that a body sets, or reject it; null leaves a field as it is."""
        given = {name: value for name, value in body.items() if value is not None}
        kinds = {
            "name": str,
            "description": str,
            "inputs": dict,
            "batch": bool,
            "execution_settings": dict,
            "output_location": dict,
            "use_interruptible_instances": bool,
        }
        if any(not isinstance(given[name], kind) for name, kind in kinds.items() if name in given):
            raise ApiError(90000)
        changes = {name: given[name] for name in kinds if name in given}
        if "inputs" in changes:
            changes["inputs"] = {**task.inputs, **self._named(changes["inputs"])}
        instances = changes.get("execution_settings", {}).get("max_parallel_instances", 1)
        if isinstance(instances, bool) or not isinstance(instances, int) or instances < 1:
            raise ApiError(90000)
        if given.keys() & {"batch", "batch_input", "batch_by"}:
            changes |= _batch(task, given)
        return changes

    def _named(self, value: Any, depth: int = 0) -> Any:
        """Return inputs with the names of their files."""
        if depth > _MAX_DEPTH:
            raise ApiError(90000)
        if isinstance(value, list):
            return [self._named(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") not in _FILES:
            return {name: self._named(item, depth + 1) for name, item in value.items()}
        file = self._file(value)
        return {
            "class": value["class"],
            "path": value.get("path"),
            **({"name": file.name} if file else {}),
        }

    def _file(self, value: Json) -> File | None:
        path = value.get("path")
        return self._platform.files.get(path) if isinstance(path, str) else None

    # Validate

    def validate(self, user: User, task: Task) -> None:
        """Set the errors and warnings of a draft."""
        ports = task.app.inputs
        errors: list[tuple[str, str]] = []

        def problem_of(path: str, kind: str) -> str | None:
            try:
                file = self._platform.file(user, path)
            except ApiError as error:
                return f"file {path}: {error.message}"
            is_folder = file.type == "folder"
            return None if is_folder == (kind == "Directory") else f"file {path} is a {file.type}, expected a {kind}"

        for name, port in ports.items():
            value = task.inputs.get(name)
            if task.batch and name == task.batch_input:
                errors += [(name, reason) for reason in self._batch_problems(task, port["type"], problem_of)]
            elif value is None:
                if not is_optional(port):
                    errors.append((name, "Required input is missing."))
            elif reason := mismatch(port["type"], value, problem_of):
                errors.append((name, f"Invalid value: {reason}."))
        if task.batch and task.batch_input not in ports:
            errors.append((str(task.batch_input), "The app has no such input to batch by."))
        errors += [("output_location", reason) for reason in self._location_problems(task)]
        if self._knobs.no_funds:
            errors.append(("billing_group", "The billing group of the project has insufficient funds."))
        task.errors = [self._notice(*error) for error in errors]
        unknown = [name for name in task.inputs if name not in ports]
        task.warnings = [self._notice(name, "The app has no such input.") for name in unknown]

    def _notice(self, name: str, text: str) -> Json | str:
        return {"input": name, "message": text} if self._knobs.task_errors == "objects" else f"{name}: {text}"

    def _batch_problems(self, task: Task, kind: Any, problem_of: Any) -> list[str]:
        if not isinstance(task.inputs.get(str(task.batch_input)), list):
            return ["A list is needed to batch by."]
        groups = self._groups(task)
        if not groups:
            return ["No batch element matches the criteria."]
        reasons = ((group["value"], mismatch(kind, value, problem_of)) for group, value in groups)
        return [f"Invalid value in {group}: {reason}." for group, reason in reasons if reason][:10]

    def _groups(self, task: Task) -> list[tuple[Json, Any]]:
        """Return the groups of a batch, each with the value of the batch input for its child."""
        port = task.app.inputs.get(str(task.batch_input), {"type": "null"})
        members: dict[str, tuple[Json, list[Any]]] = {}
        for number, item in enumerate(task.inputs[str(task.batch_input)]):
            file = self._file(item) if isinstance(item, dict) else None
            if (task.batch_by or {})["type"] == "ITEM":
                value = file.name if file else str(item)
                members[str(number)] = ({"value": value, "fields": {}}, [item])
                continue
            fields = {name: _metadata(file, name) for name in (task.batch_by or {})["criteria"]} if file else {}
            if fields and None not in fields.values():
                group = {"value": ", ".join(map(str, fields.values())), "fields": fields}
                members.setdefault(repr(fields), (group, []))[1].append(item)
        takes_list = accepts_list(port["type"])
        return [(group, items[0] if len(items) == 1 and not takes_list else items) for group, items in members.values()]

    # Outputs

    def _location_problems(self, task: Task) -> list[str]:
        locations = [task.output_location.get("main_location")]
        nodes = task.output_location.get("nodes_location") or {}
        if not isinstance(nodes, dict) or not all(isinstance(node, dict) for node in nodes.values()):
            return ["Invalid nodes_location."]
        locations += [node.get("output_location") for node in nodes.values()]
        reasons = []
        for location in locations:
            if location is not None and not isinstance(location, str):
                reasons.append("A location must be text.")
            elif location and location.startswith(_VOLUMES):
                try:
                    self._platform.check_volume(self._volume_at(task, location)[0])
                except ApiError as error:
                    reasons.append(error.message)
        return reasons

    def _volume_at(self, task: Task, location: str) -> tuple[Volume, str]:
        """Return the volume, by id or by its name, and the path of `volumes://volume/path`; error 9007."""
        first, _, rest = location.removeprefix(_VOLUMES).partition("/")
        second, _, below = rest.partition("/")
        volumes = self._platform.volumes
        if volume := volumes.get(f"{first}/{second}"):
            return volume, below
        if volume := volumes.get(f"{task.project.partition('/')[0]}/{first}"):
            return volume, rest
        raise ApiError(9007)

    def compute(self, task: Task) -> Mapping[str, Any]:
        """Run the app's function on the task's inputs. It blocks, and raises what the function raises."""
        defaults = {name: port["default"] for name, port in task.app.inputs.items() if "default" in port}
        given = {name: value for name, value in task.inputs.items() if value is not None}
        values = {**dict.fromkeys(task.app.inputs), **defaults, **given}
        return task.app.run({name: self._readable(value) for name, value in values.items()})

    def _readable(self, value: Any) -> Any:
        """Return an input with files that can be read."""
        if isinstance(value, list):
            return [self._readable(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") in _FILES:
            if file := self._file(value):
                return self._opened(file)
            raise FileNotFoundError(f"The file {value.get('path')} does not exist.")
        return {name: self._readable(item) for name, item in value.items()}

    def _opened(self, file: File) -> InputFile | InputFolder:
        if file.type == "folder":
            return InputFolder(file.name, [self._opened(each) for each in self._platform.children(file)])
        return InputFile(file.name, dict(file.metadata), lambda: self._platform.file_bytes(file))

    def publish(self, task: Task, results: Mapping[str, Any]) -> Json:
        """Store what an app's function returned, and return the outputs as the API shows them. It blocks."""
        # Two tasks must not choose the same free name.
        with self._publishing:
            return {port: self._published(task, port, results.get(port)) for port in task.app.outputs}

    def _published(self, task: Task, port: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._published(task, port, item) for item in value]
        if not isinstance(value, OutputFile | OutputFolder):
            return value
        volume, path, folder = self._place(task, port)
        if isinstance(value, OutputFolder):
            path = _joined(path, value.name)
            folder = self._platform.add_folder(self._free_name(folder, value.name), task.project, folder.id)
            for file in value.files:
                self._store(task, file, volume, path, folder)
            return {"class": "Directory", "path": folder.id, "name": folder.name}
        return self._store(task, value, volume, path, folder)

    def _store(self, task: Task, output: OutputFile, volume: Volume | None, path: str, folder: File) -> Json:
        """Store a file and those that belong to it."""
        for each in output.beside:
            self._store(task, each, volume, path, folder)
        secondary = [self._store(task, each, volume, path, folder) for each in output.secondary]
        name = self._free_name(folder, output.name, volume, path)
        location = _joined(path, name)
        file = self._platform.add_file(
            name,
            output.data,
            task.project,
            folder.id,
            alias=(volume.id, location) if volume else None,
            task=task.id,
            secondary=tuple(each["path"] for each in secondary),
        )
        if volume:
            self._platform.exported[volume.bucket, self._platform.key(volume, location)] = now()
        shown = {"class": "File", "path": file.id, "name": name, "basename": name}
        return {**shown, "secondaryFiles": secondary} if secondary else shown

    def _place(self, task: Task, port: str) -> tuple[Volume | None, str, File]:
        """Return where an output is stored: the volume and the path there if it is on one, and its folder."""
        settings = task.output_location
        node = (settings.get("nodes_location") or {}).get(port) if settings.get("nodes_override") else None
        location = str((node or {}).get("output_location") or settings.get("main_location") or "")
        alias = (node or {}).get("output_location_alias") or settings.get("main_location_alias") or ""
        tokens = {"task_id": task.id, "task_name": task.name.replace("/", "_"), "project_id": task.project}

        def filled(text: str) -> str:
            path = re.sub("<(task_id|task_name|project_id)>", lambda token: tokens[token[1]], text)
            return "/".join(part for part in path.split("/") if part not in {"", ".", ".."})

        if not location.startswith(_VOLUMES):
            return None, "", self._platform.folder_at(filled(location), task.project)
        volume, path = self._volume_at(task, location)
        self._platform.check_volume(volume)
        return volume, filled(path), self._platform.folder_at(filled(str(alias)), task.project)

    def _free_name(self, folder: File, name: str, volume: Volume | None = None, path: str = "") -> str:
        """Return the name, with `_<n>_` before it if the folder or the volume has a file of that name."""
        platform = self._platform
        taken = {file.name for file in platform.children(folder)}

        def is_free(name: str) -> bool:
            if name in taken:
                return False
            return not (volume and platform.storage.stat(volume.bucket, platform.key(volume, _joined(path, name))))

        numbered = (f"_{number}_{name}" for number in itertools.count(1))
        return next(filter(is_free, itertools.chain([name], numbered)))

    def write_logs(self, task: Task, text: str) -> None:
        """Store the log files of a task, which no folder contains. It blocks."""
        command = " ".join(task.app.raw["baseCommand"]) + "\n"
        for name, log in (("cmd.log", command), ("job.err.log", text)):
            file = self._platform.add_file(name, log.encode(errors="replace"), task.project, task=task.id)
            file.parent = None
            task.logs[name] = file.id


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _batch(task: Task, given: Json) -> Json:
    """Return the batch settings of a task after a change; errors 7018 to 7020, 7023."""
    batch_input, batch_by = given.get("batch_input", task.batch_input), given.get("batch_by", task.batch_by)
    if batch_input == "":
        raise ApiError(7018)
    if (batch_input is None) != (batch_by is None) or (given.get("batch") and batch_by is None):
        raise ApiError(7023)
    if batch_by is not None:
        if not isinstance(batch_input, str) or not isinstance(batch_by, dict):
            raise ApiError(90000)
        kind, criteria = str(batch_by.get("type")).upper(), batch_by.get("criteria")
        if kind not in {"ITEM", "CRITERIA"}:
            raise ApiError(7020)
        if kind == "CRITERIA":
            if not isinstance(criteria, list) or not criteria or not all(isinstance(each, str) for each in criteria):
                raise ApiError(7019)
            batch_by = {"type": kind, "criteria": criteria}
        else:
            batch_by = {"type": kind}
    return {"batch": given.get("batch", batch_by is not None), "batch_input": batch_input, "batch_by": batch_by}


def _metadata(file: File, criterion: str) -> Any:
    return file.metadata.get(criterion.removeprefix("metadata."))


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(90000) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
