"""The settings of the local Platform: speed, lasting faults, and behavior that the real API does not document."""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

_TRUE, _FALSE = {"true", "1", "on", "yes"}, {"false", "0", "off", "no"}


@dataclasses.dataclass
class Knobs:
    """All knobs. Set one at any time through its attribute; it takes effect immediately.

    Values are checked. Text is converted to the knob's type, so that the command line and JSON can set knobs, too.
    """

    # Speed
    pending_seconds: Annotated[float, "seconds that an export is PENDING"] = 1.0
    running_seconds: Annotated[float, "seconds that an export is RUNNING, plus the time to copy its bytes"] = 2.0
    task_creating_seconds: Annotated[float, "seconds that a task that was run is CREATING"] = 0.0
    task_queued_seconds: Annotated[float, "seconds that a task is QUEUED"] = 1.0
    task_running_seconds: Annotated[float, "seconds that a task is RUNNING, plus the time that its app needs"] = 2.0
    task_aborting_seconds: Annotated[float, "seconds that a task is ABORTING"] = 0.5
    max_running: Annotated[int, "how many exports, and how many tasks, run at the same time; 0 for no limit"] = 0
    instant: Annotated[bool, "respond to a submission, or to the run of a task, only when it is terminal"] = False
    latency: Annotated[float, "seconds before each request is processed"] = 0.0

    # Lasting faults
    rate_limit: Annotated[int, "requests per window, for each token"] = 1000
    rate_window: Annotated[float, "length of a rate-limit window in seconds"] = 300.0
    maintenance: Annotated[bool, "respond to every call with 503 and code 0"] = False
    offline: Annotated[bool, "cut every connection before the request is processed"] = False
    stuck: Annotated[bool, "exports stay PENDING, and tasks QUEUED"] = False
    queue_reason: Annotated[
        Literal["none", "account_limit", "system_limit"], "why tasks are QUEUED, as their execution_status shows"
    ] = "none"
    no_funds: Annotated[bool, "drafts have an error about the billing group's funds, and cannot run"] = False
    overwrite_denied: Annotated[bool, "a job that would overwrite an object fails with 9107, the object stays"] = False
    retention_seconds: Annotated[float, "seconds that a terminal job can still be read; 0 for no limit"] = 0.0

    # Late and wrong responses
    list_lag_seconds: Annotated[
        float, "lists of jobs and tasks show a new one, and a change of its state, this much later"
    ] = 0.0
    job_lag_seconds: Annotated[
        float, "reads of a new job or task by its id are 404 for this long, also in a bulk request"
    ] = 0.0
    task_outputs_lag_seconds: Annotated[float, "the outputs of a task are empty for this long after COMPLETED"] = 0.0
    alias_lag_seconds: Annotated[
        float,
        "a moved file is shown as not yet moved for this long after COMPLETED; the job's result shows the alias "
        "immediately",
    ] = 0.0
    object_lag_seconds: Annotated[float, "an exported object is 404 on its volume for this long after COMPLETED"] = 0.0
    volume_list_lag_seconds: Annotated[
        float, "lists of a volume show an exported object this long after COMPLETED; a request for the object finds it"
    ] = 0.0
    stale_states: Annotated[
        bool, "lists filtered by state show a RUNNING job under PENDING only, and a terminal job under RUNNING too"
    ] = False
    total_lies: Annotated[
        bool, "lists of jobs and tasks report a total that is one too large, and link no next page"
    ] = False
    date_skew_seconds: Annotated[float, "how far the Platform's clock is ahead, as Date and resources show it"] = 0.0
    no_date_header: Annotated[bool, "responses have no Date header"] = False

    # Behavior that the real API does not document
    bulk_cost: Annotated[
        Literal["call", "items"], "what a bulk call counts for in the rate limit: one call, or its items"
    ] = "call"
    refuse_in_job: Annotated[bool, "9006, 9026, 9027, 9069 and 9107 fail the job instead of the submission"] = False
    refuse_busy_file: Annotated[bool, "reject a submission (9006) while another move of the file is in flight"] = False
    delete_before_check: Annotated[bool, "a job with overwrite deletes the object before it checks the source"] = True
    overwrite_deletes_first: Annotated[
        bool,
        "overwrite is accepted for any file, and the job deletes the object before it checks the source, even if the "
        "object holds the file's own bytes",
    ] = False
    alias_location_includes_prefix: Annotated[bool, "an alias's location shows the volume's prefix too"] = False
    prefix_joined_with_slash: Annotated[
        bool, "put exactly one slash between prefix and location, or join them as they are"
    ] = True
    leading_slash: Annotated[Literal["keep", "strip", "refuse"], "what to do with a location's leading slash"] = "keep"
    volume_list_recursive: Annotated[
        bool, "lists of a volume show all objects below the prefix, instead of one level and its folders"
    ] = False
    list_order: Annotated[Literal["newest", "oldest", "shuffled"], "order of the lists of jobs and tasks"] = "newest"
    service_type_case: Annotated[Literal["upper", "lower"], "spelling of a volume's service type, S3 or s3"] = "upper"
    timestamp_style: Annotated[Literal["Z", "offset"], "times are in UTC with a Z, or have the offset +02:00"] = "Z"
    code_type: Annotated[Literal["int", "str"], "type of an error's code and status"] = "int"
    etag_style: Annotated[Literal["md5", "quoted", "multipart"], "style of an object's etag"] = "md5"
    omit: Annotated[
        frozenset[str],
        "fields that are left out of all resources, such as started_on, or of one type, such as export.result",
    ] = frozenset()
    echo_properties: Annotated[bool, "a job shows its effective properties"] = True
    result_in_copy: Annotated[bool, "a completed copy has a result, which is its unchanged source"] = True
    created_status: Annotated[Literal[200, 201], "HTTP status of an accepted submission"] = 200
    unauthorized_body: Annotated[Literal["standard", "router", "empty"], "body of a 401 response"] = "standard"
    too_many_items_code: Annotated[int, "error code for more than 100 items in a bulk call"] = 9011
    folder_export_code: Annotated[int, "error code for the export of a folder"] = 9006
    region_mismatch_code: Annotated[int, "error code for a volume in a region where the file is not hosted"] = 9027
    batch_failed_status: Annotated[
        Literal["COMPLETED", "FAILED"], "status of a batch of which some children failed"
    ] = "COMPLETED"
    list_shows_children: Annotated[bool, "lists of tasks show the children of batches without `parent`, too"] = True
    brief_ignores_fields: Annotated[bool, "lists of tasks ignore `fields`: items are brief"] = False
    abort_refused_code: Annotated[
        Literal[7011, 7008],
        "error code for a task that cannot be aborted; with 7011 CREATING, QUEUED and RUNNING ones can be, with 7008 "
        "only RUNNING ones",
    ] = 7011
    run_refused_code: Annotated[Literal[7007, 7010], "error code for the run of a task that is no draft"] = 7007
    task_numbers: Annotated[Literal["int", "str"], "type of the numbers in a task's execution_status"] = "int"
    task_errors: Annotated[
        Literal["objects", "texts"], "what a draft's errors and warnings are: objects with input and message, or texts"
    ] = "objects"
    over_limit: Annotated[Literal["clamp", "refuse"], "what to do with a list's limit above 100"] = "clamp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_listeners", [])

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, _coerce(name, value))
        for listener in self.__dict__.get("_listeners", ()):
            listener()

    def update(self, **values: object) -> None:
        """Set several knobs. If one value is wrong, none is set.

        :raises AttributeError: there is no such knob.
        :raises ValueError: the value is not valid for the knob.
        """
        for name, value in {name: _coerce(name, value) for name, value in values.items()}.items():
            setattr(self, name, value)

    @classmethod
    def from_text(cls, text: str) -> Knobs:
        """Return knobs set by text such as `stuck=true,running_seconds=30`; a value may contain commas.

        :raises ValueError: a part is no `name=value`, there is no such knob, or the value is not valid for it.
        """
        knobs = cls()
        for part in re.split(r",(?=[^,=]*=)", text) if text.strip() else ():
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise ValueError(f"{part.strip()!r} has no value; write name=value,name=value")
            try:
                knobs.update(**{name: value})
            except AttributeError as error:
                raise ValueError(str(error)) from None
        return knobs

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self.__dict__["_listeners"].append(listener)

    def as_json(self) -> dict[str, Any]:
        """Return all knobs with their values, for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "omit": sorted(values["omit"])}

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return one line for each knob: its effect, its choices and its default."""
        lines = {}
        for field in dataclasses.fields(cls):
            kind, text = _knob(field.name)
            choices = _choices(kind)
            default = "none" if field.name == "omit" else field.default
            lines[field.name] = f"{text} ({choices}; default {default})"
        return lines


_HINTS = get_type_hints(Knobs, include_extras=True)


def _knob(name: str) -> tuple[Any, str]:
    kind, text = get_args(_HINTS[name])
    return get_origin(kind) if get_origin(kind) is frozenset else kind, text


def _choices(kind: Any) -> str:
    return " | ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else str(kind.__name__)


def _coerce(name: str, value: object) -> object:
    if name not in _HINTS:
        close = difflib.get_close_matches(name, _HINTS, 1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise AttributeError(f"unknown knob {name!r}; {guess}known are {', '.join(_HINTS)}")
    kind, _ = _knob(name)
    wrong = ValueError(f"knob {name}: {value!r} is not {_choices(kind)}")
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(value) == str(choice):
                return choice
        raise wrong
    if kind is frozenset:
        names = value.split(",") if isinstance(value, str) else value
        return frozenset(str(each).strip() for each in names if each)  # type: ignore[attr-defined]
    if kind is bool:
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise wrong
        return text in _TRUE
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise wrong from None
