"""Read the Platform's jobs, files and objects of exports: the remote state on which `exports.decision` decides."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import IN_FLIGHT, ExportJob, ExportState, File, ImportJob, Volume, VolumeObject
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.job_lists import JobLists, list_jobs
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesForbiddenError,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.decision import NOT_EXPORTABLE, TAKEN, RemoteState
from airflow_sb_provider.exports.destination import (
    alias_readings,
    certainly_same_place,
    ends_alike,
    places,
    same_place,
)
from airflow_sb_provider.exports.origin import ObjectOrigin, find_origin, importers, is_import_of, makers, newest
from airflow_sb_provider.exports.request import ExportRequest, Intent
from airflow_sb_provider.hooks.retry import retry_rules
from airflow_sb_provider.jobs.record import SubmissionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

L = TypeVar("L", ExportJob, ImportJob)

_INVISIBLE = (SevenBridgesForbiddenError, SevenBridgesNotFoundError)
# By how many seconds the Platform's clock may differ from the times in its jobs. A copy that is wrongly adopted because
# of it is at most a minute older, and has the same bytes.
_CLOCKS_AGREE = 60.0


def export_lists(hook: SevenBridgesHook) -> JobLists[ExportJob]:
    """Return the lists of the token user's own exports."""

    def page_at(state: str, offset: int) -> Call[Page[ExportJob]]:
        return calls.list_exports(states=[state], offset=offset)

    return JobLists(hook, page_at, IN_FLIGHT, ExportState.COMPLETED)


def list_imports(hook: SevenBridgesHook, volume: str) -> tuple[list[ImportJob], bool]:
    """Return the token user's own completed imports from a volume, and whether the list is certainly complete."""

    def page_at(state: str, offset: int) -> Call[Page[ImportJob]]:
        return calls.list_imports(volume, [state], offset=offset)

    return list_jobs(hook, page_at, ExportState.COMPLETED)


def fetch_remote_state(
    hook: SevenBridgesHook,
    requests: Sequence[ExportRequest],
    submissions: Sequence[SubmissionState],
    lists: JobLists[ExportJob] | None = None,
    since: float | None = None,
    *,
    overwrite_aliased: bool = False,
) -> list[RemoteState]:
    """Return what one check of the Platform finds for each export. Nothing is retried: after an error, check again.

    Requests: one per hundred jobs in flight (at least two, at most 50 per state), one per hundred files and one per
    hundred stored ids, one per volume, one per destination whose object matters, at most three per alias that may mean
    the destination, and at most 50 for the list of completed jobs if copies may already be made. Where an object would
    be deleted or is in the way, that list too, and at most 50 for the list of imports from each volume.

    :param lists: the lists of earlier checks; None to read all of them again.
    :param since: the lists of jobs must be newer than this (`time.monotonic`); None to read them again.
    :param overwrite_aliased: whether the user allows to delete objects that other files are aliases of.
    """
    check = _Check(hook, list(zip(requests, submissions, strict=True)))
    # In the order of an export's life, so that an export that advances meanwhile is found by a later step. In another
    # order, an export that ends between two steps would be found by neither.
    check.list_in_flight(lists or export_lists(hook), time.monotonic() if since is None else since)
    check.fetch_recorded()
    check.list_completed()
    check.read_objects()
    # After the objects: the jobs that made these have completed.
    check.list_makers()
    # Last, to leave little time in which the file may be exported before the request that may follow.
    check.read_files()
    return check.facts(overwrite_aliased)


