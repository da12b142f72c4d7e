"""The bucket and key of an object, from a request or an alias.

Two facts are not documented: whether an alias's location includes the volume's prefix, and whether the Platform
puts a slash between prefix and location. Each combination is a reading; every check considers all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.exports.patterns import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.models import File, Volume
    from airflow_sb_provider.exports.request import ExportRequest

_SCHEMES = {"s3": "s3", "gcs": "gs", "google": "gs"}
_RESERVED_BY_GCS = ".well-known/acme-challenge/"
_READINGS = ((True, True), (True, False), (False, True), (False, False))


def object_uri(volume: Volume, location: str) -> str | None:
    """Return the object's address, such as ``s3://bucket/prefix/location``; None if the bucket is unknown."""
    scheme = _SCHEMES.get(volume.service or "")
    if not (scheme and volume.bucket):
        return None
    return f"{scheme}://{volume.bucket}/{_key(volume.prefix, location, with_slash=True)}"


def key_problem(volume: Volume, location: str) -> str | None:
    """Return why an object's whole key, with the volume's prefix, is not valid; None if it is."""
    key = _key(volume.prefix, location, with_slash=True)
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"location: with the volume's prefix the key is longer than {MAX_KEY_BYTES} bytes; shorten it."
    if _SCHEMES.get(volume.service or "") == "gs" and key.startswith(_RESERVED_BY_GCS):
        return f"location: Google Cloud Storage does not allow keys that begin with {_RESERVED_BY_GCS}; choose another."
    return None


def alias_readings(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> dict[str | None, bool]:
    """Return where an alias's object may be, and for each place whether that is the request's destination.

    Keys are locations on the alias's own volume; None means that the place cannot be computed, since a volume's prefix
    is unknown. An empty result means that the alias is certainly elsewhere. The objects at these locations show which
    reading is right.

    :param file: an alias.
    :param request: the export with the destination.
    :param volumes: by id, the volumes of the alias and of the request, if they could be read.
    """
    readings = _readings(file, request, volumes)
    return {place: all(here for other, here in readings if other == place) for place, _ in readings}


def may_be_alias_of(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> bool:
    """Whether an alias's object is at the request's destination in any reading; parameters as of `alias_readings`."""
    return any(here for _, here in _readings(file, request, volumes))


def _readings(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> list[tuple[str | None, bool]]:
    wanted, actual = volumes.get(request.volume), volumes.get(file.volume or "")
    if file.location is None or file.volume is None:
        return []
    if wanted is None or actual is None or not wanted.bucket or not actual.bucket:
        same = file.volume == request.volume and file.location == request.location
        return [(file.location, True), (None, False)] if same else []
    if wanted.bucket != actual.bucket or wanted.service != actual.service:
        return []
    readings: list[tuple[str | None, bool]] = []
    for includes_prefix, with_slash in _READINGS:
        location = _below(actual.prefix, file.location, with_slash) if includes_prefix else file.location
        if location:
            alias_key = _key(actual.prefix, location, with_slash)
            readings.append((location, alias_key == _key(wanted.prefix, request.location, with_slash)))
    return readings


def certainly_same_place(
    a: tuple[str | None, str | None], b: tuple[str | None, str | None], volumes: Mapping[str, Volume]
) -> bool:
    """Whether two pairs of volume and location are the same bucket and key in every reading."""
    places_of_a = _all_places(a, volumes)
    return a == b or (bool(places_of_a) and places_of_a == _all_places(b, volumes))


def same_place(
    a: tuple[str | None, str | None], b: tuple[str | None, str | None], volumes: Mapping[str, Volume]
) -> bool:
    """Whether two pairs of volume and location may be the same bucket and key; two volumes may share a bucket."""
    return a == b or not _all_places(a, volumes).isdisjoint(_all_places(b, volumes))


def ends_alike(location: str, other: str) -> bool:
    """Whether two locations may be of one key: then one of them is the end of the other."""
    return location.endswith(other) or other.endswith(location)


def _all_places(place: tuple[str | None, str | None], volumes: Mapping[str, Volume]) -> set[tuple[object, ...]]:
    volume, location = place
    return places(volume, location, volumes) if volume and location else set()


def places(volume: str, location: str, volumes: Mapping[str, Volume]) -> set[tuple[object, ...]]:
    """Return the places of a destination in each reading; two destinations that share one may be the same object.

    :param volumes: by id, those that could be read; any other volume is compared by its id.
    """
    known = volumes.get(volume)
    if not (known and known.bucket):
        return {(volume, location)}
    return {(known.service, known.bucket, slash, _key(known.prefix, location, slash)) for slash in (True, False)}


def _key(prefix: str, location: str, with_slash: bool) -> str:
    prefix = prefix.lstrip("/")
    if with_slash and prefix and not prefix.endswith("/"):
        prefix += "/"
    return prefix + location


def _below(prefix: str, key: str, with_slash: bool) -> str | None:
    """Return the location that makes a key on a volume with this prefix; None if the key is not on it."""
    start = _key(prefix, "", with_slash)
    return key[len(start) :] if key.startswith(start) and len(key) > len(start) else None
