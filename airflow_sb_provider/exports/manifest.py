"""The manifest of a batch: a row for every file, as JSON Lines or CSV, how it is read again, and where it may be."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.api.values import parse_integer
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.outcome import ExportOutcome
from airflow_sb_provider.exports.patterns import check_key
from airflow_sb_provider.exports.request import ExportRequest, read_file, read_volume
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.exports.verification import ExpectedObject
from airflow_sb_provider.inputs import Problems, short
from airflow_sb_provider.jobs.tracked import COMPLETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_sb_provider.api.models import Volume

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_CSV = (".csv",)
# The first row of a manifest is never longer, whatever the fields of its file.
HEAD_BYTES = 2**20
_IDENTITY = ("dag_id", "task_id", "map_index")
_COLUMNS = frozenset({"file", "volume", "location", "state", *_IDENTITY})
# Of a row that is read again; those of `_TEXTS` may be missing.
_EXPECTED = frozenset({"file", "volume", "location", "state", "size"})
_TEXTS = ("etag", "md5", "crc32c", "uri")
_CHUNK = 2**16
# Text that a spreadsheet treats as a formula, also in full width.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_LINE_ENDS = re.compile("[\u0085\u2028\u2029]")
_TEMPLATE_MARK = re.compile(r"\{\{|\{%|\{#")
# Characters that object stores, local paths and URLs interpret differently.
_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\%?#]|::")


def check_address(address: object) -> str:
    """Return a manifest's address; its suffix determines the format.

    :raises ValueError: if the suffix is unknown.
    """
    if not isinstance(address, str) or not address.lower().endswith(_JSON_LINES + _CSV):
        raise ValueError(f"{short(address)} has no known suffix; use .jsonl (JSON Lines) or .csv.")
    return address


def check_prefix(prefix: object) -> str:
    """Return the folder that the DAG author allows for manifests.

    :raises ValueError: if it is not a folder, or if it is a root such as ``/`` or ``s3://``.
    """
    if not isinstance(prefix, str) or _AMBIGUOUS.search(prefix) or not _place_of(prefix):
        raise ValueError(f"{short(prefix)} is not a folder; use one such as s3://my-bucket/manifests/.")
    return prefix


def prefix_in_template(source: object) -> str:
    """Return the folder in the fixed beginning of a template; empty if there is none.

    :param source: the DAG author's text.
    """
    fixed = _TEMPLATE_MARK.split(source, maxsplit=1)[0] if isinstance(source, str) else ""
    folder = fixed[: fixed.rfind("/") + 1]
    return folder if _place_of(folder) and not _AMBIGUOUS.search(folder) else ""


def check_below(address: str, prefix: str) -> str:
    """Return an address if it is below a prefix.

    A connection (``s3://conn@bucket``) must be part of the prefix.

    :raises ValueError: if it is not, or if that is not certain.
    """
    allowed = _place_of(prefix)
    if not allowed:
        raise ValueError(
            f"{short(address)} comes from a template, so whoever provides its values could write anywhere; set "
            "manifest_prefix to the folder in which manifests may be written."
        )
    if unclear := _AMBIGUOUS.search(address):
        raise ValueError(f"{short(address)} contains {unclear[0]!r}; remove it.")
    place = _place_of(address)
    below = place[len(allowed) :]
    if place[: len(allowed)] != allowed or not below or any(name in ("", ".", "..") for name in below):
        raise ValueError(f"{short(address)} is not below {prefix}; choose an address there.")
    return address


def is_manifest_of(head: bytes, address: str, run: Mapping[str, Any]) -> bool:
    """Whether a file is empty, a manifest without files, or an earlier manifest of the same task.

    :param head: its first `HEAD_BYTES`, empty if there is no file.
    :param run: as for `manifest_lines`.
    """
    if not head:
        return True
    text = head.decode("utf-8", "replace")
    row: Any
    try:
        if address.lower().endswith(_CSV):
            rows = csv.DictReader(io.StringIO(text))
            row = next(rows, None)
            if row is None:
                return {*(rows.fieldnames or ())} >= {*_columns((), run)}
            run = {key: _cell(run[key]) for key in _IDENTITY}
        else:
            row = json.loads(text.partition("\n")[0])
    except (ValueError, RecursionError, csv.Error):
        return False
    return isinstance(row, dict) and row.keys() >= _COLUMNS and all(str(row[key]) == str(run[key]) for key in _IDENTITY)


def manifest_lines(
    address: str,
    entries: Iterable[TrackedExport],
    *,
    volumes: Mapping[str, Volume],
    metadata: Sequence[str],
    run: Mapping[str, Any],
) -> Iterator[bytes]:
    """Yield the lines of the manifest; one entry is used at a time.

    :param address: its suffix determines the format.
    :param volumes: by id, for the objects' addresses.
    :param metadata: the metadata fields to show, each as ``metadata.<field>``.
    :param run: the fields with the same value in each row, such as ``username``, ``dag_id`` and ``try_number``.
    """
    rows = (_row(entry, volumes, metadata, run) for entry in entries)
    lines = _csv_lines(rows, _columns(metadata, run)) if address.lower().endswith(_CSV) else _json_lines(rows)
    for line in lines:
        # A lone surrogate has no UTF-8; its replacement is JSON's own escape.
        yield line.encode("utf-8", "backslashreplace")


def _csv_lines(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in rows:
        yield text.getvalue()
        text.seek(0)
        text.truncate()
        writer.writerow({key: _cell(value) for key, value in row.items()})
    yield text.getvalue()


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        # Some readers treat these as line ends.
        yield _LINE_ENDS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(row, ensure_ascii=False)) + "\n"


def _cell(value: object) -> object:
    """Return a value for CSV: text that no spreadsheet executes, numbers, and JSON for the rest."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if _FORMULA.match(value.lstrip("'")) else value


def _text_of_cell(cell: str) -> str:
    """Return the text of which `_cell` made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell.lstrip("'")) else cell


def read_manifest(file: BinaryIO, address: str) -> Iterator[ExpectedObject | None]:
    """Yield the object of each row, or None if the row's export is not completed; one row is in memory at a time.

    :param file: the manifest, opened for reading bytes.
    :param address: its suffix determines the format; it is shown in errors.
    :raises SevenBridgesInputError: for the first row that is not one of a manifest; it names the line.
    """
    lines = _Lines(file)
    rows = _csv_rows(lines) if address.lower().endswith(_CSV) else _json_rows(lines)
    try:
        for row in rows:
            yield _expected(row)
    except (SevenBridgesInputError, ValueError, csv.Error, RecursionError) as problem:
        raise SevenBridgesInputError(f"manifest: {short(address)}, line {lines.row_at}: {problem}") from None


class _Lines:
    """The lines of a file, in a bounded part of the memory; ``row_at`` is the number of a row's first line."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _split(file)
        self._number = self._size = 0
        self.row_at = 1

    def begin_row(self) -> None:
        """Note that the next line begins a row."""
        self.row_at, self._size = self._number + 1, 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        self._size += len(line)
        if self._size > HEAD_BYTES:
            raise ValueError("it is too long to be a row of a manifest.")
        return line.decode("utf-8-sig" if self._number == 1 else "utf-8")


def _split(file: BinaryIO) -> Iterator[bytes]:
    # Not by readline(), which has no limit in fsspec.
    rest = b""
    while chunk := file.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > HEAD_BYTES:
            break
    if rest:
        yield rest


def _json_rows(lines: _Lines) -> Iterator[Mapping[str, Any]]:
    while True:
        lines.begin_row()
        line = next(lines, None)
        if line is None:
            return
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise ValueError("it is not JSON.") from None
        if not isinstance(row, dict):
            raise ValueError("it is not a JSON object.")
        yield row


def _csv_rows(lines: _Lines) -> Iterator[Mapping[str, Any]]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        lines.begin_row()
        cells = next(reader, None)
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            raise ValueError(f"it has {len(cells)} cells instead of {len(header)}.")
        else:
            yield {name: _text_of_cell(cell) or None for name, cell in zip(header, cells, strict=True)}


def _expected(row: Mapping[str, Any]) -> ExpectedObject | None:
    if missing := sorted(_EXPECTED - row.keys()):
        raise ValueError(f"it is not a row of a manifest: it has no {missing[0]!r}.")
    if row["state"] != COMPLETED:
        return None
    problems = Problems()
    finished_on = parse_time(row.get("finished_on"))
    expected = ExpectedObject(
        volume=problems.read("volume", read_volume, row["volume"], ""),
        location=problems.read("location", _read_key, row["location"], ""),
        size=problems.read("size", _read_size, row["size"], None),
        file=problems.read("file", read_file, row["file"], ""),
        finished_at=finished_on.timestamp() if finished_on else None,
        **{name: value for name in _TEXTS if isinstance(value := row.get(name), str) and value},
    )
    problems.raise_if_any()
    return expected


def _read_key(value: object) -> str:
    # Not as an operator's parameter: the names of selected files may begin and end with spaces.
    if not isinstance(value, str) or not value:
        raise ValueError(f"{short(value)} is not the key of an object.")
    return check_key(value)


def _read_size(value: object) -> int | None:
    size = parse_integer(value)
    if value is not None and (size is None or size < 0):
        raise ValueError(f"{short(value)} is not a number of bytes.")
    return size


def _place_of(address: str) -> tuple[str, ...]:
    """Return scheme, bucket (with its connection) and folders of an address; empty if it names no bucket or folder."""
    scheme, mark, rest = address.partition("://")
    if not mark or scheme.lower() in ("file", "local"):
        scheme, rest = "file", rest if mark else address
    parts = rest.removesuffix("/").split("/")
    is_place = parts[0] if scheme != "file" else rest.strip("/.")
    return (scheme.lower(), *parts) if is_place else ()


def _columns(metadata: Sequence[str], run: Mapping[str, Any]) -> list[str]:
    return [*_row(TrackedExport(ExportRequest("", "", "")), {}, metadata, run)]


def _row(
    entry: TrackedExport, volumes: Mapping[str, Volume], metadata: Sequence[str], run: Mapping[str, Any]
) -> dict[str, Any]:
    request = entry.request
    outcome = ExportOutcome.of_entry(entry, volumes.get(request.volume))
    return {
        "file": outcome.file,
        "name": outcome.name,
        "project": outcome.project,
        "path": entry.path,
        "tags": list(entry.tags),
        **{f"metadata.{key}": entry.metadata.get(key) for key in metadata},
        "size": outcome.size,
        "volume": outcome.volume,
        "location": outcome.location,
        "uri": outcome.uri,
        "etag": outcome.etag,
        "md5": outcome.md5,
        "crc32c": outcome.crc32c,
        "overwrite": outcome.overwrite,
        "copy_only": outcome.copy_only,
        "properties": dict(request.properties) if request.properties else None,
        "export_id": outcome.export_id,
        "state": outcome.state,
        "code": entry.code,
        "message": entry.message or outcome.error or None,
        "started_on": outcome.started_on,
        "finished_on": outcome.finished_on,
        "adopted": outcome.adopted,
        **run,
    }
