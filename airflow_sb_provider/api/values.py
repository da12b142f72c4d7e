"""Read values of the API's JSON tolerantly: each function accepts anything, and returns what it can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sb_provider.api.text import readable

Json = Mapping[str, Any]

# The maximum nesting of values that are passed on unchanged; the API's own file objects have three levels.
MAX_NESTING = 20
# Keys with a special meaning in Airflow's serialization, old or new, and in that of trigger events.
MARKS = frozenset({"__classname__", "__version__", "__data__", "__id__", "__type", "__var"})
_LONGEST_ID = 300
_LONGEST_WORD = 50


def parse_integer(value: object) -> int | None:
    """Return an integer, also from its digits as text, if 64 bits hold it; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) < 20 and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    return value if isinstance(value, int) and abs(value) < 2**63 else None


def as_object(value: object) -> Json:
    """Return a JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_record(value: object) -> Json:
    """Return an object unchanged, or an empty one if it is nested too deeply.

    `MARKS` are removed: Airflow would take a part of an XCom with them for a serialized object.
    """
    if not _within(value, MAX_NESTING):
        return {}
    record: Json = _without_marks(value) if _is_marked(value) else as_object(value)
    return record


def _is_marked(value: object) -> bool:
    if isinstance(value, dict) and not MARKS.isdisjoint(value):
        return True
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            if isinstance(each, dict | list) and _is_marked(each):
                return True
    return False


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(each) for key, each in value.items() if key not in MARKS}
    return [_without_marks(each) for each in value] if isinstance(value, list) else value


def _within(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    if levels == 0:
        return False
    # Not any() of a generator: this runs for each export of each response.
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list) and not _within(each, levels - 1):
            return False
    return True


def as_list(value: object) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """Return text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def as_word(value: object) -> str | None:
    """Return a word of the API's own vocabulary, such as a state, to show and compare."""
    return readable(value, _LONGEST_WORD) or None if isinstance(value, str) else None


def identifier(data: Json, key: str) -> str:
    """Return an id of the Platform.

    :raises ValueError: if it is missing, or could forge the output that shows it.
    """
    text = required(data, key)
    if len(text) > _LONGEST_ID or not text.isprintable():
        raise ValueError(f"{key!r} is not an id: {readable(text, 100)!r}")
    return text


def required(data: Json, key: str) -> str:
    """Return a text.

    :raises ValueError: if it is missing.
    """
    if text := as_text(data.get(key)):
        return text
    raise ValueError(f"{key!r} is missing")
