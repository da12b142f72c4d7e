"""Decide what to do about an export: the decision table of docs/exporting-once.md.

The input is a request and what a check of the Platform found for it, a `RemoteState` from `engine.reconcile`; the
output is a `Decision`. An export cannot be undone, repeated or canceled, so the Platform's state is the source of
truth: an export that is in flight or done is adopted, and in doubt nothing is submitted. The Platform may show jobs,
files and objects late, so a decision to fail that may have this cause allows for rechecks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_sb_provider.api.models import ExportJob, ExportState, File, Volume, VolumeObject
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesInDoubt,
    SevenBridgesNotExportable,
)
from airflow_sb_provider.exports.destination import alias_readings, certainly_same_place, same_place
from airflow_sb_provider.exports.origin import ELSEWHERE, NOT_SEARCHED, ObjectOrigin
from airflow_sb_provider.exports.request import ExportRequest, Intent
from airflow_sb_provider.jobs.decision import (
    MAX_CHECKS,
    Adopt,
    AlreadyDone,
    CheckAgain,
    Decision,
    Fail,
    Submit,
    doubt_lasts,
    is_clock_stuck,
)
from airflow_sb_provider.jobs.record import SubmissionState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider.api.job import Job

TAKEN = 9107
NOT_EXPORTABLE = 9006
# A list of hundreds of jobs in flight changes while it is read: check again until enough of the jobs have ended.
LIST_RECHECKS = 10
_LISTS_UNRELIABLE = "The lists of exports in flight are too long or changed while they were read."
# A file may first be shown as an alias at the second check, and its object may appear even later.
_OBJECT_RECHECKS = 2
_NOT_DELETED = "It is not deleted, as it may be the only copy of another file."
_CHECK_OBJECT = "Check it, then clear the task to replace it, or choose another location."


@dataclass(frozen=True)
class RemoteState:
    """What one check of the Platform found for one export.

    :param now: the time of the check, in epoch seconds of the Platform's clock.
    :param doubt_seconds: for how many seconds after a request was sent its job may be missing in the lists.
    :param visibility_delay: for how many seconds lists, files and objects may not show the effect of a job.
    :param submission: what the task knows about its earlier submissions.
    :param jobs: the jobs in flight that export the same file or write to the same place.
    :param jobs_complete: whether the lists of jobs in flight are certainly complete.
    :param recorded: the job with the stored id, or the error if it cannot be read; None if no id is stored.
    :param other: the same for the job that this task started for the file with other parameters.
    :param file: the file, or the error if it cannot be read.
    :param volumes: by id, the volumes that the token can read.
    :param object: the object at the destination; an error if it cannot be read, None if there is none or if it does
        not matter for this export.
    :param alias_objects: for a file that may be an alias of the destination: the objects that it may be an alias of, by
        location on the alias's volume; an error if an object cannot be read, None if there is none.
    :param evidence: the newest completed job to this destination, if it certainly made this copy.
    :param history_complete: whether the list of completed jobs is certainly complete.
    :param origin: who made the object and which files are aliases of it, where it would be deleted or is in the way;
        None if that was not searched for.
    :param overwrite_aliased: whether the user allows to delete an object that other files are aliases of.
    """

    now: float
    doubt_seconds: float = 120.0
    visibility_delay: float = 30.0
    submission: SubmissionState = field(default_factory=SubmissionState)
    jobs: tuple[ExportJob, ...] = ()
    jobs_complete: bool = True
    recorded: ExportJob | SevenBridgesApiError | None = None
    other: ExportJob | SevenBridgesApiError | None = None
    file: File | SevenBridgesApiError | None = None
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    object: VolumeObject | SevenBridgesApiError | None = None
    alias_objects: Mapping[str, VolumeObject | SevenBridgesApiError | None] = field(default_factory=dict)
    evidence: ExportJob | None = None
    history_complete: bool = True
    origin: ObjectOrigin | None = None
    overwrite_aliased: bool = False


def decide(requests: Sequence[ExportRequest], facts: Sequence[RemoteState]) -> list[Decision]:
    """Return for each export, in order, what to do about it."""
    return [_decide(request, found) for request, found in zip(requests, facts, strict=True)]


def _decide(request: ExportRequest, facts: RemoteState) -> Decision:
    """Return the first decision that a check makes, in this order; if none does, `_submit` decides."""
    return (
        _in_flight(request, facts)
        or _recorded(request, facts)
        or _already_made(request, facts)
        or _refused(request, facts)
        or _unsafe(request, facts)
        or _submit(request, facts)
    )


def _in_flight(request: ExportRequest, facts: RemoteState) -> Decision | None:
    own = facts.recorded if isinstance(facts.recorded, ExportJob) else None
    for job in (own, *facts.jobs):
        if job and not job.ended and (job is own or _is_same(job, request, facts)):
            return Adopt(f"Export {job.id} of the same file to the same place is {job.state}: waiting for it.", job)
    return None


def _recorded(request: ExportRequest, facts: RemoteState) -> Decision | None:
    job = facts.recorded
    if isinstance(job, SevenBridgesApiError):
        return _doubt(
            request,
            f"An earlier try started export {facts.submission.job_id}, but the Platform does not show it to this token",
            "Check that export with the token it was started with.",
            error=job,
            rechecks=1,
        )
    if job is None or not job.succeeded:
        return None
    if request.copy_only:
        return _recorded_copy(request, facts, job)
    if facts.submission.is_new_request and (moved := _already_moved(request, facts)):
        # A task that is cleared long afterwards must not report an object that was deleted in the meantime.
        return replace(moved, job=job) if isinstance(moved, AlreadyDone) else moved
    return Adopt(f"Export {job.id}, started by an earlier try, is COMPLETED: adopting it.", job)


def _recorded_copy(request: ExportRequest, facts: RemoteState, job: ExportJob) -> Decision | None:
    """Decide on a copy that an earlier try has made: the object may have been replaced or deleted since."""
    submission, found = facts.submission, facts.object
    is_latest = facts.evidence is not None
    if submission.is_new_request:
        # The task was cleared: a copy that is gone must be made again.
        is_there = isinstance(found, VolumeObject) and _sizes_agree(_known_file(facts, job), found)
        if request.overwrite or not (is_there and is_latest):
            return None
        return AlreadyDone(f"The copy is there ({found}), made by export {job.id} of an earlier try.", job, found)
    if is_latest:
        return Adopt(f"Export {job.id}, started by an earlier try, is COMPLETED: adopting it.", job)
    return _doubt(
        request,
        f"Export {job.id} of an earlier try made the copy, but another export to the same place has ended since.",
        "Check the object there; clear the task to make the copy again.",
        rechecks=1,
    )


def _already_made(request: ExportRequest, facts: RemoteState) -> Decision | None:
    if not request.copy_only:
        return _already_moved(request, facts)
    wanted_again = request.overwrite and facts.submission.is_new_request
    # If the list of completed jobs is incomplete, a newer job to this place may be missing in it.
    if wanted_again or not facts.evidence or not facts.history_complete or not isinstance(facts.object, VolumeObject):
        return None
    # The file may have been deleted since it was copied; then the job shows its size.
    if not _sizes_agree(_known_file(facts, facts.evidence), facts.object):
        return None
    return AlreadyDone(
        f"The copy is there ({facts.object}), made by export {facts.evidence.id}: adopting it.",
        facts.evidence,
        facts.object,
    )


def _already_moved(request: ExportRequest, facts: RemoteState) -> Decision | None:
    file = facts.file
    if not isinstance(file, File) or not file.is_alias:
        return None
    readings = alias_readings(file, request, facts.volumes)
    if not any(readings.values()):
        return None
    if len(readings) > 1:
        return _moved_in_one_reading(request, facts, file, readings)
    [location] = readings
    found = facts.alias_objects.get(location or "")
    if isinstance(found, SevenBridgesApiError):
        return AlreadyDone(f"The file is already an alias at that place; the object cannot be read: {found}")
    if found is None:
        return _doubt(
            request,
            f"The file is an alias of {file.volume}/{file.location}, but no object is there.",
            "Check the bucket: a lifecycle rule or a person may have removed it.",
            rechecks=_OBJECT_RECHECKS,
        )
    if _sizes_agree(file, found):
        return AlreadyDone(
            f"The file is already an alias of the object there ({found}): the move is made.", None, found
        )
    return _doubt(
        request,
        f"The file is an alias of the object there, but their sizes differ: {file.size} bytes against {found}.",
        "Check the object.",
        rechecks=_OBJECT_RECHECKS,
    )


def _moved_in_one_reading(
    request: ExportRequest, facts: RemoteState, file: File, readings: Mapping[str | None, bool]
) -> Decision | None:
    """Decide about an alias whose location has several readings: exactly one of the objects must fit the file."""
    objects = {location: facts.alias_objects.get(location or "") for location in readings}
    possible = [location for location in readings if location is None or _may_hold(objects[location], file)]
    if len(possible) == 1 and isinstance(found := objects[possible[0]], VolumeObject):
        if readings[possible[0]]:
            return AlreadyDone(
                f"The file is already an alias of the object there ({found}): the move is made.", None, found
            )
        return None
    places = ", ".join(f"{file.volume}/{location}" for location in readings if location is not None)
    return _doubt(
        request,
        f"The file is an alias of {file.volume}/{file.location}, which may mean {places}, and the objects there do not "
        "show which.",
        "Check which of these objects is the file's.",
        rechecks=_OBJECT_RECHECKS,
    )


def _may_be_own(file: File | SevenBridgesApiError | None, found: VolumeObject) -> bool:
    return not isinstance(file, File) or _may_hold(found, file)


def _may_hold(found: VolumeObject | SevenBridgesApiError | None, file: File) -> bool:
    """Whether what was found at a place may be a file's bytes. An object that cannot be read may be; None is not."""
    if isinstance(found, VolumeObject):
        return found.size is None or file.size is None or found.size == file.size
    return found is not None


