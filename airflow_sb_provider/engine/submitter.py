"""Submit the exports of a batch, a hundred at a time, each once."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tenacity import Retrying

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, ExportState, File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.reconcile import Look, gather_facts
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesInDoubt,
    SevenBridgesMaintenanceError,
    SevenBridgesNotExportable,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.batch import IN_DOUBT, REFUSED, SKIPPED, WAITING, Entry, due_to_ask
from airflow_sb_provider.exports.decision import NOT_EXPORTABLE, TAKEN, Adopt, Done, Fail, LookAgain, Submit, decide
from airflow_sb_provider.hooks.retry import RATE_LIMIT_WINDOW, retry_rules
from airflow_sb_provider.jobs.record import Attempt, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_sb_provider.exports.batch import Batch
    from airflow_sb_provider.exports.decision import Decision
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

# Of one export in one try, whatever happens and however often the task is deferred meanwhile.
MAX_POSTS = 4
MAX_SETBACKS = 2
# Of calls in a row that did not reach the Platform.
MAX_UNSENT = 5
# A call that is refused as a whole is submitted in parts, so that an export is in three calls at most.
PARTS = 10
# Lists of hundreds in flight change while they are read; they can be trusted when enough of them have ended.
MAX_UNREADABLE = 10
UNREADABLE_PAUSE = 30.0
# How a bulk call is refused as a whole although only one of its exports may be wrong.
_MAY_BE_ONE = (400, 404, 409, 422)
_TOO_MANY_POSTS = (
    f"The export was submitted {MAX_POSTS} times in this try, and the Platform accepted none of the requests. The log "
    "has each response. A retry checks the Platform and submits it again."
)


class _Unreadable(LookAgain):
    """Nothing was found, but the lists could not be trusted: such a check does not count."""


class BatchSubmitter:
    """Submits the exports of a batch, decided by `exports.decision`, with one check for a hundred.

    :param hook: through which all requests go.
    :param save: keeps entries where a later try finds them; called before each submission and after its response.
    :param max_tries: of the task instance, for the records.
    :param single: the task is of one export: it goes through ``POST /storage/exports``, each decision is logged, and
        the cause of every failed job is searched for, which costs requests.
    :param fail_fast: submits nothing more once one is bad.
    :param skip_not_exportable: leaves files alone that cannot be exported, instead of failing them.
    """

    def __init__(
        self,
        hook: SevenBridgesHook,
        save: Callable[[Sequence[Entry]], None],
        *,
        max_tries: int,
        single: bool = False,
        fail_fast: bool = False,
        skip_not_exportable: bool = False,
    ) -> None:
        self.hook = hook
        self._save = save
        self._max_tries = max_tries
        self._single = single
        self._fail_fast = fail_fast
        self._skip_not_exportable = skip_not_exportable
        self._look = Look(hook, for_many=not single)
        self._began = 0.0
        self._unsent = 0
        # Parts of calls that were refused as a whole, to be submitted apart.
        self._apart: list[list[Entry]] = []

    def submit(self, batch: Batch, max_active: int) -> float | None:
        """Submit what waits, until so many are in flight.

        :returns: None; or, where all that is left is in doubt and nothing was found of it, when to check again (epoch
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
            # Those that need a check come last, so that one check serves all of them.
            ready.sort(key=needs_check)
            chunk = self._apart.pop() if self._apart else due_to_ask(ready)[0]
            # Decided on anew after each pause, so that what is submitted rests on what the Platform shows now.
            wanted = again(self._decide_all, chunk[:room])
            if wanted:
                self._send(wanted)

    def take(self, entries: Sequence[Entry], answers: Sequence[ExportJob | SevenBridgesApiError]) -> None:
        """Take what the Platform shows of entries in flight."""
        aliases = self._adopted_aliases(entries, answers)
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, ExportJob):
                self._follow(entry, answer, aliases)
            elif answer.permanent:
                doubt = SevenBridgesInDoubt(
                    f"Export {entry.export_id} cannot be seen: {answer} It may go on; check the connection's token, "
                    "which must belong to the user who started it."
                )
                doubt.__cause__ = answer
                entry.fail(doubt, IN_DOUBT)

    def _adopted_aliases(
        self, entries: Sequence[Entry], answers: Sequence[ExportJob | SevenBridgesApiError]
    ) -> dict[str, bool]:
        """Return for each file whose job was adopted and is completed whether it is an alias now: jobs do not say."""
        aliases: dict[str, bool] = {}
        unknown: list[str] = []
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, ExportJob) and answer.succeeded and answer.id != entry.own_id:
                if answer.result and answer.result.get("id"):
                    aliases[entry.request.file] = File.from_json(answer.result).is_alias
                if not aliases.get(entry.request.file):
                    unknown.append(entry.request.file)
        files = self.hook.get_files(unknown)
        return aliases | {file.id: file.is_alias for file in files if isinstance(file, File)}

    def _decide_all(self, chunk: Sequence[Entry]) -> list[tuple[Entry, Submit]]:
        """Decide on entries, apply what needs no request, and return what is to be submitted."""
        self.hook.wait_for_rate_limit()
        now = time.time()
        chunk = [entry for entry in chunk if entry.state == WAITING and _looks_again_at(entry) <= now]
        wanted: list[tuple[Entry, Submit]] = []
        changed: list[Entry] = []
        for entry, decision in zip(chunk, self._decide(chunk), strict=True):
            self._log(entry, decision)
            if isinstance(decision, Submit) and entry.posts < MAX_POSTS:
                wanted.append((entry, decision))
                continue
            changed.append(entry)
            if isinstance(decision, Adopt):
                entry.adopted = True
                self._compare_properties(entry, decision.job)
                self.take([entry], [decision.job])
            elif isinstance(decision, Done):
                entry.adopted, entry.state, entry.export_id = True, ExportState.COMPLETED, None
                entry.object = decision.object
                if decision.job:
                    entry.follow(decision.job)
                if not self._single:
                    entry.job = entry.object = None
            elif isinstance(decision, LookAgain):
                # Checks that do not count are counted below zero.
                looks = min(entry.attempt.looks, 0) - 1 if isinstance(decision, _Unreadable) else 1
                entry.attempt = replace(entry.attempt, looks=looks, doubt_until=decision.at)
            elif isinstance(decision, Submit):
                self._fail(entry, SevenBridgesError(_TOO_MANY_POSTS), REFUSED)
            else:
                self._give_up(entry, decision)
        if changed:
            self._save(changed)
        return wanted

    def _compare_properties(self, entry: Entry, job: ExportJob) -> None:
        wanted, actual = dict(entry.request.properties or {}), dict(job.properties)
        if actual and any(actual.get(name) != value for name, value in wanted.items()):
            self.hook.log.warning(
                "File %s: export %s, which is adopted, was submitted with other properties (%s) than wanted (%s).",
                entry.request.file,
                job.id,
                readable(str(actual), 300),
                wanted,
            )

    def _log(self, entry: Entry, decision: Decision) -> None:
        if isinstance(decision, Fail):
            return
        entry.why = readable(decision.why, 4000)
        if isinstance(decision, Submit) and decision.replaces:
            # What may destroy data is named before it happens.
            self.hook.log.warning("File %s: %s", entry.request.file, entry.why)
        elif self._single and entry.why and not isinstance(decision, LookAgain):
            self.hook.log.info("%s", entry.why)

    def _decide(self, chunk: Sequence[Entry]) -> list[Decision]:
        careful = [entry for entry in chunk if needs_check(entry)]
        decisions: list[Decision] = []
        if careful:
            requests, attempts = [entry.request for entry in careful], [entry.attempt for entry in careful]
            since = max(self._began, *(_listed_after(entry) for entry in careful))
            facts = gather_facts(self.hook, requests, attempts, self._look, since)
            decisions = [
                decision if found.jobs_complete else _patient(entry, decision, found.now)
                for entry, found, decision in zip(careful, facts, decide(requests, facts), strict=True)
            ]
        checked = iter(decisions)
        return [next(checked) if needs_check(entry) else Submit("", overwrite=False) for entry in chunk]

    def _give_up(self, entry: Entry, decision: Fail) -> None:
        error = decision.error
        error.__cause__ = error.__cause__ or entry.attempt.refusal
        if self._skip_not_exportable and _is_not_exportable(error):
            entry.fail(error, SKIPPED)
            self.hook.log.info("File %s (%s) is skipped: %s", entry.request.file, entry.label, entry.message)
            return
        states = {SevenBridgesInDoubt: IN_DOUBT, SevenBridgesExportFailed: ExportState.FAILED}
        self._fail(entry, error, states.get(type(error), REFUSED))

    def _send(self, wanted: Sequence[tuple[Entry, Submit]]) -> None:
        entries = [entry for entry, _ in wanted]
        requests = [replace(entry.request, overwrite=decision.overwrite) for entry, decision in wanted]
        for entry, request in zip(entries, requests, strict=True):
            entry.outcome, entry.sent_at, entry.own_id = Outcome.SENT, time.time(), None
            entry.credential, entry.max_tries = self.hook.settings.credential, self._max_tries
            entry.overwrite_sent = request.overwrite
            entry.posts += 1
        decided_on = [replace(entry.attempt, doubt_until=None, looks=0) for entry in entries]
        gateway_timeout = self.hook.settings.gateway_timeout
        for entry in entries:
            # Whoever reads this without what became of the request must check, and wait for the gateway.
            until = (entry.sent_at or time.time()) + gateway_timeout
            entry.attempt = replace(entry.attempt, untroubled=False, doubt_until=until, looks=0)
        # The intent is written first: without it nothing is sent, and a try after a crash knows that it must check.
        self._save(entries)
        try:
            answers = self._post(requests)
        except (SevenBridgesReplyLost, SevenBridgesMaintenanceError) as lost:
            # A gateway may say "maintenance" of a request that the Platform has accepted.
            self.hook.log.warning("%s Checking for it before anything else (exports: %d).", lost, len(entries))
            for entry in entries:
                self._lost(entry, lost)
        except (SevenBridgesApiError, SevenBridgesConnectionError) as error:
            for entry, attempt in zip(entries, decided_on, strict=True):
                entry.outcome, entry.attempt = Outcome.REFUSED, attempt
            self._save(entries)
            self._refused_as_a_whole(entries, error)
        else:
            self._unsent = 0
            for entry, attempt, answer in zip(entries, decided_on, answers, strict=True):
                entry.attempt = attempt
                if isinstance(answer, ExportJob):
                    entry.outcome, entry.own_id, entry.adopted = Outcome.ACCEPTED, answer.id, False
                    if self._single:
                        self.hook.log.info("The Platform accepted it as export %s (%s).", answer.id, answer.state)
                    self._follow(entry, answer)
                elif answer.permanent:
                    self._refused(entry, answer)
                else:
                    self._lost(entry, answer)
        self._save(entries)

    def _post(self, requests: Sequence[ExportRequest]) -> Sequence[ExportJob | SevenBridgesApiError]:
        copy_only = requests[0].copy_only
        if self._single:
            return [self.hook.send(calls.start_export(requests[0], copy_only=copy_only), again=False)]
        return self.hook.send(calls.start_exports(requests, copy_only=copy_only), again=False)

    def _refused_as_a_whole(
        self, entries: Sequence[Entry], error: SevenBridgesApiError | SevenBridgesConnectionError
    ) -> None:
        """Apply an error that proves that nothing of a call was accepted."""
        if isinstance(error, SevenBridgesConnectionError):
            for entry in entries:
                entry.posts -= 1
            self._unsent += 1
            if self._unsent >= MAX_UNSENT:
                raise error
            self._pause(error, min(2.0**self._unsent, 30.0))
        elif isinstance(error, SevenBridgesRateLimitError):
            if max(entry.posts for entry in entries) >= MAX_POSTS:
                raise error
            left = RATE_LIMIT_WINDOW if error.reset_at is None else error.reset_at - time.time()
            self._pause(error, min(max(left, 0.0), RATE_LIMIT_WINDOW) + random.uniform(0.1, 1))
        elif self._single:
            self._refused(entries[0], error)
        elif error.status not in _MAY_BE_ONE:
            raise error
        elif len(entries) == 1:
            self._refused(entries[0], error)
        else:
            # The others must not suffer for the one that is wrong. They are decided on anew.
            size = -(-len(entries) // PARTS)
            self._apart += [list(entries[start : start + size]) for start in range(0, len(entries), size)]

    def _pause(self, error: SevenBridgesError, seconds: float) -> None:
        self.hook.log.warning("%s Submitting again in %.0f s.", error, seconds)
        time.sleep(seconds)

    def _refused(self, entry: Entry, refusal: SevenBridgesApiError) -> None:
        entry.outcome = Outcome.REFUSED
        entry.setbacks += 1
        if refusal.code in (NOT_EXPORTABLE, TAKEN) and entry.setbacks <= MAX_SETBACKS:
            # It may mean an export that is made already, or a twin's.
            if self._single:
                self.hook.log.info("The Platform refuses: %s Searching for the cause.", refusal)
            entry.attempt = replace(
                entry.attempt, untroubled=False, refusal=refusal, overwrite_sent=entry.overwrite_sent
            )
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
            why="The response to the first request was lost.",
        )

    def _follow(self, entry: Entry, job: ExportJob, aliases: Mapping[str, bool] | None = None) -> None:
        entry.follow(job)
        if not self._single:
            # Ten thousand jobs, with all the metadata of their files, would fill the memory.
            entry.job = None
        is_alias = (aliases or {}).get(entry.request.file)
        if entry.done and is_alias is False and not entry.request.copy_only:
            refused = SevenBridgesExportRefused(
                f"Export {job.id}, which was running already, was a copy: the file is still on the Platform and the "
                f"object is at {entry.request.volume}/{entry.request.location}. To move the file, start a new run with "
                "overwrite or another location."
            )
            self._fail(entry, refused, REFUSED)
        if entry.done and is_alias and entry.request.copy_only:
            self.hook.log.warning(
                "Export %s, which was running already, was a move: file %s is now an alias of the object.",
                job.id,
                entry.request.file,
            )
        if entry.state != ExportState.FAILED:
            return
        refusal = job.error or SevenBridgesApiError(0, message="The Platform gave no reason.")
        if (self._single or refusal.code in (NOT_EXPORTABLE, TAKEN)) and entry.setbacks <= MAX_SETBACKS:
            # A twin may have been faster, so that the failure means an export that is made.
            entry.setbacks += 1
            if self._single:
                self.hook.log.info("Export %s failed: %s Searching for the cause.", job.id, refusal)
            # The failure of a job that was adopted says nothing about this task's own request.
            own = job.id == entry.own_id
            doubt = None if own else entry.doubt_until(self.hook.settings.gateway_timeout)
            entry.wait_again(
                Attempt(refusal=refusal, failed=job, doubt_until=doubt, overwrite_sent=own and entry.overwrite_sent)
            )
            return
        self._fail(entry, SevenBridgesExportFailed(job), ExportState.FAILED)

    def _fail(self, entry: Entry, error: SevenBridgesError, state: str) -> None:
        entry.fail(error, state)
        if not self._single:
            self.hook.log.error("File %s (%s): %s", entry.request.file, entry.label, entry.message)


