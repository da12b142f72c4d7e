"""All jobs of one task: their progress, and what to report about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import isoformat_utc
from airflow_sb_provider.jobs.tracked import BAD, COMPLETED, SKIPPED, WAITING, TrackedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_sb_provider.jobs.kind import JobKind

E = TypeVar("E", bound=TrackedJob[Any])

ERRORS_REPORTED = 10
IDS_SHOWN = 10
_COUNTED_TOGETHER = 1000


@dataclass(frozen=True)
class Totals:
    """The totals of many jobs: how many are in each state, and their sizes in bytes.

    :param adopted: the number of completed jobs that were adopted.
    :param done_before: the number of these that an earlier run or another task did.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    adopted: int = 0
    done_before: int = 0
    bytes_done: int = 0
    bytes_wanted: int = 0

    @classmethod
    def of(cls, entries: Sequence[TrackedJob[Any]]) -> Totals:
        """Return the totals of some jobs."""
        done = [entry for entry in entries if entry.done]
        return cls(
            dict(Counter(str(entry.state) for entry in entries)),
            sum(entry.adopted for entry in done),
            sum(entry.done_before for entry in done),
            sum(entry.size or 0 for entry in done),
            sum(entry.size or 0 for entry in entries if entry.state != SKIPPED),
        )

    def __add__(self, other: Totals) -> Totals:
        return self._with(other, 1)

    def __sub__(self, other: Totals) -> Totals:
        return self._with(other, -1)

    def _with(self, other: Totals, sign: int) -> Totals:
        states = {*self.counts, *other.counts}
        counts = {state: self.counts.get(state, 0) + sign * other.counts.get(state, 0) for state in states}
        return Totals(
            {state: count for state, count in counts.items() if count},
            self.adopted + sign * other.adopted,
            self.done_before + sign * other.done_before,
            self.bytes_done + sign * other.bytes_done,
            self.bytes_wanted + sign * other.bytes_wanted,
        )

    @property
    def total(self) -> int:
        """How many jobs."""
        return sum(self.counts.values())

    def count(self, *states: str) -> int:
        """Return how many are in one of these states."""
        return sum(self.counts.get(state, 0) for state in states)


