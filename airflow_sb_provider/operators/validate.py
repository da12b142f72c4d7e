"""Check an export without submitting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.reconcile import fetch_origin
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesExportRefused,
)
from airflow_sb_provider.exports.destination import alias_readings, key_problem, object_uri
from airflow_sb_provider.exports.origin import ELSEWHERE, ObjectOrigin

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import File, Volume, VolumeObject
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


def validate_export(
    hook: SevenBridgesHook, request: ExportRequest, *, overwrite_aliased: bool = False
) -> dict[str, Any]:
    """Return what an export would do; nothing is changed.

    :param overwrite_aliased: whether it may delete an object that another file is an alias of.
    :returns: ``validate_only``, ``username``, ``intent``, ``file``, ``name``, ``size`` (bytes), ``volume``,
        ``location``, ``uri``, ``replaces`` (of the object that would be deleted: ``size``, ``etag``, ``export_id`` of
        the newest export to it and ``aliases``, the ids of the files that would lose their bytes; None for nothing).
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
    replaces, origin = None, ObjectOrigin()
    if volume:
        try:
            replaces = hook.find_volume_object(request.volume, request.location)
        except SevenBridgesApiError as error:
            hook.log.warning("No access to the object at the destination: %s", error)
    if replaces:
        origin = fetch_origin(hook, request)
        problems += _object_problems(request, replaces, origin, file, overwrite_aliased)
    if problems:
        raise SevenBridgesExportRefused(f"The {request} cannot be made:", problems)
    assert volume is not None
    assert file is not None
    uri = object_uri(volume, request.location)
    if replaces:
        hook.log.warning("The %s would delete the object there (%s). %s", request, replaces, origin.warning)
    hook.log.info(
        "Dry run as %s: the %s would make %s (%s bytes) of %s. Nothing was changed.",
        user.username,
        request,
        readable(uri or "", 1500),
        file.size,
        readable(file.name or ""),
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
        "replaces": {
            "size": replaces.size,
            "etag": replaces.etag,
            "export_id": origin.export.id if origin.export else None,
            "aliases": [alias.id for alias in origin.aliases],
        }
        if replaces
        else None,
    }


def _object_problems(
    request: ExportRequest, found: VolumeObject, origin: ObjectOrigin, file: File | None, overwrite_aliased: bool
) -> list[str]:
    place = f"location: {request.volume}/{request.location}"
    if not request.overwrite:
        # An alias may be one of this very object.
        remedy = ELSEWHERE if file is None or file.is_alias else origin.remedy
        texts = [f"{place} already holds an object ({found}).", origin.made, origin.explanation, remedy]
        return [" ".join(filter(None, texts))]
    if origin.aliases and not overwrite_aliased:
        texts = [f"{place} holds an object ({found}). {origin.loss}.", origin.made, ELSEWHERE]
        return [" ".join(filter(None, texts))]
    return []


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
