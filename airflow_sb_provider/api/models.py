"""The Platform's responses, typed.

Parsing is tolerant where the API's documentation is silent or contradicts itself: fields may be missing,
numbers may be text, times may have ``Z`` or an offset, words may be in either case.

Values that are only shown, such as states and messages, are made readable here. Names, locations and volume ids are
data: they keep their characters, and the code that shows them makes them readable.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

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
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConflictError,
    SevenBridgesForbiddenError,
    SevenBridgesMaintenanceError,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesServerError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pendulum import DateTime

T = TypeVar("T")
# The lowest of the API's own error codes, except 0 for maintenance.
_FIRST_CODE = 1000
_MAINTENANCE = 503

_ERRORS_BY_STATUS: dict[int, type[SevenBridgesApiError]] = {
    401: SevenBridgesAuthError,
    403: SevenBridgesForbiddenError,
    404: SevenBridgesNotFoundError,
    409: SevenBridgesConflictError,
    429: SevenBridgesRateLimitError,
}


class Storable:
    """A value that a task may return: with these methods Airflow stores it as an XCom and restores it."""

    __slots__ = ()
    _times: ClassVar[tuple[str, ...]] = ()

    def serialize(self) -> dict[str, Any]:
        """Return the fields, times as ISO 8601 text; Airflow serializes their values."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        return data | {name: data[name].isoformat() for name in self._times if data[name]}

    @classmethod
    def deserialize(cls, data: dict[str, Any], version: int) -> Self:
        """Build from what `serialize` returned."""
        return cls(**data | {name: parse_time(data[name]) for name in cls._times})


