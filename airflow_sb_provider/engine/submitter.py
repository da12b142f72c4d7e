"""Submit the jobs of a batch, each once."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tenacity import Retrying

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import in_words
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesInDoubt,
    SevenBridgesJobFailed,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.hooks.retry import RATE_LIMIT_WINDOW, retry_rules
from airflow_sb_provider.jobs.decision import Adopt, AlreadyDone, CheckAgain, Fail, Submit
from airflow_sb_provider.jobs.tracked import (
    COMPLETED,
    FAILED,
    IN_DOUBT,
    MAX_POSTS,
    REFUSED,
    SKIPPED,
    WAITING,
    TrackedJob,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.engine.policy import Policy
    from airflow_sb_provider.jobs.batch import Batch
    from airflow_sb_provider.jobs.decision import Decision
    from airflow_sb_provider.jobs.record import SubmissionState

E = TypeVar("E", bound=TrackedJob[Any])

# At most this many calls in a row that do not reach the Platform, or whose record takes too long to write.
MAX_UNSENT = 5
# In seconds. If the record takes longer to write, the check is out of date, and another try may have started.
SLOW_RECORD = 15.0
# In seconds since the record. A process that was paused must not send a request that a retry also sends.
SEND_WITHIN = 30.0
# How long a check is repeated while a gateway answers instead of the Platform, in seconds.
CHECK_PATIENCE = 180.0
# A call that is rejected as a whole is submitted again in this many parts, so a job is in at most three calls.
PARTS = 10
# Statuses with which a bulk call is rejected as a whole although only one of its jobs may be wrong.
_MAY_BE_ONE = (400, 404, 409, 422)
_TOO_MANY_POSTS = (
    f"It was submitted {MAX_POSTS} times in this try, and the Platform accepted none of the requests. The log has each "
    "response. A retry checks the Platform and submits it again."
)
_NOT_WANTED = (
    "An earlier try submitted it, and this one does not want it any more. The Platform shows nothing of it, so it is "
    "left alone."
)


class Submitter(Generic[E]):
    """Submits the jobs of a batch as a policy decides.

    :param policy: how this kind of job is checked and submitted.
    :param save: stores entries for later tries; called before each submission and after its response.
    :param max_tries: the task instance's maximum number of tries, for the records.
    :param stop_on_failure: whether to submit nothing more after the first failure.
    """

    def __init__(
        self,
        policy: Policy[E],
        save: Callable[[Sequence[E]], None],
        *,
        max_tries: int,
        stop_on_failure: bool = False,
    ) -> None:
        self._policy = policy
        self._hook = policy.hook
        self._log = policy.hook.log
        self._save = save
        self._max_tries = max_tries
        self._stop_on_failure = stop_on_failure
        self._listed_since = 0.0
        self._unsent = 0
        # Parts of calls that were rejected as a whole, to be submitted separately.
        self._apart: list[list[E]] = []

    def submit(self, batch: Batch[E], max_active: int) -> float | None:
        """Submit waiting entries until ``max_active`` are in flight, and start those that are drafts.

        :returns: None or, if every waiting entry must be checked again later, when to call this again (epoch seconds of
            the Platform's clock).
        :raises SevenBridgesAuthError: if the token is rejected; other errors if the Platform does not recover.
        """
        check_at = self._submit_waiting(batch, max_active)
        for entry in batch.in_flight:
            if entry.is_draft:
                self._start(entry)
        return check_at

    def _submit_waiting(self, batch: Batch[E], max_active: int) -> float | None:
        repeatedly = Retrying(**retry_rules(self._log, max_gateway_wait=CHECK_PATIENCE), sleep=time.sleep)
        seen: set[int] = set()
        while True:
            room = max_active - len(batch.in_flight)
            if room <= 0 or (self._stop_on_failure and batch.has_failed):
                return None
            waiting = batch.waiting
            ready = [entry for entry in waiting if self._is_due(entry)]
            if not ready:
                return min((entry.submission.check_at for entry in waiting), default=None)
            if not seen.issuperset(map(id, ready)):
                # A list that is older than this may not show the jobs of entries that have just become ready.
                self._listed_since = time.monotonic()
                seen.update(map(id, ready))
            # Entries that need a check come last, so that one check serves all of them.
            ready.sort(key=self._policy.needs_check)
            chunk = self._apart.pop() if self._apart else self._policy.calls(ready)[0]
            # A new decision after each pause, so that a submission relies on what the Platform shows now.
            if wanted := repeatedly(self._decide_all, chunk[:room]):
                self._send(wanted)

    def fetch(self, entries: Sequence[E]) -> Sequence[Job | SevenBridgesApiError]:
        """Return the job, or the error, of each entry in flight.

        :raises SevenBridgesInDoubt: if the token cannot read any of them.
        """
        try:
            return self._policy.fetch([entry.job_id or "" for entry in entries])
        except SevenBridgesUnreadableItem as error:
            # Not a problem of the token, and one unreadable job must not fail the others of a batch.
            return [error] * len(entries)
        except SevenBridgesApiError as error:
            if not error.permanent:
                raise
            raise SevenBridgesInDoubt(
                f"The jobs in flight cannot be read: {error} Check the connection's token, which must belong to the "
                "user who started it."
            ) from error

    def take(
        self, entries: Sequence[E], answers: Sequence[Job | SevenBridgesApiError], *, are_final: bool = True
    ) -> None:
        """Apply the fetched job, or the error, of each entry in flight.

        :param are_final: false if a rejection may be temporary, since a new job may not be visible yet: then the wait
            continues.
        """
        adopted = [
            (entry, job)
            for entry, job in zip(entries, answers, strict=True)
            if not isinstance(job, SevenBridgesApiError) and job.succeeded and job.id != entry.own_id
        ]
        # The state of an adopted job does not show whether it did what this task requests, such as a move.
        without_effect = self._policy.without_effect(adopted) if adopted else set()
        for entry, answer in zip(entries, answers, strict=True):
            if not isinstance(answer, SevenBridgesApiError):
                self._follow(entry, answer, has_effect=entry not in without_effect)
            elif are_final and (answer.permanent or isinstance(answer, SevenBridgesUnreadableItem)):
                doubt = SevenBridgesInDoubt(
                    f"{entry.kind.title} {entry.job_id} cannot be read: {answer} It may be in flight. Check the "
                    "connection's token, which must belong to the user who started it."
                )
                doubt.__cause__ = answer
                entry.fail(doubt, IN_DOUBT)

    def _decide_all(self, chunk: Sequence[E]) -> list[tuple[E, Submit[Any]]]:
        """Decide about entries, apply the decisions that submit nothing, and return the others."""
        self._hook.wait_for_rate_limit()
        chunk = [entry for entry in chunk if entry.state == WAITING and self._is_due(entry)]
        wanted: list[tuple[E, Submit[Any]]] = []
        changed: list[E] = []
        for entry, decision in zip(chunk, self._decide(chunk), strict=True):
            self._explain(entry, decision)
            if isinstance(decision, Submit) and entry.is_wanted and entry.posts < MAX_POSTS:
                wanted.append((entry, decision))
            else:
                self._apply(entry, decision)
                changed.append(entry)
        if changed:
            self._save(changed)
        return wanted

    def _is_due(self, entry: E) -> bool:
        # A resumed process does not know the Platform's clock before its first request; the decision compares again.
        clock = self._hook.clock
        return not clock.has_heard or entry.submission.check_at <= clock.now()

    def _apply(self, entry: E, decision: Decision) -> None:
        """Apply a decision that submits nothing."""
        if isinstance(decision, Adopt):
            entry.adopt(decision.job)
            self._policy.adopting(entry, decision.job)
            self.take([entry], [decision.job])
        elif isinstance(decision, AlreadyDone):
            entry.adopt(decision.job)
            entry.state, entry.job_id = COMPLETED, None
            if decision.job:
                entry.follow(decision.job)
            entry.proof = decision.proof
            self._forget_details(entry)
        elif isinstance(decision, CheckAgain):
            entry.check_again(decision)
        elif isinstance(decision, Fail):
            self._give_up(entry, decision.error)
        elif not entry.is_wanted:
            entry.state, entry.message = SKIPPED, _NOT_WANTED
        else:
            self._fail(entry, SevenBridgesError(_TOO_MANY_POSTS), REFUSED)

    def _explain(self, entry: E, decision: Decision) -> None:
        if isinstance(decision, Fail):
            return
        entry.why = readable(decision.why, 4000)
        if isinstance(decision, Submit) and decision.replaces:
            # A deletion is logged before it happens.
            self._log.warning("%s: %s", entry.request, entry.why)
        elif self._policy.single and entry.why and not isinstance(decision, CheckAgain):
            self._log.info("%s", entry.why)
        elif isinstance(decision, Submit) and entry.why and entry.own_id:
            # Few of a batch: those whose job of an earlier try has ended without the wanted object.
            self._log.info("%s (%s): %s", entry.request.target[0], entry.label, entry.why)

    def _decide(self, chunk: Sequence[E]) -> list[Decision]:
        careful = [entry for entry in chunk if self._policy.needs_check(entry)]
        decided = iter(self._policy.decide(careful, self._listed_since) if careful else ())
        return [next(decided) if self._policy.needs_check(entry) else Submit("", entry.request) for entry in chunk]

    def _give_up(self, entry: E, error: SevenBridgesError) -> None:
        if error is not entry.submission.refusal:
            error.__cause__ = error.__cause__ or entry.submission.refusal
        if self._policy.skips(error):
            entry.fail(error, SKIPPED)
            self._log.info("%s (%s) is skipped: %s", entry.request.target[0], entry.label, entry.message)
            return
        state = REFUSED
        if isinstance(error, SevenBridgesInDoubt):
            state = IN_DOUBT
        elif isinstance(error, SevenBridgesJobFailed):
            state = FAILED
        self._fail(entry, error, state)

    def _send(self, wanted: Sequence[tuple[E, Submit[Any]]]) -> None:
        entries = [entry for entry, _ in wanted]
        before = [entry.submission for entry in entries]
        for entry, decision in wanted:
            entry.sent(
                now=self._hook.clock.now(),
                credential=self._hook.settings.credential,
                max_tries=self._max_tries,
                replaces=decision.replaces,
            )
        began = time.monotonic()
        # The intent is written first: without it nothing is sent, and a try after a crash knows that it must check.
        self._save(entries)
        if time.monotonic() - began > SLOW_RECORD:
            # Airflow may have ended this try meanwhile; then it rejects the next record.
            self._not_sent(entries, before)
            self._pause_unsent(SevenBridgesError("Airflow took too long to write the record of a submission."))
            return
        try:
            answers = self._policy.post([decision.request for _, decision in wanted], began + SEND_WITHIN)
        except (SevenBridgesReplyLost, SevenBridgesMaintenanceError) as lost:
            # A gateway may respond "maintenance" to a request that the Platform has accepted.
            self._log.warning(
                "%s Checking the Platform before submitting again (%ss: %d).", lost, self._name(wanted), len(wanted)
            )
            for entry in entries:
                self._lost(entry, lost)
        except (SevenBridgesApiError, SevenBridgesConnectionError) as error:
            self._refused_as_a_whole(entries, before, error)
        else:
            self._unsent = 0
            for entry, answer in zip(entries, answers, strict=True):
                if not isinstance(answer, SevenBridgesApiError):
                    entry.accepted(answer, self._hook.clock.now())
                    if self._policy.single:
                        self._log.info(
                            "The Platform accepted it as %s %s (%s).", entry.kind.name, answer.id, answer.state
                        )
                    self._follow(entry, answer)
                elif answer.permanent:
                    self._refused(entry, answer)
                else:
                    self._lost(entry, answer)
        self._save(entries)

    def _start(self, entry: E) -> None:
        """Start a draft. It needs no record, since a second start of the same draft has no effect."""
        started = self._policy.start(entry, lambda: self._save([entry]))
        if isinstance(started, SevenBridgesError):
            self._give_up(entry, started)
        else:
            self._follow(entry, started)
        self._save([entry])

    def _name(self, wanted: Sequence[tuple[E, Submit[Any]]]) -> str:
        return wanted[0][0].kind.name

    def _not_sent(self, entries: Sequence[E], before: Sequence[SubmissionState]) -> None:
        for entry, submission in zip(entries, before, strict=True):
            entry.posts -= 1
            entry.not_sent(submission)

    def _refused_as_a_whole(
        self,
        entries: Sequence[E],
        before: Sequence[SubmissionState],
        error: SevenBridgesApiError | SevenBridgesConnectionError,
    ) -> None:
        """Apply an error which proves that no job of a call was accepted."""
        if self._policy.single and not isinstance(error, SevenBridgesConnectionError | SevenBridgesRateLimitError):
            self._refused(entries[0], error)
            return
        for entry, submission in zip(entries, before, strict=True):
            entry.not_sent(submission)
        self._save(entries)
        if isinstance(error, SevenBridgesConnectionError):
            for entry in entries:
                entry.posts -= 1
            self._pause_unsent(error)
        elif isinstance(error, SevenBridgesRateLimitError):
            if max(entry.posts for entry in entries) >= MAX_POSTS:
                raise error
            left = RATE_LIMIT_WINDOW if error.reset_at is None else error.reset_at - time.time()
            self._pause(error, min(max(left, 0.0), RATE_LIMIT_WINDOW) + random.uniform(0.1, 1))
        elif error.status not in _MAY_BE_ONE:
            raise error
        elif len(entries) == 1:
            self._refused(entries[0], error)
        else:
            # One wrong job must not fail the others. A new decision is made for all of them.
            self._log.warning(
                "The Platform rejected a call of %d %ss as a whole: %s Submitting them in smaller calls: %s",
                len(entries),
                entries[0].kind.name,
                error,
                readable(", ".join(entry.request.target[0] for entry in entries), 4000),
            )
            size = -(-len(entries) // PARTS)
            self._apart += [list(entries[start : start + size]) for start in range(0, len(entries), size)]

    def _pause_unsent(self, error: SevenBridgesError) -> None:
        self._unsent += 1
        if self._unsent >= MAX_UNSENT:
            raise error
        self._pause(error, min(2.0**self._unsent, 30.0))

    def _pause(self, error: SevenBridgesError, seconds: float) -> None:
        self._log.warning("%s Submitting again in %s.", error, in_words(seconds))
        time.sleep(seconds)

    def _refused(self, entry: E, refusal: SevenBridgesApiError) -> None:
        # A token that is rejected cannot be used for a check either.
        if entry.refused(refusal) and not isinstance(refusal, SevenBridgesAuthError):
            if self._policy.single:
                self._log.info("The Platform rejected the submission: %s Checking for the cause.", refusal)
            return
        self._fail(entry, refusal, REFUSED)

    def _lost(self, entry: E, lost: SevenBridgesError) -> None:
        if not entry.lost():
            self._fail(entry, lost, IN_DOUBT)

    def _follow(self, entry: E, job: Job, *, has_effect: bool = True) -> None:
        entry.follow(job)
        self._forget_details(entry)
        if not has_effect:
            if not entry.search_cause(job):
                self._fail(
                    entry, SevenBridgesInDoubt(f"{job.id} is {job.state}, but without the wanted effect."), IN_DOUBT
                )
        elif entry.state == FAILED:
            refusal = job.error or SevenBridgesApiError(0, message="The Platform gave no reason.")
            if self._policy.may_be_done(refusal) and entry.search_cause(job, refusal):
                if self._policy.single:
                    self._log.info("%s %s failed: %s Checking for the cause.", entry.kind.title, job.id, refusal)
                return
            self._fail(entry, entry.kind.failure(job), FAILED)

    def _forget_details(self, entry: E) -> None:
        if not self._policy.single:
            # Ten thousand jobs with the metadata of their files would fill the memory.
            entry.job = entry.proof = None

    def _fail(self, entry: E, error: SevenBridgesError, state: str) -> None:
        entry.fail(error, state)
        if not self._policy.single:
            self._log.error("%s (%s): %s", entry.request.target[0], entry.label, entry.message)