def _refused(request: ExportRequest, facts: RemoteState) -> Decision | None:
    """Fail, with the cause, if the request was rejected, or its job failed or did not move the file."""
    submission = facts.submission
    refusal = submission.refusal
    if refusal is None:
        return None if submission.job is None else Fail(_not_moved(request, submission.job), rechecks=1)
    if submission.in_doubt and (wait := _doubt_lasts(request, facts)):
        # A job that was adopted has failed, and this task's own request may still be accepted.
        return wait
    cause, remedy = explain(request, facts)
    is_alias = isinstance(facts.file, File) and facts.file.is_alias
    # The file may already be moved, by this task's export or another one's, and show it late.
    rechecks = 0 if is_alias or not _may_be_made(submission) else 1
    if submission.job is not None:
        return Fail(SevenBridgesExportFailed(submission.job, cause, remedy), rechecks)
    if refusal.code == TAKEN and request.intent is Intent.COPY and not facts.history_complete:
        return _doubt(
            request,
            f"{cause} The job history is too long to find out whether an earlier export made it.",
            remedy or refusal.remedy,
        )
    if not _may_be_made(submission):
        return Fail(refusal)
    kind = SevenBridgesNotExportable if refusal.code == NOT_EXPORTABLE else SevenBridgesExportRefused
    error = kind(
        cause or refusal.reason,
        remedy=remedy or refusal.remedy,
        subject=f"The Platform rejected the {request}",
        details=refusal.details_with(refusal.message if cause else ""),
        code=refusal.code,
    )
    return Fail(error, rechecks)


