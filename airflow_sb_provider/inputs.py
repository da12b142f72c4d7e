"""Parse values from users, templates and XCom; an invalid one is an error that says how to fix it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import pendulum

from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.exceptions import SevenBridgesInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pendulum import DateTime

T = TypeVar("T")

MAX_PROBLEMS = 20
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Problems:
    """Collects the problems of several fields, so that all of them are reported together."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def read(self, field: str, reader: Callable[[Any], T], value: object, default: T) -> T:
        """Return the value that a reader returns; if it raises, add the problem and return the default."""
        try:
            return reader(value)
        except SevenBridgesInputError as error:
            self.texts += error.problems
        except ValueError as problem:
            self.texts.append(f"{field}: {problem}")
        return default

    def raise_if_any(self) -> None:
        """Raise the collected problems.

        :raises SevenBridgesInputError: if there is any.
        """
        if self.texts:
            raise SevenBridgesInputError(first_problems(self.texts))


def first_problems(problems: Sequence[str]) -> list[str]:
    """Return the first problems, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more} more."] if more > 0 else [])]


def is_absent(value: object) -> bool:
    """Whether a value means "not set": None, or its text in a rendered template."""
    return value is None or (isinstance(value, str) and value in ("", "None"))


def read_text(value: object, wanted: str) -> str:
    """Return a required text. An integer is accepted, since native rendering converts digits to a number.

    :param wanted: what to give, for the error.
    :raises ValueError: for anything else, and for an empty text.
    """
    if is_absent(value):
        raise ValueError(f"{value!r} is empty or not text; give {wanted}.")
    return read_item(value, wanted)


def read_item(value: object, wanted: str) -> str:
    """Return one of several texts: as `read_text`, but ``None`` is an ordinary word.

    :raises ValueError: as `read_text`.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is a boolean, not text; give {wanted}.")
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        raise ValueError(
            f"{value!r} is a number: native rendering (render_template_as_native_obj) or the upstream task converted "
            "the text and lost its digits; switch native rendering off, or put the template in quotes; give "
            f"{wanted}."
        )
    if not isinstance(value, str) or not value:
        raise ValueError(f"{short(value)} is empty or not text; give {wanted}.")
    return value


def read_boolean(value: object) -> bool:
    """Return a boolean, also from its text.

    :raises ValueError: for anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (known := _BOOLEANS.get(value.strip().lower())) is not None:
        return known
    raise ValueError(f"{short(value)} is not a boolean; use true or false.")


def read_count(value: Any) -> int:
    """Return a whole number above 0, also from its text.

    :raises ValueError: for anything else.
    """
    number = 0
    if isinstance(value, bool):
        number = 0
    elif isinstance(value, Integral) or (isinstance(value, str) and value.strip().isdecimal() and len(value) < 20):
        number = int(value)
    if number > 0:
        return number
    raise ValueError(f"{short(value)} is not a whole number above 0; use one, or None for any number.")


def read_time(value: object) -> DateTime:
    """Return a time: a ``datetime``, or ISO 8601 text; without an offset it is in UTC. A date is its midnight.

    :raises ValueError: for anything else.
    """
    time = pendulum.instance(value) if isinstance(value, datetime) else parse_time(value)
    if time is None:
        raise ValueError(f"{short(value)} is not a time; use ISO 8601 text such as 2026-11-27T00:00:00+00:00.")
    return time


def as_list(value: object) -> list[Any] | None:
    """Return the items of any collection, such as a tuple, a set, a generator or a lazy sequence of XComs.

    :returns: None for text, bytes, mappings and anything else that is not a list.
    """
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping) or not isinstance(value, Iterable):
        return None
    try:
        # Not list(), which gets the length of a lazy sequence: one more request for each.
        items = [item for item in value]  # noqa: C416
    except TypeError:
        # An XComArg, which only Airflow can resolve, raises when iterated.
        return None
    # A set has no order of its own, and the same input must give the same result.
    return sorted(items, key=repr) if isinstance(value, set | frozenset) else items


def from_text(value: object) -> Any:
    """Return the list or mapping in a text of JSON or Python syntax; anything else unchanged."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{", "("):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return value


def read_texts(value: object) -> tuple[str, ...]:
    """Return one text or a list of texts, also as text, each once and in order; empty for None.

    :raises ValueError: for anything else, and for an empty list.
    """
    if is_absent(value):
        return ()
    items = as_list(from_text(value))
    if items is None:
        items = [value]
    if not items:
        # Without a filter everything would be taken.
        raise ValueError("the list is empty; leave it out to take all, or give at least one.")
    return tuple(dict.fromkeys(read_item(item, "a text or a list of texts") for item in items))


def read_ids(values: object, field: str = "ids") -> list[str]:
    """Return the texts of a list; a single text is a list of one.

    :raises SevenBridgesInputError: for anything else.
    """
    items = [values] if isinstance(values, str) else as_list(values)
    if items is None:
        raise SevenBridgesInputError(f"{field}: {short(values)} is not a list; give a list of texts, or one text.")
    problems = Problems()
    texts = [
        problems.read(f"{field}[{number}]", lambda value: read_item(value, "a text"), item, "")
        for number, item in enumerate(items)
    ]
    problems.raise_if_any()
    return texts


def check_seconds(*, timeout: object = None, **values: object) -> None:
    """Check numbers of seconds that are not templated.

    :param timeout: may be None, for never.
    :raises SevenBridgesInputError: naming every value that is not a finite number above 0.
    """
    given = values if timeout is None else {**values, "timeout": timeout}
    problems = [
        f"{name}: {value!r} is not a number of seconds above 0."
        for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf")
    ]
    if problems:
        raise SevenBridgesInputError(problems)


def read_switches(**values: object) -> list[bool]:
    """Return booleans that are not templated, in order; also from text, as in a mapped task.

    :raises SevenBridgesInputError: naming every other value, such as an XComArg, which is not resolved here.
    """
    problems = Problems()
    switches = [problems.read(name, read_boolean, value, False) for name, value in values.items()]
    if problems.texts:
        raise SevenBridgesInputError([f"{text} This field is not templated." for text in problems.texts])
    return switches


def short(value: object) -> str:
    """Return a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
