"""Gather through a hook the facts that `exports.decide` decides on."""

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
from airflow_sb_provider.exports.decide import TAKEN, Facts
from airflow_sb_provider.exports.destination import fitting_readings, places
from airflow_sb_provider.exports.request import ExportRequest, Intent
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.exports.attempt import Attempt
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

MAX_PAGES = 50
_OVERLAP = 10
_INVISIBLE = (SevenBridgesForbiddenError, SevenBridgesNotFoundError)


class Look:
    """The lists that one look at the Platform needs, kept for the looks that follow.

    A single export looks anew each time; a batch keeps them, since its hundreds are looked at one after another.

    :param for_many: keeps the history too, and looks at no object of an alias where another on its volume has shown how
        the Platform writes its location, and this one fits if written so.
    """

    def __init__(self, hook: SevenBridgesHook, *, for_many: bool = False) -> None:
        self.hook = hook
        self.for_many = for_many
        self.proven: dict[str, frozenset[tuple[bool, bool]]] = {}
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

    def history(self, wanted: Sequence[ExportRequest], since: float) -> tuple[list[ExportJob], bool]:
        """Return completed jobs that may vouch for copies, listed after ``since``, and whether all were read."""
        if not (wanted and self.for_many):
            return _list_jobs(self.hook, ExportState.COMPLETED, enough=wanted)
        if self._history_at <= since:
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
    50 for each state), one for each hundred files and for each hundred stored ids, one for each volume, at most
    two for each object that matters, and for copies that may be made already at most 50 of history.

    :param look: the lists of earlier looks.
    :param since: from when (epoch seconds) the lists of jobs must be at least; usually they are read anew.
    """
    look, since = look or Look(hook), min(since, time.time())
    wanted = {request.file for request in requests}
    listed, jobs_complete = look.in_flight(since)
    stored = [attempt.export_id for attempt in attempts if attempt.export_id]
    recorded = dict(zip(stored, hook.get_exports(stored), strict=True))
    needs_history = [
        request for request, attempt in zip(requests, attempts, strict=True) if _may_be_copied(request, attempt)
    ]
    history, history_complete = look.history(needs_history, since)
    volumes = _volumes(hook, {request.volume for request in requests} | {job.volume for job in listed if job.volume})
    objects = {
        request: _object_at(hook, request)
        for request, attempt in zip(requests, attempts, strict=True)
        if request.overwrite or attempt.refusal
    }
    file_ids = sorted(wanted)
    files = dict(zip(file_ids, hook.get_files(file_ids), strict=True))
    aliases = {file.id: file for file in files.values() if isinstance(file, File) and file.is_alias}
    volumes |= _volumes(hook, {file.volume for file in aliases.values() if file.volume} - volumes.keys())
    proven: set[ExportRequest] = set()
    for request in requests:
        if (alias := aliases.get(request.file)) and (readings := fitting_readings(alias, request, volumes)):
            known = look.proven.get(request.volume)
            if known and known <= readings:
                proven.add(request)
                continue
            objects[request] = found = _object_at(hook, request)
            if look.for_many and isinstance(found, VolumeObject) and found.size in (None, alias.size):
                look.proven[request.volume] = readings & known if known else readings
    nearby = _Nearby(listed, volumes)
    return [
        Facts(
            now=time.time(),
            attempt=attempt,
            jobs=nearby.to(request),
            jobs_complete=jobs_complete,
            recorded=recorded.get(attempt.export_id or ""),
            file=files[request.file],
            volumes=volumes,
            alias_is_proven=request in proven,
            object=objects.get(request),
            voucher=_voucher(request, attempt, history),
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


def _list_jobs(
    hook: SevenBridgesHook, state: ExportState, *, enough: Sequence[ExportRequest] | None = None
) -> tuple[list[ExportJob], bool]:
    """Return the jobs in a state, and whether none can have been missed.

    Lists are in no documented order and change while they are read. One page misses nothing. Several miss nothing if
    each goes on where the one before ended, or if the number of jobs stayed the same and all were seen.

    :param enough: stop when each of these has a job; an empty sequence reads nothing.
    """
    seen: dict[str, ExportJob] = {}
    offset, previous, in_order = 0, list[str](), True
    totals: set[int | None] = set()
    for _ in range(MAX_PAGES):
        if enough is not None and all(_vouched(request, seen.values()) for request in enough):
            return list(seen.values()), True
        page = hook.send(calls.list_exports(states=[state], offset=offset))
        ids = [job.id for job in page.items]
        in_order = in_order and (not previous or _goes_on(previous, ids))
        previous = ids
        totals.add(page.total)
        seen.update((job.id, job) for job in page.items if job.state == state)
        if not page.items or not has_next(page, hook.settings.endpoint):
            return list(seen.values()), in_order or totals == {len(seen)}
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


def _object_at(hook: SevenBridgesHook, request: ExportRequest) -> VolumeObject | SevenBridgesApiError | None:
    try:
        return hook.find_volume_object(request.volume, request.location)
    except SevenBridgesApiError as error:
        if error.permanent:
            return error
        raise


def _may_be_copied(request: ExportRequest, attempt: Attempt) -> bool:
    if request.intent is Intent.COPY:
        return attempt.refusal is not None and attempt.refusal.code == TAKEN
    # Only what completed since the record is this copy; an older one is to be overwritten.
    return request.intent is Intent.COPY_OVERWRITE and not attempt.fresh and attempt.sent_at is not None


def _voucher(request: ExportRequest, attempt: Attempt, history: Sequence[ExportJob]) -> ExportJob | None:
    if not _may_be_copied(request, attempt):
        return None
    since = attempt.sent_at if request.intent is Intent.COPY_OVERWRITE else None
    for job in history:
        started = job.started_on.timestamp() if job.started_on else None
        if _vouched(request, [job]) and (since is None or (started is not None and started >= since - 5)):
            return job
    return None


def _vouched(request: ExportRequest, jobs: Iterable[ExportJob]) -> bool:
    return any((job.file, job.volume, job.location) == (request.file, request.volume, request.location) for job in jobs)