def fetch_origin(hook: SevenBridgesHook, request: ExportRequest) -> ObjectOrigin:
    """Return what the object at a destination is, for a dry run; nothing known if no object is there any more."""
    overwriting = replace(request, overwrite=True)
    [facts] = Retrying(**retry_rules(hook.log))(fetch_remote_state, hook, [overwriting], [SubmissionState()])
    return facts.origin or ObjectOrigin()


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

    def list_makers(self) -> None:
        """List the jobs that show what the objects are that would be deleted, or that are in the way."""
        there = [request for request, submission in self._wanted if self._needs_origin(request, submission)]
        self._makers: dict[ExportRequest, list[ExportJob]] = {}
        self._importers: dict[ExportRequest, list[ImportJob]] = {}
        self._unlisted: list[str] = []
        if not there:
            return
        exports = self._listed("your completed exports", lambda: self._lists.history(self._since))
        exports = [job for job in [*exports, *self._just_completed] if _may_meet(job, there)]
        self._read_volumes({job.volume for job in exports if job.volume})
        related = _RelatedJobs(exports, self._volumes)
        self._makers = {request: makers(request, related.to(request), self._volumes) for request in there}
        imports: list[ImportJob] = []
        for volume in sorted(self._volumes_of_the_buckets({request.volume for request in there})):
            name = f"your imports from volume {readable(volume, 200)}"
            imports += self._listed(name, partial(list_imports, self._hook, volume))
        self._importers = importers(there, imports, self._volumes)

    def read_files(self) -> None:
        ids = {request.file for request, _ in self._wanted}
        ids |= {job.file for jobs in self._makers.values() for job in jobs if job.file}
        # A folder that was imported is not read: its files are not known.
        ids |= {
            file.id
            for request, jobs in self._importers.items()
            for job in jobs
            if (file := job.imported_file) and is_import_of(job, request, self._volumes)
        }
        self._files = dict(zip(sorted(ids), self._hook.get_files(sorted(ids), retry=False), strict=True))
        aliases = {file.id: file for file in self._files.values() if isinstance(file, File) and file.is_alias}
        self._read_volumes({file.volume for file in aliases.values() if file.volume})
        self._alias_objects = {
            request: self._objects_of_alias(alias, request)
            for request, submission in self._wanted
            if (alias := aliases.get(request.file)) and not self._is_just_made(submission)
        }

    def facts(self, overwrite_aliased: bool) -> list[RemoteState]:
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
                origin=self._origin(request) if request in self._makers else None,
                overwrite_aliased=overwrite_aliased,
            )
            for request, submission in self._wanted
        ]

    def _origin(self, request: ExportRequest) -> ObjectOrigin:
        imports = self._importers.get(request, [])
        return find_origin(request, self._makers[request], imports, self._files, self._volumes, self._unlisted)

    def _listed(self, name: str, read: Callable[[], tuple[list[L], bool]]) -> list[L]:
        """Return the jobs of a list, and note if they are not all; a list that is rejected is unknown."""
        try:
            jobs, complete = read()
        except SevenBridgesApiError as error:
            if not error.permanent:
                raise
            self._unlisted.append(f"{name}, which cannot be read ({error.reason})")
            return []
        if not complete:
            self._unlisted.append(f"{name}, of which only {len(jobs)} were read")
        return jobs

    def _volumes_of_the_buckets(self, ids: set[str]) -> set[str]:
        """Return these volumes, and the known ones that share a bucket with them."""
        buckets = {
            (volume.service, volume.bucket)
            for volume_id in ids
            if (volume := self._volumes.get(volume_id)) and volume.bucket
        }
        return ids | {key for key, volume in self._volumes.items() if (volume.service, volume.bucket) in buckets}

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

    def _needs_origin(self, request: ExportRequest, submission: SubmissionState) -> bool:
        """Whether there is an object that would be deleted, or that the export was rejected for."""
        is_taken = submission.refusal is not None and submission.refusal.code == TAKEN
        is_wanted = (request.overwrite and not self._is_just_made(submission)) or is_taken
        return is_wanted and isinstance(self._objects.get(request), VolumeObject)

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
        last = newest(list(jobs.values()))
        # The order of jobs that ended at the same time is not known, so all of them must be of this file.
        if not last or any(job.file != request.file for job in last):
            return None
        [*_, job] = last
        if not certainly_same_place((job.volume, job.location), here, self._volumes):
            return None
        if request.intent is Intent.COPY_OVERWRITE and job.id != submission.job_id:
            started = job.started_on.timestamp() if job.started_on else None
            if submission.sent_at is None or started is None or started < submission.sent_at - _CLOCKS_AGREE:
                return None
        return job


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
    """Whether a job may be to the place of a request."""
    return any(ends_alike(request.location, job.location or "") for request in requests)
