"""The table of "exported once": intents and what a look found, to what to do.

Facts are gathered by `hooks.facts`. An export cannot be undone, repeated or cancelled, so that the Platform's state
is the record: what is in flight is waited for, what is done is taken over, and in doubt nothing is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_sb_provider.api.models import ExportJob, File, Volume, VolumeObject
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesInDoubt,
)
from airflow_sb_provider.exports.attempt import Attempt
from airflow_sb_provider.exports.destination import alias_fits, same_place
from airflow_sb_provider.exports.request import ExportRequest, Intent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAKEN = 9107
NOT_EXPORTABLE = 9006


@dataclass(frozen=True)
class Facts:
    """What one look at the Platform found for one export.

    :param now: when, in epoch seconds.
    :param attempt: what the task knows of its own past.
    :param jobs: the jobs in flight of the same file or bound for the same place.
    :param jobs_complete: whether the lists of jobs in flight were read to their ends.
    :param recorded: the job of the stored id, or why it cannot be seen.
    :param file: the file, or why it cannot be seen.
    :param volumes: by id, those that the token may see.
    :param alias_is_proven: a file that is an alias at the destination needs no look at its object, since that of
        another one on the same volume was looked at.
    :param object: what is at the destination; an error if that cannot be seen, None if nothing is there.
    :param voucher: a completed job of this file and destination.
    :param history_complete: whether the search for one reached the end.
    """

    now: float
    attempt: Attempt = field(default_factory=Attempt)
    jobs: tuple[ExportJob, ...] = ()
    jobs_complete: bool = True
    recorded: ExportJob | SevenBridgesApiError | None = None
    file: File | SevenBridgesApiError | None = None
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    alias_is_proven: bool = False
    object: VolumeObject | SevenBridgesApiError | None = None
    voucher: ExportJob | None = None
    history_complete: bool = True


@dataclass(frozen=True)
class Submit:
    """Ask for the export. ``replaces`` is the object that it will delete.

    ``overwrite`` is what to ask with: false where a move finds nothing to overwrite, so that nothing that comes there
    in the meantime, such as a twin's only copy, is deleted.
    """

    why: str
    overwrite: bool
    replaces: VolumeObject | None = None


@dataclass(frozen=True)
class Adopt:
    """Wait for a job that exists instead of starting one; it may have ended already."""

    why: str
    job: ExportJob


@dataclass(frozen=True)
class Done:
    """The export is made already; ``object`` is what is at the destination, as far as it can be seen."""

    why: str
    job: ExportJob | None = None
    object: VolumeObject | None = None


@dataclass(frozen=True)
class LookAgain:
    """Nothing was found, but a request may still be accepted: look again at ``at`` (epoch seconds)."""

    why: str
    at: float


@dataclass(frozen=True)
class Fail:
    """Send nothing; ``error`` says why and what to check."""

    error: SevenBridgesError


Decision = Submit | Adopt | Done | LookAgain | Fail


def decide(requests: Sequence[ExportRequest], facts: Sequence[Facts]) -> list[Decision]:
    """Return for each export, in order, what to do about it."""
    return [_decide(request, found) for request, found in zip(requests, facts, strict=True)]


def _decide(request: ExportRequest, facts: Facts) -> Decision:
    """The rows of the table are the intents; its columns are checked in turn."""
    return (
        _in_flight(request, facts)
        or _recorded(request, facts)
        or _already_made(request, facts)
        or _refused(request, facts)
        or _unsafe(request, facts)
        or _submit(request, facts)
    )


def _in_flight(request: ExportRequest, facts: Facts) -> Decision | None:
    own = facts.recorded if isinstance(facts.recorded, ExportJob) else None
    for job in (own, *facts.jobs):
        if job and not job.ended and (job is own or _is_same(job, request, facts)):
            return Adopt(f"Export {job.id} of the same file to the same place is {job.state}: waiting for it.", job)
    return None


def _recorded(request: ExportRequest, facts: Facts) -> Decision | None:
    job = facts.recorded
    if isinstance(job, SevenBridgesApiError):
        return _doubt(
            request,
            f"an earlier try started export {facts.attempt.export_id}, but the Platform does not show it to this "
            f"token: {job} Check that export with the token it was started with.",
        )
    if job is None or not job.succeeded:
        return None
    if request.intent is Intent.COPY_OVERWRITE and facts.attempt.fresh:
        return None
    return Adopt(f"Export {job.id}, started by an earlier try, is COMPLETED: taking it over.", job)


def _already_made(request: ExportRequest, facts: Facts) -> Decision | None:
    if not request.copy_only:
        return _already_moved(request, facts)
    attempt = facts.attempt
    wanted_again = request.overwrite and attempt.fresh
    if wanted_again or not facts.voucher or not isinstance(facts.object, VolumeObject):
        return None
    if not _sizes_agree(facts):
        return None
    return Done(
        f"The copy is there ({facts.object}), made by export {facts.voucher.id}: taking it over.",
        facts.voucher,
        facts.object,
    )


def _already_moved(request: ExportRequest, facts: Facts) -> Decision | None:
    file, found = facts.file, facts.object
    if not isinstance(file, File) or not file.is_alias:
        return None
    fits, fits_in_any_reading = alias_fits(file, request, facts.volumes)
    if not fits:
        return None
    if facts.alias_is_proven:
        return Done("The file is already an alias of the object there: the move is made.")
    if isinstance(found, VolumeObject):
        if _sizes_agree(facts):
            return Done(f"The file is already an alias of the object there ({found}): the move is made.", None, found)
        return _doubt(
            request,
            f"the file is an alias of the object there, but their sizes differ: {file.size} bytes against {found}. "
            "Check the object.",
        )
    if isinstance(found, SevenBridgesApiError):
        if fits_in_any_reading:
            return Done(f"The file is already an alias at that place; the object cannot be looked at: {found}")
        return _doubt(
            request,
            f"the file is an alias of {file.volume}/{file.location}, which may be that place, and the object cannot be "
            f"looked at: {found} Check where the object is.",
        )
    return _doubt(
        request,
        f"the file is an alias of {file.volume}/{file.location}, but no object is there. Check the bucket: "
        "a lifecycle rule or a person may have removed it.",
    )


def _refused(request: ExportRequest, facts: Facts) -> Decision | None:
    attempt = facts.attempt
    if attempt.refusal is None:
        return None
    if attempt.refusal.code == TAKEN and request.intent is Intent.MOVE_OVERWRITE:
        # It was asked for without overwrite, since nothing was there; what is there now is named before it is deleted.
        return None
    cause = explain(request, facts)
    if attempt.failed:
        return Fail(SevenBridgesExportFailed(attempt.failed, cause))
    if attempt.refusal.code == TAKEN and request.intent is Intent.COPY and not facts.history_complete:
        return _doubt(request, f"{cause} The job history is too long to tell whether an earlier export made it.")
    return Fail(SevenBridgesExportRefused(f"The Platform refused the {request}: {attempt.refusal} {cause}"))


def _unsafe(request: ExportRequest, facts: Facts) -> Decision | None:
    file, attempt = facts.file, facts.attempt
    if isinstance(file, File) and (file.is_alias or file.is_folder):
        return Fail(SevenBridgesExportRefused(f"Nothing was asked for: {explain(request, facts)}"))
    if request.copy_only:
        return None
    in_doubt = attempt.doubt_until is not None
    careful = in_doubt or request.overwrite
    if isinstance(file, SevenBridgesApiError) and careful:
        return _doubt(request, f"the file cannot be looked at: {file} Check whether it was moved.")
    if attempt.other_credential:
        return _doubt(
            request,
            "an earlier try asked with another token, whose exports may be invisible to this one. Check them.",
        )
    if not facts.jobs_complete and careful:
        return _doubt(
            request, "the lists of exports in flight are too long or changed while they were read. Try later."
        )
    if attempt.doubt_until is not None:
        if attempt.looks < 1 or facts.now < attempt.doubt_until:
            return LookAgain(
                "Nothing is found of an export that may have been asked for; looking once more before asking (again).",
                max(attempt.doubt_until, facts.now),
            )
        if request.overwrite:
            return _doubt(
                request,
                "it may have been asked for before and nothing is found of it. A second request could delete the only "
                "copy of a file, so that none is made. Check the object there and the file; then start a new run.",
            )
    return _rivals(request, facts)


def _rivals(request: ExportRequest, facts: Facts) -> Decision | None:
    for job in facts.jobs:
        if job.file == request.file:
            return _doubt(
                request,
                f"export {job.id} of the same file to {job.volume}/{job.location} is {job.state}. Wait for its end; "
                "if it is a move, the file cannot be exported again.",
            )
        if request.overwrite:
            return _doubt(
                request,
                f"export {job.id} of another file, {job.file}, to the same place is {job.state}; overwriting now could "
                "destroy what it makes. Wait for its end, then look.",
            )
    return None


def _submit(request: ExportRequest, facts: Facts) -> Decision:
    attempt, found = facts.attempt, facts.object
    why = "" if attempt.untroubled else f"{attempt.why} The Platform shows nothing of it: asking for the export. "
    if not request.overwrite:
        return Submit(why.strip(), overwrite=False)
    if isinstance(found, VolumeObject):
        return Submit(f"{why}The object there ({found}) will be deleted and replaced.", True, found)
    if isinstance(found, SevenBridgesApiError):
        return Submit(f"{why}What is there cannot be looked at ({found}); it will be deleted and replaced.", True)
    if request.copy_only:
        return Submit(why.strip(), overwrite=True)
    return Submit(f"{why}Nothing is there to overwrite, so overwriting is not asked for.", overwrite=False)


def explain(request: ExportRequest, facts: Facts) -> str:
    """Return which of the causes of a refusal holds, as far as the facts tell, and what to do."""
    file, found, refusal = facts.file, facts.object, facts.attempt.refusal
    if isinstance(file, File):
        if file.is_folder:
            return f"{file.id} is a folder; export its files."
        if file.is_alias:
            return (
                f"File {file.id} is already an alias of {file.volume}/{file.location}: it was exported or imported "
                "before, and an alias cannot be exported. Copy the object within the cloud if it is needed elsewhere."
            )
        if refusal and refusal.code == NOT_EXPORTABLE:
            return (
                f"File {file.id} ({file.name}) is no alias, so it is a public file, an archived one or one linked from "
                "elsewhere. Restore it from the archive, or make a copy that the project owns."
            )
    elif isinstance(file, SevenBridgesApiError):
        return f"File {request.file} cannot be looked at: {file}"
    if refusal and refusal.code == TAKEN and isinstance(found, VolumeObject):
        if facts.voucher:
            owner = f"made from the same file by export {facts.voucher.id}"
        elif isinstance(file, File) and _sizes_agree(facts):
            owner = "of the same size as the file, perhaps made from it"
        else:
            owner = "made from something else"
        return f"{request.volume}/{request.location} holds an object already ({found}), {owner}."
    return ""


def _sizes_agree(facts: Facts) -> bool:
    known = [item.size for item in (facts.file, facts.object) if isinstance(item, File | VolumeObject)]
    return len(known) == 2 and known[0] == known[1] and known[0] is not None


def _is_same(job: ExportJob, request: ExportRequest, facts: Facts) -> bool:
    return job.file == request.file and same_place(
        (job.volume, job.location), (request.volume, request.location), facts.volumes
    )


def _doubt(request: ExportRequest, text: str) -> Fail:
    return Fail(SevenBridgesInDoubt(f"The {request} is in doubt, nothing was asked for: {text}"))