def _may_be_made(submission: SubmissionState) -> bool:
    """Whether the error of the request or its job may mean that the export is already made."""
    return submission.refusal is not None and submission.refusal.code in (TAKEN, NOT_EXPORTABLE)


def _not_moved(request: ExportRequest, job: Job) -> SevenBridgesExportRefused:
    return SevenBridgesExportRefused(
        f"Export {job.id}, which was running already, was a copy: the file is still on the Platform and the object is "
        f"at {request.volume}/{request.location}.",
        remedy="To move the file, start a new run with overwrite or another location.",
    )


def _unsafe(request: ExportRequest, facts: RemoteState) -> Decision | None:
    """Fail or check again if the file cannot be exported, or a request could export it twice or destroy an object."""
    file, submission = facts.file, facts.submission
    if isinstance(file, File) and (file.is_alias or file.is_folder):
        reason, remedy = explain(request, facts)
        subject = f"The {request} was not submitted"
        return Fail(SevenBridgesNotExportable(reason, remedy=remedy, subject=subject, code=NOT_EXPORTABLE))
    careful = submission.in_doubt or request.overwrite
    if request.copy_only and not careful:
        return None
    if submission.other_credential and not request.copy_only:
        return _doubt(
            request,
            "An earlier try submitted with another token, whose exports may be invisible to this one.",
            "Check the exports of that token.",
        )
    if submission.in_doubt and facts.jobs_complete and (wait := _doubt_lasts(request, facts)):
        return wait
    if isinstance(file, SevenBridgesApiError) and careful:
        return _doubt(request, "The file cannot be read", "Check whether it was moved or deleted.", error=file)
    if request.overwrite and isinstance(facts.object, SevenBridgesApiError):
        return _doubt(
            request,
            "Overwriting deletes what is at the destination, perhaps the only copy of another file, and that cannot be "
            "read",
            "Give the token's user read access to the volume's objects, or export without overwrite.",
            error=facts.object,
        )
    if not facts.jobs_complete and careful:
        rechecks = LIST_RECHECKS if submission.in_doubt and not request.overwrite else 1
        return _doubt(request, _LISTS_UNRELIABLE, "Retry later.", rechecks=rechecks)
    if submission.in_doubt and request.intent is Intent.MOVE_OVERWRITE:
        return _doubt(
            request,
            f"{submission.why} It may have been submitted before, but no export was found. A second request could "
            "delete the only copy of a file, so none is sent.".lstrip(),
            "Check the object there and the file; then start a new run.",
        )
    return _other(request, facts) or _rivals(request, facts)


