"""The audit record of a batch: a row for every file, as JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exports.destination import object_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.batch import Entry

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_CSV = (".csv",)


def check_address(address: object) -> str:
    """Return a manifest's address, whose ending tells its format.

    :raises ValueError: if it does not.
    """
    if not isinstance(address, str) or not address.lower().endswith(_JSON_LINES + _CSV):
        raise ValueError(f"{address!r} has no known ending; use .jsonl (JSON Lines) or .csv.")
    return address


def manifest_text(
    address: str,
    entries: Iterable[Entry],
    *,
    volumes: Mapping[str, Volume],
    metadata: Sequence[str],
    run: Mapping[str, Any],
) -> str:
    """Return the whole manifest.

    :param address: whose ending tells the format.
    :param volumes: by id, for the objects' addresses.
    :param metadata: the metadata fields to show, each as ``metadata.<field>``.
    :param run: what is the same in each row, such as ``username``, ``dag_id`` and ``try_number``.
    """
    rows = (_row(entry, volumes, metadata, run) for entry in entries)
    if not address.lower().endswith(_CSV):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO()
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, row)
            writer.writeheader()
        properties = row["properties"]
        writer.writerow({**row, "properties": json.dumps(properties) if properties else None})
    return text.getvalue()


def _row(
    entry: Entry, volumes: Mapping[str, Volume], metadata: Sequence[str], run: Mapping[str, Any]
) -> dict[str, Any]:
    request = entry.request
    volume = volumes.get(request.volume)
    return {
        "file": request.file,
        "name": entry.name,
        "project": entry.project,
        "path": entry.path,
        **{f"metadata.{key}": entry.metadata.get(key) for key in metadata},
        "size": entry.size,
        "volume": request.volume,
        "location": request.location,
        "uri": object_uri(volume, request.location) if volume else None,
        "etag": None,
        "overwrite": request.overwrite,
        "copy_only": request.copy_only,
        "properties": dict(request.properties) if request.properties else None,
        "export_id": entry.export_id,
        "state": str(entry.state),
        "code": entry.code,
        "message": entry.message or None,
        "started_on": entry.started_on,
        "finished_on": entry.finished_on,
        "adopted": entry.adopted,
        **run,
    }
