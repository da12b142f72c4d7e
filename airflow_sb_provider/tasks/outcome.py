"""The result of a task: its outputs by port, and the files among them with their index files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.index_files import index_names
from airflow_sb_provider.tasks.ports import file_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.models import File
    from airflow_sb_provider.api.task import Task


def task_result(
    task: Task,
    *,
    files: Mapping[str, File],
    beside: Mapping[tuple[str | None, str], File],
    children: Sequence[Task] = (),
    adopted: bool = False,
    url: str | None = None,
) -> dict[str, Any]:
    """Return the plain dict that the operator returns.

    :param files: the files among the outputs, by id, as far as they can be read.
    :param beside: the files that the task has made, by folder and name.
    :param children: of a batch, its tasks.
    """
    outputs = [task, *children]
    output_files = [
        _output_file(file_id, port, files.get(file_id), beside)
        for each in outputs
        for port, value in each.outputs.items()
        for file_id, kind in file_ids({port: value})
        if kind == "File"
    ]
    # A file may be at two ports.
    output_files = list({item["id"]: item for item in output_files}.values())
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
        "adopted": adopted,
        "url": url,
        "batch": dict(task.execution.children) if task.batch else None,
        "children": [
            {
                "task_id": child.id,
                "name": child.name,
                "status": child.state,
                "outputs": {port: plain_output(value) for port, value in child.outputs.items()},
            }
            for child in children
        ],
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