def _other(request: ExportRequest, facts: RemoteState) -> Decision | None:
    """Check the export that an earlier try started with other parameters; the lists of jobs may not show it."""
    other = facts.other
    if other is None or request.copy_only:
        return None
    if isinstance(other, SevenBridgesApiError):
        return _doubt(
            request,
            f"An earlier try started export {facts.submission.other_job_id} of the same file, but the Platform does "
            "not show it to this token",
            "Check that export with the token it was started with.",
            error=other,
            rechecks=1,
        )
    if not other.ended:
        return _rival(request, other)
    if other.succeeded and facts.submission.rechecks == 0:
        # The file may show late that it was moved.
        return CheckAgain(f"Export {other.id} of the same file has just ended.", facts.now + facts.visibility_delay)
    return None


def _rival(request: ExportRequest, job: ExportJob) -> Decision:
    return _doubt(
        request,
        f"Export {job.id} of the same file to {job.volume}/{job.location} is {job.state}.",
        "Wait for its end; if it is a move, the file cannot be exported again.",
    )


def _doubt_lasts(request: ExportRequest, facts: RemoteState) -> Decision | None:
    """Return what to do while an earlier request may have been accepted; None if it certainly was not."""
    if is_clock_stuck(facts.submission, facts.now):
        return _doubt(
            request,
            "It may have been submitted before, and the Platform's clock does not advance.",
            "Check the file and the object.",
        )
    return doubt_lasts(
        facts.submission,
        facts.now,
        doubt_seconds=facts.doubt_seconds,
        visibility_delay=facts.visibility_delay,
        why="The Platform shows nothing of an export that may have been submitted; checking once more before "
        "submitting it.",
    )


