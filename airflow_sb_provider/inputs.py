"""Values as users, templates and XCom give them: each is read as what it means, or refused with the fix."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider.exceptions import SevenBridgesInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """Collects what is wrong with some fields, so that all of it is reported at once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def read(self, field: str, reader: Callable[[Any], T], value: object, default: T) -> T:
        """Return what a reader makes of a value; the default, and one problem more, if it refuses the value."""
        try:
            return reader(value)
        except SevenBridgesInputError as error:
            self.texts += error.problems
        except ValueError as problem:
            self.texts.append(f"{field}: {problem}")
        return default

    def raise_if_any(self) -> None:
        """Raise what was collected.

        :raises SevenBridgesInputError: if there is anything.
        """
        if self.texts:
            raise SevenBridgesInputError(first_problems(self.texts))


def first_problems(problems: Sequence[str]) -> list[str]:
    """Return as many problems as one reads, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more} more."] if more > 0 else [])]


def is_absent(value: object) -> bool:
    """Whether a value means that nothing is given: None, or the text that a template makes of it."""
    return value is None or (isinstance(value, str) and value in ("", "None"))


def read_text(value: object, wanted: str) -> str:
    """Return a text that must be given. An integer is the text that native rendering has made a number of.

    :param wanted: what to give, for the error.
    :raises ValueError: for anything else, and for no text at all.
    """
    if is_absent(value):
        raise ValueError(f"{value!r} is empty or no text; give {wanted}.")
    return read_item(value, wanted)


def read_item(value: object, wanted: str) -> str:
    """Return a text as one of several: as `read_text`, but ``None`` is a word as any other.

    :raises ValueError: as `read_text`.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is a boolean, no text; give {wanted}.")
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        raise ValueError(
            f"{value!r} is a number: native rendering (render_template_as_native_obj), or the task before, has turned "
            "the text into one and lost its digits; switch that off, or render the text in quotes of its own; give "
            f"{wanted}."
        )
    if not isinstance(value, str) or not value:
        raise ValueError(f"{short(value)} is empty or no text; give {wanted}.")
    return value


def read_boolean(value: object) -> bool:
    """Return a boolean, also for the text of one.

    :raises ValueError: for anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (known := _BOOLEANS.get(value.strip().lower())) is not None:
        return known
    raise ValueError(f"{short(value)} is no boolean; use true or false.")


def read_count(value: Any) -> int:
    """Return a whole number above 0, also for the text of one.

    :raises ValueError: for anything else.
    """
    number = 0
    if isinstance(value, bool):
        number = 0
    elif isinstance(value, Integral) or (isinstance(value, str) and value.strip().isdecimal() and len(value) < 20):
        number = int(value)
    if number > 0:
        return number
    raise ValueError(f"{short(value)} is no whole number above 0; use one, or None for any number.")


def as_list(value: object) -> list[Any] | None:
    """Return the items of anything that holds some, such as a tuple, a set, a generator or a lazy sequence of XComs.

    :returns: None for texts, bytes, mappings and whatever else is no list.
    """
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping) or not isinstance(value, Iterable):
        return None
    try:
        # Not list(), which asks a lazy sequence for its length: one more request for each.
        items = [item for item in value]  # noqa: C416
    except TypeError:
        # An XComArg, which only Airflow can resolve, has a method to iterate that refuses.
        return None
    # A set has no order of its own, and the same input must give the same result.
    return sorted(items, key=repr) if isinstance(value, set | frozenset) else items


def from_text(value: object) -> Any:
    """Return the list or mapping that a text of one means, as JSON or Python writes it; anything else as it is."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{", "("):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return value


def read_texts(value: object) -> tuple[str, ...]:
    """Return one text or a list of them, also as text, each once and in order; nothing for None.

    :raises ValueError: for anything else, and for an empty list.
    """
    if is_absent(value):
        return ()
    items = as_list(from_text(value))
    if items is None:
        items = [value]
    if not items:
        # No filter at all would take everything.
        raise ValueError("the list is empty; leave it out to take all, or give at least one.")
    return tuple(dict.fromkeys(read_item(item, "a text or a list of texts") for item in items))


def read_ids(values: object, field: str = "ids") -> list[str]:
    """Return the texts of a list; one text alone is a list of one.

    :raises SevenBridgesInputError: for anything else, of which a loop would make something that nobody meant.
    """
    items = [values] if isinstance(values, str) else as_list(values)
    if items is None:
        raise SevenBridgesInputError(f"{field}: {short(values)} is no list; give a list of texts, or one text.")
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
    :raises SevenBridgesInputError: naming every one that is no finite number above 0.
    """
    given = values if timeout is None else {**values, "timeout": timeout}
    problems = [
        f"{name}: {value!r} is no number of seconds above 0."
        for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf")
    ]
    if problems:
        raise SevenBridgesInputError(problems)


def read_switches(**values: object) -> list[bool]:
    """Return booleans that are not templated, in order; also for the text of one, as a mapped task may give it.

    :raises SevenBridgesInputError: naming every one that is none, such as an XComArg, which stays one here.
    """
    problems = Problems()
    switches = [problems.read(name, read_boolean, value, False) for name, value in values.items()]
    if problems.texts:
        raise SevenBridgesInputError([f"{text} This field is not templated." for text in problems.texts])
    return switches


def short(value: object) -> str:
    """Return a value as a line of an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