class ExportState(StrEnum):
    """The four documented states of an export job, and one for a job that has an error and no state."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


IN_FLIGHT = (ExportState.PENDING, ExportState.RUNNING)


@dataclass(frozen=True, slots=True)
class ExportJob(Storable):
    """An export job; ``None`` for values that the Platform does not give.

    ``state`` is one of `ExportState`, or another state of the Platform, in capitals. ``result`` is the Platform's file
    object, unchanged; ``error`` is set if the job failed.
    """

    id: str
    state: str
    file: str | None = None
    volume: str | None = None
    location: str | None = None
    overwrite: bool | None = None
    properties: Json = field(default_factory=dict)
    started_on: DateTime | None = None
    finished_on: DateTime | None = None
    result: Json | None = None
    error: SevenBridgesApiError | None = None
    _times: ClassVar[tuple[str, ...]] = ("started_on", "finished_on")

    @property
    def ended(self) -> bool:
        """Whether the job is terminal.

        A state that is not documented, such as ``ABORTED``, is terminal if the job has finished or has an error.
        """
        if self.state in (ExportState.COMPLETED, ExportState.FAILED):
            return True
        return self.state not in IN_FLIGHT and (self.finished_on is not None or self.error is not None)

    @property
    def succeeded(self) -> bool:
        """Whether the job has exported its file."""
        return self.state == ExportState.COMPLETED

    @property
    def failed(self) -> bool:
        """Whether the job is terminal without success."""
        return self.ended and not self.succeeded

    @property
    def exported_file(self) -> File | None:
        """The file that the job exported; None if the Platform does not return it."""
        return _file_of(self.result)

    @classmethod
    def from_json(cls, data: Json) -> ExportJob:
        """Build from the API's export object.

        :raises ValueError: if ``id`` is missing or invalid, or if both ``state`` and ``error`` are missing.
        """
        source, destination = as_object(data.get("source")), as_object(data.get("destination"))
        state, error = as_word(data.get("state")), _job_error(data.get("error"))
        if not state and error is None:
            raise ValueError("'state' is missing")
        return cls(
            id=identifier(data, "id"),
            state=state.upper() if state else ExportState.UNKNOWN,
            file=as_text(source.get("file")),
            volume=as_text(destination.get("volume")),
            location=as_text(destination.get("location")),
            overwrite=overwrite if isinstance(overwrite := data.get("overwrite"), bool) else None,
            properties=as_record(data.get("properties")),
            started_on=parse_time(data.get("started_on")),
            finished_on=parse_time(data.get("finished_on")),
            result=as_record(data.get("result")) or None,
            error=error,
        )

    def to_json(self, *, with_result: bool = True) -> dict[str, Any]:
        """Return the API's export object, small enough for a trigger's event."""
        data: dict[str, Any] = {
            "id": self.id,
            "state": self.state,
            "source": {"file": self.file},
            "destination": {"volume": self.volume, "location": self.location},
            "overwrite": self.overwrite,
            "started_on": self.started_on.isoformat() if self.started_on else None,
            "finished_on": self.finished_on.isoformat() if self.finished_on else None,
        }
        if with_result and self.result:
            data["result"] = dict(self.result)
        if self.error:
            data["error"] = {
                "status": self.error.status,
                "code": self.error.code,
                "message": self.error.message,
                "more_info": self.error.more_info,
            }
        return data


@dataclass(frozen=True, slots=True)
class ImportJob:
    """A job that has made an alias of an object, or aliases of the objects below a key; ``None`` for unknown values.

    ``volume`` and ``location`` are those of the object. ``result`` is the Platform's file or folder object, unchanged.
    """

    id: str
    state: str
    volume: str | None = None
    location: str | None = None
    result: Json | None = None

    @property
    def imported_file(self) -> File | None:
        """The file or folder that the job has made; None if the Platform does not return it."""
        return _file_of(self.result)

    @classmethod
    def from_json(cls, data: Json) -> ImportJob:
        """Build from the API's import object.

        :raises ValueError: if ``id`` is missing or invalid.
        """
        source, state = as_object(data.get("source")), as_word(data.get("state"))
        return cls(
            id=identifier(data, "id"),
            state=state.upper() if state else ExportState.UNKNOWN,
            volume=as_text(source.get("volume")),
            location=as_text(source.get("location")),
            result=as_record(data.get("result")) or None,
        )


@dataclass(frozen=True, slots=True)
class File(Storable):
    """A file or folder of a project. ``size`` is in bytes.

    ``storage`` is ``PLATFORM`` for a file that the Platform stores and ``VOLUME`` for an alias; an alias
    names the ``volume`` and ``location`` of its object. ``parent`` is the id of its folder. ``secondary_files`` are
    the ids of the files that the Platform lists as belonging to it, such as an index. ``created_on`` and
    ``modified_on`` are None if the Platform does not show them.
    """

    id: str
    name: str | None = None
    size: int | None = None
    project: str | None = None
    type: str = "file"
    storage: str | None = None
    volume: str | None = None
    location: str | None = None
    parent: str | None = None
    origin_task: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Json = field(default_factory=dict, hash=False)
    secondary_files: tuple[str, ...] = ()
    created_on: DateTime | None = None
    modified_on: DateTime | None = None
    _times: ClassVar[tuple[str, ...]] = ("created_on", "modified_on")

    @property
    def is_alias(self) -> bool:
        """Whether the file's bytes are an object on a volume."""
        return self.storage == "VOLUME"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, which has no bytes."""
        return self.type == "folder"

    @classmethod
    def from_json(cls, data: Json) -> File:
        """Build from the API's file object.

        :raises ValueError: if ``id`` is missing or invalid.
        """
        storage = as_object(data.get("storage"))
        storage_type = as_word(storage.get("type"))
        # Not in the API reference; the official client reads it.
        secondary = [as_text(as_object(each).get("id")) for each in as_list(data.get("_secondary_files"))]
        return cls(
            id=identifier(data, "id"),
            name=as_text(data.get("name")),
            size=parse_integer(data.get("size")),
            project=as_text(data.get("project")),
            type=(as_word(data.get("type")) or "file").lower(),
            storage=storage_type.upper() if storage_type else None,
            volume=as_text(storage.get("volume")),
            location=as_text(storage.get("location")),
            parent=as_text(data.get("parent")),
            origin_task=as_text(as_object(data.get("origin")).get("task")),
            tags=tuple(tag for tag in as_list(data.get("tags")) if as_text(tag)),
            metadata=as_record(data.get("metadata")),
            secondary_files=tuple(file_id for file_id in secondary if file_id),
            created_on=parse_time(data.get("created_on")),
            modified_on=parse_time(data.get("modified_on")),
        )


@dataclass(frozen=True)
class Volume(Storable):
    """A volume: a bucket, or the part of it under ``prefix``, attached to the Platform."""

    id: str
    access_mode: str | None = None
    active: bool | None = None
    service: str | None = None
    bucket: str | None = None
    prefix: str = ""

    @classmethod
    def from_json(cls, data: Json) -> Volume:
        """Build from the API's volume object.

        :raises ValueError: if ``id`` is missing.
        """
        service = as_object(data.get("service"))
        service_type, access_mode = as_word(service.get("type")), as_word(data.get("access_mode"))
        return cls(
            id=required(data, "id"),
            access_mode=access_mode.upper() if access_mode else None,
            active=active if isinstance(active := data.get("active"), bool) else None,
            service=service_type.lower() if service_type else None,
            bucket=as_text(service.get("bucket")) or as_text(service.get("container")),
            prefix=as_text(service.get("prefix")) or "",
        )


@dataclass(frozen=True, slots=True)
class VolumeObject(Storable):
    """An object on a volume. ``size`` is in bytes; ``etag`` is without quotes.

    ``md5`` and ``crc32c`` are checksums of the content in base64, which only Google Cloud Storage has.
    """

    location: str | None = None
    volume: str | None = None
    size: int | None = None
    etag: str | None = None
    md5: str | None = None
    crc32c: str | None = None

    @classmethod
    def from_json(cls, data: Json) -> VolumeObject:
        """Build from the API's volume object details."""
        metadata = as_object(data.get("metadata"))
        etag, md5, crc32c = (readable(as_text(metadata.get(key)) or "") for key in ("etag", "md5Hash", "crc32c"))
        return cls(
            location=as_text(data.get("location")),
            volume=as_text(data.get("volume")),
            size=parse_integer(metadata.get("size")),
            etag=etag.strip('"') or None,
            md5=md5 or None,
            crc32c=crc32c or None,
        )

    def __str__(self) -> str:
        size = "unknown size" if self.size is None else f"{self.size} bytes"
        return f"{size}, etag {readable(self.etag or 'unknown', 200)}"


