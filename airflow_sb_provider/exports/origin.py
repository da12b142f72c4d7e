"""What the object at a destination is: which export made it, and which files are aliases of it.

An alias has no bytes of its own: if its object is deleted, the file is lost.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sb_provider.api.models import File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exports.destination import (
    certainly_same_place,
    ends_alike,
    may_be_alias_of,
    places,
    same_place,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.api.models import ExportJob, ImportJob, Volume
    from airflow_sb_provider.exceptions import SevenBridgesApiError
    from airflow_sb_provider.exports.request import ExportRequest

ELSEWHERE = "Choose another location."
OR_OVERWRITE = (
    "Choose another location, or set overwrite if the object there may be deleted: no file that this check can see is "
    "an alias of it."
)
NOT_SEARCHED = "which files are aliases of it"
_NEVER_SEEN = "what other users exported or imported, and copies of an alias in other projects"
_SHOWN = 3


@dataclass(frozen=True)
class ObjectOrigin:
    """What a check found out about the object at a destination.

    :param export: the newest completed export to that place, of any file; None if none is known.
    :param file: the file of that export, or why it cannot be read.
    :param aliases: the files, except the request's own, that are aliases of the object in any reading.
    :param unknown: what could not be checked although the token's user might see it.
    """

    export: ExportJob | None = None
    file: File | SevenBridgesApiError | None = None
    aliases: tuple[File, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def maker(self) -> str:
        """The export and its file, empty if none is known."""
        if self.export is None:
            return ""
        file = file_text(self.file) if isinstance(self.file, File) else f"file {self.export.file}"
        return f"export {self.export.id} of {file}"

    @property
    def made(self) -> str:
        """The export that made it, as a sentence; empty if none is known."""
        return f"The newest export to it is {self.maker}." if self.export else ""

    @property
    def loss(self) -> str:
        """What would be lost with it, as the beginning of a sentence."""
        return f"Overwriting would delete the bytes of {self._names}, {self._are_aliases} of what is there"

    @property
    def explanation(self) -> str:
        """Its aliases and what could not be checked, as sentences; empty if neither is known."""
        aliases = f"It holds the bytes of {self._names}, {self._are_aliases} of it." if self.aliases else ""
        gaps = f"Not checked: {'; '.join(self.unknown)}." if self.unknown else ""
        return f"{aliases} {gaps}".strip()

    @property
    def remedy(self) -> str:
        """What to do if it is in the way of an export: to overwrite it only if no visible file is an alias of it."""
        return ELSEWHERE if self.aliases or self.unknown else OR_OVERWRITE

    @property
    def warning(self) -> str:
        """What was checked before it is deleted, and what was not, as sentences."""
        made = self.made or "No export to it is known."
        if self.aliases:
            checked = f"The bytes of {self._names}, {self._are_aliases} of it, will be lost: overwrite_aliased is set."
        else:
            checked = "No file that this export or an import from there names is an alias of it."
        return f"{made} {checked} Not checked: {'; '.join([*self.unknown, _NEVER_SEEN])}."

    @property
    def _names(self) -> str:
        names = [file_text(file) for file in self.aliases[:_SHOWN]]
        more = len(self.aliases) - _SHOWN
        return ", ".join(names) + (f" and {more} more" if more > 0 else "")

    @property
    def _are_aliases(self) -> str:
        return "an alias" if len(self.aliases) == 1 else "aliases"


def file_text(file: File) -> str:
    """Return a file's id, name and project."""
    where = f", project {readable(file.project, 200)}" if file.project else ""
    return f"file {file.id} ({readable(file.name or 'name unknown', 300)}{where})"


def newest(jobs: Sequence[ExportJob]) -> list[ExportJob]:
    """Return the jobs that ended last; none if the order of several is not known."""
    if len(jobs) < 2:
        return list(jobs)
    times = [job.finished_on or job.started_on for job in jobs]
    known = [moment for moment in times if moment]
    if len(known) < len(times):
        return []
    return [job for job, moment in zip(jobs, times, strict=True) if moment == max(known)]


