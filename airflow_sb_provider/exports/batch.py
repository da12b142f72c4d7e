"""Many exports of one task: where each stands, and what to say of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.api.models import ExportJob, ExportState, File, VolumeObject
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError, SevenBridgesExportFailed
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.jobs.record import Attempt, Outcome, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WAITING = "WAITING"
REFUSED = "REFUSED"
IN_DOUBT = "IN_DOUBT"
SKIPPED = "SKIPPED"
BAD = (ExportState.FAILED, REFUSED, IN_DOUBT)
ERRORS_TOLD = 10
_KEPT_OTHERWISE = ("request", "attempt", "job", "object", "error", "why")
MESSAGE_KEPT = 500


@dataclass(slots=True, eq=False)
class Entry:
    """One export of a batch.

    ``state`` is the job's (`ExportState`), or ``WAITING`` (not submitted yet), ``REFUSED`` (never started), ``SKIPPED``
    (left alone, since it cannot be exported) or ``IN_DOUBT`` (what became of it cannot be known). ``export_id`` is the
    job that is waited for, which may be another's. ``retriable`` tells of a bad one whether a later try may fare
    better. ``outcome``, ``own_id`` (its job), ``sent_at``, ``credential`` and ``max_tries`` tell of the request that
    was sent, as `Record` does, and ``overwrite_sent`` whether it requested overwriting; ``attempt`` is where this try
    stands with it. ``posts`` counts the requests of this try, ``setbacks`` those that had no or a bad outcome.
    ``needs_look`` marks a file that may not be exportable. ``job``, ``object``, ``error`` and ``why`` are what the
    process that learned them knows: they are not kept.
    """

    request: ExportRequest
    name: str | None = None
    size: int | None = None
    project: str | None = None
    path: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    state: str = WAITING
    export_id: str | None = None
    adopted: bool = False
    code: int | None = None
    message: str = ""
    retriable: bool = False
    started_on: str | None = None
    finished_on: str | None = None
    outcome: Outcome | None = None
    own_id: str | None = None
    sent_at: float | None = None
    credential: str = ""
    max_tries: int = 0
    overwrite_sent: bool = False
    posts: int = 0
    setbacks: int = 0
    needs_look: bool = False
    attempt: Attempt = field(default_factory=Attempt)
    job: ExportJob | None = None
    object: VolumeObject | None = None
    error: SevenBridgesError | None = None
    why: str = ""

    @property
    def label(self) -> str:
        """Name and location on one line, whatever characters others have given them."""
        return readable(f"{self.name or 'name unknown'} -> {self.request.location or 'nowhere'}", 1000)

    @property
    def bad(self) -> bool:
        """Whether it will not be exported by this try."""
        return self.state in BAD

    @property
    def in_flight(self) -> bool:
        """Whether its job has not ended."""
        return self.export_id is not None and self.state not in (WAITING, SKIPPED) and not self.bad and not self.done

    @property
    def done(self) -> bool:
        """Whether it is exported."""
        return self.state == ExportState.COMPLETED

    @property
    def record(self) -> Record | None:
        """What a later try must know of the request that was sent for it."""
        if self.outcome is None or self.sent_at is None:
            return None
        return Record(
            self.request.fingerprint, self.credential, self.sent_at, self.max_tries, self.outcome, self.own_id
        )

    def remember(self, earlier: Entry) -> None:
        """Take over what an earlier try knew of its request."""
        self.own_id, self.outcome, self.sent_at = earlier.own_id, earlier.outcome, earlier.sent_at
        self.credential, self.max_tries = earlier.credential, earlier.max_tries

    def doubt_until(self, gateway_timeout: float) -> float | None:
        """Return until when (epoch seconds) a request that was sent may still be accepted; None if none is out."""
        sent = self.sent_at + gateway_timeout if self.sent_at and self.outcome is Outcome.SENT else None
        return max((until for until in (sent, self.attempt.doubt_until) if until), default=None)

    def follow(self, job: ExportJob) -> None:
        """Take what a job tells."""
        self.job, self.export_id, self.state = job, job.id, job.state
        self.started_on = job.started_on.isoformat() if job.started_on else None
        self.finished_on = job.finished_on.isoformat() if job.finished_on else None
        if job.result and self.size is None and job.result.get("id"):
            result = File.from_json(job.result)
            self.size, self.name = result.size, self.name or result.name
        if job.failed:
            self.fail(SevenBridgesExportFailed(job), ExportState.FAILED)

    def wait_again(self, attempt: Attempt) -> None:
        """Have it asked for (again), if a look finds that it is not made."""
        self.state, self.attempt, self.job = WAITING, attempt, None
        self.code, self.message, self.retriable, self.error = None, "", False, None

    def fail(self, error: SevenBridgesError, state: str) -> None:
        """Give it up, and say why."""
        self.error = error
        cause = error.job.error if isinstance(error, SevenBridgesExportFailed) else error
        self.state, self.retriable = state, not error.permanent
        self.code = cause.code if isinstance(cause, SevenBridgesApiError) else None
        self.message = str(cause or "The Platform gave no reason.")
        if isinstance(error, SevenBridgesExportFailed) and error.cause:
            self.message += f" {error.cause}"

    def to_json(self) -> dict[str, Any]:
        """Return the entry as Airflow keeps it; what is as usual is left out, and how it was refused.

        A long message is cut, so that many fit into what Airflow takes as one value.
        """
        usual = Entry(self.request)
        data = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in _KEPT_OTHERWISE and getattr(self, each.name) != getattr(usual, each.name)
        }
        data["request"] = {key: value for key, value in asdict(self.request).items() if value}
        if len(self.message) > MESSAGE_KEPT:
            data["message"] = self.message[:MESSAGE_KEPT] + "..."
        if self.state == WAITING or (self.attempt.doubt_until and not self.done):
            attempt = asdict(replace(self.attempt, refusal=None, failed=None))
            data["attempt"] = {key: value for key, value in attempt.items() if value not in (None, "")}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Build from what `to_json` returned.

        :raises TypeError: or `ValueError`, `KeyError`, if it was written by something else.
        """
        own = dict(data)
        own["tags"] = tuple(own.get("tags", ()))
        # One that was refused may have no location.
        request, attempt = ExportRequest(**{"location": "", **own.pop("request")}), Attempt(**own.pop("attempt", {}))
        if own.get("outcome"):
            own["outcome"] = Outcome(own["outcome"])
        return cls(request, attempt=attempt, **own)


