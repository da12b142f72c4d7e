"""What the local Platform lets you turn: speed, trouble that lasts, and what nobody knows of the real API."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

_TRUE, _FALSE = {"true", "1", "on", "yes"}, {"false", "0", "off", "no"}


@dataclasses.dataclass
class Knobs:
    """Every knob; each may be set at any time, by attribute, and takes effect at once.

    Values are checked; text is understood as the knob's type, so that the command line and JSON can set them too.
    """

    # How fast
    pending_seconds: Annotated[float, "how long a job is PENDING"] = 1.0
    running_seconds: Annotated[float, "how long a job is RUNNING, the moving of its bytes aside"] = 2.0
    max_running: Annotated[int, "how many jobs run at a time, 0 for any number"] = 0
    instant: Annotated[bool, "a submission is answered only when its jobs have ended"] = False
    latency: Annotated[float, "seconds before each request is looked at"] = 0.0

    # Trouble that lasts
    rate_limit: Annotated[int, "requests in a window, for each token"] = 1000
    rate_window: Annotated[float, "seconds of a rate-limit window"] = 300.0
    maintenance: Annotated[bool, "every call is answered 503 with code 0"] = False
    offline: Annotated[bool, "every connection is cut before anything is done"] = False
    stuck: Annotated[bool, "jobs stay PENDING"] = False
    overwrite_denied: Annotated[bool, "a job that would overwrite an object fails with 9107, the object stays"] = False
    retention_seconds: Annotated[float, "how long an ended job can still be seen, 0 for ever"] = 0.0

    # Late and wrong answers
    list_lag_seconds: Annotated[float, "lists of jobs show a new job, and a change of its state, so much later"] = 0.0
    job_lag_seconds: Annotated[float, "a new job is 404 by its id, also in a bulk get, for so long"] = 0.0
    alias_lag_seconds: Annotated[
        float, "a moved file is shown as it was for so long after COMPLETED; the job's result shows the alias at once"
    ] = 0.0
    object_lag_seconds: Annotated[float, "an exported object is not on its volume for so long after COMPLETED"] = 0.0
    stale_states: Annotated[
        bool, "lists filtered by state have a RUNNING job under PENDING only, an ended one under RUNNING too"
    ] = False
    total_lies: Annotated[bool, "lists of jobs report a total that is one too large, and link no next page"] = False
    date_skew_seconds: Annotated[float, "how far the Platform's clock is ahead, as Date and resources show it"] = 0.0
    no_date_header: Annotated[bool, "no answer has a Date header"] = False

    # What nobody knows of the real API
    bulk_cost: Annotated[Literal["call", "items"], "what a bulk call costs of the rate limit"] = "call"
    refuse_in_job: Annotated[bool, "9006, 9026, 9027, 9069, 9107 fail the job, not the submission"] = False
    refuse_busy_file: Annotated[bool, "9006 at submission while another move of the file is under way"] = False
    delete_before_check: Annotated[bool, "overwrite deletes before the source is looked at"] = True
    overwrite_deletes_first: Annotated[
        bool, "overwrite is accepted for any file and deletes before the source is checked, even the file's own bytes"
    ] = False
    alias_location_includes_prefix: Annotated[bool, "an alias's location shows the volume's prefix too"] = False
    prefix_joined_with_slash: Annotated[bool, "exactly one slash between prefix and location, or none"] = True
    leading_slash: Annotated[Literal["keep", "strip", "refuse"], "of a location"] = "keep"
    list_order: Annotated[Literal["newest", "oldest", "shuffled"], "of the list of jobs"] = "newest"
    service_type_case: Annotated[Literal["upper", "lower"], "S3 or s3"] = "upper"
    timestamp_style: Annotated[Literal["Z", "offset"], "UTC with a Z, or +02:00"] = "Z"
    code_type: Annotated[Literal["int", "str"], "of an error's code and status"] = "int"
    etag_style: Annotated[Literal["md5", "quoted", "multipart"], "of an object looked up"] = "md5"
    omit: Annotated[frozenset[str], "fields that no resource has, such as started_on or export.result"] = frozenset()
    echo_properties: Annotated[bool, "a job shows its effective properties"] = True
    result_in_copy: Annotated[bool, "a completed copy has a result, the untouched source"] = True
    created_status: Annotated[Literal[200, 201], "of an accepted submission"] = 200
    unauthorized_body: Annotated[Literal["standard", "router", "empty"], "of a 401"] = "standard"
    too_many_items_code: Annotated[int, "for more than 100 items in a bulk call"] = 9011
    folder_export_code: Annotated[int, "for the export of a folder"] = 9006
    region_mismatch_code: Annotated[int, "for a volume in a region where the file is not"] = 9027
    over_limit: Annotated[Literal["clamp", "refuse"], "a list's limit above 100"] = "clamp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_listeners", [])

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, _coerce(name, value))
        for listener in self.__dict__.get("_listeners", ()):
            listener()

    def update(self, **values: object) -> None:
        """Set several knobs; nothing is set when one of them is wrong.

        :raises AttributeError: there is no such knob.
        :raises ValueError: the value is none that the knob can have.
        """
        for name, value in {name: _coerce(name, value) for name, value in values.items()}.items():
            setattr(self, name, value)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self.__dict__["_listeners"].append(listener)

    def as_json(self) -> dict[str, Any]:
        """All knobs with their values, as JSON has them."""
        values = dataclasses.asdict(self)
        return {**values, "omit": sorted(values["omit"])}

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """What each knob does, in one line, with its default and its choices."""
        lines = {}
        for field in dataclasses.fields(cls):
            kind, text = _knob(field.name)
            choices = " | ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else kind.__name__
            default = "none" if field.name == "omit" else field.default
            lines[field.name] = f"{text} ({choices}; default {default})"
        return lines


_HINTS = get_type_hints(Knobs, include_extras=True)


def _knob(name: str) -> tuple[Any, str]:
    kind, text = get_args(_HINTS[name])
    return get_origin(kind) if get_origin(kind) is frozenset else kind, text


def _coerce(name: str, value: object) -> object:
    if name not in _HINTS:
        raise AttributeError(f"there is no knob {name!r}; there are {', '.join(_HINTS)}")
    kind, _ = _knob(name)
    wrong = ValueError(f"knob {name}: {value!r} is not {kind}")
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
