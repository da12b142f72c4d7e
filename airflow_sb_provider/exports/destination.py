"""Where an object lies: bucket and key, and what an alias's words say about it.

Two things are not documented: whether an alias's location includes the volume's prefix, and whether the Platform
puts a slash between prefix and location. Each combination is a reading; a question is answered for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.exports.names import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.models import File, Volume
    from airflow_sb_provider.exports.request import ExportRequest

_SCHEMES = {"s3": "s3", "gcs": "gs", "google": "gs"}
_RESERVED_BY_GCS = ".well-known/acme-challenge/"
_READINGS = ((True, True), (True, False), (False, True), (False, False))


def object_uri(volume: Volume, location: str) -> str | None:
    """Return the object's address, such as ``s3://bucket/prefix/location``; None if the bucket is not known."""
    scheme = _SCHEMES.get(volume.service or "")
    if not (scheme and volume.bucket):
        return None
    return f"{scheme}://{volume.bucket}/{_key(volume.prefix, location, with_slash=True)}"


def key_problem(volume: Volume, location: str) -> str | None:
    """Return why an object's whole key, with the volume's prefix, cannot be one; None if it can."""
    key = _key(volume.prefix, location, with_slash=True)
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"location: with the volume's prefix the key is longer than {MAX_KEY_BYTES} bytes; shorten it."
    if _SCHEMES.get(volume.service or "") == "gs" and key.startswith(_RESERVED_BY_GCS):
        return f"location: Google Cloud Storage takes no key that begins with {_RESERVED_BY_GCS}; choose another."
    return None


def alias_fits(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> tuple[bool, bool]:
    """Tell whether an alias is at a request's destination: in any reading, and in all readings.

    :param file: an alias.
    :param request: whose volume and location are meant.
    :param volumes: by id, both the alias's and the request's where they could be read.
    """
    fitting = fitting_readings(file, request, volumes)
    return bool(fitting), len(fitting) == len(_READINGS)


def fitting_readings(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> frozenset[tuple[bool, bool]]:
    """Return the readings in which an alias is at a request's destination.

    Each is a pair: whether the alias's location includes the prefix, and whether a slash is put.
    """
    wanted, actual = volumes.get(request.volume), volumes.get(file.volume or "")
    if file.location is None or file.volume is None:
        return frozenset()
    if wanted is None or actual is None or not wanted.bucket or not actual.bucket:
        same = file.volume == request.volume and file.location == request.location
        return frozenset(reading for reading in _READINGS if same and not reading[0])
    if wanted.bucket != actual.bucket or wanted.service != actual.service:
        return frozenset()
    return frozenset(
        (included, with_slash)
        for included, with_slash in _READINGS
        if (file.location if included else _key(actual.prefix, file.location, with_slash))
        == _key(wanted.prefix, request.location, with_slash)
    )


def same_place(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None], volumes: Mapping[str, Volume]
) -> bool:
    """Whether two pairs of volume and location mean the same bucket and key; two volumes may share a bucket."""
    if one == other:
        return True
    if not (one[0] and one[1] and other[0] and other[1]):
        return False
    return not places(one[0], one[1], volumes).isdisjoint(places(other[0], other[1], volumes))


def places(volume: str, location: str, volumes: Mapping[str, Volume]) -> set[tuple[object, ...]]:
    """Return what stands for a destination in each reading; two destinations that share one may be the same object.

    :param volumes: by id, those that could be read; a volume that could not is only itself.
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
