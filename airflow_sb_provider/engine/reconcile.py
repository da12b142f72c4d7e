"""Read the Platform's jobs, files and objects of exports: the remote state on which `exports.decision` decides."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import IN_FLIGHT, ExportJob, ExportState, File, Volume, VolumeObject
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.job_lists import JobLists
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesForbiddenError,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.decision import NOT_EXPORTABLE, TAKEN, RemoteState
from airflow_sb_provider.exports.destination import alias_readings, certainly_same_place, places, same_place
from airflow_sb_provider.exports.request import ExportRequest, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.record import SubmissionState

_INVISIBLE = (SevenBridgesForbiddenError, SevenBridgesNotFoundError)
# By how many seconds the Platform's clock may differ from the times in its jobs. A copy that is wrongly adopted because
# of it is at most a minute older, and has the same bytes.
_CLOCKS_AGREE = 60.0


def export_lists(hook: SevenBridgesHook) -> JobLists[ExportJob]:
    """Return the lists of the token user's own exports."""

    def page_at(state: str, offset: int) -> Call[Page[ExportJob]]:
        return calls.list_exports(states=[state], offset=offset)

    return JobLists(hook, page_at, IN_FLIGHT, ExportState.COMPLETED)


def fetch_remote_state(
    hook: SevenBridgesHook,
    requests: Sequence[ExportRequest],
    submissions: Sequence[SubmissionState],
    lists: JobLists[ExportJob] | None = None,
    since: float | None = None,
) -> list[RemoteState]:
    """Return what one check of the Platform finds for each export. Nothing is retried: after an error, check again.

    Requests: one per hundred jobs in flight (at least two, at most 50 per state), one per hundred files and one per
    hundred stored ids, one per volume, one per destination whose object matters, at most three per alias that may mean
    the destination, and at most 50 for the list of completed jobs if copies may already be made.

    :param lists: the lists of earlier checks; None to read all of them again.
    :param since: the lists of jobs must be newer than this (`time.monotonic`); None to read them again.
    """
    check = _Check(hook, list(zip(requests, submissions, strict=True)))
    # In the order of an export's life, so that an export that advances meanwhile is found by a later step. In another
    # order, an export that ends between two steps would be found by neither.
    check.list_in_flight(lists or export_lists(hook), time.monotonic() if since is None else since)
    check.fetch_recorded()
    check.list_completed()
    check.read_objects()
    # Last, to leave little time in which the file may be exported before the request that may follow.
    check.read_files()
    return check.facts()


