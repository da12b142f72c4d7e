"""Check an export without submitting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesExportRefused,
)
from airflow_sb_provider.exports.destination import alias_readings, key_problem, object_uri

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import File, Volume
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


def validate_export(hook: SevenBridgesHook, request: ExportRequest) -> dict[str, Any]:
    """Return what an export would do; nothing is changed.

    :returns: ``validate_only``, ``username``, ``intent``, ``file``, ``name``, ``size`` (bytes), ``volume``,
        ``location``, ``uri``, ``replaces`` (size and etag of the object that would be deleted, or None).
    :raises SevenBridgesExportRefused: naming every reason why the export would fail.
    """
    user = hook.get_user()
    problems: list[str] = []
    volume: Volume | None = None
    file: File | None = None
    try:
        volume = hook.get_volume(request.volume)
        problems += volume_problems(volume)
        problems += filter(None, [key_problem(volume, request.location)])
    except SevenBridgesApiError as error:
        problems.append(f"volume: {error}")
    try:
        file = hook.get_file(request.file)
        problems += _file_problems(file, request, {volume.id: volume} if volume else {})
    except SevenBridgesApiError as error:
        problems.append(f"file: {error}")
    replaces = None
    if volume:
        try:
            replaces = hook.find_volume_object(request.volume, request.location)
        except SevenBridgesApiError as error:
            hook.log.warning("No access to the object at the destination: %s", error)
    if replaces and not request.overwrite:
        problems.append(
            f"location: {request.volume}/{request.location} already holds an object ({replaces}). "
            "Choose another location, or set overwrite if it may be deleted."
        )
    if problems:
        raise SevenBridgesExportRefused(f"The {request} cannot be made:", problems)
    assert volume is not None
    assert file is not None
    uri = object_uri(volume, request.location)
    hook.log.info(
        "Dry run as %s: the %s would make %s (%s bytes) of %s.%s Nothing was changed.",
        user.username,
        request,
        readable(uri or "", 1500),
        file.size,
        readable(file.name or ""),
        f" It would delete the object there ({replaces})." if replaces else "",
    )
    return {
        "validate_only": True,
        "username": user.username,
        "intent": str(request.intent),
        "file": request.file,
        "name": file.name,
        "size": file.size,
        "volume": request.volume,
        "location": request.location,
        "uri": uri,
        "replaces": {"size": replaces.size, "etag": replaces.etag} if replaces else None,
    }


def volume_problems(volume: Volume) -> list[str]:
    """Return why nothing can be exported to a volume."""
    problems = []
    if volume.access_mode not in ("RW", None):
        problems.append(f"volume: {volume.id} has access mode {volume.access_mode}; its owner must set it to RW.")
    if volume.active is False:
        problems.append(f"volume: {volume.id} is not active; its owner must activate it.")
    return problems


def _file_problems(file: File, request: ExportRequest, volumes: dict[str, Volume]) -> list[str]:
    if file.type == "folder":
        return [f"file: {file.id} is a folder; export its files."]
    if file.is_alias:
        fits = any(alias_readings(file, request, volumes).values())
        where = "that place already" if fits else f"{file.volume}/{file.location}"
        return [
            f"file: {file.id} is an alias of an object at {where}; only files that the Platform stores can be exported."
        ]
    return []
