"""Whether the objects in a bucket are those that exports made, and which of them are listed together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesInDoubt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sb_provider.api.models import VolumeObject
    from airflow_sb_provider.exceptions import SevenBridgesError

_SHOWN_PLACE = 1500
# The first that is known of both objects decides: an ETag is new whenever an object is written, its content or not.
_MARKS = (("md5", "MD5"), ("crc32c", "CRC32C"), ("etag", "ETag"))


class Verdict(StrEnum):
    """What a comparison shows. ``UNKNOWN``: an object is there, but nothing about it can be compared."""

    VERIFIED = "verified"
    MISSING = "missing"
    CHANGED = "changed"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedObject:
    """An object as an export made it; None where something is not known.

    ``size`` is in bytes; ``finished_at`` is when the export was completed, in epoch seconds of the Platform's clock.
    """

    volume: str
    location: str
    size: int | None = None
    etag: str | None = None
    md5: str | None = None
    crc32c: str | None = None
    file: str | None = None
    uri: str | None = None
    finished_at: float | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Its volume and location."""
        return self.volume, self.location

    def __str__(self) -> str:
        return readable(f"{self.volume}/{self.location}", _SHOWN_PLACE)


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for one object: ``difference`` says in words what is wrong, ``error`` why it cannot be read."""

    expected: ExpectedObject
    verdict: Verdict
    difference: str = ""
    object: VolumeObject | None = None
    error: SevenBridgesError | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the object is missing, or another one than the export made."""
        return self.verdict in (Verdict.MISSING, Verdict.CHANGED)


def compare(expected: ExpectedObject, found: VolumeObject | None) -> Verification:
    """Compare size and checksums, or the ETag where there are no checksums, of an expected and an actual object.

    :param found: None if there is no object.
    """
    if found is None:
        return Verification(expected, Verdict.MISSING, f"no object is at {expected}")
    if expected.size != found.size and None not in (expected.size, found.size):
        difference = f"the object at {expected} has {found.size} bytes instead of {expected.size}"
        return Verification(expected, Verdict.CHANGED, difference, found)
    for name, label in _MARKS:
        wanted, actual = getattr(expected, name), getattr(found, name)
        if wanted and wanted == actual:
            return Verification(expected, Verdict.VERIFIED, object=found)
        if wanted and actual:
            shown = f"the {label} {readable(actual, 100)} instead of {readable(wanted, 100)}"
            return Verification(expected, Verdict.CHANGED, f"the object at {expected} has {shown}", found)
    is_known = None not in (expected.size, found.size)
    return Verification(expected, Verdict.VERIFIED if is_known else Verdict.UNKNOWN, object=found)


def in_doubt(subject: str, verification: Verification) -> SevenBridgesInDoubt:
    """Return the error of a completed export whose object is not certainly there.

    :param subject: the export.
    """
    if verification.error:
        why = f"the object at {verification.expected} could not be read: {verification.error.summary}"
        return SevenBridgesInDoubt(f"{subject} is COMPLETED, but {why}")
    remedy = "the bucket" if verification.verdict is Verdict.MISSING else "the object before you use it"
    return SevenBridgesInDoubt(f"{subject} is COMPLETED, but {verification.difference}. Check {remedy}.")


@dataclass(frozen=True, slots=True)
class Folder:
    """Expected objects on one level of a volume; ``prefix`` ends with a slash, or is empty at the root."""

    volume: str
    prefix: str
    locations: set[str] = field(default_factory=set)


def by_folder(expected: Iterable[ExpectedObject]) -> list[Folder]:
    """Return the folders that hold the expected objects, each once."""
    folders: dict[tuple[str, str], Folder] = {}
    for one in expected:
        prefix = one.location[: one.location.rfind("/") + 1]
        folder = folders.setdefault((one.volume, prefix), Folder(one.volume, prefix))
        folder.locations.add(one.location)
    return list(folders.values())


def is_worth_listing(pages: int, missing: int) -> bool:
    """Whether to fetch the next page of a folder's list, or to read the missing objects one by one.

    What else the folder holds is not known before. With this rule an object never costs more than two requests, and a
    hundred cost one where the folder holds little else.

    :param pages: how many were fetched.
    :param missing: how many expected objects they did not show.
    """
    return missing > max(pages, 1)
