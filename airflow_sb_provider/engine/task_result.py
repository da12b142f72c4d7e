"""Read the outputs of a completed task, and the index files beside them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import File
from airflow_sb_provider.api.task import Task
from airflow_sb_provider.exceptions import SevenBridgesApiError
from airflow_sb_provider.tasks.outcome import TaskOutcome, is_empty
from airflow_sb_provider.tasks.ports import file_ids

if TYPE_CHECKING:
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

# In seconds: the pauses between reads of a completed task that shows no outputs yet.
_PAUSES = (1.0, 2.0, 4.0, 8.0)


def read_outcome(hook: SevenBridgesHook, task_id: str, *, adopted: bool = False) -> TaskOutcome:
    """Return the outcome of a completed task.

    One request reads the task, one per hundred its output files, and one per folder and hundred the files beside them.
    """
    task = hook.get_task(task_id)
    for pause in _PAUSES:
        if task.batch or not is_empty(task):
            break
        # Users report that a completed task shows its outputs only when it is read again.
        time.sleep(pause)
        task = hook.get_task(task_id)
    children = _children(hook, task) if task.batch else []
    ids = dict.fromkeys(
        file_id for each in (task, *children) for file_id, kind in file_ids(dict(each.outputs)) if kind == "File"
    )
    files = {file.id: file for file in hook.get_files(list(ids)) if isinstance(file, File)}
    made_by = [task.id, *(child.id for child in children)]
    beside = _files_beside(hook, files, made_by)
    return TaskOutcome(task=task, files=files, beside=beside, children=children, adopted=adopted)


def failed_children(hook: SevenBridgesHook, task: Task) -> list[Task]:
    """Return the tasks of a batch that failed or were aborted."""
    children = hook.list_tasks(task.project or "", parent=task.id)
    return [child for child in children if child.failed]


def _children(hook: SevenBridgesHook, task: Task) -> list[Task]:
    ids = [child.id for child in hook.list_tasks(task.project or "", parent=task.id)]
    found = hook.fetch_each(ids, lambda ids: calls.get_tasks(ids, outputs=True))
    return [child for child in found if isinstance(child, Task)]


def _files_beside(
    hook: SevenBridgesHook, files: dict[str, File], task_ids: list[str]
) -> dict[tuple[str | None, str], File]:
    """Return the files that the tasks have made in the folders of some files, by folder and name."""
    folders = {(file.project, file.parent) for file in files.values()}
    origins = {file.origin_task for file in files.values() if file.origin_task} or set(task_ids)
    beside: dict[tuple[str | None, str], File] = {}
    for project, parent in folders:
        for task_id in sorted(origins):
            try:
                listed = hook.list_files(project=None if parent else project, parent=parent, origin_task=task_id)
            except SevenBridgesApiError as error:
                # The task has succeeded: its index files alone must not fail it.
                hook.log.warning("The index files of task %s cannot be listed: %s", task_id, error)
                continue
            beside |= {(file.parent or parent, file.name): file for file in listed if file.name}
    return beside
