"""Ask for the exports of a batch, a hundred at a time, each once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tenacity import Retrying

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, ExportState, File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesInDoubt,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.attempt import Attempt, Outcome
from airflow_sb_provider.exports.batch import IN_DOUBT, REFUSED, WAITING, Entry, due_to_ask
from airflow_sb_provider.exports.decide import NOT_EXPORTABLE, TAKEN, Adopt, Done, Fail, LookAgain, Submit, decide
from airflow_sb_provider.exports.request import Intent
from airflow_sb_provider.hooks.facts import Look, gather_facts
from airflow_sb_provider.hooks.retrying import retry_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow_sb_provider.exceptions import SevenBridgesError
    from airflow_sb_provider.exports.batch import Batch
    from airflow_sb_provider.exports.decide import Decision
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

MAX_SETBACKS = 2
# Lists of hundreds in flight change while they are read; they can be trusted when enough of them have ended.
MAX_UNREADABLE = 10
UNREADABLE_PAUSE = 30.0
# How a bulk call is refused as a whole although only one of its exports may be wrong.
_MAY_BE_ONE = (400, 404, 409, 422)


class _Unreadable(LookAgain):
    """Nothing was found, but the lists could not be trusted: such a look does not count."""


class BatchSubmitter:
    """Asks for the exports of a batch: decides by `exports.decide`, as for a single one, but with a look for a hundred.

    :param hook: through which all is asked.
    :param save: keeps entries where a later try finds them; called before each request and after its answer.
    :param max_tries: of the task instance, for the records.
    :param fail_fast: asks for nothing more once one is bad.
    """

    def __init__(
        self,
        hook: SevenBridgesHook,
        save: Callable[[Sequence[Entry]], None],
        *,
        max_tries: int,
        fail_fast: bool = False,
    ) -> None:
        self.hook = hook
        self._save = save
        self._max_tries = max_tries
        self._fail_fast = fail_fast
        self._look = Look(hook, for_many=True)
        self._began = 0.0
        # Parts of calls that were refused as a whole, to be asked for apart.
        self._apart: list[list[Entry]] = []

    def submit(self, batch: Batch, max_active: int) -> float | None:
        """Ask for what waits, until so many are in flight.

        :returns: None; or, where all that is left is in doubt and nothing was found of it, when to look again (epoch
            seconds).
        :raises SevenBridgesAuthError: if the token is refused; other errors when the Platform does not recover.
        """
        again = Retrying(**retry_rules(self.hook.log), sleep=time.sleep)
        self._began = time.time()
        while True:
            room = max_active - len(batch.in_flight)
            if room <= 0 or (self._fail_fast and batch.bad):
                return None
            waiting = batch.waiting
            ready = [entry for entry in waiting if not _looks_again_at(entry) > time.time()]
            if not ready:
                return min((_looks_again_at(entry) for entry in waiting), default=None)
            # Those that need a look come last, so that one look serves all of them.
            ready.sort(key=lambda entry: not entry.attempt.untroubled)
            chunk = self._apart.pop() if self._apart else due_to_ask(ready)[0]
            again(self._decide_and_submit, chunk[:room])

    def take(self, entries: Sequence[Entry], answers: Sequence[ExportJob | SevenBridgesApiError]) -> None:
        """Take what the Platform tells of entries in flight."""
        taken_over = [
            entry
            for entry, answer in zip(entries, answers, strict=True)
            if isinstance(answer, ExportJob) and answer.succeeded
            if answer.id != entry.own_id and not entry.request.copy_only
        ]
        # A job does not tell whether it is a move.
        files = self.hook.get_files([entry.request.file for entry in taken_over])
        copied = {file.id for file in files if isinstance(file, File) and not file.is_alias}
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, ExportJob):
                self._follow(entry, answer, copied)
            elif answer.permanent:
                doubt = SevenBridgesInDoubt(
                    f"Export {entry.export_id} cannot be seen: {answer} It may go on; check the connection's token, "
                    "which must belong to the user who started it."
                )
                entry.fail(doubt, IN_DOUBT)

    def _decide_and_submit(self, chunk: Sequence[Entry]) -> None:
        # Together, so that what has to wait for the rate limit is decided on anew before it is sent.
        self.hook.wait_for_rate_limit()
        now = time.time()
        chunk = [entry for entry in chunk if entry.state == WAITING and _looks_again_at(entry) <= now]
        wanted: list[tuple[Entry, ExportRequest]] = []
        changed: list[Entry] = []
        for entry, decision in zip(chunk, self._decide(chunk), strict=True):
            if isinstance(decision, Submit):
                if decision.replaces:
                    self.hook.log.info("File %s: %s", entry.request.file, decision.why)
                wanted.append((entry, replace(entry.request, overwrite=decision.overwrite)))
                continue
            changed.append(entry)
            if isinstance(decision, Adopt):
                entry.adopted = True
                self._follow(entry, decision.job)
            elif isinstance(decision, Done):
                entry.adopted, entry.state, entry.export_id = True, ExportState.COMPLETED, None
                if decision.job:
                    entry.follow(decision.job)
            elif isinstance(decision, LookAgain):
                # Looks that do not count are counted below zero.
                looks = min(entry.attempt.looks, 0) - 1 if isinstance(decision, _Unreadable) else 1
                entry.attempt = replace(entry.attempt, looks=looks, doubt_until=decision.at)
            else:
                self._give_up(entry, decision)
        if changed:
            self._save(changed)
        if wanted:
            self._send(wanted)

    def _decide(self, chunk: Sequence[Entry]) -> list[Decision]:
        simple = [_needs_no_look(entry) for entry in chunk]
        careful = [entry for entry, needs_no_look in zip(chunk, simple, strict=True) if not needs_no_look]
        decisions: list[Decision] = []
        if careful:
            requests, attempts = [entry.request for entry in careful], [entry.attempt for entry in careful]
            since = max(self._began, *(_listed_after(entry) for entry in careful))
            facts = gather_facts(self.hook, requests, attempts, self._look, since)
            decisions = [
                decision if found.jobs_complete else _patient(entry, decision, found.now)
                for entry, found, decision in zip(careful, facts, decide(requests, facts), strict=True)
            ]
        found = iter(decisions)
        return [
            Submit("", overwrite=entry.request.overwrite) if needs_no_look else next(found)
            for entry, needs_no_look in zip(chunk, simple, strict=True)
        ]

    def _give_up(self, entry: Entry, decision: Fail) -> None:
        error = decision.error
        states = {SevenBridgesInDoubt: IN_DOUBT, SevenBridgesExportFailed: ExportState.FAILED}
        self._fail(entry, error, states.get(type(error), REFUSED))

    def _send(self, wanted: Sequence[tuple[Entry, ExportRequest]]) -> None:
        entries = [entry for entry, _ in wanted]
        for entry in entries:
            entry.outcome, entry.sent_at, entry.own_id = Outcome.SENT, time.time(), None
            entry.credential, entry.max_tries = self.hook.settings.credential, self._max_tries
            entry.attempt = replace(entry.attempt, doubt_until=None, looks=0)
        # The intent is written first: without it nothing is sent, and a try after a crash knows that it must look.
        self._save(entries)
        copy_only = entries[0].request.copy_only
        try:
            call = calls.start_exports([request for _, request in wanted], copy_only=copy_only)
            answers = self.hook.send(call, again=False)
        except SevenBridgesReplyLost as lost:
            self.hook.log.warning("%s Looking for these %d exports before anything else.", lost, len(entries))
            for entry in entries:
                self._lost(entry, lost)
            self._save(entries)
            return
        except (SevenBridgesApiError, SevenBridgesConnectionError) as error:
            for entry in entries:
                entry.outcome = Outcome.REFUSED
            self._save(entries)
            if not isinstance(error, SevenBridgesApiError) or error.status not in _MAY_BE_ONE:
                raise
            if len(entries) == 1:
                self._refused(entries[0], error)
                self._save(entries)
            else:
                # The others must not suffer for the one that is wrong. They are decided on anew.
                middle = len(entries) // 2
                self._apart += [entries[middle:], entries[:middle]]
            return
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, ExportJob):
                entry.outcome, entry.own_id = Outcome.ACCEPTED, answer.id
                self._follow(entry, answer)
            elif answer.permanent:
                self._refused(entry, answer)
            else:
                self._lost(entry, answer)
        self._save(entries)

    def _refused(self, entry: Entry, refusal: SevenBridgesApiError) -> None:
        entry.outcome = Outcome.REFUSED
        entry.setbacks += 1
        if refusal.code in (NOT_EXPORTABLE, TAKEN) and entry.setbacks <= MAX_SETBACKS:
            # It may tell of an export that is made already, or a twin's.
            entry.attempt = replace(entry.attempt, untroubled=False, refusal=refusal)
            return
        self._fail(entry, refusal, REFUSED)

    def _lost(self, entry: Entry, lost: SevenBridgesError) -> None:
        entry.setbacks += 1
        if entry.setbacks >= MAX_SETBACKS:
            self._fail(entry, lost, IN_DOUBT)
            return
        entry.attempt = Attempt(
            fresh=False,
            sent_at=entry.sent_at,
            doubt_until=time.time() + self.hook.settings.gateway_timeout,
            why="The answer to the first request was lost.",
        )

    def _follow(self, entry: Entry, job: ExportJob, copied: Collection[str] = ()) -> None:
        entry.follow(job)
        if entry.done and entry.request.file in copied:
            refused = SevenBridgesExportRefused(
                f"Export {job.id}, which was running already, was a copy: the file is still on the Platform. To move "
                "it, start a new run with overwrite or another location."
            )
            self._fail(entry, refused, REFUSED)
        if entry.state != ExportState.FAILED:
            return
        refusal = job.error or SevenBridgesApiError(0, message="The Platform gave no reason.")
        if refusal.code in (NOT_EXPORTABLE, TAKEN) and entry.setbacks <= MAX_SETBACKS:
            # A twin may have been faster, so that the failure tells of an export that is made.
            entry.setbacks += 1
            # The failure of a job that was taken over says nothing about this task's own request.
            doubt = None if job.id == entry.own_id else entry.doubt_until(self.hook.settings.gateway_timeout)
            entry.wait_again(Attempt(refusal=refusal, failed=job, doubt_until=doubt))
            return
        self._fail(entry, SevenBridgesExportFailed(job), ExportState.FAILED)

    def _fail(self, entry: Entry, error: SevenBridgesError, state: str) -> None:
        entry.fail(error, state)
        self.hook.log.error(
            "File %s (%s): %s", entry.request.file, readable(entry.name or "name unknown"), entry.message
        )


def _patient(entry: Entry, decision: Decision, now: float) -> Decision:
    """Return to look again where a request in doubt would be given up for lists that cannot be trusted."""
    attempt = entry.attempt
    given_up = isinstance(decision, Fail) and isinstance(decision.error, SevenBridgesInDoubt)
    if not given_up or entry.request.overwrite or not attempt.doubt_until or attempt.looks <= -MAX_UNREADABLE:
        return decision
    return _Unreadable("", max(attempt.doubt_until, now + UNREADABLE_PAUSE))


def _needs_no_look(entry: Entry) -> bool:
    return entry.attempt.untroubled and entry.request.intent is not Intent.MOVE_OVERWRITE


def _looks_again_at(entry: Entry) -> float:
    attempt = entry.attempt
    return attempt.doubt_until if attempt.looks and attempt.doubt_until else 0.0


def _listed_after(entry: Entry) -> float:
    """Return from when the lists of jobs must be: since it was asked for, failed, or cannot be accepted any more."""
    if entry.request.intent is Intent.MOVE_OVERWRITE or entry.attempt.failed:
        return time.time()
    return max(entry.sent_at or 0.0, _looks_again_at(entry))