@dataclass
class Batch:
    """All exports of one task.

    ``started_at`` is when its first try began, in epoch seconds; ``try_number`` and ``max_tries`` are the task
    instance's when this try began; a clear changes the latter. ``left_out`` are files that earlier tries submitted and
    this one does not want, with the time until when such a request may still be accepted.
    """

    entries: list[Entry]
    started_at: float
    try_number: int
    max_tries: int
    left_out: dict[str, float] = field(default_factory=dict)

    @property
    def waiting(self) -> list[Entry]:
        """Those that are to be asked for, in order."""
        return [entry for entry in self.entries if entry.state == WAITING]

    @property
    def in_flight(self) -> list[Entry]:
        """Those whose job has not ended."""
        return [entry for entry in self.entries if entry.in_flight]

    @property
    def bad(self) -> list[Entry]:
        """Those that will not be exported by this try."""
        return [entry for entry in self.entries if entry.bad]

    def summary(self, now: float, manifest: str | None = None) -> dict[str, Any]:
        """Return what the task hands on: small, however many files there are.

        :returns: ``state`` (``COMPLETED`` if all but the skipped are exported, else ``FAILED`` or ``RUNNING``),
            ``total``, ``counts`` by state, ``adopted``, ``bytes`` exported, ``seconds``, ``errors`` (the first ten:
            file, name, state, code, message) and ``manifest`` (its address, or None).
        """
        counts = Counter(str(entry.state) for entry in self.entries)
        done = [entry for entry in self.entries if entry.done]
        open_ = counts[WAITING] or self.in_flight
        return {
            "state": "FAILED" if self.bad else "RUNNING" if open_ else "COMPLETED",
            "total": len(self.entries),
            "counts": dict(counts),
            "adopted": sum(entry.adopted for entry in done),
            "bytes": sum(entry.size or 0 for entry in done),
            "seconds": round(now - self.started_at, 1),
            "errors": [_error(entry) for entry in self.bad[:ERRORS_TOLD]],
            "manifest": manifest,
        }

    def progress(self, now: float) -> str:
        """Return one line on how far it is, for the task's log."""
        done = [entry for entry in self.entries if entry.done]
        moved = sum(entry.size or 0 for entry in done)
        total = sum(entry.size or 0 for entry in self.entries if entry.state != SKIPPED)
        new = sum(not entry.adopted for entry in done)
        parts = [f"{len(done):,} of {len(self.entries):,} files exported ({_bytes(moved)} of {_bytes(total)})"]
        if in_flight := len(self.in_flight):
            parts.append(f"{in_flight:,} in flight")
        if bad := len(self.bad):
            parts.append(f"{bad:,} failed")
        if skipped := sum(entry.state == SKIPPED for entry in self.entries):
            parts.append(f"{skipped:,} skipped")
        left = len(self.entries) - len(done) - bad - skipped
        if new and left and now > self.started_at:
            rate = new / (now - self.started_at)
            end = datetime.fromtimestamp(now + left / rate, UTC)
            parts.append(f"{rate * 60:,.0f} a minute, the rest by about {end:%H:%M} UTC")
        return ", ".join(parts) + "."

    def failure(self, manifest: str | None = None) -> str:
        """Return why the task fails: a table of the bad ones, the first of each cause before more of the same."""
        bad = self.bad
        lines = [f"{len(bad):,} of {len(self.entries):,} files were not exported:"]
        shown = _one_of_each_cause_first(bad)[: 2 * ERRORS_TOLD]
        lines += [
            f"  {entry.state:9} {entry.request.file} {entry.label}: {readable(entry.message, 4000)}" for entry in shown
        ]
        if len(bad) > len(shown):
            where = f"see {manifest}" if manifest else "give 'manifest' a place to have them all written down"
            lines.append(f"  ... and {len(bad) - len(shown):,} more; {where}.")
        if any(entry.retriable for entry in bad):
            lines.append("A retry asks for those that are missing only.")
        return "\n".join(lines)


def due_to_ask(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return those to ask for in one call each: at most a hundred, copies, moves and overwriting moves apart.

    Copies of one file are apart too, since an answer names the file, and its place in the answer may be wrong.
    """
    groups: dict[tuple[bool, bool, int], list[list[Entry]]] = {}
    times: Counter[str] = Counter()
    for entry in entries:
        request = entry.request
        times[request.file] += 1
        kind = (request.copy_only, request.overwrite and not request.copy_only, times[request.file])
        chunks = groups.setdefault(kind, [[]])
        if len(chunks[-1]) == BULK_LIMIT:
            chunks.append([])
        chunks[-1].append(entry)
    return [chunk for chunks in groups.values() for chunk in chunks if chunk]


def _error(entry: Entry) -> dict[str, Any]:
    return {
        "file": entry.request.file,
        "name": None if entry.name is None else readable(entry.name),
        "state": str(entry.state),
        "code": entry.code,
        "message": entry.message[:500],
    }


def _one_of_each_cause_first(entries: Sequence[Entry]) -> list[Entry]:
    seen: Counter[tuple[str, int | None]] = Counter()
    ranked: list[tuple[int, int, Entry]] = []
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
