"""Gather through a hook the facts that `exports.decision` decides on."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import IN_FLIGHT, ExportJob, ExportState, File, Volume, VolumeObject
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesForbiddenError,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.decision import TAKEN, Facts
from airflow_sb_provider.exports.destination import alias_readings, certainly_same_place, places, same_place
from airflow_sb_provider.exports.request import ExportRequest, Intent
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.record import Attempt

MAX_PAGES = 50
_OVERLAP = 10
_INVISIBLE = (SevenBridgesForbiddenError, SevenBridgesNotFoundError)


class Look:
    """The lists that one check of the Platform needs, kept for the checks that follow.

    A single export lists anew each time; a batch keeps the lists, since its hundreds are checked one after another.

    :param for_many: keeps the history too.
    """

    def __init__(self, hook: SevenBridgesHook, *, for_many: bool = False) -> None:
        self.hook = hook
        self.for_many = for_many
        self._listed_at = 0.0
        self._in_flight: tuple[list[ExportJob], bool] = ([], False)
        self._history_at = 0.0
        self._history: tuple[list[ExportJob], bool] = ([], False)

    def in_flight(self, since: float) -> tuple[list[ExportJob], bool]:
        """Return the jobs in flight, listed after ``since`` (epoch seconds), and whether none can have been missed."""
        if self._listed_at <= since:
            listed_at = time.time()
            jobs: dict[str, ExportJob] = {}
            complete = True
            for state in IN_FLIGHT:
                found, all_of_them = _list_jobs(self.hook, state)
                jobs.update((job.id, job) for job in found)
                complete = complete and all_of_them
            self._in_flight, self._listed_at = (list(jobs.values()), complete), listed_at
        return self._in_flight

    def history(self, since: float) -> tuple[list[ExportJob], bool]:
        """Return the completed jobs, listed after ``since``, and whether none can have been missed.

        All of them, since only the newest job to a place tells whose object is there.
        """
        if not self.for_many or self._history_at <= since:
            listed_at = time.time()
            self._history, self._history_at = _list_jobs(self.hook, ExportState.COMPLETED), listed_at
        return self._history


def gather_facts(
    hook: SevenBridgesHook,
    requests: Sequence[ExportRequest],
    attempts: Sequence[Attempt],
    look: Look | None = None,
    since: float = math.inf,
) -> list[Facts]:
    """Look at the Platform for a set of exports at a time.

    It looks in the order in which exports travel: PENDING, RUNNING, then the object and last the file, which must still
    be the Platform's when a request follows. Requests: one for each hundred jobs in flight (two at least, at most
    50 for each state), one for each hundred files and for each hundred stored ids, one for each volume, one for each
    destination that matters, at most three for an alias that may be the destination's, and for copies that may be made
    already at most 50 of history.

    :param look: the lists of earlier looks.
    :param since: from when (epoch seconds) the lists of jobs must be at least; usually they are read anew.
    """
    look, since = look or Look(hook), min(since, time.time())
    wanted = {request.file for request in requests}
    listed, jobs_complete = look.in_flight(since)
    stored = [attempt.export_id for attempt in attempts if attempt.export_id]
    recorded = dict(zip(stored, hook.get_exports(stored), strict=True))
    history: list[ExportJob] = []
    history_complete = True
    if any(_may_be_copied(request, attempt) for request, attempt in zip(requests, attempts, strict=True)):
        history, history_complete = look.history(since)
    ids = {request.volume for request in requests} | {job.volume for job in listed if job.volume}
    volumes = _volumes(hook, ids | {job.volume for job in history if job.volume and _may_meet(job, requests)})
    objects = {
        request: _object_at(hook, request.volume, request.location)
        for request, attempt in zip(requests, attempts, strict=True)
        if request.overwrite or attempt.refusal
    }
    file_ids = sorted(wanted)
    files = dict(zip(file_ids, hook.get_files(file_ids), strict=True))
    aliases = {file.id: file for file in files.values() if isinstance(file, File) and file.is_alias}
    volumes |= _volumes(hook, {file.volume for file in aliases.values() if file.volume} - volumes.keys())
    alias_objects = {
        request: _objects_of_alias(hook, alias, request, volumes)
        for request, attempt in zip(requests, attempts, strict=True)
        if (alias := aliases.get(request.file)) and not _is_just_made(attempt, recorded)
    }
    nearby, completed = _Nearby(listed, volumes), _Nearby(history, volumes)
    return [
        Facts(
            now=time.time(),
            attempt=attempt,
            jobs=nearby.to(request),
            jobs_complete=jobs_complete,
            recorded=recorded.get(attempt.export_id or ""),
            file=files[request.file],
            volumes=volumes,
            object=objects.get(request),
            alias_objects=alias_objects.get(request, {}),
            voucher=_voucher(request, attempt, completed.to(request), volumes),
            history_complete=history_complete,
        )
        for request, attempt in zip(requests, attempts, strict=True)
    ]


class _Nearby:
    """Finds the jobs of the same file or bound for the same place."""

    def __init__(self, jobs: Iterable[ExportJob], volumes: Mapping[str, Volume]) -> None:
        self._volumes = volumes
        self._by_file: dict[str, list[ExportJob]] = defaultdict(list)
        self._by_place: dict[object, list[ExportJob]] = defaultdict(list)
        for job in jobs:
            self._by_file[job.file or ""].append(job)
            if job.volume and job.location:
                for place in places(job.volume, job.location, volumes):
                    self._by_place[place].append(job)

    def to(self, request: ExportRequest) -> tuple[ExportJob, ...]:
        found = {job.id: job for job in self._by_file.get(request.file, ())}
        for place in places(request.volume, request.location, self._volumes):
            found.update((job.id, job) for job in self._by_place.get(place, ()))
        return tuple(found.values())


def _list_jobs(hook: SevenBridgesHook, state: ExportState) -> tuple[list[ExportJob], bool]:
    """Return the jobs in a state, and whether none can have been missed.

    Lists are in no documented order and change while they are read. One page misses nothing. Several miss nothing if
    each goes on where the one before ended, or if the number of jobs stayed the same and all were seen. A list that
    shows fewer jobs than its total says is incomplete, whatever its links say.
    """
    seen: dict[str, ExportJob] = {}
    offset, previous, in_order = 0, list[str](), True
    totals: set[int | None] = set()
    for _ in range(MAX_PAGES):
        page = hook.send(calls.list_exports(states=[state], offset=offset))
        ids = [job.id for job in page.items]
        in_order = in_order and (not previous or _goes_on(previous, ids))
        previous = ids
        totals.add(page.total)
        # A job may go from PENDING to RUNNING while the list is made: its own state is the newer one.
        seen.update((job.id, job) for job in page.items if job.state == state or not job.ended)
        if not page.items or not has_next(page, hook.settings.endpoint):
            all_seen = page.total is None or page.total <= len(seen)
            return list(seen.values()), all_seen and (in_order or totals == {len(seen)})
        # Pages overlap, since a list that shrinks while it is read moves items to earlier pages.
        offset += max(len(page.items) - _OVERLAP, 1)
    return list(seen.values()), False


def _goes_on(previous: Sequence[str], ids: Sequence[str]) -> bool:
    """Whether a page begins with the end of the one before it."""
    common = set(previous) & set(ids)
    return bool(common) and list(ids[: len(common)]) == [each for each in previous if each in common]


def _volumes(hook: SevenBridgesHook, ids: Iterable[str]) -> dict[str, Volume]:
    volumes = {}
    for volume in sorted(ids):
        try:
            volumes[volume] = hook.get_volume(volume)
        except _INVISIBLE:
            hook.log.info("Volume %s cannot be looked at.", readable(volume))
    return volumes


def _object_at(hook: SevenBridgesHook, volume: str, location: str) -> VolumeObject | SevenBridgesApiError | None:
    try:
        return hook.find_volume_object(volume, location)
    except SevenBridgesApiError as error:
        if error.permanent:
            return error
        raise


def _objects_of_alias(
    hook: SevenBridgesHook, alias: File, request: ExportRequest, volumes: Mapping[str, Volume]
) -> dict[str, VolumeObject | SevenBridgesApiError | None]:
    """Return what is at each place that an alias may mean, if one of them is the destination."""
    readings = alias_readings(alias, request, volumes)
    if not any(readings.values()):
        return {}
    return {location: _object_at(hook, alias.volume or "", location) for location in readings if location is not None}


def _is_just_made(attempt: Attempt, recorded: Mapping[str, ExportJob | SevenBridgesApiError]) -> bool:
    """Whether an earlier try's own job has made the export, so that this retry need not read what it made."""
    job = recorded.get(attempt.export_id or "")
    return isinstance(job, ExportJob) and job.succeeded and not attempt.fresh


