"""A validated task: the app, its inputs, and how it runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.inputs import (
    Problems,
    as_list,
    from_text,
    is_absent,
    read_boolean,
    read_count,
    read_item,
    read_text,
    short,
)

EXECUTION_SETTINGS = ("instance_type", "max_parallel_instances", "use_memoization", "use_elastic_disk")
OUTPUT_LOCATION = ("main_location", "main_location_alias", "nodes_override", "nodes_location")
ITEM = "ITEM"
_SLUG = r"[^/\s?#%]+"
_PROJECT = re.compile(rf"{_SLUG}/{_SLUG}")
_APP = re.compile(rf"{_SLUG}/{_SLUG}/{_SLUG}(/[0-9]+)?")
_CRITERION = re.compile(r"metadata\.\S.*")
_MARK = "Airflow key: "
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A validated task: create one with `checked`.

    :param key: identifies the wish for it among all tasks of the project: the same for each try of one task instance.
    :param generation: changes when the task instance is cleared, which is a wish to run the app again.
    """

    app: str
    project: str
    name: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    description: str = ""
    execution_settings: Mapping[str, Any] | None = field(default=None, hash=False)
    use_interruptible_instances: bool | None = None
    batch_by: tuple[str, ...] = ()
    batch_input: str | None = None
    output_location: Mapping[str, Any] | None = field(default=None, hash=False)
    key: str = ""
    generation: int = 0

    @classmethod
    def checked(
        cls,
        *,
        app: object,
        project: object,
        name: object = None,
        inputs: object = None,
        description: object = None,
        execution_settings: object = None,
        use_interruptible_instances: object = None,
        batch_by: object = None,
        batch_input: object = None,
        output_location: object = None,
    ) -> TaskRequest:
        """Return the request for these values; mappings, lists and booleans may be text from a template.

        :raises SevenBridgesInputError: naming every invalid field, its value and the fix.
        """
        problems = Problems()
        read = problems.read
        request = cls(
            app=read("app", _read_app, app, ""),
            project=read("project", read_project, project, ""),
            name=read("name", _read_line, name, ""),
            inputs=read("inputs", _read_inputs, inputs, {}),
            description=read("description", _read_optional, description, ""),
            execution_settings=read("execution_settings", _read_settings, execution_settings, None),
            use_interruptible_instances=read(
                "use_interruptible_instances", _read_flag, use_interruptible_instances, None
            ),
            batch_by=read("batch_by", _read_criteria, batch_by, ()),
            batch_input=read("batch_input", _read_line, batch_input, "") or None,
            output_location=read("output_location", _read_location, output_location, None),
        )
        if bool(request.batch_by) != bool(request.batch_input) and not problems.texts:
            given, missing = ("batch_by", "batch_input") if request.batch_by else ("batch_input", "batch_by")
            problems.texts.append(f"{missing}: it is missing, and {given} is set; give both, or neither.")
        problems.raise_if_any()
        return request

    @property
    def target(self) -> tuple[str, ...]:
        """The app and the project."""
        return self.app, self.project

    @property
    def fingerprint(self) -> str:
        """A digest of what determines the results: another name, description or instance is not another task."""
        values = [self.app, self.project, self.inputs, self.batch_by, self.batch_input, self.output_location]
        text = json.dumps(values, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def mark(self) -> str:
        """The line of the description by which a try finds the task that an earlier one created."""
        return f"{_MARK}{self.key}"

    @property
    def full_description(self) -> str:
        """The task's description: the user's, and the mark with the generation."""
        mark = f"{self.mark}-{self.generation}" if self.key else ""
        return "\n\n".join(filter(None, [self.description, mark]))

    def body(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of ``POST /tasks``, which creates a draft.

        :param inputs: as the app's ports require.
        """
        body: dict[str, Any] = {
            "project": self.project,
            "app": self.app,
            "name": self.name,
            "description": self.full_description,
            "inputs": dict(inputs),
            "execution_settings": self.execution_settings,
            "use_interruptible_instances": self.use_interruptible_instances,
            "output_location": self.output_location,
        }
        if self.batch_by and self.batch_input:
            is_by_item = self.batch_by == (ITEM,)
            criteria = {"type": ITEM} if is_by_item else {"type": "CRITERIA", "criteria": list(self.batch_by)}
            body |= {"batch": True, "batch_input": self.batch_input, "batch_by": criteria}
        return {name: value for name, value in body.items() if value is not None}

    def generation_of(self, description: str) -> int | None:
        """Return the generation in a task's description; None if the task was not created for this wish."""
        found = re.search(rf"^{re.escape(self.mark)}-([0-9]{{1,9}})\s*$", description, re.MULTILINE)
        return int(found[1]) if found else None

    def __str__(self) -> str:
        name = f" {readable(self.name, 200)!r}" if self.name else ""
        return f"task{name} of app {self.app} in project {self.project}"


def wish_key(*identity: object) -> str:
    """Return the key of a wish: a digest of what identifies the task instance."""
    text = json.dumps([str(part) for part in identity])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def read_project(value: object) -> str:
    """Return a project's id.

    :raises ValueError: if it is not ``owner/name``.
    """
    text = read_text(value, "a project id such as rfranklin/my-project")
    if not _PROJECT.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise ValueError(f"{short(text)} is not owner/name; use a project id such as rfranklin/my-project.")
    return text


def _read_app(value: object) -> str:
    text = read_text(value, "an app id such as rfranklin/my-project/fastqc/0")
    if not _APP.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise ValueError(
            f"{short(text)} is not owner/project/app or owner/project/app/revision; use an app id such as "
            "rfranklin/my-project/fastqc/0."
        )
    return text


def _read_optional(value: object) -> str:
    return "" if is_absent(value) else read_item(value, "a text")


def _read_line(value: object) -> str:
    text = _read_optional(value)
    if not text.isprintable():
        raise ValueError(f"{short(text)} has characters that are not printable; give one line of text.")
    return text


def _read_flag(value: object) -> bool | None:
    return None if is_absent(value) else read_boolean(value)


def _read_mapping(value: object, example: str) -> dict[str, Any] | None:
    if is_absent(value):
        return None
    given = from_text(value)
    if not isinstance(given, Mapping):
        raise ValueError(f"{short(value)} is not a mapping; give one such as {example}.")
    return {str(name): item for name, item in given.items()}


def _read_inputs(value: object) -> dict[str, Any]:
    inputs = _read_mapping(value, "{'reads': '567890abc9b0307bc0414164'}") or {}
    return {name: _plain(item, name) for name, item in inputs.items()}


def _plain(value: object, where: str, levels: int = _DEEPEST) -> Any:
    """Return a value as plain JSON.

    :raises ValueError: if it cannot be.
    """
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    if levels and isinstance(value, Mapping):
        return {str(name): _plain(item, f"{where}.{name}", levels - 1) for name, item in value.items()}
    if levels and (items := as_list(value)) is not None:
        return [_plain(item, f"{where}[{number}]", levels - 1) for number, item in enumerate(items)]
    raise ValueError(
        f"{where}: {short(value)} is not a JSON value; give text, a number, a boolean, a list or a mapping."
    )


def _read_settings(value: object) -> dict[str, Any] | None:
    settings = _read_mapping(value, "{'instance_type': 'c4.2xlarge'}")
    if settings is None:
        return None
    if unknown := [name for name in settings if name not in EXECUTION_SETTINGS]:
        raise ValueError(f"{unknown[0]!r} is unknown; use {', '.join(EXECUTION_SETTINGS)}.")
    readers = {"instance_type": _read_line, "max_parallel_instances": read_count}
    read: dict[str, Any] = {}
    for name, item in settings.items():
        try:
            read[name] = readers.get(name, read_boolean)(item)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from None
    return read


def _read_criteria(value: object) -> tuple[str, ...]:
    if is_absent(value):
        return ()
    given = from_text(value)
    if isinstance(given, Mapping):
        # As the API has it.
        given = ITEM if str(given.get("type")).upper() == ITEM else given.get("criteria")
    if isinstance(given, str) and given.strip().upper() == ITEM:
        return (ITEM,)
    items = [given] if isinstance(given, str) else as_list(given)
    if not items:
        raise ValueError(f"{short(value)} is no criterion; use 'item', or a list such as ['metadata.sample_id'].")
    for item in items:
        if not isinstance(item, str) or not _CRITERION.fullmatch(item):
            raise ValueError(f"{short(item)} is not a metadata field; use a criterion such as 'metadata.sample_id'.")
    return tuple(items)


def _read_location(value: object) -> dict[str, Any] | None:
    if isinstance(value, str) and not is_absent(value) and not value.strip().startswith("{"):
        return {"main_location": value}
    location = _read_mapping(value, "{'main_location': 'results/<task_id>'}")
    if location and (unknown := [name for name in location if name not in OUTPUT_LOCATION]):
        raise ValueError(f"{unknown[0]!r} is unknown; use {', '.join(OUTPUT_LOCATION)}.")
    return {name: _plain(item, name) for name, item in location.items()} if location else None
