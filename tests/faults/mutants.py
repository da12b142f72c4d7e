"""The rules, each broken on purpose: the simulation must notice every one, for one export and for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_sb_provider.engine import reconcile as facts
from airflow_sb_provider.engine import submitter as submitting
from airflow_sb_provider.exports import decision as deciding
from airflow_sb_provider.exports import destination
from airflow_sb_provider.exports.batch import Entry
from airflow_sb_provider.jobs import record as attempts
from airflow_sb_provider.operators import base
from airflow_sb_provider.operators.ledger import Ledger

Patch = Callable[..., None]


@dataclass(frozen=True)
class Mutant:
    """A broken rule.

    :param name: what is broken.
    :param patch: breaks it.
    :param seeds: of a schedule of one export and of one of many that notice; None where it cannot matter.
    :param why: it cannot matter there.
    """

    name: str
    patch: Callable[[Patch], None]
    seeds: tuple[int | None, int | None]
    why: str = ""


MUTANTS: dict[str, Mutant] = {}


def mutant(
    one: int | None, many: int | None, why: str = ""
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a broken rule, with the seeds of schedules that notice."""

    def add(patch: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[patch.__name__] = Mutant((patch.__doc__ or "").strip(), patch, (one, many), why)
        return patch

    return add


def _attempts(patch: Patch, change: Callable[..., attempts.Attempt]) -> None:
    real = attempts.attempt_of
    patch(base, "attempt_of", lambda request, **facts: change(real(request, **facts), facts))


def _facts(patch: Patch, change: Callable[[deciding.Facts], deciding.Facts]) -> None:
    real = submitting.gather_facts
    patch(submitting, "gather_facts", lambda *arguments: [change(found) for found in real(*arguments)])


@mutant(0, 0)
def no_look(patch: Patch) -> None:
    """a retry does not look before it asks"""
    _attempts(patch, lambda attempt, _: replace(attempt, untroubled=True, doubt_until=None))


@mutant(0, 0)
def ignore_prefix(patch: Patch) -> None:
    """the volume's prefix is ignored"""
    patch(destination, "_key", lambda prefix, location, with_slash: location)


@mutant(0, 0)
def adopt_by_location(patch: Patch) -> None:
    """a job to the same place is adopted whatever its file"""
    patch(
        deciding,
        "_is_same",
        lambda job, request, facts: (job.volume, job.location) == (request.volume, request.location),
    )


@mutant(0, 0)
def adopt_by_file(patch: Patch) -> None:
    """a job of the same file is adopted wherever it goes"""
    patch(deciding, "_is_same", lambda job, request, facts: job.file == request.file)


@mutant(0, 0)
def first_page(patch: Patch) -> None:
    """only the first page of a list is read, and trusted"""
    real = facts._list_jobs
    patch(facts, "MAX_PAGES", 1)
    patch(facts, "_list_jobs", lambda *arguments, **options: (real(*arguments, **options)[0], True))


@mutant(0, 0)
def no_overlap(patch: Patch) -> None:
    """a list that was not read whole is taken for whole"""
    real = facts._list_jobs
    patch(facts, "_OVERLAP", 0)
    patch(facts, "_list_jobs", lambda *arguments, **options: (real(*arguments, **options)[0], True))


@mutant(0, 0)
def one_look(patch: Patch) -> None:
    """a request in doubt is made again after one look"""
    _facts(patch, lambda found: replace(found, attempt=replace(found.attempt, doubt_until=None)))


@mutant(0, 0)
def no_gateway_wait(patch: Patch) -> None:
    """a request in doubt is made again without waiting for the gateway"""
    real = deciding._unsafe

    def unsafe(request: Any, found: deciding.Facts) -> Any:
        decision = real(request, found)
        if isinstance(decision, deciding.LookAgain):
            return deciding.LookAgain(decision.why, found.now) if found.attempt.looks < 1 else None
        return decision

    patch(deciding, "_unsafe", unsafe)


@mutant(0, 0)
def record_after(patch: Patch) -> None:
    """the record is written only after the answer"""
    real = Ledger.save

    def save(self: Ledger, entries: Sequence[Entry]) -> None:
        if not all(entry.outcome is attempts.Outcome.SENT for entry in entries):
            real(self, entries)

    patch(Ledger, "save", save)


@mutant(0, 0)
def zombie_goes_on(patch: Patch) -> None:
    """a refused write of the record does not stop the request"""
    real = Ledger.save

    def save(self: Ledger, entries: Sequence[Entry]) -> None:
        try:
            real(self, entries)
        except Exception:
            return

    patch(Ledger, "save", save)


@mutant(0, 0)
def overwrite_again(patch: Patch) -> None:
    """a move with overwrite in doubt is made again like any move"""
    real = deciding._unsafe
    patch(deciding, "_unsafe", lambda request, found: real(replace(request, overwrite=False), found))


@mutant(0, 0)
def overwrite_nothing(patch: Patch) -> None:
    """overwriting is asked for although nothing is there"""
    real = deciding._submit
    patch(deciding, "_submit", lambda request, found: replace(real(request, found), overwrite=request.overwrite))


@mutant(0, 0)
def ignore_rivals(patch: Patch) -> None:
    """a job of another file to the same place is overwritten"""
    patch(deciding, "_rivals", lambda request, found: None)


@mutant(0, 0)
def failure_is_final(patch: Patch) -> None:
    """a failed move is not looked into"""
    patch(deciding, "_already_moved", lambda request, found: None)


@mutant(0, 0)
def record_of_another(patch: Patch) -> None:
    """the record of another export is taken over"""
    real = attempts.attempt_of

    def attempt_of(request: Any, *, record: Any, **options: Any) -> attempts.Attempt:
        record = record and replace(record, fingerprint=request.fingerprint)
        return real(request, record=record, **options)

    patch(base, "attempt_of", attempt_of)


@mutant(0, 0)
def lost_is_refused(patch: Patch) -> None:
    """a lost answer is taken for a refusal"""
    _attempts(patch, lambda attempt, _: replace(attempt, doubt_until=None))
    patch(Entry, "doubt_until", lambda self, gateway_timeout: None)


@mutant(0, 0)
def any_object(patch: Patch) -> None:
    """an object that merely sits there is taken for the copy"""
    real = deciding._already_made

    def made(request: Any, found: deciding.Facts) -> Any:
        if request.copy_only and isinstance(found.object, deciding.VolumeObject):
            return deciding.Done("there", None, found.object)
        return real(request, found)

    patch(deciding, "_already_made", made)


@mutant(0, 0)
def any_alias(patch: Patch) -> None:
    """an alias anywhere is taken for the move"""
    for module in (deciding, facts):
        patch(module, "alias_readings", lambda file, request, volumes: {request.location: True})


@mutant(0, 0)
def file_before_jobs(patch: Patch) -> None:
    """the file is looked at before the jobs in flight"""

    def gather(hook: Any, requests: Any, *others: Any) -> list[deciding.Facts]:
        files = hook.get_files([request.file for request in requests])
        found = facts.gather_facts(hook, requests, *others)
        return [replace(each, file=file) for each, file in zip(found, files, strict=True)]

    patch(submitting, "gather_facts", gather)


@mutant(0, 0)
def adopted_move_unverified(patch: Patch) -> None:
    """what an adopted job made is not looked at"""
    patch(submitting.BatchSubmitter, "_adopted_aliases", lambda self, entries, answers: {})


@mutant(0, 0)
def counters_restart(patch: Patch) -> None:
    """counters begin anew at each resumption"""
    real = Entry.to_json

    def to_json(self: Entry) -> dict[str, Any]:
        return {key: value for key, value in real(self).items() if key not in ("posts", "setbacks")}

    patch(Entry, "to_json", to_json)


@mutant(0, 0)
def unreadable_is_nothing(patch: Patch) -> None:
    """a record that cannot be read is taken for none"""
    _attempts(patch, lambda attempt, told: replace(attempt, doubt_until=None) if told["unreadable"] else attempt)


@mutant(0, 0)
def no_record_is_nothing(patch: Patch) -> None:
    """without a record a retry takes it that nothing was submitted"""
    _attempts(patch, lambda attempt, told: attempt if told["record"] else replace(attempt, doubt_until=None))


@mutant(0, 0)
def copy_unchecked(patch: Patch) -> None:
    """a copy with overwrite is submitted without a check"""
    real = submitting.BatchSubmitter._decide

    def decide(self: Any, chunk: Sequence[Entry]) -> list[Any]:
        return [
            deciding.Submit("", overwrite=True)
            if entry.attempt.untroubled and entry.request.copy_only and entry.request.overwrite
            else decision
            for entry, decision in zip(chunk, real(self, chunk), strict=True)
        ]

    patch(submitting.BatchSubmitter, "_decide", decide)


@mutant(0, 0)
def any_voucher(patch: Patch) -> None:
    """any completed job of the file vouches for a copy"""

    def voucher(request: Any, attempt: Any, completed: Any, volumes: Any) -> Any:
        return next((job for job in completed if job.file == request.file), None)

    patch(facts, "_voucher", voucher)


@mutant(0, 0)
def lists_are_kept(patch: Patch) -> None:
    """lists of jobs are read once, and believed from then on"""
    real = facts.Look.in_flight
    patch(facts.Look, "in_flight", lambda self, since: real(self, 0.0 if self._listed_at else since))


@mutant(None, 0, "the record of one export has one page")
def lost_page_is_nothing(patch: Patch) -> None:
    """a page of the record that is gone is taken for nothing submitted"""
    patch(Ledger, "is_unreadable", property(lambda self: False, lambda self, value: None), raising=False)


@mutant(0, 0)
def any_reading_will_do(patch: Patch) -> None:
    """one reading of an alias's location is believed, whatever the others say"""
    real = facts.alias_readings

    def readings(file: Any, request: Any, volumes: Any) -> Any:
        return {request.location: True} if any(real(file, request, volumes).values()) else {}

    for module in (facts, deciding):
        patch(module, "alias_readings", readings)