def _rivals(request: ExportRequest, facts: RemoteState) -> Decision | None:
    """Fail in doubt while another job exports the file to move, or writes to the place to overwrite."""
    for job in facts.jobs:
        if job.file == request.file and not request.copy_only:
            return _rival(request, job)
        if request.overwrite and same_place(
            (job.volume, job.location), (request.volume, request.location), facts.volumes
        ):
            return _doubt(
                request,
                f"Export {job.id} of file {job.file} to the same place is {job.state}; overwriting now could destroy "
                "what it makes.",
                "Wait for its end, then check the object.",
            )
    return None


def _submit(request: ExportRequest, facts: RemoteState) -> Decision:
    submission, found = facts.submission, facts.object
    why = _why_submitted(facts)
    if not request.overwrite:
        return Submit(why, request)
    if isinstance(found, VolumeObject) and submission.replaces not in (None, str(found)):
        # This object appeared after the check before the first request, so it is not the one that is to be replaced.
        reason, remedy = _why_not_overwritten(request, facts)
        return Fail(SevenBridgesExportRefused(reason, remedy=remedy))
    if isinstance(found, VolumeObject) and submission.seen != str(found) and _may_be_own(facts.file, found):
        if submission.rechecks > MAX_CHECKS:
            return _doubt(
                request,
                "The object there is another one at each check.",
                "Check who exports to the same place.",
            )
        # The file may show late that it was moved there: overwriting the object would then delete its only copy.
        return CheckAgain(
            "The object there may be the file's own, moved a moment ago; checking once more before it is deleted.",
            facts.now + facts.visibility_delay,
            seen=str(found),
        )
    if isinstance(found, VolumeObject):
        if refused := _aliased(request, facts, found):
            return refused
        origin = facts.origin.warning if facts.origin else f"Not checked: {NOT_SEARCHED}."
        why = f"{why} The object there ({found}) will be deleted and replaced. {origin}".strip()
        return Submit(why, request, str(found))
    # An object that appears there in the meantime, such as the only copy of another file, must not be deleted.
    careful = replace(request, overwrite=False)
    return Submit(f"{why} Nothing is there to overwrite, so overwriting is not requested.".strip(), careful)


def _why_submitted(facts: RemoteState) -> str:
    """Return why a try after the first submits, for the log; empty for a first try."""
    job, why = facts.recorded, facts.submission.why
    if isinstance(job, ExportJob) and job.failed:
        outcome = "failed" if job.state == ExportState.FAILED else f"ended as {job.state}"
        cause = [str(job.error.code or ""), job.error.reason] if job.error else []
        return f"Export {job.id} {outcome} ({': '.join(filter(None, cause)) or 'no reason given'}); submitting again."
    if isinstance(job, ExportJob) and job.succeeded:
        return f"Export {job.id} completed before the task was cleared; submitting again."
    return f"{why} The Platform shows nothing of it: submitting the export." if why else ""


def _aliased(request: ExportRequest, facts: RemoteState, found: VolumeObject) -> Fail | None:
    """Reject to delete an object that a visible file is an alias of: that file would lose its bytes."""
    origin = facts.origin
    if origin is None or not origin.aliases or facts.overwrite_aliased:
        return None
    error = SevenBridgesExportRefused(
        f"{origin.loss} (the object at {request.volume}/{request.location}, {found}). {origin.made}".rstrip(),
        remedy=ELSEWHERE,
        subject=f"The {request} was not submitted",
    )
    return Fail(error)


def explain(request: ExportRequest, facts: RemoteState) -> tuple[str, str]:
    """Return the cause of a rejection and the remedy, as far as the facts show them; empty texts if they do not.

    If the remedy is empty, the advice for the Platform's code applies.
    """
    file, found, refusal = facts.file, facts.object, facts.submission.refusal
    if isinstance(file, File):
        if file.is_folder:
            return f"{file.id} is a folder.", "Export its files."
        if file.is_alias:
            return alias_problem(file)
        if refusal and refusal.code == NOT_EXPORTABLE:
            return (
                f"File {file.id} ({file.name}) is not an alias, so it is a public file, an archived one or one linked "
                "from elsewhere.",
                "Restore it from the archive, or make a copy that the project owns.",
            )
    elif isinstance(file, SevenBridgesApiError):
        return f"File {request.file} cannot be read: {file.reason}", file.remedy
    if refusal and refusal.code == TAKEN and request.overwrite:
        return _why_not_overwritten(request, facts)
    if refusal and refusal.code == TAKEN:
        return _taken(request, facts, found) if isinstance(found, VolumeObject) else ("", ELSEWHERE)
    return "", ""