class _Check:
    """One check of the Platform, in steps whose order matters (see `fetch_remote_state`)."""

    def __init__(self, hook: SevenBridgesHook, wanted: Sequence[tuple[ExportRequest, SubmissionState]]) -> None:
        self._hook = hook
        self._wanted = wanted
        self._volumes: dict[str, Volume] = {}
        self._completed: list[ExportJob] = []
        self._completed_all = True

    def list_in_flight(self, lists: JobLists[ExportJob], since: float) -> None:
        self._lists, self._since = lists, since
        jobs, self._in_flight_all = lists.in_flight(since)
        self._in_flight = [job for job in jobs if not job.ended]
        # Listed as in flight, but already completed: the list of completed jobs may show them late.
        self._just_completed = [job for job in jobs if job.succeeded]

    def fetch_recorded(self) -> None:
        known = [(submission.job_id, submission.other_job_id) for _, submission in self._wanted]
        ids = [job_id for pair in known for job_id in pair if job_id]
        self._recorded: dict[str, ExportJob | SevenBridgesApiError] = {}
        try:
            self._recorded = dict(zip(ids, self._hook.get_exports(ids, retry=False), strict=True))
        except _INVISIBLE as error:
            # The Platform may reject the whole call for ids that it does not show yet.
            self._recorded = dict.fromkeys(ids, error)

    def list_completed(self) -> None:
        if any(self._may_be_copied(request, submission) for request, submission in self._wanted):
            listed, self._completed_all = self._lists.history(self._since)
            self._completed = [*listed, *self._just_completed]

    def read_objects(self) -> None:
        requests = [request for request, _ in self._wanted]
        ids = {request.volume for request in requests} | {job.volume for job in self._in_flight if job.volume}
        ids |= {job.volume for job in self._completed if job.volume and _may_meet(job, requests)}
        self._read_volumes(ids)
        completed = _RelatedJobs(self._completed, self._volumes)
        self._evidence = {
            request: evidence
            for request, submission in self._wanted
            if (evidence := self._find_evidence(request, submission, completed.to(request)))
        }
        self._objects = {
            request: self._object_at(request.volume, request.location)
            for request, submission in self._wanted
            if self._needs_object(request, submission)
        }

    def read_files(self) -> None:
        ids = sorted({request.file for request, _ in self._wanted})
        self._files = dict(zip(ids, self._hook.get_files(ids, retry=False), strict=True))
        aliases = {file.id: file for file in self._files.values() if isinstance(file, File) and file.is_alias}
        self._read_volumes({file.volume for file in aliases.values() if file.volume})
        self._alias_objects = {
            request: self._objects_of_alias(alias, request)
            for request, submission in self._wanted
            if (alias := aliases.get(request.file)) and not self._is_just_made(submission)
        }

    def facts(self) -> list[RemoteState]:
        near = _RelatedJobs(self._in_flight, self._volumes)
        settings, now = self._hook.settings, self._hook.clock.now()
        return [
            RemoteState(
                now=now,
                doubt_seconds=settings.gateway_timeout + settings.visibility_delay,
                visibility_delay=settings.visibility_delay,
                submission=submission,
                jobs=near.to(request),
                jobs_complete=self._in_flight_all,
                recorded=self._recorded.get(submission.job_id or ""),
                other=self._recorded.get(submission.other_job_id or ""),
                file=self._files[request.file],
                volumes=self._volumes,
                object=self._objects.get(request),
                alias_objects=self._alias_objects.get(request, {}),
                evidence=self._evidence.get(request),
                history_complete=self._completed_all,
            )
            for request, submission in self._wanted
        ]

    def _read_volumes(self, ids: set[str]) -> None:
        for volume in sorted(ids - self._volumes.keys()):
            try:
                self._volumes[volume] = self._hook.get_volume(volume, retry=False)
            except _INVISIBLE:
                self._hook.log.info("Volume %s cannot be read.", readable(volume))

    def _object_at(self, volume: str, location: str) -> VolumeObject | SevenBridgesApiError | None:
        try:
            return self._hook.find_volume_object(volume, location, retry=False)
        except SevenBridgesApiError as error:
            if error.permanent:
                return error
            raise

    def _objects_of_alias(
        self, alias: File, request: ExportRequest
    ) -> dict[str, VolumeObject | SevenBridgesApiError | None]:
        """Return the object at each place that an alias may mean; nothing if the destination is not one of them."""
        readings = alias_readings(alias, request, self._volumes)
        if not any(readings.values()):
            return {}
        return {each: self._object_at(alias.volume or "", each) for each in readings if each is not None}

    def _recorded_done(self, submission: SubmissionState) -> ExportJob | None:
        job = self._recorded.get(submission.job_id or "")
        return job if isinstance(job, ExportJob) and job.succeeded else None

    def _is_just_made(self, submission: SubmissionState) -> bool:
        """Whether a retry finds that the recorded job has completed, so it need not read the objects of the alias."""
        return self._recorded_done(submission) is not None and not submission.is_new_request

    def _needs_object(self, request: ExportRequest, submission: SubmissionState) -> bool:
        if request.overwrite or (submission.refusal is not None and submission.refusal.code in (TAKEN, NOT_EXPORTABLE)):
            return True
        if not request.copy_only:
            return False
        if submission.in_doubt:
            return request in self._evidence
        return submission.is_new_request and self._recorded_done(submission) is not None

    def _may_be_copied(self, request: ExportRequest, submission: SubmissionState) -> bool:
        if not request.copy_only:
            return False
        if self._recorded_done(submission) is not None:
            return not (request.overwrite and submission.is_new_request)
        if request.intent is Intent.COPY:
            # A request in doubt may have been accepted and its job have ended: only the list of completed jobs has it.
            return submission.in_doubt or (submission.refusal is not None and submission.refusal.code == TAKEN)
        # Only a job that is newer than the record made this copy; an older copy is to be overwritten.
        return not submission.is_new_request and submission.sent_at is not None

    def _find_evidence(
        self, request: ExportRequest, submission: SubmissionState, completed: Iterable[ExportJob]
    ) -> ExportJob | None:
        """Return the newest completed job to a destination if it certainly made this copy there, else None."""
        if not self._may_be_copied(request, submission):
            return None
        here = (request.volume, request.location)
        jobs = {job.id: job for job in completed if same_place((job.volume, job.location), here, self._volumes)}
        if recorded := self._recorded_done(submission):
            # A list may show it late.
            jobs[recorded.id] = recorded
        newest = _newest(list(jobs.values()))
        # The order of jobs that ended at the same time is not known, so all of them must be of this file.
        if not newest or any(job.file != request.file for job in newest):
            return None
        [*_, job] = newest
        if not certainly_same_place((job.volume, job.location), here, self._volumes):
            return None
        if request.intent is Intent.COPY_OVERWRITE and job.id != submission.job_id:
            started = job.started_on.timestamp() if job.started_on else None
            if submission.sent_at is None or started is None or started < submission.sent_at - _CLOCKS_AGREE:
                return None
        return job


def _newest(jobs: Sequence[ExportJob]) -> list[ExportJob]:
    """Return the jobs that ended last; none if the order of several is not known."""
    if len(jobs) < 2:
        return list(jobs)
    times = [job.finished_on or job.started_on for job in jobs]
    known = [moment for moment in times if moment]
    if len(known) < len(times):
        return []
    return [job for job, moment in zip(jobs, times, strict=True) if moment == max(known)]


class _RelatedJobs:
    """Finds the jobs that export the file of a request or write to its place."""

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


def _may_meet(job: ExportJob, requests: Sequence[ExportRequest]) -> bool:
    """Whether a job may write to a request's place: if two locations mean one key, one of them ends with the other."""
    location = job.location or ""
    return any(request.location.endswith(location) or location.endswith(request.location) for request in requests)