@dataclass
class Batch(Generic[E]):
    """All jobs of one task; a single one is a batch of one.

    :param kind: the kind of the jobs.
    :param entries: the jobs in memory, in the order of the plan; jobs that only an earlier try requested come last.
        Of many jobs these are the open ones, and the next to be submitted.
    :param started_at: when the task's first try began, in epoch seconds of the Platform's clock.
    :param try_number: the task instance's try number when this try began.
    :param max_tries: its maximum number of tries at that time; clearing the task changes it.
    :param left_out: the number of jobs that are not in the plan because an earlier run did them.
    :param not_loaded: the totals of all other jobs.
    :param is_more_to_come: whether some of these are still to be submitted.
    :param left_behind: jobs that an earlier try submitted, and that this one neither requests nor waits for.
    """

    kind: JobKind[Any]
    entries: list[E]
    started_at: float
    try_number: int
    max_tries: int
    left_out: int = 0
    not_loaded: Totals = field(default_factory=Totals)
    is_more_to_come: bool = False
    left_behind: list[E] = field(default_factory=list)

    @property
    def totals(self) -> Totals:
        """The totals of all jobs, including those that are left out of `entries`."""
        return self.not_loaded + Totals.of(self.entries)

    @property
    def waiting(self) -> list[E]:
        """Those that are to be submitted or checked, in order."""
        return [entry for entry in self.entries if entry.state == WAITING]

    @property
    def in_flight(self) -> list[E]:
        """Those whose job is not terminal."""
        return [entry for entry in self.entries if entry.in_flight]

    @property
    def bad(self) -> list[E]:
        """Those that this try will not complete."""
        return [entry for entry in self.entries if entry.bad]

    @property
    def has_failed(self) -> bool:
        """Whether this try will not complete one of all jobs."""
        return self.not_loaded.count(*BAD) > 0 or any(entry.bad for entry in self.entries)

    def review(self, entries: Iterable[E], keeps: Callable[[E], bool]) -> Iterator[E]:
        """Yield all jobs, one by one; at the end, the batch has in memory those that are to be kept."""
        kept: list[E] = []
        others: list[E] = []
        totals = Totals()
        for entry in entries:
            yield entry
            (kept if keeps(entry) else others).append(entry)
            if len(others) == _COUNTED_TOGETHER:
                totals += Totals.of(others)
                others.clear()
        self.entries, self.not_loaded, self.is_more_to_come = kept, totals + Totals.of(others), False

    def outstanding(self) -> str:
        """Return a text that names the jobs that are or may be in flight on the Platform; empty if there are none."""
        parts = []
        entries = [*self.left_behind, *self.entries]
        if jobs := [f"{entry.job_id} ({entry.request})" for entry in entries if entry.in_flight]:
            parts.append(f"in flight at the Platform: {self._noun(jobs)} {_some(jobs)}")
        # The task may wait for an adopted job, while its own request may still be accepted.
        unclear = [entry for entry in entries if entry.may_go_on and (entry.is_unanswered or not entry.in_flight)]
        if labels := [f"{entry.request}{_named(entry)}" for entry in unclear]:
            parts.append(f"perhaps accepted, since that is not known yet: {_some(labels)}")
        if not parts:
            return ""
        return f"Still {'; '.join(parts)}. A retry checks the Platform and adopts them."

    def _noun(self, items: Sequence[object]) -> str:
        name = self.kind.name
        return name if len(items) == 1 else f"{name}s"

    def summary(self, now: float, manifest: str | None = None) -> dict[str, Any]:
        """Return the task's result, which stays small however many files there are.

        :returns: ``state`` (``COMPLETED`` if all but the skipped are done, else ``FAILED`` or ``RUNNING``),
            ``total``, ``counts`` by state, ``exported_now`` (by this task), ``exported_before`` (by earlier runs and
            other tasks, also those that the plan left out), ``skipped``, ``failed``, ``adopted``, ``bytes`` of what is
            done, ``seconds``, ``errors`` (the first ten: file, name, state, code, message) and ``manifest`` (its
            address, or None). The word ``exported`` is the kind's own.
        """
        totals, done = self.totals, self.kind.done
        is_open = totals.counts.get(WAITING) or self.in_flight
        return {
            "state": "FAILED" if totals.count(*BAD) else "RUNNING" if is_open else "COMPLETED",
            "total": totals.total,
            "counts": dict(totals.counts),
            f"{done}_now": totals.count(COMPLETED) - totals.done_before,
            f"{done}_before": totals.done_before + self.left_out,
            "skipped": totals.count(SKIPPED),
            "failed": totals.count(*BAD),
            "adopted": totals.adopted,
            "bytes": totals.bytes_done,
            "seconds": round(now - self.started_at, 1),
            "errors": [_error(entry) for entry in self.bad[:ERRORS_REPORTED]],
            "manifest": manifest,
        }

    def progress(self, now: float) -> str:
        """Return one line about the progress, for the task's log."""
        totals = self.totals
        done, bad, skipped = totals.count(COMPLETED), totals.count(*BAD), totals.count(SKIPPED)
        sizes = f"{_bytes(totals.bytes_done)} of {_bytes(totals.bytes_wanted)}"
        parts = [f"{done:,} of {totals.total:,} files {self.kind.done} ({sizes})"]
        if in_flight := len(self.in_flight):
            parts.append(f"{in_flight:,} in flight")
        if bad:
            parts.append(f"{bad:,} failed")
        if skipped:
            parts.append(f"{skipped:,} skipped")
        if before := totals.done_before + self.left_out:
            parts.append(f"{before:,} {self.kind.done} before")
        new, left = done - totals.adopted, totals.total - done - bad - skipped
        if new and left and now > self.started_at:
            rate = new / (now - self.started_at)
            parts.append(f"{rate * 60:,.0f} a minute, the rest by about {isoformat_utc(now + left / rate)}")
        return ", ".join(parts) + "."

    def failure(self, manifest: str | None = None) -> str:
        """Return why the task fails: a table of the failed jobs, with one job of each cause before the others.

        It also names the jobs in flight, and counts those that were not submitted.
        """
        bad, totals = self.bad, self.totals
        lines = [f"{len(bad):,} of {totals.total:,} files were not {self.kind.done}:"]
        shown = _one_of_each_cause_first(bad)[: 2 * ERRORS_REPORTED]
        lines += [
            f"  {entry.state:9} {_subject(entry)} {entry.label}: {readable(entry.message, 4000)}" for entry in shown
        ]
        if len(bad) > len(shown):
            where = f"see {manifest}" if manifest else "give 'manifest' a place to have them all written down"
            lines.append(f"  ... and {len(bad) - len(shown):,} more; {where}.")
        if unsubmitted := totals.count(WAITING) - sum(entry.may_go_on for entry in self.waiting):
            lines.append(f"{unsubmitted:,} more were not submitted, since the task ends with the first failure.")
        if outstanding := self.outstanding():
            lines.append(outstanding)
        if any(entry.retriable for entry in bad):
            lines.append("A retry submits only what is missing.")
        return "\n".join(lines)


def _named(entry: TrackedJob[Any]) -> str:
    job_id = entry.job_id or entry.own_id
    return f" ({job_id})" if job_id else ""


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - IDS_SHOWN:,} more" if len(items) > IDS_SHOWN else ""
    return ", ".join(items[:IDS_SHOWN]) + more


def _subject(entry: TrackedJob[Any]) -> str:
    """Return the id of a job's input, such as a file: the first part of its target."""
    subject: str = entry.request.target[0]
    return subject


def _error(entry: TrackedJob[Any]) -> dict[str, Any]:
    return {
        "file": _subject(entry),
        "name": None if entry.name is None else readable(entry.name),
        "state": str(entry.state),
        "code": entry.code,
        "message": entry.message[:500],
    }


def _one_of_each_cause_first(entries: Sequence[E]) -> list[E]:
    seen: Counter[tuple[str, int | None]] = Counter()
    ranked: list[tuple[int, int, E]] = []
    for entry in entries:
        cause = (entry.state, entry.code)
        ranked.append((seen[cause], len(ranked), entry))
        seen[cause] += 1
    return [entry for _, _, entry in sorted(ranked, key=lambda each: each[:2])]


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    thousands = min((len(str(count)) - 1) // 3, 5)
    return f"{count / 1000**thousands:,.1f} {('kB', 'MB', 'GB', 'TB', 'PB')[thousands - 1]}"
