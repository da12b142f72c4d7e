"""The result of a task: its outputs by port, and the files among them with their index files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider.api.index_files import index_names
from airflow_sb_provider.tasks.ports import file_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.models import File
    from airflow_sb_provider.api.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """A task, and the files that it has made.

    :param files: the files among the outputs, by id, as far as they can be read.
    :param beside: the files that the task has made, by folder and name.
    :param children: of a batch, its tasks.
    """

    task: Task
    files: Mapping[str, File] = field(default_factory=dict)
    beside: Mapping[tuple[str | None, str], File] = field(default_factory=dict)
    children: Sequence[Task] = ()
    adopted: bool = False

    @property
    def output_files(self) -> list[dict[str, Any]]:
        """The files among the outputs, each once, with the first port that has it."""
        output_files = [
            _output_file(file_id, port, self.files.get(file_id), self.beside)
            for each in (self.task, *self.children)
            for port, value in each.outputs.items()
            for file_id, kind in file_ids({port: value})
            if kind == "File"
        ]
        return list({item["id"]: item for item in output_files}.values())

    def to_result(self, url: str | None = None) -> dict[str, Any]:
        """Return the plain dict that operator and sensor return.

        :param url: the task's page.
        """
        task, output_files = self.task, self.output_files
        with_index = [each for item in output_files for each in (item, *item["index_files"])]
        return {
            "task_id": task.id,
            "name": task.name,
            "status": task.state,
            "app": task.app,
            "project": task.project,
            "outputs": {port: plain_output(value) for port, value in task.outputs.items()},
            "output_files": output_files,
            "file_ids": list(dict.fromkeys(item["id"] for item in with_index)),
            "price": dict(task.price) or None,
            "started_on": task.started_on.isoformat() if task.started_on else None,
            "finished_on": task.finished_on.isoformat() if task.finished_on else None,
            "adopted": self.adopted,
            "url": url,
            "batch": dict(task.execution.children) if task.batch else None,
            "children": [
                {
                    "task_id": child.id,
                    "name": child.name,
                    "status": child.state,
                    "outputs": {port: plain_output(value) for port, value in child.outputs.items()},
                }
                for child in self.children
            ],
        }


@dataclass(frozen=True, slots=True)
class MadeFile:
    """An output file of a task, for asset events and lineage.

    :param platform: the Platform's namespace in lineage.
    :param item: as in the result.
    """

    platform: str
    item: Mapping[str, Any]
    task_id: str
    app: str | None

    @property
    def uri(self) -> str:
        """Its name in lineage, as exports name their files: the namespace and the id."""
        return f"{self.platform}/{self.item['id']}"

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of its asset event."""
        names = ("id", "name", "size", "port")
        return {"uri": self.uri, **{name: self.item[name] for name in names}, "task_id": self.task_id, "app": self.app}


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a task has read and made, for asset events and lineage.

    :param platform: the Platform's namespace in lineage.
    """

    platform: str
    outcome: TaskOutcome
    items: ClassVar[str] = "files"
    many: ClassVar[bool] = True
    manifest: ClassVar[None] = None
    without_address: ClassVar[tuple[str, ...]] = ()

    @property
    def inputs(self) -> list[str]:
        """The ids of its input files."""
        found = [file_id for file_id, kind in file_ids(dict(self.outcome.task.inputs)) if kind == "File"]
        return list(dict.fromkeys(found))

    @property
    def outputs(self) -> list[MadeFile]:
        """Its output files."""
        task = self.outcome.task
        return [MadeFile(self.platform, item, task.id, task.app) for item in self.outcome.output_files]

    @property
    def announced(self) -> list[MadeFile]:
        """Its output files."""
        return self.outputs

    @property
    def announced_total(self) -> int:
        """How many output files."""
        return len(self.outputs)

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of an outlet that stands for the task."""
        task, sizes = self.outcome.task, [made.item["size"] or 0 for made in self.outputs]
        return {
            "task_id": task.id,
            "app": task.app,
            "project": task.project,
            "adopted": self.outcome.adopted,
            "total": len(sizes),
            "bytes": sum(sizes),
        }


def plain_output(value: Any) -> Any:
    """Return an output with the ids of files and folders instead of their objects."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory") and isinstance(value.get("path"), str):
            return value["path"]
        return {name: plain_output(item) for name, item in value.items()}
    return [plain_output(item) for item in value] if isinstance(value, list) else value


def is_empty(task: Task) -> bool:
    """Whether a task shows no outputs: the Platform may show them late."""
    return not any(value is not None for value in task.outputs.values())


def _output_file(
    file_id: str, port: str, file: File | None, beside: Mapping[tuple[str | None, str], File]
) -> dict[str, Any]:
    name, index_files = None, []
    if file:
        name = file.name
        found = [beside.get((file.parent, candidate)) for candidate in index_names(name or "")]
        index_files = [{"id": index.id, "name": index.name, "size": index.size} for index in found if index]
    return {"id": file_id, "name": name, "size": file.size if file else None, "port": port, "index_files": index_files}