def alias_problem(file: File) -> tuple[str, str]:
    """Return why an alias cannot be exported, and what to do."""
    return (
        f"File {file.id} is already an alias of {file.volume}/{file.location}: it was exported or imported before, and "
        "an alias cannot be exported.",
        "If you need the object elsewhere, copy it within the cloud.",
    )


def _taken(request: ExportRequest, facts: RemoteState, found: VolumeObject) -> tuple[str, str]:
    """Return what the object in the way is. The remedy is to overwrite it only if no visible file loses its bytes."""
    origin = facts.origin or ObjectOrigin(unknown=(NOT_SEARCHED,))
    if facts.evidence:
        owner = f"made from the same file by export {facts.evidence.id}"
    elif origin.export and (not isinstance(origin.file, File) or _sizes_agree(origin.file, found)):
        owner = f"made by {origin.maker}"
    elif _sizes_agree(facts.file, found):
        owner = "of the same size as the file, perhaps made from it"
    else:
        owner = "made from something else"
    cause = f"{request.volume}/{request.location} already holds an object ({found}) {owner}."
    return f"{cause} {origin.explanation}".rstrip(), origin.remedy


def _why_not_overwritten(request: ExportRequest, facts: RemoteState) -> tuple[str, str]:
    place, found, replaces = f"{request.volume}/{request.location}", "", facts.submission.replaces
    if isinstance(facts.object, VolumeObject):
        found = f" ({facts.object})"
        if replaces and replaces != str(facts.object):
            what = f"The object at {place} was to be replaced ({replaces}); another one{found} is there now."
            return f"{what} {_NOT_DELETED}", _check_object(facts)
    if replaces:
        return (
            f"Overwriting was requested, but the object at {place}{found} was not deleted: an object lock, a retention "
            "rule or a policy of the bucket may forbid it.",
            "Check the bucket, or choose another location.",
        )
    return (
        f"Nothing was at {place} when it was checked, so overwriting was not requested; an object{found} has appeared "
        f"there since. {_NOT_DELETED}",
        _check_object(facts),
    )


def _check_object(facts: RemoteState) -> str:
    """Return what to do about an object that is not deleted."""
    return f"{facts.origin.explanation} {ELSEWHERE}" if facts.origin and facts.origin.aliases else _CHECK_OBJECT


def _sizes_agree(file: File | SevenBridgesApiError | None, found: VolumeObject) -> bool:
    return isinstance(file, File) and file.size is not None and file.size == found.size


def _is_same(job: ExportJob, request: ExportRequest, facts: RemoteState) -> bool:
    return job.file == request.file and certainly_same_place(
        (job.volume, job.location), (request.volume, request.location), facts.volumes
    )


def _known_file(facts: RemoteState, job: ExportJob | None) -> File | SevenBridgesApiError | None:
    """Return the file; if it cannot be read, return it as shown by the job that exported it."""
    if isinstance(facts.file, File) or job is None:
        return facts.file
    return job.exported_file or facts.file


def _doubt(
    request: ExportRequest, reason: str, remedy: str, *, error: SevenBridgesApiError | None = None, rechecks: int = 0
) -> Fail:
    if error:
        reason = f"{reason}: {error.reason}"
    subject, details = f"The {request} is in doubt", error.details if error else ""
    code = error.code if error else None
    return Fail(SevenBridgesInDoubt(reason, remedy=remedy, subject=subject, details=details, code=code), rechecks)