def makers(request: ExportRequest, exports: Iterable[ExportJob], volumes: Mapping[str, Volume]) -> list[ExportJob]:
    """Return the exports that may have made the object at a destination: the newest to each place that it may mean.

    :param exports: completed ones.
    :param volumes: by id, those that could be read.
    """
    here = (request.volume, request.location)
    by_place: dict[tuple[str | None, str | None], list[ExportJob]] = {}
    for job in exports:
        if same_place((job.volume, job.location), here, volumes):
            by_place.setdefault((job.volume, job.location), []).append(job)
    return [job for jobs in by_place.values() for job in newest(jobs) or jobs]


def importers(
    requests: Iterable[ExportRequest], imports: Iterable[ImportJob], volumes: Mapping[str, Volume]
) -> dict[ExportRequest, list[ImportJob]]:
    """Return for each export the imports of the object at its destination, also those of a folder that contains it.

    :param volumes: by id, those that could be read.
    """
    at: dict[tuple[object, ...], list[ExportRequest]] = defaultdict(list)
    for request in requests:
        for *bucket, key in places(request.volume, request.location, volumes):
            text = str(key)
            for end in {0, len(text), *(number for number, character in enumerate(text) if character == "/")}:
                at[*bucket, text[:end]].append(request)
    found: dict[ExportRequest, dict[str, ImportJob]] = defaultdict(dict)
    for job in imports:
        for *bucket, key in places(job.volume or "", job.location or "", volumes):
            for request in at.get((*bucket, str(key).rstrip("/")), ()):
                found[request][job.id] = job
    return {request: list(jobs.values()) for request, jobs in found.items()}


def is_import_of(job: ImportJob, request: ExportRequest, volumes: Mapping[str, Volume]) -> bool:
    """Whether an import may be of the object at a destination itself, not of a folder that contains it."""
    return same_place((job.volume, job.location), (request.volume, request.location), volumes)


def find_origin(
    request: ExportRequest,
    exports: Sequence[ExportJob],
    imports: Sequence[ImportJob],
    files: Mapping[str, File | SevenBridgesApiError],
    volumes: Mapping[str, Volume],
    unknown: Sequence[str],
) -> ObjectOrigin:
    """Return what the object at a destination is.

    :param exports: its `makers`; ``imports`` are its `importers`.
    :param files: by id, all files that the check has read, also those of these jobs.
    :param volumes: by id, those that could be read.
    :param unknown: what could not be listed.
    """
    here, gaps = (request.volume, request.location), list(unknown)
    candidates = {file_id: file for file_id, file in files.items() if isinstance(file, File)}
    named = [(job.file, job.exported_file) for job in exports]
    for job in imports:
        if is_import_of(job, request, volumes):
            named.append((None, job.imported_file))
        else:
            gaps.append(f"the files made by import {job.id} of {readable(f'{job.volume}/{job.location}', 300)}")
    for file_id, shown in named:
        file_id = shown.id if shown else file_id
        read = files.get(file_id or "")
        if not isinstance(read, File):
            gaps.append(f"file {file_id or 'unknown'}, which cannot be read")
        elif shown and shown.is_alias and not read.is_alias:
            # The file shows late that it was moved; its job shows it immediately.
            candidates[shown.id] = shown
    last = newest(exports)
    export = last[0] if len(last) == 1 else None
    if export and not certainly_same_place((export.volume, export.location), here, volumes):
        export = None
    return ObjectOrigin(
        export=export,
        file=files.get(export.file or "") if export else None,
        aliases=tuple(
            file
            for file_id, file in sorted(candidates.items())
            if file_id != request.file and _is_alias_of(file, request, volumes)
        ),
        unknown=tuple(dict.fromkeys(gaps)),
    )


def _is_alias_of(file: File, request: ExportRequest, volumes: Mapping[str, Volume]) -> bool:
    is_near = file.is_alias and file.location and ends_alike(file.location, request.location)
    return bool(is_near) and may_be_alias_of(file, request, volumes)
