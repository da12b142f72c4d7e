"""Validates drafts, and groups the inputs of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.apps import accepts_list, is_optional, mismatch
from airflow_sb_provider.emulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.platform import File, Platform, User
    from airflow_sb_provider.emulator.task_files import TaskFiles
    from airflow_sb_provider.emulator.tasks import Task

Json = dict[str, Any]


class Drafts:
    """Compares drafts with the ports of their apps.

    :param platform: holds the files.
    :param files: the files of tasks.
    """

    def __init__(self, platform: Platform, files: TaskFiles) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._files = files

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
        errors += [("output_location", reason) for reason in self._files.location_problems(task)]
        if self._knobs.no_funds:
            errors.append(("billing_group", "The billing group of the project has insufficient funds."))
        task.errors = [self._notice(*error) for error in errors]
        unknown = [name for name in task.inputs if name not in ports]
        task.warnings = [self._notice(name, "The app has no such input.") for name in unknown]

    def _notice(self, name: str, text: str) -> Json | str:
        return {"input": name, "message": text} if self._knobs.task_errors == "objects" else f"{name}: {text}"

    def _batch_problems(self, task: Task, kind: Any, problem_of: Callable[[str, str], str | None]) -> list[str]:
        if not isinstance(task.inputs.get(str(task.batch_input)), list):
            return ["A list is needed to batch by."]
        groups = self.groups(task)
        if not groups:
            return ["No batch element matches the criteria."]
        reasons = ((group["value"], mismatch(kind, value, problem_of)) for group, value in groups)
        return [f"Invalid value in {group}: {reason}." for group, reason in reasons if reason][:10]

    def groups(self, task: Task) -> list[tuple[Json, Any]]:
        """Return the groups of a batch, each with the value of the batch input for its child."""
        port = task.app.inputs.get(str(task.batch_input), {"type": "null"})
        members: dict[str, tuple[Json, list[Any]]] = {}
        for number, item in enumerate(task.inputs[str(task.batch_input)]):
            file = self._files.file_of(item) if isinstance(item, dict) else None
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


def _metadata(file: File, criterion: str) -> Any:
    return file.metadata.get(criterion.removeprefix("metadata."))