def needs_check(entry: Entry) -> bool:
    """Whether the Platform is checked before an entry is submitted: unless nothing can be destroyed or made twice."""
    return not entry.attempt.untroubled or entry.request.overwrite


def _is_not_exportable(error: SevenBridgesError) -> bool:
    if isinstance(error, SevenBridgesExportFailed):
        return error.job.error is not None and error.job.error.code == NOT_EXPORTABLE
    return isinstance(error, SevenBridgesNotExportable)


def _patient(entry: Entry, decision: Decision, now: float) -> Decision:
    """Return to check again where a request in doubt would be given up for lists that cannot be trusted."""
    attempt = entry.attempt
    given_up = isinstance(decision, Fail) and isinstance(decision.error, SevenBridgesInDoubt)
    if not given_up or entry.request.overwrite or not attempt.doubt_until or attempt.looks <= -MAX_UNREADABLE:
        return decision
    return _Unreadable("", max(attempt.doubt_until, now + UNREADABLE_PAUSE))


def _looks_again_at(entry: Entry) -> float:
    attempt = entry.attempt
    return attempt.doubt_until if attempt.looks and attempt.doubt_until else 0.0


def _listed_after(entry: Entry) -> float:
    """Return from when the lists of jobs must be: since it was submitted, failed, or cannot be accepted any more."""
    if entry.request.overwrite or entry.attempt.failed:
        return time.time()
    return max(entry.sent_at or 0.0, _looks_again_at(entry))
