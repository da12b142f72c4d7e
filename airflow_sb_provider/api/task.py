"""Tasks and apps of the Platform, typed. A task is one run of an app.

Parsing is as tolerant as in `api.models`: of tasks, too, the API's documentation contradicts itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider.api.models import Storable, error_from_json
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.api.values import (
    Json,
    as_list,
    as_object,
    as_record,
    as_text,
    as_word,
    identifier,
    parse_integer,
    required,
)
from airflow_sb_provider.exceptions import SevenBridgesApiError

if TYPE_CHECKING:
    from pendulum import DateTime

_LONGEST_MESSAGE = 1000
_MOST_MESSAGES = 50


class TaskState(StrEnum):
    """The documented states of a task."""

    DRAFT = "DRAFT"
    CREATING = "CREATING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ABORTING = "ABORTING"
    ABORTED = "ABORTED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


_STATES = frozenset(TaskState)
ENDED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.ABORTED)


@dataclass(frozen=True, slots=True)
class ExecutionStatus(Storable):
    """How far a task is; None for values that the Platform does not give.

    ``account_limit`` and ``system_limit`` say that a queued task waits for instances of the account or of the Platform.
    ``children`` counts the tasks of a batch by state.
    """

    message: str = ""
    steps_completed: int | None = None
    steps_total: int | None = None
    account_limit: bool = False
    system_limit: bool = False
    children: Json = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Json) -> ExecutionStatus:
        """Build from the task's ``execution_status``."""
        counts = {name: parse_integer(data.get(name)) for name in _CHILDREN}
        return cls(
            message=readable(as_text(data.get("message")) or "", _LONGEST_MESSAGE),
            steps_completed=parse_integer(data.get("steps_completed")),
            steps_total=parse_integer(data.get("steps_total")),
            account_limit=data.get("account_limit") is True,
            system_limit=data.get("system_limit") is True,
            children={name: count for name, count in counts.items() if count},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the ``execution_status`` of the API."""
        names = ("message", "steps_completed", "steps_total", "account_limit", "system_limit")
        values = {name: getattr(self, name) for name in names} | dict(self.children)
        return {name: value for name, value in values.items() if value not in (None, "", False)}


_CHILDREN = ("queued", "running", "completed", "failed", "aborted")


@dataclass(frozen=True, slots=True)
class Task(Storable):
    """A task; None for values that the Platform does not give.

    ``state`` is the API's ``status``: one of `TaskState`, or another word of the Platform, in capitals. ``errors`` and
    ``warnings`` are those of a draft's validation. ``started_on`` is when it was started or, before that, created.
    ``inputs`` and ``outputs`` are the Platform's objects, unchanged. ``price`` has ``amount`` and ``currency``.
    ``error`` says why it failed; the Platform gives no code.
    """

    id: str
    state: str
    name: str | None = None
    app: str | None = None
    project: str | None = None
    description: str = ""
    created_on: DateTime | None = None
    started_on: DateTime | None = None
    finished_on: DateTime | None = None
    batch: bool = False
    parent: str | None = None
    execution: ExecutionStatus = ExecutionStatus()
    price: Json = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)
    outputs: Json = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    _times: ClassVar[tuple[str, ...]] = ("created_on", "started_on", "finished_on")

    @property
    def ended(self) -> bool:
        """Whether the task is terminal. A state that is not documented is terminal if the task has an end time."""
        return self.state in ENDED or (self.state not in _STATES and self.finished_on is not None)

    @property
    def succeeded(self) -> bool:
        """Whether the task completed."""
        return self.state == TaskState.COMPLETED

    @property
    def failed(self) -> bool:
        """Whether the task is terminal without success."""
        return self.ended and not self.succeeded

    @property
    def error(self) -> SevenBridgesApiError | None:
        """Why the task failed, in the Platform's words. Its status is 0: a new task may succeed."""
        if not self.failed:
            return None
        return SevenBridgesApiError(0, message=self.execution.message or "; ".join(self.errors))

    @property
    def failed_children(self) -> int:
        """How many tasks of a batch failed or were aborted."""
        return sum(self.execution.children.get(name, 0) for name in ("failed", "aborted"))

    @classmethod
    def from_json(cls, data: Json) -> Task:
        """Build from the API's task object.

        :raises ValueError: if ``id`` is missing or invalid, or if ``status`` is missing.
        """
        state = as_word(data.get("status"))
        if not state:
            raise ValueError("'status' is missing")
        created = parse_time(data.get("created_time"))
        price = as_object(data.get("price"))
        amounts = {
            name: price[name] for name in ("amount", "currency") if isinstance(price.get(name), str | int | float)
        }
        return cls(
            id=identifier(data, "id"),
            state=state.upper(),
            name=as_text(data.get("name")),
            app=as_text(data.get("app")),
            project=as_text(data.get("project")),
            description=as_text(data.get("description")) or "",
            created_on=created,
            started_on=parse_time(data.get("start_time")) or created,
            finished_on=parse_time(data.get("end_time")),
            batch=data.get("batch") is True,
            parent=as_text(data.get("parent")),
            execution=ExecutionStatus.from_json(as_object(data.get("execution_status"))),
            price={name: readable(str(value), 50) for name, value in amounts.items()},
            inputs=as_record(data.get("inputs")),
            outputs=as_record(data.get("outputs")),
            errors=_messages(data.get("errors")),
            warnings=_messages(data.get("warnings")),
        )

    @classmethod
    def from_list(cls, data: Json) -> Task:
        """Build from an item of a list, which may be brief.

        :raises ValueError: if ``id`` is missing or invalid.
        """
        return cls.from_json({"status": TaskState.UNKNOWN, **data})

    def to_json(self) -> dict[str, Any]:
        """Return the API's task object without inputs and outputs, small enough for a trigger's event."""
        times = {"created_time": self.created_on, "start_time": self.started_on, "end_time": self.finished_on}
        return {
            "id": self.id,
            "status": self.state,
            "name": self.name,
            "app": self.app,
            "project": self.project,
            "batch": self.batch,
            **{name: time.isoformat() if time else None for name, time in times.items()},
            "execution_status": self.execution.to_json(),
            "price": dict(self.price),
            "errors": list(self.errors),
        }


@dataclass(frozen=True, slots=True)
class App(Storable):
    """One revision of an app. ``inputs`` are the ports of its CWL description, each with ``id`` and ``type``."""

    id: str
    name: str | None = None
    revision: int | None = None
    inputs: tuple[Json, ...] = ()

    @classmethod
    def from_json(cls, data: Json) -> App:
        """Build from the API's app object, whose ``raw`` is the CWL description.

        :raises ValueError: if ``id`` is missing or invalid.
        """
        raw = as_record(data.get("raw"))
        ports = raw.get("inputs")
        if isinstance(ports, dict):
            # CWL also allows a mapping by id, whose values may be types alone.
            ports = [
                {"id": name, **(port if isinstance(port, dict) else {"type": port})} for name, port in ports.items()
            ]
        return cls(
            id=identifier(data, "id"),
            name=as_text(data.get("name")),
            revision=parse_integer(data.get("revision")),
            inputs=tuple(port for port in as_list(ports) if as_text(as_object(port).get("id"))),
        )


@dataclass(frozen=True)
class Project(Storable):
    """A project."""

    id: str
    name: str | None = None

    @classmethod
    def from_json(cls, data: Json) -> Project:
        """Build from the API's project object.

        :raises ValueError: if ``id`` is missing.
        """
        return cls(id=required(data, "id"), name=as_text(data.get("name")))


def _messages(value: object) -> tuple[str, ...]:
    """Return the texts of a draft's ``errors`` or ``warnings``: a list of texts or of objects with a message."""
    texts = []
    for item in as_list(value)[:_MOST_MESSAGES]:
        text = item if isinstance(item, str) else ""
        if isinstance(item, dict):
            message = as_text(item.get("message")) or error_from_json(item).message
            where = as_text(item.get("input_id")) or as_text(item.get("id"))
            text = f"{where}: {message}" if where and message else message or str(item)
        if text := readable(text, _LONGEST_MESSAGE):
            texts.append(text)
    return tuple(texts)
