"""The rules, each broken on purpose: the simulation must notice every one, for one export and for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.engine import job_lists, reconcile, submitter
from airflow_sb_provider.engine.export_policy import ExportPolicy
from airflow_sb_provider.engine.job_lists import JobLists
from airflow_sb_provider.exports import decision, destination
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.jobs import record, tracked
from airflow_sb_provider.jobs.batch import Batch
from airflow_sb_provider.jobs.decision import Adopt, AlreadyDone, CheckAgain, Fail
from airflow_sb_provider.jobs.tracked import TrackedJob
from airflow_sb_provider.operators import base
from airflow_sb_provider.operators.state_store import StateStore

if TYPE_CHECKING:
    from airflow_sb_provider.jobs.record import SubmissionState

Patch = Callable[..., None]


@dataclass(frozen=True)
class Mutant:
    """A broken rule.

    :param name: what is broken.
    :param patch: breaks it.
    :param seeds: of a schedule of one export and of one of many that notice, or of one of tasks; None where it cannot
        matter.
    :param needs: the weakenings that are on in these schedules.
    :param why: it cannot matter there.
    """

    name: str
    patch: Callable[[Patch], None]
    seeds: tuple[int | None, ...]
    needs: frozenset[str]
    why: str = ""


MUTANTS: dict[str, Mutant] = {}


def mutant(
    one: int | None, many: int | None, *needs: str, why: str = ""
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a broken rule, with the seeds of schedules that notice."""

    def add(patch: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[patch.__name__] = Mutant((patch.__doc__ or "").strip(), patch, (one, many), frozenset(needs), why)
        return patch

    return add


def _submissions(patch: Patch, change: Callable[[SubmissionState, dict[str, Any]], SubmissionState]) -> None:
    real = record.submission_state
    patch(base, "submission_state", lambda request, **facts: change(real(request, **facts), facts))


def _decisions(patch: Patch, change: Callable[[decision.RemoteState], SubmissionState]) -> None:
    real = decision._submit
    patch(decision, "_submit", lambda request, facts: real(request, replace(facts, submission=change(facts))))


# The record of earlier tries


@mutant(46, 20, "workers die", "requests arrive late")
def no_check(patch: Patch) -> None:
    """a retry does not check before it submits"""
    _submissions(patch, lambda submission, _: replace(submission, can_submit_unchecked=True, in_doubt=False))


@mutant(
    161,
    None,
    "parameters change",
    "workers die",
    "tasks are cleared",
    why="many are found by file and place, and what is adopted is verified",
)
def record_of_another(patch: Patch) -> None:
    """the record of another export is used"""
    real = record.submission_state

    def submission_state(request: Any, *, record: Any, **options: Any) -> SubmissionState:
        record = record and replace(record, fingerprint=request.fingerprint)
        return real(request, record=record, **options)

    patch(base, "submission_state", submission_state)


@mutant(22, 305, "records are unreadable", "workers die", "requests arrive late")
def unreadable_is_nothing(patch: Patch) -> None:
    """an unreadable record counts as no record"""
    _submissions(
        patch, lambda submission, facts: replace(submission, in_doubt=False) if facts["unreadable"] else submission
    )


@mutant(76, 31, "there is no store", "workers die", "requests arrive late")
def no_record_is_nothing(patch: Patch) -> None:
    """without a record a retry assumes that nothing was submitted"""
    _submissions(
        patch, lambda submission, facts: submission if facts["record"] else replace(submission, in_doubt=False)
    )


@mutant(
    106,
    56,
    "tasks are cleared",
    "records are discarded",
    "workers die",
    "dead workers live on",
    "responses are lost",
    "requests arrive late",
)
def discarded_is_rejected(patch: Patch) -> None:
    """a cleared task whose record was discarded assumes that its request was rejected"""
    _submissions(
        patch,
        lambda submission, facts: (
            replace(submission, in_doubt=False)
            if facts["has_store"] and facts["record"] is None and submission.is_new_request
            else submission
        ),
    )


@mutant(None, 12, "pages are lost", "workers die", "requests arrive late", why="the record of one export has one page")
def lost_page_is_nothing(patch: Patch) -> None:
    """a lost page of the record counts as nothing submitted"""
    patch(StateStore, "_warn", lambda self, problem: None)


@mutant(37, 80, "workers die", "requests arrive late")
def record_after(patch: Patch) -> None:
    """the record is written only after the response"""
    real = StateStore.save

    def save(self: StateStore[TrackedExport], entries: Sequence[TrackedExport]) -> None:
        if not all(entry.is_unanswered for entry in entries):
            real(self, entries)

    patch(StateStore, "save", save)


@mutant(60, 13, "dead workers live on", "workers die", "workers pause", "requests arrive late")
def dead_worker_goes_on(patch: Patch) -> None:
    """a failed write of the record does not stop the request"""
    real = StateStore.save

    def save(self: StateStore[TrackedExport], entries: Sequence[TrackedExport]) -> None:
        try:
            real(self, entries)
        except Exception:
            return

    patch(StateStore, "save", save)


@mutant(676, 414, "workers pause", "writes are slow", "requests arrive late")
def sent_late(patch: Patch) -> None:
    """a request is sent at any time after its record"""
    for name in ("SLOW_RECORD", "SEND_WITHIN"):
        patch(submitter, name, float("inf"))


@mutant(0, 0, "the Platform accepts nothing", "workers die")
def counters_restart(patch: Patch) -> None:
    """counters restart at each resumption"""
    real = TrackedJob.to_json

    def to_json(self: TrackedJob[Any]) -> dict[str, Any]:
        return {key: value for key, value in real(self).items() if key not in ("posts", "failed_submissions")}

    patch(TrackedExport, "to_json", to_json)


# A request whose response is lost


@mutant(12, 5, "requests arrive late", "responses are lost")
def lost_is_rejected(patch: Patch) -> None:
    """a lost response counts as a rejection"""
    _submissions(patch, lambda submission, _: replace(submission, in_doubt=False))
    real = TrackedJob.lost

    def lost(self: TrackedJob[Any]) -> bool:
        again = real(self)
        self.submission = replace(self.submission, in_doubt=False)
        return again

    patch(TrackedJob, "lost", lost)


@mutant(6, 25, "maintenance is a lie", "lists lag", "workers die")
def maintenance_is_rejection(patch: Patch) -> None:
    """maintenance proves that nothing was accepted"""
    patch(submitter, "SevenBridgesMaintenanceError", type("Never", (Exception,), {}))


@mutant(12, 0, "requests arrive late")
def one_check(patch: Patch) -> None:
    """a request in doubt is resubmitted after one check"""
    patch(decision, "_doubt_lasts", lambda request, facts: None)


@mutant(36, 0, "requests arrive late")
def no_gateway_wait(patch: Patch) -> None:
    """a request in doubt is resubmitted without waiting for the gateway"""
    real = decision._doubt_lasts
    patch(decision, "_doubt_lasts", lambda request, facts: real(request, replace(facts, doubt_seconds=0.0)))


@mutant(270, 162, "requests arrive late", "workers die", "lists lag")
def doubt_from_the_record(patch: Patch) -> None:
    """the gateway timeout counts from the record, by the clock of the worker that wrote it"""

    def since_sent(submission: SubmissionState, facts: dict[str, Any]) -> SubmissionState:
        if not (submission.in_doubt and facts["record"]):
            return submission
        return replace(submission, doubt_stage=2, doubt_until=facts["record"].sent_at + 90)

    _submissions(patch, since_sent)


@mutant(221, 12, "requests arrive late", "files lag")
def no_third_check(patch: Patch) -> None:
    """a request in doubt is resubmitted although its job may not be listed yet"""
    real = decision._doubt_lasts

    def lasts(request: Any, facts: decision.RemoteState) -> Any:
        found = real(request, facts)
        return None if isinstance(found, CheckAgain) and found.doubt_stage == 2 else found

    patch(decision, "_doubt_lasts", lasts)


@mutant(765, 957, "requests arrive later than any bound", "workers die")
def overwrite_again(patch: Patch) -> None:
    """a move with overwrite in doubt is resubmitted like any move"""
    real = decision._unsafe
    patch(decision, "_unsafe", lambda request, facts: real(replace(request, overwrite=False), facts))


@mutant(0, 0, "the Platform accepts nothing", "objects are locked")
def no_bounds(patch: Patch) -> None:
    """the number of submissions of an export has no limit"""
    for module, name in ((submitter, "MAX_POSTS"), (tracked, "MAX_FAILED_SUBMISSIONS")):
        patch(module, name, 10**6)


# Checks


@mutant(477, None, "jobs jump", "requests arrive late", "workers die", why="not noticed yet in many; see the next")
def first_page(patch: Patch) -> None:
    """a list that was read in part counts as complete"""
    real = job_lists.list_jobs
    patch(job_lists, "MAX_PAGES", 1)
    patch(job_lists, "list_jobs", lambda *arguments: (real(*arguments)[0], True))


@mutant(
    None, 5386, "totals lie", "requests arrive late", "workers die", why="not noticed yet in one; see the one before"
)
def total_is_ignored(patch: Patch) -> None:
    """a list with fewer jobs than its total counts as complete"""
    first_page(patch)


@mutant(1534, 1323, "lists lag", "requests arrive late")
def listed_elsewhere(patch: Patch) -> None:
    """a job that is listed under an earlier state is ignored"""
    real = job_lists.list_jobs

    def list_jobs(hook: Any, page_at: Any, state: str) -> Any:
        jobs, complete = real(hook, page_at, state)
        return [job for job in jobs if job.state == state], complete

    patch(job_lists, "list_jobs", list_jobs)


@mutant(46, 22, "requests arrive late")
def lists_are_kept(patch: Patch) -> None:
    """lists of jobs are read once and never again"""
    real = JobLists._list
    patch(JobLists, "_list", lambda self, states, since: real(self, states, 0.0 if states in self._cached else since))


@mutant(
    447,
    None,
    "objects lag",
    "files lag",
    "jobs lag",
    "workers die",
    why="not noticed in many: their objects are not read again",
)
def believed_at_once(patch: Patch) -> None:
    """a failure that a later check may change is final immediately"""
    patch(TrackedJob, "believe", lambda self, decided, now, delay: decided)


# Jobs and objects


@mutant(32, 171, "others export too", "tasks are cleared", "responses are lost")
def ignore_prefix(patch: Patch) -> None:
    """the volume's prefix is ignored"""
    patch(destination, "_key", lambda prefix, location, with_slash: location)


@mutant(1, 9, "others export too")
def adopt_by_location(patch: Patch) -> None:
    """a job to the same destination is adopted whatever its file"""
    patch(
        decision,
        "_is_same",
        lambda job, request, facts: (job.volume, job.location) == (request.volume, request.location),
    )


@mutant(61, 235, "others export too", "parameters change", "workers die")
def adopt_by_file(patch: Patch) -> None:
    """a job of the same file is adopted whatever its destination"""
    patch(decision, "_is_same", lambda job, request, facts: job.file == request.file)


@mutant(5, 1, "others export too")
def any_object(patch: Patch) -> None:
    """any object at the destination counts as the copy"""
    real = decision._already_made

    def made(request: Any, facts: decision.RemoteState) -> Any:
        if request.copy_only and isinstance(facts.object, decision.VolumeObject):
            return AlreadyDone("there", None, facts.object)
        return real(request, facts)

    patch(decision, "_already_made", made)


@mutant(72, 46, "workers die", "parameters change")
def any_alias(patch: Patch) -> None:
    """an alias of any object counts as the move"""
    for module in (decision, reconcile):
        patch(module, "alias_readings", lambda file, request, volumes: {request.location: True})


@mutant(448, 208, "workers die", "others export too")
def any_reading_will_do(patch: Patch) -> None:
    """one meaning of an alias's location counts, whatever the others show"""
    real = reconcile.alias_readings

    def readings(file: Any, request: Any, volumes: Any) -> Any:
        return {request.location: True} if any(real(file, request, volumes).values()) else {}

    for module in (decision, reconcile):
        patch(module, "alias_readings", readings)


@mutant(43, None, "others export too", "responses are lost", "workers die", why="not noticed yet in many")
def any_voucher(patch: Patch) -> None:
    """any completed job of the file is evidence of a copy"""

    def evidence(self: Any, request: Any, submission: SubmissionState, completed: Any) -> Any:
        return next((job for job in completed if job.file == request.file), None)

    patch(reconcile._Check, "_find_evidence", evidence)


@mutant(20, 51, "responses are lost")
def copies_are_not_searched(patch: Patch) -> None:
    """a copy whose response was lost is searched for only after a rejection"""
    patch(
        reconcile._Check,
        "_may_be_copied",
        lambda self, request, submission: request.copy_only and submission.refusal is not None,
    )


@mutant(306, 1176, "others export too", "workers die", "tasks are cleared")
def recorded_copy_is_believed(patch: Patch) -> None:
    """a recorded copy is adopted without a check of the object"""
    patch(decision, "_recorded_copy", lambda request, facts, job: Adopt("recorded", job))


@mutant(438, 53, "others export too")
def adopted_move_unverified(patch: Patch) -> None:
    """the object of an adopted job is not verified"""
    patch(ExportPolicy, "without_effect", lambda self, adopted: set())


@mutant(28, 2, "responses are lost")
def failure_is_final(patch: Patch) -> None:
    """after a failed move no check follows whether it has completed"""
    patch(decision, "_already_moved", lambda request, facts: None)


@mutant(None, 78, "bulk answers are in disorder", why="the answer to one export holds one job")
def brief_jobs_in_place(patch: Patch) -> None:
    """brief jobs of a bulk response are matched to exports by position"""
    patch(ExportPolicy, "_in_place", lambda self, requests, answers: answers)


# Overwriting


@mutant(6, 3, "others export too", "tasks have twins")
def overwrite_nothing(patch: Patch) -> None:
    """overwrite is submitted although no object exists"""
    real = decision._submit

    def submit(request: Any, facts: decision.RemoteState) -> Any:
        decided = real(request, facts)
        return replace(decided, request=request) if hasattr(decided, "request") else decided

    patch(decision, "_submit", submit)


@mutant(3991, 568, "others export too", "responses are lost")
def overwrite_what_came(patch: Patch) -> None:
    """an object that appeared after the first submission is overwritten by a second one"""
    _decisions(patch, lambda facts: replace(facts.submission, replaces=None))


@mutant(
    None,
    None,
    "clocks differ",
    "lists have no order",
    "others export too",
    "requests arrive late",
    "responses are lost",
    "tasks are cleared",
    "workers die",
    why="searched for in 3,000 schedules, and not found; tests/unit/exports/test_decision.py has the rule",
)
def overwrite_another(patch: Patch) -> None:
    """a second submission overwrites another object than the first one"""
    _decisions(patch, lambda facts: replace(facts.submission, replaces=facts.submission.replaces and None))


@mutant(
    None,
    None,
    "clocks differ",
    "files lag",
    "lists have no order",
    "requests arrive late",
    "tasks have twins",
    why="searched for in 6,000 schedules, and not found; tests/unit/exports/test_decision.py has the rule",
)
def any_check_counts(patch: Patch) -> None:
    """an object that may be the file's own is deleted after a check of another object"""
    _decisions(
        patch,
        lambda facts: (
            replace(facts.submission, seen=str(facts.object)) if facts.submission.rechecks else facts.submission
        ),
    )


@mutant(
    111432,
    None,
    "jobs jump",
    "parameters change",
    "poll answers are spoiled",
    "tasks are cleared",
    "writes fail",
    why="searched for in 3,000 schedules, and not found",
)
def other_is_forgotten(patch: Patch) -> None:
    """a move does not wait for this task's job with other parameters"""
    patch(decision, "_other", lambda request, facts: None)


@mutant(59, 24)
def aliases_are_overwritten(patch: Patch) -> None:
    """an object is overwritten although a visible file is an alias of it"""
    patch(decision, "_aliased", lambda request, facts, found: None)


@mutant(59, 180)
def imports_are_not_listed(patch: Patch) -> None:
    """only exports show which files are aliases of an object"""
    patch(reconcile, "list_imports", lambda hook, volume: ([], True))


@mutant(None, 241, "files lag", "others export too", why="not noticed yet in one")
def late_aliases_are_missed(patch: Patch) -> None:
    """a file that does not show yet that it was moved there is taken for no alias"""
    real = reconcile.find_origin

    def find_origin(request: Any, exports: Any, *more: Any) -> Any:
        return real(request, [replace(job, result=None) for job in exports], *more)

    patch(reconcile, "find_origin", find_origin)


@mutant(23, 13, "others export too")
def copy_unchecked(patch: Patch) -> None:
    """a copy with overwrite is submitted without a check"""
    real = ExportPolicy.needs_check
    patch(
        ExportPolicy,
        "needs_check",
        lambda self, entry: (
            real(self, entry) and not (entry.submission.can_submit_unchecked and entry.request.copy_only)
        ),
    )


@mutant(
    4464,
    None,
    "jobs fail",
    "lists lag",
    "objects lag",
    "requests arrive late",
    "totals lie",
    why="not searched for; tests/unit/jobs/test_tracked.py has the rule",
)
def rechecks_are_counted_together(patch: Patch) -> None:
    """lists that change use up the checks that an object which appears late needs"""

    def believe(self: Any, decision: Any, now: float, delay: float) -> Any:
        if isinstance(decision, Fail) and self.submission.rechecks < decision.rechecks:
            return CheckAgain("", now + delay)
        return decision

    patch(TrackedJob, "believe", believe)


# Messages


@mutant(22, 28, "a rejection is a lie", "parameters change", "tasks are cleared", "writes fail")
def rejections_are_confirmed(patch: Patch) -> None:
    """a later try forgets a rejection that no check has confirmed"""
    patch(TrackedJob, "is_rejection_unconfirmed", property(lambda self: False))


@mutant(0, 2, "writes fail", "responses are lost")
def nothing_goes_on(patch: Patch) -> None:
    """an error does not name the exports in flight"""
    patch(Batch, "outstanding", lambda self: "")


@mutant(56, 29, "parameters change", "workers die")
def earlier_tries_are_forgotten(patch: Patch) -> None:
    """a retry that fails before it starts does not name the exports of an earlier try"""
    real = base.SevenBridgesOperator._add_outstanding

    def add(self: Any, context: Any, error: Exception) -> None:
        if self._batch is not None:
            real(self, context, error)

    patch(base.SevenBridgesOperator, "_add_outstanding", add)


@mutant(112, 995, "parameters change", "workers die", "tasks are cleared", "responses are lost", "writes fail")
def unwanted_is_dropped(patch: Patch) -> None:
    """an export of an earlier try that this one does not list is dropped"""
    patch(base.SevenBridgesOperator, "_keep", lambda self, batch, going_on: None)
