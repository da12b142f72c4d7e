"""The files of tasks: what an app's function reads, and what it makes."""

from __future__ import annotations

import itertools
import re
import threading
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.apps import FILES, InputFile, InputFolder, OutputFile, OutputFolder
from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.platform import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.emulator.platform import File, Platform, Volume
    from airflow_sb_provider.emulator.tasks import Task

Json = dict[str, Any]

_MAX_DEPTH = 20
_VOLUMES = "volumes://"


class TaskFiles:
    """Reads inputs and stores outputs. `compute`, `publish` and `write_logs` block.

    :param platform: holds the files.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._publishing = threading.Lock()

    def file_of(self, value: Json) -> File | None:
        """Return the file or folder that the value of an input names, if it exists."""
        path = value.get("path")
        return self._platform.files.get(path) if isinstance(path, str) else None

    def named(self, value: Any, depth: int = 0) -> Any:
        """Return inputs with the names of their files; error 90000 if they are too deep."""
        if depth > _MAX_DEPTH:
            raise ApiError(90000)
        if isinstance(value, list):
            return [self.named(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") not in FILES:
            return {name: self.named(item, depth + 1) for name, item in value.items()}
        file = self.file_of(value)
        return {
            "class": value["class"],
            "path": value.get("path"),
            **({"name": file.name} if file else {}),
        }

    def location_problems(self, task: Task) -> list[str]:
        """Return why outputs cannot be stored where the task wants them."""
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
        values = {}
        for name, port in task.app.inputs.items():
            value = task.inputs.get(name)
            values[name] = self._readable(port.get("default") if value is None else value)
        return task.app.run(values)

    def _readable(self, value: Any) -> Any:
        """Return an input with files that can be read."""
        if isinstance(value, list):
            return [self._readable(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") in FILES:
            if file := self.file_of(value):
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
