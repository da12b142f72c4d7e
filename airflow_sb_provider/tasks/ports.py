"""Convert a task's inputs as the ports of its app require, and name everything that is wrong with them.

The ports are those of the app's CWL description, see "Inputs" of https://www.commonwl.org/v1.2/CommandLineTool.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.inputs import as_list, from_text, is_absent, read_boolean, read_item, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider.api.values import Json

_FILE_ID = re.compile(r"[0-9a-fA-F]{24}")
_FILES = ("File", "Directory")
_LISTED = 30


class SevenBridgesFile(dict[str, Any]):
    """A file as the input of a task: ``inputs={"reads": SevenBridgesFile(file_id)}``.

    :param file_id: its id, 24 hexadecimal digits, or a template.
    """

    def __init__(self, file_id: str) -> None:
        super().__init__({"class": "File", "path": file_id})


class SevenBridgesFolder(dict[str, Any]):
    """A folder as the input of a task.

    :param folder_id: its id, 24 hexadecimal digits, or a template.
    """

    def __init__(self, folder_id: str) -> None:
        super().__init__({"class": "Directory", "path": folder_id})


@dataclass(frozen=True)
class Port:
    """One input of an app. ``types`` are those of CWL, without ``null``, which makes it optional."""

    name: str
    types: tuple[Any, ...]
    required: bool

    @classmethod
    def from_json(cls, port: Json) -> Port:
        """Build from the CWL description of an input or of a record's field."""
        types = _types(port.get("type"))
        name = str(port.get("id") or port.get("name")).rpartition("#")[2].rpartition("/")[2]
        # An input without a type takes anything.
        optional = not types or "null" in types or port.get("default") is not None
        return cls(name, tuple(kind for kind in types if kind != "null"), required=not optional)