@dataclass(frozen=True)
class User(Storable):
    """The user that a token belongs to."""

    username: str

    @classmethod
    def from_json(cls, data: Json) -> User:
        """Build from the API's user object.

        :raises ValueError: if ``username`` is missing.
        """
        return cls(username=readable(required(data, "username")))


@dataclass(frozen=True)
class RateLimit(Storable):
    """Requests per window, requests left in it, and its end in epoch seconds."""

    limit: int | None = None
    remaining: int | None = None
    reset: int | None = None

    @classmethod
    def from_json(cls, data: Json) -> RateLimit:
        """Build from the body of ``GET /rate_limit``."""
        rate = as_object(data.get("rate"))
        return cls(*(parse_integer(rate.get(key)) for key in ("limit", "remaining", "reset")))

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RateLimit:
        """Build from the ``X-RateLimit-*`` headers, which every response has."""
        return cls(*(parse_integer(headers.get(f"X-RateLimit-{key}")) for key in ("Limit", "Remaining", "Reset")))


@dataclass(frozen=True)
class Page(Storable, Generic[T]):
    """One page of a list: its items, the total number of matches (if known), and the URL of the next page."""

    items: list[T]
    total: int | None = None
    next: str | None = None


def error_from_json(data: Json, status: int | None = None, request_id: str | None = None) -> SevenBridgesApiError:
    """Build the error that a standard API error object (or any other JSON of an error) describes.

    :param data: the error object; its own ``status`` may be a word instead of a number.
    :param status: the HTTP status, if the error is a response's.
    :param request_id: the response's ``X-Request-Id``.
    """
    code = parse_integer(data.get("code"))
    number = status or parse_integer(data.get("status")) or 0
    if number >= 500:
        maintenance = number == _MAINTENANCE and code == 0
        error_class: type[SevenBridgesApiError] = (
            SevenBridgesMaintenanceError if maintenance else SevenBridgesServerError
        )
    else:
        error_class = _ERRORS_BY_STATUS.get(number, SevenBridgesApiError)
    message, more_info = (readable(as_text(data.get(key)) or "", 1000) for key in ("message", "more_info"))
    return error_class(number, code, message, more_info or None, request_id)


def is_api_error(data: object, status: int) -> bool:
    """Whether the body of a response is the API's own error, not the page or JSON of a gateway in front of it.

    The API's error has a code of its table: 0 for maintenance, else four digits or more; the code of a gateway, if
    any, is the HTTP status. The API's router sends a word and no code: ``{"status": "NOT_FOUND", "message": "HTTP 404
    Not Found"}``.

    :param data: the decoded body, None if it is not JSON.
    :param status: the HTTP status.
    """
    if not isinstance(data, dict):
        return False
    code = parse_integer(data.get("code"))
    if code is not None:
        return code >= _FIRST_CODE or (code == 0 and status == _MAINTENANCE)
    word, message = data.get("status"), data.get("message")
    is_routers = isinstance(word, str) and isinstance(message, str) and message.startswith(f"HTTP {status} ")
    return is_routers and status < 500


def _file_of(result: Json | None) -> File | None:
    try:
        return File.from_json(result or {})
    except ValueError:
        return None


def _job_error(value: object) -> SevenBridgesApiError | None:
    if isinstance(value, str) and (message := readable(value, 1000)):
        return SevenBridgesApiError(0, message=message)
    return error_from_json(value) if isinstance(value, dict) and value else None
