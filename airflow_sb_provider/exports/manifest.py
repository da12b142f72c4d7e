"""The manifest of a batch: a row for every file, as JSON Lines or CSV, and the rules for its address."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exports.outcome import ExportOutcome
from airflow_sb_provider.inputs import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.tracked import TrackedExport

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_CSV = (".csv",)
# The first row of a manifest is never longer, whatever the fields of its file.
HEAD_BYTES = 2**20
_IDENTITY = ("dag_id", "task_id", "map_index")
_COLUMNS = frozenset({"file", "volume", "location", "state", *_IDENTITY})
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
    """Whether a file is empty or an earlier manifest of the same task.

    :param head: its first `HEAD_BYTES`, empty if there is no file.
    :param run: as for `manifest_text`.
    """
    if not head:
        return True
    text = head.decode("utf-8", "replace")
    row: Any
    try:
        if address.lower().endswith(_CSV):
            row = next(csv.DictReader(io.StringIO(text)), {})
            run = {key: _cell(run[key]) for key in _IDENTITY}
        else:
            row = json.loads(text.partition("\n")[0])
    except (ValueError, RecursionError, csv.Error):
        return False
    return isinstance(row, dict) and row.keys() >= _COLUMNS and all(str(row[key]) == str(run[key]) for key in _IDENTITY)


def manifest_text(
    address: str,
    entries: Iterable[TrackedExport],
    *,
    volumes: Mapping[str, Volume],
    metadata: Sequence[str],
    run: Mapping[str, Any],
) -> bytes:
    """Return the whole manifest.

    :param address: its suffix determines the format.
    :param volumes: by id, for the objects' addresses.
    :param metadata: the metadata fields to show, each as ``metadata.<field>``.
    :param run: the fields with the same value in each row, such as ``username``, ``dag_id`` and ``try_number``.
    """
    rows = (_row(entry, volumes, metadata, run) for entry in entries)
    if address.lower().endswith(_CSV):
        text = io.StringIO()
        writer: Any = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, row)
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})
        lines = text.getvalue()
    else:
        lines = "".join(
            # Some readers treat these as line ends.
            _LINE_ENDS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(row, ensure_ascii=False)) + "\n"
            for row in rows
        )
    # A lone surrogate has no UTF-8; its replacement is JSON's own escape.
    return lines.encode("utf-8", "backslashreplace")


def _cell(value: object) -> object:
    """Return a value for CSV: text that no spreadsheet executes, numbers, and JSON for the rest."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if _FORMULA.match(value) else value


def _place_of(address: str) -> tuple[str, ...]:
    """Return scheme, bucket (with its connection) and folders of an address; empty if it names no bucket or folder."""
    scheme, mark, rest = address.partition("://")
    if not mark or scheme.lower() in ("file", "local"):
        scheme, rest = "file", rest if mark else address
    parts = rest.removesuffix("/").split("/")
    is_place = parts[0] if scheme != "file" else rest.strip("/.")
    return (scheme.lower(), *parts) if is_place else ()


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
        "etag": None,
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