def convert_inputs(
    inputs: Mapping[str, Any], ports: Sequence[Port], batch_input: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return the inputs as the API expects them, and one sentence for each thing that is wrong with them.

    Text is converted to the port's type, since templates render to text: numbers, booleans, lists, records. A file may
    be given by its id alone.

    :param batch_input: the port whose list of values makes a task of each, instead of one task with the list.
    """
    converted: dict[str, Any] = {}
    problems: list[str] = []
    known = {port.name: port for port in ports}
    for name in inputs:
        if name not in known:
            shown = ", ".join(list(known)[:_LISTED]) or "none"
            problems.append(f"inputs.{name}: the app has no such input; it has {shown}.")
    for port in ports:
        value = inputs.get(port.name)
        where = f"inputs.{port.name}"
        if _is_missing(value, port):
            if port.required:
                problems.append(f"{where}: it is missing, and the app requires it; give {_name(port.types)}.")
            continue
        types = port.types
        if port.name == batch_input:
            # One task is made of each item, or of each group of items.
            types = tuple(kind if _is_array(kind) else {"type": "array", "items": kind} for kind in types)
        converted[port.name] = _convert(where, value, types, problems)
    if batch_input and batch_input not in known:
        problems.append(f"batch_input: the app has no input {batch_input!r}; it has {', '.join(known) or 'none'}.")
    elif batch_input and _is_missing(inputs.get(batch_input), known[batch_input]):
        problems.append(f"batch_input: inputs.{batch_input} is missing; give the list of files to batch.")
    return converted, problems


def file_ids(inputs: object) -> Iterator[tuple[str, str]]:
    """Yield the id and the class (``File`` or ``Directory``) of each file and folder in some inputs or outputs."""
    if isinstance(inputs, Mapping):
        path = inputs.get("path")
        if inputs.get("class") in _FILES and isinstance(path, str):
            yield path, str(inputs["class"])
        for value in inputs.values():
            yield from file_ids(value)
    elif isinstance(inputs, list):
        for value in inputs:
            yield from file_ids(value)


def _types(declared: object) -> list[Any]:
    """Return the alternatives of a declared type: ``File?`` and ``File[]`` are written out."""
    if isinstance(declared, list):
        return [kind for each in declared for kind in _types(each)]
    if isinstance(declared, str) and declared.endswith("?"):
        return ["null", *_types(declared[:-1])]
    if isinstance(declared, str) and declared.endswith("[]"):
        return [{"type": "array", "items": declared[:-2]}]
    if isinstance(declared, Mapping) and not isinstance(declared.get("type"), str):
        return _types(declared.get("type"))
    return [] if declared is None else [declared]


def _is_missing(value: object, port: Port) -> bool:
    if isinstance(value, str) and "string" in port.types:
        return False
    # A template of a value that is None renders to its text.
    return is_absent(value)


def _is_array(kind: Any) -> bool:
    return isinstance(kind, Mapping) and kind.get("type") == "array"


def _convert(where: str, value: Any, types: Sequence[Any], problems: list[str]) -> Any:
    """Return a value as one of some types; if it has none of them, add what is wrong with it as the first."""
    if not types:
        return value
    first: list[str] = []
    for kind in types:
        found: list[str] = []
        converted = _convert_to(where, value, kind, found)
        if not found:
            return converted
        first = first or found
    problems += first if len(types) == 1 else [f"{where}: {short(value)} is none of {_name(types)}."]
    return value


def _convert_to(where: str, value: Any, kind: Any, problems: list[str]) -> Any:
    if isinstance(kind, Mapping):
        if kind["type"] == "array":
            return _convert_list(where, value, kind, problems)
        if kind["type"] == "record":
            return _convert_record(where, value, kind, problems)
        if kind["type"] == "enum":
            return _convert_symbol(where, value, kind, problems)
        return _convert(where, value, _types(kind["type"]), problems)
    try:
        return _convert_plain(value, kind)
    except ValueError as problem:
        problems.append(f"{where}: {problem}")
        return value


def _convert_list(where: str, value: Any, kind: Mapping[str, Any], problems: list[str]) -> Any:
    items = as_list(from_text(value))
    if items is None:
        problems.append(f"{where}: {short(value)} is not a list; give {_name([kind])}.")
        return value
    types = [each for each in _types(kind.get("items")) if each != "null"]
    return [_convert(f"{where}[{number}]", item, types, problems) for number, item in enumerate(items)]


def _convert_record(where: str, value: Any, kind: Mapping[str, Any], problems: list[str]) -> Any:
    record = from_text(value)
    fields = kind.get("fields") or []
    if isinstance(fields, Mapping):
        fields = [{"name": name, "type": declared} for name, declared in fields.items()]
    ports = [Port.from_json(each) for each in fields if isinstance(each, Mapping)]
    if not isinstance(record, Mapping):
        names = ", ".join(port.name for port in ports)
        problems.append(f"{where}: {short(value)} is not a mapping; give one with {names}.")
        return value
    converted, found = convert_inputs(record, ports)
    problems += [f"{where}{text.removeprefix('inputs')}" for text in found]
    return converted


def _convert_symbol(where: str, value: Any, kind: Mapping[str, Any], problems: list[str]) -> Any:
    symbols = [str(symbol).rpartition("#")[2].rpartition("/")[2] for symbol in kind.get("symbols") or []]
    if str(value) in symbols:
        return str(value)
    problems.append(f"{where}: {short(value)} is not a valid value; use {', '.join(symbols[:_LISTED])}.")
    return value


def _convert_plain(value: Any, kind: str) -> Any:
    """Return a value as a primitive type, a file or a folder.

    :raises ValueError: if it is none.
    """
    if kind in _FILES:
        return _convert_file(value, kind)
    if kind == "boolean":
        return read_boolean(value)
    if kind in ("int", "long"):
        return _read_integer(value)
    if kind in ("float", "double"):
        return _read_number(value)
    if kind == "string":
        return "" if value == "" else read_item(value, "a text")
    # Any, or a type that the app defines elsewhere: the Platform validates it.
    return value


def _convert_file(value: Any, kind: str) -> dict[str, Any]:
    noun = "file" if kind == "File" else "folder"
    value = from_text(value)
    if isinstance(value, str):
        value = {"class": kind, "path": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{short(value)} is not a {noun}; give its id, or a mapping with class and path.")
    # What an operator returns has an id instead, as in output_files.
    given = value.get("class", kind)
    path = value.get("path", value.get("id"))
    if given != kind:
        raise ValueError(f"{short(dict(value))} is of class {given!r}; the app expects a {noun} ({kind}).")
    if not isinstance(path, str) or not _FILE_ID.fullmatch(path):
        raise ValueError(f"{short(path)} is not a {noun}'s id; use its 24 hexadecimal digits, not its name or path.")
    extra = {name: item for name, item in value.items() if name not in ("class", "path")} if "class" in value else {}
    return {"class": kind, "path": path.lower(), **extra}


def _read_integer(value: Any) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError(f"{short(value)} is not a whole number; give one.")


def _read_number(value: Any) -> float | int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ValueError(f"{short(value)} is not a number; give one.")


def _name(types: Sequence[Any]) -> str:
    """Return the types in words."""
    names = []
    for kind in types:
        if not isinstance(kind, Mapping):
            names.append({"File": "a file", "Directory": "a folder"}.get(kind, f"a value of type {kind}"))
        elif kind["type"] == "array":
            names.append(f"a list ({_name(_types(kind.get('items'))) or 'of anything'} each)")
        else:
            names.append({"record": "a record", "enum": "one of its symbols"}.get(kind["type"], str(kind["type"])))
    return " or ".join(names)