def _may_be_copied(request: ExportRequest, attempt: Attempt) -> bool:
    if request.intent is Intent.COPY:
        return attempt.refusal is not None and attempt.refusal.code == TAKEN
    # Only what completed since the record is this copy; an older one is to be overwritten.
    return request.intent is Intent.COPY_OVERWRITE and not attempt.fresh and attempt.sent_at is not None


def _may_meet(job: ExportJob, requests: Sequence[ExportRequest]) -> bool:
    """Whether a job may be to the place of a request: of two locations of one key, one is the end of the other."""
    location = job.location or ""
    return any(request.location.endswith(location) or location.endswith(request.location) for request in requests)


def _voucher(
    request: ExportRequest, attempt: Attempt, completed: Iterable[ExportJob], volumes: Mapping[str, Volume]
) -> ExportJob | None:
    """Return the newest completed job to a destination if it certainly made this copy there, else None."""
    if not _may_be_copied(request, attempt):
        return None
    here = (request.volume, request.location)
    jobs = [job for job in completed if same_place((job.volume, job.location), here, volumes)]
    times = [job.finished_on or job.started_on for job in jobs]
    if len(jobs) > 1 and not all(times):
        return None
    # Of jobs that ended in the same moment the order is not known: all of them must be of this file.
    last = [job for job, time_ in zip(jobs, times, strict=True) if len(jobs) == 1 or time_ == max(filter(None, times))]
    if not last or any(job.file != request.file for job in last):
        return None
    newest = last[0]
    if not certainly_same_place((newest.volume, newest.location), here, volumes):
        return None
    if request.intent is Intent.COPY_OVERWRITE:
        started = newest.started_on.timestamp() if newest.started_on else None
        if attempt.sent_at is None or started is None or started < attempt.sent_at - 5:
            return None
    return newest
